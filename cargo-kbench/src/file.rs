//! Whole files: errors name the file, and files are written under a temporary name in the same folder and renamed.

use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Component, Path, PathBuf};

use serde_json::Value;

/// Most bytes of a file that is read whole.
pub const LARGEST: u64 = 4 << 30;

/// Reads a text file.
pub fn read(path: &Path) -> io::Result<String> {
    read_text(path).map_err(|error| in_context(path, &error))
}

/// The same without the name in the error.
pub fn read_text(path: &Path) -> io::Result<String> {
    String::from_utf8(read_bytes(path)?).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.utf8_error()))
}

/// Reads a file that a user or a program names.
pub fn read_bytes(path: &Path) -> io::Result<Vec<u8>> {
    read_at_most(path, LARGEST)
}

/// The same with the name in the error.
pub fn read_named_bytes(path: &Path) -> io::Result<Vec<u8>> {
    read_bytes(path).map_err(|error| in_context(path, &error))
}

/// Whether two paths lead to the same file or folder.
pub fn same_file(a: &Path, b: &Path) -> bool {
    a == b || matches!((std::fs::canonicalize(a), std::fs::canonicalize(b)), (Ok(a), Ok(b)) if a == b)
}

/// Free space in bytes on the file system of a path; `None` if the system does not report it.
pub fn room(path: &Path) -> Option<u64> {
    let folder = path.ancestors().find(|folder| folder.is_dir())?;
    let statistics = rustix::fs::statvfs(folder).ok()?;
    Some(statistics.f_bavail * statistics.f_frsize)
}

/// Reads a file from outside: a regular file of at most `most` bytes. Reading a FIFO could block forever.
pub fn read_at_most(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let file = std::fs::File::options().read(true).custom_flags(nix::libc::O_NONBLOCK).open(path)?;
    check_ordinary(&file)?;
    let bytes = file.metadata()?.len();
    if bytes > most {
        let message = format!("{bytes} bytes where at most {most} were expected");
        return Err(io::Error::new(io::ErrorKind::InvalidData, message));
    }
    let mut contents = Vec::new();
    file.take(most).read_to_end(&mut contents)?;
    Ok(contents)
}

/// An error for a FIFO or a device, which may be read without end.
pub fn check_ordinary(file: &std::fs::File) -> io::Result<()> {
    if file.metadata()?.is_file() {
        return Ok(());
    }
    Err(not_ordinary())
}

/// The error for a FIFO or a device in place of a file.
pub fn not_ordinary() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "not an ordinary file")
}

/// Whether a path leads to a FIFO, a socket or a device, which may be read without end; `/dev/null` is empty.
pub fn is_endless(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt as _;
    const NULL: u64 = nix::libc::makedev(1, 3);
    std::fs::metadata(path).is_ok_and(|metadata| {
        let kind = metadata.file_type();
        kind.is_fifo() || kind.is_socket() || kind.is_block_device() || kind.is_char_device() && metadata.rdev() != NULL
    })
}

/// An error about the contents of a file.
pub fn invalid(path: &Path, message: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{}: {message}", path.display()))
}

/// Checks the version number in a file.
pub fn check_version(path: &Path, value: &Value, version: u32) -> io::Result<()> {
    match value.get("version").and_then(Value::as_u64) {
        Some(found) if found == u64::from(version) => Ok(()),
        Some(found) => Err(invalid(path, format!("version {found}, this cargo-kbench reads {version}"))),
        None => Err(invalid(path, "it has no version")),
    }
}

/// The path with links followed; the target of the last link may be missing.
pub fn followed(path: &Path) -> io::Result<PathBuf> {
    /// Largest number of links, as in Linux.
    const LINKS: usize = 40;
    let mut path = path.to_owned();
    for _ in 0..LINKS {
        match std::fs::read_link(&path) {
            Ok(target) => path = folder_of(&path).join(target),
            Err(_) => return Ok(path),
        }
    }
    Err(in_context(&path, &io::Error::other("links that lead round in a circle")))
}

/// The path of the file that a write through links replaces. A FIFO, a device or a folder is never replaced.
fn replaced(path: &Path) -> io::Result<PathBuf> {
    if std::fs::metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
        return Err(in_context(path, &not_ordinary()));
    }
    followed(path)
}

/// The path without `.` and `..`, by its text alone.
pub fn normalized(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                normal.pop();
            }
            other => normal.push(other),
        }
    }
    normal
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The relative path from a folder to a file, both given as absolute paths.
pub fn relative(path: &Path, folder: &Path) -> PathBuf {
    let shared = path.components().zip(folder.components()).take_while(|(a, b)| a == b).count();
    let up = folder.components().skip(shared).map(|_| Component::ParentDir);
    up.chain(path.components().skip(shared)).collect()
}

/// Returns an error if a file cannot be replaced or created, so that the error comes before the work.
pub fn check_writable(path: &Path) -> io::Result<()> {
    let path = replaced(path)?;
    let check = || -> io::Result<()> {
        if path.exists() {
            std::fs::File::options().write(true).open(&path)?;
        }
        temporary(&path).map(drop)
    };
    check().map_err(|error| in_context(&path, &error))
}

/// An exclusive lock for changes to a file. The lock file lies beside the file and is removed with the lock.
#[derive(Debug)]
pub struct Lock {
    path: PathBuf,
    /// The lock file, which is locked while it is open.
    _file: std::fs::File,
}

impl Lock {
    /// Waits for the lock.
    pub fn of(path: &Path) -> io::Result<Self> {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(".lock");
        let path = path.with_file_name(name);
        loop {
            let open = std::fs::File::options().write(true).create(true).truncate(false).open(&path);
            let file = open.map_err(|error| in_context(&path, &error))?;
            // On a file system without locks the run continues, as cargo does.
            let _ = file.lock();
            // The previous holder may have removed the lock file: then this lock excludes no other process.
            if is_file_at(&file, &path) {
                return Ok(Self { path, _file: file });
            }
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Whether an open file is the present file at a path.
pub fn is_file_at(file: &std::fs::File, path: &Path) -> bool {
    let id = |metadata: &std::fs::Metadata| (metadata.dev(), metadata.ino());
    matches!((file.metadata(), std::fs::metadata(path)), (Ok(open), Ok(there)) if id(&open) == id(&there))
}

/// Writes a file completely or leaves the old one, whose permissions it keeps. Links are followed: their target is replaced.
pub fn write(path: &Path, text: &[u8]) -> io::Result<()> {
    let path = &replaced(path)?;
    let write = || -> io::Result<()> {
        let mut file = temporary(path)?;
        file.write_all(text)?;
        file.as_file().sync_all()?;
        if let Ok(before) = std::fs::metadata(path) {
            file.as_file().set_permissions(before.permissions())?;
        }
        file.persist(path)?;
        Ok(())
    };
    write().map_err(|error| in_context(path, &error))
}

/// A temporary file in the folder of `path`, to be renamed to it. Its name contains the file's name and the writing
/// process. Temporary files of killed processes are removed.
fn temporary(path: &Path) -> io::Result<tempfile::NamedTempFile> {
    let prefix = format!(".{}.kbench-", path.file_name().unwrap_or_default().display());
    remove_abandoned(folder_of(path), &prefix);
    // Without them, tempfile creates private files; the process's mask applies to these, as to every new file.
    let permissions = std::fs::Permissions::from_mode(0o666);
    let prefix = format!("{prefix}{}-", std::process::id());
    tempfile::Builder::new().permissions(permissions).prefix(&prefix).tempfile_in(folder_of(path))
}

/// Removes temporary files whose writers were killed.
fn remove_abandoned(folder: &Path, prefix: &str) {
    /// Age after which a temporary file counts as abandoned: its writer may run on another machine that shares the
    /// folder.
    const WRITING: std::time::Duration = std::time::Duration::from_secs(2);
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let writer = name.to_str().and_then(|name| name.strip_prefix(prefix)?.split('-').next()?.parse().ok());
        let Some(writer) = writer else { continue };
        let is_old = entry
            .metadata()
            .and_then(|metadata| metadata.modified())
            .is_ok_and(|modified| modified.elapsed().is_ok_and(|age| age > WRITING));
        let is_gone = nix::sys::signal::kill(nix::unistd::Pid::from_raw(writer), None) == Err(nix::errno::Errno::ESRCH);
        if is_old && is_gone {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// An error with the name of its file.
pub fn in_context(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn free_space_is_that_of_the_nearest_existing_folder() {
        let folder = tempfile::tempdir().unwrap();
        let there = room(folder.path()).unwrap();
        assert!(there > 0);
        assert_eq!(room(Path::new("/proc/none/none")), Some(0), "a system of files without room");
        assert!(room(&folder.path().join("none/none")).unwrap() > 0);
    }

    #[test]
    fn temporary_files_of_a_killed_writer_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("elite.json");
        let mut ended = std::process::Command::new("true").spawn().unwrap();
        ended.wait().unwrap();
        let minute = std::time::SystemTime::now() - std::time::Duration::from_secs(60);
        let left = |writer: u32, name: &str| {
            let path = folder.path().join(format!(".elite.json.kbench-{writer}-{name}"));
            fs::write(&path, "{").unwrap();
            fs::File::options().write(true).open(&path).unwrap().set_modified(minute).unwrap();
            path
        };
        let (abandoned, at_work) = (left(ended.id(), "abc"), left(std::process::id(), "def"));
        write(&path, b"{}").unwrap();
        assert!(path.exists() && at_work.exists() && !abandoned.exists());
    }

    #[test]
    fn a_fifo_and_a_file_that_is_too_long_are_errors() {
        let folder = tempfile::tempdir().unwrap();
        let (fifo, file) = (folder.path().join("fifo"), folder.path().join("file"));
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(read_at_most(&fifo, 10).unwrap_err().to_string().contains("not an ordinary file"));
        assert!(read_at_most(Path::new("/dev/zero"), 10).is_err());
        fs::write(&file, "12345678901").unwrap();
        assert!(read_at_most(&file, 10).is_err());
        assert_eq!(read_at_most(&file, 11).unwrap(), b"12345678901");
    }

    #[test]
    fn a_fifo_a_device_and_a_folder_are_never_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        nix::unistd::mkfifo(&at("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        fs::create_dir(at("folder")).unwrap();
        symlink("/dev/null", at("null")).unwrap();
        symlink("fifo", at("link")).unwrap();
        for name in ["fifo", "folder", "null", "link"] {
            for result in [check_writable(&at(name)), write(&at(name), b"1")] {
                assert!(result.unwrap_err().to_string().ends_with("not an ordinary file"), "{name}");
            }
        }
        assert!(is_endless(&at("fifo")) && fs::metadata("/dev/null").unwrap().len() == 0);
    }

    #[test]
    fn a_rewritten_file_keeps_its_permissions() {
        let folder = tempfile::tempdir().unwrap();
        let [path, plain] = ["file", "plain"].map(|name| folder.path().join(name));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
        fs::write(&plain, "").unwrap();
        write(&path, b"1").unwrap();
        assert_eq!(mode(&path), mode(&plain), "a new file is like any other");
        for kept in [0o600, 0o664] {
            fs::set_permissions(&path, fs::Permissions::from_mode(kept)).unwrap();
            write(&path, b"2").unwrap();
            assert_eq!(mode(&path) & 0o777, kept);
        }
    }

    #[test]
    fn a_write_follows_a_link_and_keeps_it() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("results")).unwrap();
        symlink("results/mine", at("first")).unwrap();
        symlink(at("first"), at("second")).unwrap();
        check_writable(&at("second")).unwrap();
        for text in ["dangling", "there"] {
            write(&at("second"), text.as_bytes()).unwrap();
            assert_eq!(fs::read_to_string(at("results/mine")).unwrap(), text);
        }
        assert!(fs::symlink_metadata(at("second")).unwrap().is_symlink());
        assert_eq!(fs::read_dir(at("results")).unwrap().count(), 1, "no temporary file is left");
        symlink("no folder/file", at("nowhere")).unwrap();
        assert!(check_writable(&at("nowhere")).unwrap_err().to_string().contains("no folder/file"));
        symlink("round", at("round")).unwrap();
        assert!(write(&at("round"), b"").is_err());
    }

    #[test]
    fn relative_paths_lead_from_a_folder_to_a_file() {
        let relative = |path: &str, folder: &str| relative(Path::new(path), Path::new(folder)).display().to_string();
        assert_eq!(relative("/a/b/c", "/a"), "b/c");
        assert_eq!(relative("/a/b/c", "/a/d/e"), "../../b/c");
        assert_eq!(relative("/b", "/a"), "../b");
    }

    #[test]
    fn a_lock_excludes_others_and_its_file_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("count");
        fs::write(&path, "0").unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        let _lock = Lock::of(&path).unwrap();
                        let count: u32 = fs::read_to_string(&path).unwrap().parse().unwrap();
                        fs::write(&path, (count + 1).to_string()).unwrap();
                    }
                });
            }
        });
        assert_eq!(fs::read_to_string(&path).unwrap(), "200");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "the lock's file is gone");
    }
}
