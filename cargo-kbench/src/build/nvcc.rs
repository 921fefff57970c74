//! The search for nvcc.
//!
//! The first place that has nvcc: the given path (`--nvcc`), `$NVCC`, `$CUDA_HOME/bin`, `$CUDA_PATH/bin`, `PATH`,
//! `/usr/local/cuda/bin`, and then Python wheels (`nvidia-cuda-nvcc`): in `<target>/kbench/toolchain`, which may be a
//! virtual environment or a folder filled by `pip install --target`, in the folder of `cargo kbench toolchain install`,
//! in `$VIRTUAL_ENV`, and among the packages of the `python3` on `PATH`. A given path, or `$NVCC`, that does not exist
//! is an error.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::error::CompileError;

/// Environment of the search, so that tests need not change the process.
struct World<'a> {
    variable: &'a dyn Fn(&str) -> Option<OsString>,
    python_packages: &'a dyn Fn() -> Vec<PathBuf>,
    system: &'a Path,
    /// The folder of `cargo kbench toolchain install`.
    installed: Option<PathBuf>,
}

/// Finds nvcc; `work_directory` is `<target>/kbench`.
pub(super) fn find(given: Option<&Path>, work_directory: &Path) -> Result<PathBuf, CompileError> {
    let world = World {
        variable: &|name| env::var_os(name).filter(|value| !value.is_empty()),
        python_packages: &python_packages,
        system: Path::new("/usr/local/cuda/bin/nvcc"),
        installed: crate::toolchain::folder(),
    };
    find_in(given, work_directory, &world)
}

fn find_in(given: Option<&Path>, work_directory: &Path, world: &World) -> Result<PathBuf, CompileError> {
    let by_name = [("--nvcc", given.map(Path::to_owned)), ("$NVCC", (world.variable)("NVCC").map(PathBuf::from))];
    for (origin, path) in by_name {
        let Some(path) = path else { continue };
        let found = if path.components().count() == 1 { on_path(&path, world) } else { Some(path.clone()) };
        return found.filter(|found| is_executable(found)).ok_or_else(|| CompileError::NoCompiler {
            what: format!("{origin} names `{}`, which is no executable file", path.display()),
            help: "correct it, or leave it out to have nvcc searched for".to_owned(),
        });
    }
    let toolchain = work_directory.join("toolchain");
    let mut looked = Vec::new();
    for name in ["CUDA_HOME", "CUDA_PATH"] {
        if let Some(root) = (world.variable)(name) {
            let path = Path::new(&root).join("bin/nvcc");
            if is_executable(&path) {
                return Ok(path);
            }
            looked.push(format!("${name} ({})", path.display()));
        } else {
            looked.push(format!("${name} (not set)"));
        }
    }
    let last: [(String, &dyn Fn() -> Option<PathBuf>); 6] = [
        ("PATH".to_owned(), &|| on_path(Path::new("nvcc"), world)),
        (world.system.display().to_string(), &|| is_executable(world.system).then(|| world.system.to_owned())),
        (format!("Python wheels in {}", toolchain.display()), &|| in_environment(&toolchain)),
        ("of `cargo kbench toolchain install`".to_owned(), &|| in_environment(world.installed.as_deref()?)),
        ("in $VIRTUAL_ENV".to_owned(), &|| in_environment(Path::new(&(world.variable)("VIRTUAL_ENV")?))),
        ("of python3".to_owned(), &|| (world.python_packages)().iter().find_map(|packages| in_packages(packages))),
    ];
    for (place, search) in last {
        if let Some(path) = search() {
            return Ok(path);
        }
        looked.push(place);
    }
    Err(CompileError::NoCompiler {
        what: format!("nvcc was not found; looked in --nvcc (not given), $NVCC (not set), {}", looked.join(", ")),
        help: "run `cargo kbench toolchain install`, or install the CUDA toolkit and set CUDA_HOME".to_owned(),
    })
}

/// nvcc in a virtual environment, a `--target` folder or a toolkit's folder.
fn in_environment(root: &Path) -> Option<PathBuf> {
    let packages = glob(&root.join("lib"), "python").into_iter().map(|python| python.join("site-packages"));
    packages.chain([root.to_owned()]).find_map(|packages| in_packages(&packages)).or_else(|| {
        let own = root.join("bin/nvcc");
        is_executable(&own).then_some(own)
    })
}

/// nvcc among Python packages: `nvidia/cu13/bin/nvcc`, the newest, or, in older wheels, `nvidia/cuda_nvcc/bin/nvcc`.
fn in_packages(packages: &Path) -> Option<PathBuf> {
    let nvidia = packages.join("nvidia");
    let mut roots = glob(&nvidia, "cu");
    let version = |root: &PathBuf| root.file_name()?.to_str()?.strip_prefix("cu")?.parse::<u32>().ok();
    roots.sort_by_key(|root| std::cmp::Reverse(version(root)));
    roots.into_iter().map(|root| root.join("bin/nvcc")).find(|path| is_executable(path))
}

/// Folders in `parent` whose names start with `prefix`, sorted.
fn glob(parent: &Path, prefix: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    let mut found: Vec<_> = entries
        .filter(|entry| entry.file_name().to_str().is_some_and(|name| name.starts_with(prefix)))
        .map(|entry| entry.path())
        .collect();
    found.sort();
    found
}

fn on_path(name: &Path, world: &World) -> Option<PathBuf> {
    let path = (world.variable)("PATH")?;
    env::split_paths(&path).map(|folder| folder.join(name)).find(|path| is_executable(path))
}

/// The executable with this name on this process's `PATH`.
pub(super) fn which(name: &Path) -> Option<PathBuf> {
    if name.components().count() > 1 {
        return is_executable(name).then(|| name.to_owned());
    }
    env::split_paths(&env::var_os("PATH")?).map(|folder| folder.join(name)).find(|path| is_executable(path))
}

fn is_executable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

/// Folder of the packages of the `python3` on `PATH`, which python3 prints (pyenv, user installations).
fn python_packages() -> Vec<PathBuf> {
    let script = "import site,sysconfig\nfor p in [sysconfig.get_path('purelib'),*site.getsitepackages(),site.getusersitepackages()]: print(p)";
    let output = Command::new("python3").args(["-c", script]).stdin(Stdio::null()).stderr(Stdio::null()).output();
    let printed = output.map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&printed).lines().map(PathBuf::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    /// Puts an executable file at `path` under `root`.
    fn put(root: &Path, path: &str) -> PathBuf {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "#!/bin/sh\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    #[test]
    fn nvcc_is_searched_in_the_documented_order() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let work = root.join("target/kbench");
        let mut variables: HashMap<&str, OsString> = HashMap::new();
        let find = |given: Option<&Path>, variables: &HashMap<&str, OsString>| {
            find_in(
                given,
                &work,
                &World {
                    variable: &|name| variables.get(name).cloned(),
                    python_packages: &|| vec![root.join("python")],
                    system: &root.join("system/nvcc"),
                    installed: Some(root.join("installed")),
                },
            )
        };
        let error = find(None, &variables).unwrap_err().to_string();
        let order = [
            "--nvcc",
            "$NVCC",
            "$CUDA_HOME",
            "$CUDA_PATH",
            "PATH",
            "system/nvcc",
            "kbench/toolchain",
            "toolchain install",
            "$VIRTUAL_ENV",
            "python3",
        ];
        let places: Vec<_> = order.map(|place| error.find(place).unwrap_or_else(|| panic!("{place}: {error}"))).into();
        assert!(places.is_sorted(), "{error}");

        // From the last place to the first, each takes precedence over the previous one.
        let python = put(root, "python/nvidia/cu13/bin/nvcc");
        assert_eq!(find(None, &variables).unwrap(), python);
        variables.insert("VIRTUAL_ENV", root.join("venv").into());
        let venv = put(root, "venv/lib/python3.11/site-packages/nvidia/cuda_nvcc/bin/nvcc");
        assert_eq!(find(None, &variables).unwrap(), venv);
        let installed = put(root, "installed/nvidia/cu13/bin/nvcc");
        assert_eq!(find(None, &variables).unwrap(), installed);
        let target = put(&work, "toolchain/nvidia/cu9/bin/nvcc");
        assert_eq!(find(None, &variables).unwrap(), target);
        let newer = put(&work, "toolchain/nvidia/cu13/bin/nvcc");
        assert_eq!(find(None, &variables).unwrap(), newer);
        let venv = put(&work, "toolchain/lib/python3.12/site-packages/nvidia/cu13/bin/nvcc");
        assert_eq!(find(None, &variables).unwrap(), venv);
        let system = put(root, "system/nvcc");
        assert_eq!(find(None, &variables).unwrap(), system);
        variables.insert("PATH", root.join("path").into());
        let on_path = put(root, "path/nvcc");
        assert_eq!(find(None, &variables).unwrap(), on_path);
        variables.insert("CUDA_PATH", root.join("cuda").into());
        let cuda_path = put(root, "cuda/bin/nvcc");
        assert_eq!(find(None, &variables).unwrap(), cuda_path);
        variables.insert("CUDA_HOME", root.join("empty").into());
        assert_eq!(find(None, &variables).unwrap(), cuda_path, "an empty CUDA_HOME is passed over");
        variables.insert("CUDA_HOME", root.join("home").into());
        let home = put(root, "home/bin/nvcc");
        assert_eq!(find(None, &variables).unwrap(), home);
        variables.insert("NVCC", "nvcc".into());
        assert_eq!(find(None, &variables).unwrap(), on_path, "a bare name is looked up on PATH");
        variables.insert("NVCC", root.join("nowhere").into());
        let error = find(None, &variables).unwrap_err().to_string();
        assert!(error.starts_with("$NVCC names"), "{error}");
        assert_eq!(find(Some(&system), &variables).unwrap(), system);
        assert!(
            find(Some(Path::new("/no/such/nvcc")), &variables).unwrap_err().to_string().starts_with("--nvcc names")
        );
    }
}
