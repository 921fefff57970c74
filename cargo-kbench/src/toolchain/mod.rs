//! CUDA's compiler in the user's cache folder, from Python wheels: for machines without a toolkit, or without a GPU.
//!
//! pip downloads, checks the hashes and unpacks, so that an index or a proxy that the user configured for Python is
//! used.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use etcetera::BaseStrategy as _;

use crate::file::in_context;
use crate::interrupt::is_interrupted;

/// The packages, with their hashes, in pip's format.
const PINS: &str = include_str!("cuda-13.0.txt");

/// Name of the folder of these packages.
const NAME: &str = "cuda-13.0";

/// Name of the file that lists the packages of a folder. The file is written last, so that a folder with it is
/// complete.
const MARKER: &str = "pins.txt";

/// Version of CUDA, major and minor, that a driver must support to run code of this toolchain.
pub const CUDA: (u32, u32) = (13, 0);

/// Reason why a toolchain was not installed or removed.
#[derive(Debug, thiserror::Error)]
pub enum ToolchainError {
    /// There is no home folder.
    #[error("no cache folder: {0}; set HOME, or XDG_CACHE_HOME")]
    NoCache(String),
    /// Neither pip nor uv.
    #[error("pip is missing; install Python 3 with pip (Debian: `apt-get install python3-pip`), or uv")]
    NoPip,
    /// pip ended with an error, which pip printed.
    #[error("{program} could not install the packages: {status}")]
    Pip {
        /// The program.
        program: &'static str,
        /// Exit status.
        status: std::process::ExitStatus,
    },
    /// The user pressed Ctrl-C.
    #[error("interrupted")]
    Interrupted,
    /// A file or a folder.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Result of `install`.
#[derive(Debug, PartialEq, Eq)]
pub enum Installed {
    /// The packages were there already.
    Before,
    /// The packages were downloaded.
    Now,
}

/// The folder of the toolchain, whether it exists or not. `None` without a home folder.
pub fn folder() -> Option<PathBuf> {
    cache().ok().map(|cache| cache.join(NAME))
}

/// Whether the packages of this version of kbench are installed completely in `folder`.
pub fn is_installed(folder: &Path) -> bool {
    fs::read_to_string(folder.join(MARKER)).is_ok_and(|pins| pins == PINS)
}

/// Installs the packages in [`folder`]. pip shows its progress on stderr.
pub fn install() -> Result<(PathBuf, Installed), ToolchainError> {
    let cache = cache()?;
    fs::create_dir_all(&cache).map_err(|error| in_context(&cache, &error))?;
    install_in(&cache, &run_pip)
}

/// Installs into a folder; `fetch` fills an empty folder with the packages of a list.
fn install_in(
    cache: &Path,
    fetch: &dyn Fn(&Path, &Path) -> Result<(), ToolchainError>,
) -> Result<(PathBuf, Installed), ToolchainError> {
    let folder = cache.join(NAME);
    // A second process would download the same files, and each would remove the temporary folder of the other.
    let lock = cache.join("lock");
    let lock = File::create(&lock).map_err(|error| in_context(&lock, &error))?;
    lock.lock()?;
    if is_installed(&folder) {
        return Ok((folder, Installed::Before));
    }
    let temporary = cache.join(format!("{NAME}.tmp"));
    // The temporary folder of a killed run.
    remove(&temporary)?;
    fs::create_dir_all(&temporary).map_err(|error| in_context(&temporary, &error))?;
    let pins = temporary.join(MARKER);
    let fill = || {
        fs::write(&pins, PINS).map_err(|error| in_context(&pins, &error))?;
        fetch(&temporary, &pins)?;
        remove(&folder)?;
        Ok(fs::rename(&temporary, &folder).map_err(|error| in_context(&folder, &error))?)
    };
    if let Err(error) = fill() {
        let _ = remove(&temporary);
        return Err(error);
    }
    Ok((folder, Installed::Now))
}

/// Removes the folder; `None` if there was none.
pub fn uninstall() -> Result<Option<PathBuf>, ToolchainError> {
    let folder = cache()?.join(NAME);
    Ok(remove(&folder)?.then_some(folder))
}

fn cache() -> Result<PathBuf, ToolchainError> {
    let base = etcetera::choose_base_strategy().map_err(|error| ToolchainError::NoCache(error.to_string()))?;
    Ok(base.cache_dir().join("cargo-kbench").join("toolchain"))
}

/// Fills `folder` by `python3 -m pip`, or by `uv pip` where there is no pip.
fn run_pip(folder: &Path, pins: &Path) -> Result<(), ToolchainError> {
    let pip = ["python3", "-m", "pip"];
    let uv = ["uv", "pip"];
    let works = |words: &[&str]| {
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    let (words, program): (&[&str], _) = match () {
        () if works(&pip) => (&pip, "pip"),
        () if works(&uv) => (&uv, "uv"),
        () => return Err(ToolchainError::NoPip),
    };
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).args(["install", "--no-deps", "--only-binary", ":all:", "--require-hashes"]);
    if program == "pip" {
        command.args(["--disable-pip-version-check", "--root-user-action", "ignore"]);
    }
    command.arg("--target").arg(folder).arg("-r").arg(pins).stdin(Stdio::null());
    // pip prints progress to stdout; here stdout is for results.
    command.stdout(io::stderr().as_fd().try_clone_to_owned()?);
    tracing::debug!(?command, "installing");
    let status = command.status()?;
    match status.success() {
        _ if is_interrupted() => Err(ToolchainError::Interrupted),
        true => Ok(()),
        false => Err(ToolchainError::Pip { program, status }),
    }
}

/// Removes a folder; returns false if there was none.
fn remove(folder: &Path) -> Result<bool, ToolchainError> {
    match fs::remove_dir_all(folder) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(in_context(folder, &error).into()),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn every_package_is_pinned_with_a_hash_for_both_processors() {
        let packages: Vec<&str> = PINS.lines().filter(|line| !line.starts_with('#')).collect();
        assert!(packages.len() >= 5);
        for package in packages {
            assert!(package.contains("==") && package.matches("--hash=sha256:").count() == 2, "{package}");
        }
    }

    #[test]
    fn an_installation_is_made_once_and_whole() {
        let cache = tempfile::tempdir().unwrap();
        let runs = Cell::new(0);
        let fetch = |folder: &Path, _: &Path| {
            runs.set(runs.get() + 1);
            Ok(fs::write(folder.join("nvcc"), "")?)
        };
        let (folder, first) = install_in(cache.path(), &fetch).unwrap();
        assert!(first == Installed::Now && is_installed(&folder) && folder.join("nvcc").is_file());
        let (again, second) = install_in(cache.path(), &fetch).unwrap();
        assert_eq!((again, second, runs.get()), (folder.clone(), Installed::Before, 1));

        // Packages of an older kbench, or an incomplete folder, are replaced.
        fs::write(folder.join(MARKER), "older").unwrap();
        fs::write(folder.join("stray"), "").unwrap();
        assert_eq!(install_in(cache.path(), &fetch).unwrap().1, Installed::Now);
        assert!(!folder.join("stray").exists());
    }

    #[test]
    fn a_failed_installation_leaves_nothing_and_the_old_one_in_its_place() {
        let cache = tempfile::tempdir().unwrap();
        let (folder, _) = install_in(cache.path(), &|folder, _| Ok(fs::write(folder.join("nvcc"), "")?)).unwrap();
        fs::write(folder.join(MARKER), "older").unwrap();
        let failed = install_in(cache.path(), &|folder, _| {
            fs::write(folder.join("half"), "")?;
            Err(ToolchainError::NoPip)
        });
        assert!(matches!(failed, Err(ToolchainError::NoPip)), "{failed:?}");
        assert!(folder.join("nvcc").is_file());
        let left: Vec<_> = fs::read_dir(cache.path()).unwrap().map(|file| file.unwrap().file_name()).collect();
        assert_eq!(left.len(), 2, "{left:?}");
    }
}
