//! One run of a compiler, and the error for its output.

use std::ffi::{OsStr, OsString};
use std::io::{self, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::error::CompileError;
use crate::interrupt::is_interrupted;
use crate::process::executor::PATIENCE;
use crate::process::group::{Finish, GRACE, Output, ProcessGroup};

/// One run of a compiler.
#[derive(Debug, Clone)]
pub(super) struct Invocation {
    program: OsString,
    args: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    directory: PathBuf,
}

impl Invocation {
    /// A run of `program` in `directory`.
    pub(super) fn new(program: impl AsRef<OsStr>, directory: &Path) -> Self {
        Self {
            program: program.as_ref().to_owned(),
            args: Vec::new(),
            environment: Vec::new(),
            directory: directory.to_owned(),
        }
    }

    /// Folder of the run.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Appends an argument.
    pub(super) fn arg(&mut self, arg: impl AsRef<OsStr>) -> &mut Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// Appends arguments.
    pub(super) fn args<A: AsRef<OsStr>>(&mut self, args: impl IntoIterator<Item = A>) -> &mut Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Appends `-DNAME=VALUE` for each macro.
    pub(super) fn macros(&mut self, macros: &[(String, String)]) -> &mut Self {
        self.args(macros.iter().map(|(name, value)| format!("-D{name}={value}")))
    }

    /// Sets an environment variable.
    pub(super) fn env(&mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> &mut Self {
        self.environment.push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// The recorded command: files of the temporary folder by name, since the folder is removed, and other files
    /// relative to the folder of the run, so that the command works in another checkout.
    pub(super) fn recorded(&self, temporary: &Path) -> Vec<String> {
        let prefix = format!("{}/", temporary.display());
        let args = self.args.iter().map(|word| match relative(Path::new(word), &self.directory) {
            Some(path) if !word.to_string_lossy().starts_with(&prefix) => path.display().to_string(),
            _ => word.to_string_lossy().replace(&prefix, ""),
        });
        std::iter::once(self.program.to_string_lossy().into_owned()).chain(args).collect()
    }

    /// Runs the compiler to its end, or until `ended` is true, and returns the output of both streams; an error unless
    /// the exit code is 0.
    pub(super) fn run(&self, temporary: &Path, ended: &AtomicBool) -> Result<String, CompileError> {
        self.run_for(temporary, ended, PATIENCE)
    }

    fn run_for(&self, temporary: &Path, unwanted: &AtomicBool, limit: Duration) -> Result<String, CompileError> {
        let started = Instant::now();
        let ended = self.run_to_end(temporary, unwanted, limit);
        let (command, seconds) = (self.recorded(temporary).join(" "), started.elapsed().as_secs_f64());
        match &ended {
            Ok(_) => tracing::debug!(seconds, command, "compiler succeeded"),
            Err(error) => tracing::debug!(seconds, command, %error, "compiler failed"),
        }
        ended
    }

    fn run_to_end(&self, temporary: &Path, unwanted: &AtomicBool, limit: Duration) -> Result<String, CompileError> {
        let is_unwanted = || unwanted.load(Ordering::Relaxed);
        if is_unwanted() {
            return Err(CompileError::Unwanted);
        }
        let mut command = Command::new(&self.program);
        command.args(&self.args).env("LC_ALL", "C").current_dir(&self.directory);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        let output = Output::new().and_then(|output| output.capture(&mut command).map(|()| output));
        let mut output = output.map_err(CompileError::io("keep the output of", Path::new(&self.program)))?;
        let mut compiler = ProcessGroup::spawn(&mut command, GRACE).map_err(|error| self.not_started(error))?;
        let finish = compiler.finish(limit, is_unwanted);
        let finish = finish.map_err(CompileError::io("wait for a compiler in", temporary))?;
        let said = output.text().map_err(CompileError::io("read the output of a compiler in", temporary))?;
        let command = || self.recorded(temporary);
        let status = match finish {
            _ if is_unwanted() => return Err(CompileError::Unwanted),
            Finish::Exited(status) if status.success() => return Ok(said),
            Finish::TooLong => return Err(CompileError::TooLong { command: command(), seconds: limit.as_secs() }),
            Finish::Exited(status) if !is_interrupted() => status,
            // After Ctrl-C there is no verdict.
            Finish::Exited(_) | Finish::Interrupted => {
                return Err(CompileError::Killed { command: command(), signal: Signal::SIGINT as i32 });
            }
        };
        // A full disk is not the source's fault, with or without a message about it.
        let words = || io::Error::other(said.trim().to_owned());
        let of_machine = said.lines().any(names_machine_error).then(words);
        if let Some(error) = of_machine.or_else(|| room(temporary).err()) {
            return Err(CompileError::Io { action: "compile in".to_owned(), path: temporary.to_owned(), error });
        }
        if let Some(signal) = status.signal().or_else(|| signal_of_a_child(&said)) {
            return Err(CompileError::Killed { command: command(), signal });
        }
        let command = command();
        let stderr = said.clone() + &header_help(&command, &said).unwrap_or_default();
        Err(CompileError::Failed { command, status: status.to_string(), stderr })
    }

    fn not_started(&self, error: io::Error) -> CompileError {
        if error.kind() == io::ErrorKind::NotFound && self.directory.is_dir() {
            return CompileError::NoCompiler {
                what: format!("`{}` was not found", self.program.to_string_lossy()),
                help: "install it, or name another".to_owned(),
            };
        }
        let path = if self.directory.is_dir() { Path::new(&self.program) } else { &self.directory };
        CompileError::Io { action: "run a compiler in".to_owned(), path: path.to_owned(), error }
    }
}

/// Whether a compiler's message says that the machine lacks disk space, processes or files. The messages are the C
/// library's; the locale is C.
fn names_machine_error(line: &str) -> bool {
    use nix::libc::{EAGAIN, EDQUOT, EFBIG, EIO, EMFILE, ENFILE, ENOSPC, EROFS};
    [ENOSPC, EDQUOT, EFBIG, EAGAIN, EMFILE, ENFILE, EROFS, EIO].into_iter().any(|code| {
        let error = io::Error::from_raw_os_error(code).to_string();
        line.contains(error.split(" (os error").next().unwrap_or(&error))
    })
}

/// An error if a folder lacks the space for a small compilation's output.
fn room(folder: &Path) -> io::Result<()> {
    /// Zeros may take no space.
    static BYTES: [u8; 64 << 10] = [0xa5; 64 << 10];
    tempfile::tempfile_in(folder)?.write_all(&BYTES)
}

/// The signal that ended a pass of a compiler: nvcc prints `'cicc' died due to signal 9 (Kill signal)`, gcc `fatal
/// error: Killed signal terminated program cc1`.
fn signal_of_a_child(said: &str) -> Option<i32> {
    if let Some((_, rest)) = said.split_once("died due to signal ") {
        let number: String = rest.chars().take_while(char::is_ascii_digit).collect();
        // SIGSEGV, SIGABRT and the like are crashes of the compiler on this source.
        return number.parse().ok().filter(|signal| [2, 9, 15].contains(signal));
    }
    [("Interrupt", 2), ("Killed", 9), ("Terminated", 15)]
        .into_iter()
        .find(|(name, _)| said.contains(&format!("fatal error: {name} signal terminated program")))
        .map(|(_, signal)| signal)
}

/// The first line that a command prints with `--version` for which `wanted` is true.
pub(super) fn version_line(mut command: Command, wanted: impl Fn(&str) -> bool) -> io::Result<String> {
    let output = command.arg("--version").stdin(Stdio::null()).env("LC_ALL", "C").output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().find(|line| wanted(line)).or_else(|| text.lines().next());
    line.map(|line| line.trim().to_owned()).ok_or_else(|| {
        let said = String::from_utf8_lossy(&output.stderr);
        let program = command.get_program().display();
        io::Error::other(format!("`{program} --version` said nothing ({}) {said}", output.status))
    })
}

/// A path relative to a folder; `None` if the two have no common part.
fn relative(path: &Path, folder: &Path) -> Option<PathBuf> {
    let common = folder.ancestors().find(|folder| folder.parent().is_some() && path.starts_with(folder))?;
    let up = folder.strip_prefix(common).ok()?.components().map(|_| "..");
    let seen: PathBuf = up.chain(path.strip_prefix(common).ok()?.to_str()).collect();
    Some(if seen.as_os_str().is_empty() { ".".into() } else { seen })
}

/// Help for a macro that breaks a header of CUDA or of the system: the compiler's errors do not name the macro.
fn header_help(command: &[String], said: &str) -> Option<String> {
    let first = said.lines().find(|line| line.contains(" error: ") || line.contains(": error: "))?;
    let file = first.split(['(', ':']).next()?;
    if !file.contains("/include/") {
        return None;
    }
    let names = command.iter().filter_map(|word| word.strip_prefix("-D")?.split('=').next());
    // Templates of headers have parameters with names such as `T`.
    let short: Vec<&str> = names.filter(|name| name.len() <= 2).collect();
    if short.is_empty() {
        return None;
    }
    Some(format!(
        "help: the first error is in a header, {file}, where {} may be a name: toggles of `macro` and `micro` are macros in headers too; \
         rename the toggle, or declare it in `toggles.constant`\n",
        crate::text::list(&short)
    ))
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;
    use crate::build::NEVER;

    const TICK: Duration = Duration::from_millis(2);

    fn shell(script: &str) -> Invocation {
        let mut invocation = Invocation::new("sh", Path::new("/"));
        invocation.arg("-c").arg(script);
        invocation
    }

    #[test]
    fn a_failure_keeps_the_compilers_words_and_the_command() {
        let error = shell("echo out; echo err >&2; exit 3").run(&std::env::temp_dir(), &NEVER).unwrap_err();
        let CompileError::Failed { command, status, stderr } = error else { panic!("{error:?}") };
        assert_eq!(command[..2], ["sh", "-c"]);
        assert_eq!(status, "exit status: 3");
        assert_eq!(stderr, "out\nerr\n");
    }

    #[test]
    fn a_macro_that_breaks_a_header_is_named() {
        let said = "/opt/cuda/bin/..//include/cuda_device_runtime_api.h(869): error: expected an identifier\n";
        let command = |words: &str| words.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let help = header_help(&command("nvcc -DT=1 -DTILE=2 kernel.cu"), said).unwrap();
        assert!(help.contains("where `T` may be a name") && help.contains("toggles.constant"), "{help}");
        assert_eq!(header_help(&command("nvcc -DTILE=2 kernel.cu"), said), None);
        let own = "kernel.cu(3): error: expected an identifier\n";
        assert_eq!(header_help(&command("nvcc -DT=1 kernel.cu"), own), None);
    }

    #[test]
    fn a_full_disk_is_not_a_refusal() {
        for words in [
            "as: kernel.o: No space left on device",
            "/usr/bin/ld: final link failed: File too large",
            "gcc: fatal error: cannot execute 'cc1': vfork: Resource temporarily unavailable",
        ] {
            let script = format!("echo \"{words}\" >&2; exit 1");
            let error = shell(&script).run(&std::env::temp_dir(), &NEVER).unwrap_err();
            assert!(!error.is_variants_own() && error.to_string().contains(words), "{error}");
        }
        // No file can be written there, and no compiler says so.
        let error = shell("exit 1").run(Path::new("/proc"), &NEVER).unwrap_err();
        assert!(!error.is_variants_own() && error.to_string().starts_with("could not compile in `/proc`"), "{error}");
    }

    #[test]
    fn a_compiler_that_was_ended_is_not_a_refusal() {
        let error = shell("kill -TERM $$").run(&std::env::temp_dir(), &NEVER).unwrap_err();
        assert!(matches!(error, CompileError::Killed { signal: 15, .. }), "{error:?}");
        let error = shell("echo \"nvcc error   : 'cicc' died due to signal 9 (Kill signal)\" >&2; exit 9")
            .run(&std::env::temp_dir(), &NEVER)
            .unwrap_err();
        assert!(matches!(error, CompileError::Killed { signal: 9, .. }), "{error:?}");
        assert_eq!(signal_of_a_child("'cicc' died due to signal 11 (Invalid memory reference)"), None);
        assert_eq!(signal_of_a_child("gcc: fatal error: Killed signal terminated program cc1"), Some(9));
    }

    /// A compiler that starts another and waits for it; the file gets the process id of the other.
    fn endless(file: &Path) -> Invocation {
        shell(&format!("sleep 1000 & echo $! > {0}.new; mv {0}.new {0}; wait", file.display()))
    }

    fn assert_gone(file: &Path) {
        let pid: i32 = std::fs::read_to_string(file).unwrap().trim().parse().unwrap();
        let gone = || match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
            // A process without a waiting parent may remain as a zombie.
            Ok(stat) => stat.contains(") Z"),
            Err(_) => true,
        };
        let until = Instant::now() + Duration::from_secs(10);
        while !gone() {
            assert!(Instant::now() < until, "it goes on");
            thread::sleep(TICK);
        }
    }

    #[test]
    fn a_compiler_beyond_its_deadline_is_ended_with_its_children() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pid");
        let error = endless(&file).run_for(&std::env::temp_dir(), &NEVER, Duration::from_millis(500)).unwrap_err();
        assert!(matches!(error, CompileError::TooLong { .. }) && error.is_variants_own(), "{error:?}");
        assert_gone(&file);
    }

    #[test]
    fn a_cancelled_compiler_is_ended_with_its_children() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pid");
        let ended = AtomicBool::new(false);
        let error = thread::scope(|scope| {
            let compiler = scope.spawn(|| endless(&file).run(&std::env::temp_dir(), &ended).unwrap_err());
            while !file.exists() {
                thread::sleep(TICK);
            }
            ended.store(true, Ordering::Relaxed);
            compiler.join().unwrap()
        });
        assert!(matches!(error, CompileError::Unwanted) && !error.is_variants_own(), "{error:?}");
        assert_gone(&file);
        let error = shell("exit 0").run(&std::env::temp_dir(), &ended).unwrap_err();
        assert!(matches!(error, CompileError::Unwanted), "none is started");
    }

    #[test]
    fn a_missing_program_is_a_missing_compiler() {
        let error = Invocation::new("no-such-compiler", Path::new("/")).run(&std::env::temp_dir(), &NEVER).unwrap_err();
        assert!(matches!(error, CompileError::NoCompiler { .. }), "{error:?}");
        let error = Invocation::new("sh", Path::new("/no/such/folder")).run(&std::env::temp_dir(), &NEVER).unwrap_err();
        assert!(matches!(error, CompileError::Io { .. }), "{error:?}");
    }

    #[test]
    fn the_recorded_command_names_no_temporary_folder() {
        let mut invocation = Invocation::new("cc", Path::new("/"));
        invocation.macros(&[("A".into(), "1".into())]).arg("-o").arg("/tmp/t1/kernel.o");
        assert_eq!(invocation.recorded(Path::new("/tmp/t1")), ["cc", "-DA=1", "-o", "kernel.o"]);
        let mut invocation = Invocation::new("/usr/bin/cc", Path::new("/home/w/p"));
        invocation.args([
            "-I",
            "/home/w/p",
            "-c",
            "/home/w/target/k.c",
            "-I",
            "/usr/include",
            "-o",
            "/home/w/target/tmp/k.o",
        ]);
        let recorded = invocation.recorded(Path::new("/home/w/target/tmp"));
        assert_eq!(recorded.join(" "), "/usr/bin/cc -I . -c ../target/k.c -I /usr/include -o k.o");
    }
}
