//! The sanitizers: compiler flags of a unit, and command prefix of its worker.

use std::env;
use std::fs;
use std::hash::{BuildHasher as _, RandomState};
use std::path::{Path, PathBuf};

use super::error::CompileError;
use super::generated::Language;
use super::{Artifact, Compiler, binary, nvcc};
use crate::config::SanitizeTool;

/// Exit code of a worker whose sanitizer found an error: no exit code of the worker itself.
pub const FOUND: i32 = 86;

/// First characters of each line of compute-sanitizer, unless its command states others.
pub const MARK: &str = "=========";

/// A sanitizer of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sanitizer {
    /// Compiler flags, after the user's own.
    pub flags: Vec<String>,
    /// Command prefix of the worker.
    pub command: Vec<String>,
    /// Whether the tool is compute-sanitizer, whose lines start with a mark.
    pub is_marked: bool,
}

impl Sanitizer {
    /// The command prefix of one worker, and the mark of the tool's lines. Kernels print to the same stream, so the mark of compute-sanitizer is random:
    /// no text of a kernel is read as the tool's.
    pub fn marked(&self) -> (Vec<String>, String) {
        let mut command = self.command.clone();
        if !self.is_marked {
            return (command, MARK.to_owned());
        }
        let mark = format!("{MARK}{:016x}", RandomState::new().hash_one(MARK));
        command.extend(["--prefix".to_owned(), mark.clone()]);
        (command, mark)
    }
}

impl Compiler {
    /// A sanitizer, or the missing piece. `remote`: the worker runs on another machine, where a tool must be on the
    /// `PATH`.
    pub fn sanitizer(&self, tool: SanitizeTool, remote: bool) -> Result<Sanitizer, CompileError> {
        match tool {
            SanitizeTool::Address | SanitizeTool::Undefined => self.c_sanitizer(tool),
            _ => {
                let program = if remote { PathBuf::from("compute-sanitizer") } else { self.compute_sanitizer()? };
                // Debug lines change no instructions; the caller verifies this.
                let command = compute_sanitizer(tool, &program);
                Ok(Sanitizer { flags: vec!["-lineinfo".to_owned()], command, is_marked: true })
            }
        }
    }

    fn c_sanitizer(&self, tool: SanitizeTool) -> Result<Sanitizer, CompileError> {
        let cc = self.cc(Language::C)?;
        let (name, gcc, clang) = match tool {
            SanitizeTool::Address => ("address", "asan", "asan"),
            _ => ("undefined", "ubsan", "ubsan_standalone"),
        };
        let file = if cc.is_clang() {
            format!("libclang_rt.{clang}-{}.so", env::consts::ARCH)
        } else {
            format!("lib{gcc}.so")
        };
        let runtime = cc.file(&file).and_then(|path| shared_object(&path)).ok_or_else(|| CompileError::NoCompiler {
            what: format!(
                "`gates.sanitize` asks for `{name}`, and the C compiler `{}` has no {file}",
                cc.path.display()
            ),
            help:
                "install its sanitizer runtime (Fedora: libasan and libubsan; Debian has them with gcc), or leave the \
                   tool out"
                    .to_owned(),
        })?;
        // -O1: an optimiser removes faults that a sanitizer would find. -w: the sanitizers cause false warnings, which
        // may be errors.
        let mut flags: Vec<String> =
            ["-O1", "-g", "-fno-omit-frame-pointer", "-fno-sanitize-recover=all", "-U_FORTIFY_SOURCE", "-w"]
                .map(str::to_owned)
                .into();
        flags.push(format!("-fsanitize={name}"));
        if cc.is_clang() {
            flags.push("-shared-libsan".to_owned());
        }
        let command = vec![
            "env".to_owned(),
            format!("LD_PRELOAD={}", runtime.display()),
            format!("ASAN_OPTIONS=exitcode={FOUND}:detect_leaks=0:allocator_may_return_null=1"),
            format!("UBSAN_OPTIONS=exitcode={FOUND}:print_stacktrace=1:halt_on_error=1"),
        ];
        Ok(Sanitizer { flags, command, is_marked: false })
    }

    /// Path of compute-sanitizer.
    pub fn compute_sanitizer(&self) -> Result<PathBuf, CompileError> {
        self.cuda_tool("compute-sanitizer", "COMPUTE_SANITIZER").map_err(|what| CompileError::NoCompiler {
            what: format!("`gates.sanitize`: {what}"),
            help: "install it (it comes with the CUDA toolkit; alone it is the package cuda-sanitizer-13-0), or say `sanitize = \"warn\"`"
                .to_owned(),
        })
    }

    /// A program of the toolkit: that in `variable`, or in `$CUDA_HOME`, `$CUDA_PATH`, `PATH`, `/usr/local/cuda`, or
    /// beside nvcc. The error has the searched places.
    pub(super) fn cuda_tool(&self, name: &str, variable: &str) -> Result<PathBuf, String> {
        let value = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        if let Some(path) = value(variable) {
            return nvcc::which(&path)
                .ok_or_else(|| format!("${variable} names `{}`, which is no executable file", path.display()));
        }
        let in_root = |root: PathBuf| nvcc::which(&root.join("bin").join(name));
        let beside = || nvcc::which(&self.cuda_compiler().ok()?.0.with_file_name(name));
        value("CUDA_HOME")
            .and_then(in_root)
            .or_else(|| value("CUDA_PATH").and_then(in_root))
            .or_else(|| nvcc::which(Path::new(name)))
            .or_else(|| in_root(PathBuf::from("/usr/local/cuda")))
            .or_else(beside)
            .ok_or_else(|| {
                format!(
                    "{name} was not found; looked in ${variable} (not set), $CUDA_HOME, $CUDA_PATH, PATH, /usr/local/cuda/bin, \
                     beside nvcc"
                )
            })
    }
}

/// Whether two cubins have the same instructions, with any source lines.
pub fn same_code(a: &Artifact, b: &Artifact) -> bool {
    let of = |artifact: &Artifact| binary::cubin_code(&fs::read(&artifact.code).ok()?).ok();
    of(a).is_some_and(|code| of(b) == Some(code))
}

/// The command of compute-sanitizer. Its report goes to stderr: stdout belongs to the protocol.
fn compute_sanitizer(tool: SanitizeTool, program: &Path) -> Vec<String> {
    let mut words = vec![program.display().to_string(), "--tool".to_owned(), tool.name().to_owned()];
    let found = FOUND.to_string();
    words
        .extend(["--log-file", "/dev/stderr", "--error-exitcode", &found, "--show-backtrace", "no"].map(str::to_owned));
    words.extend(["--print-limit", "20"].map(str::to_owned));
    match tool {
        // The worker queries one parameter too many, which is an API error. Without padding, the end of a tensor is
        // often the start of the next.
        SanitizeTool::Memcheck => words.extend(["--report-api-errors", "no", "--padding", "4096"].map(str::to_owned)),
        SanitizeTool::Racecheck => words.extend(["--racecheck-report", "analysis"].map(str::to_owned)),
        _ => {}
    }
    words
}

/// The shared object at a path of a library: the file itself, or the file that a linker script there names (`INPUT (
/// /usr/lib64/libasan.so.8 )`, on Fedora).
fn shared_object(path: &Path) -> Option<PathBuf> {
    let bytes = fs::read(path).ok()?;
    if bytes.starts_with(b"\x7fELF") {
        return fs::canonicalize(path).ok();
    }
    let text = String::from_utf8(bytes).ok()?;
    let (_, rest) = text.split_once("INPUT")?;
    let named = rest.trim_start().strip_prefix('(')?.split_whitespace().next()?.trim_end_matches(')').to_owned();
    Some(PathBuf::from(named)).filter(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_of_compute_sanitizer_stays_out_of_the_protocol() {
        insta::assert_snapshot!(
            compute_sanitizer(SanitizeTool::Memcheck, Path::new("/cuda/compute-sanitizer")).join(" "),
            @"/cuda/compute-sanitizer --tool memcheck --log-file /dev/stderr --error-exitcode 86 --show-backtrace no --print-limit 20 --report-api-errors no --padding 4096"
        );
    }

    #[test]
    fn a_mark_is_of_one_run() {
        let command = compute_sanitizer(SanitizeTool::Memcheck, Path::new("compute-sanitizer"));
        let tool = Sanitizer { flags: Vec::new(), command, is_marked: true };
        let [(first, mark), (_, other)] = [tool.marked(), tool.marked()];
        assert_eq!(first, [&tool.command[..], &["--prefix".to_owned(), mark.clone()]].concat());
        assert!(mark != other && mark.len() == MARK.len() + 16 && mark.starts_with(MARK));
        let of_c = Sanitizer { is_marked: false, ..tool };
        assert_eq!(of_c.marked(), (of_c.command.clone(), MARK.to_owned()));
    }

    #[test]
    fn runtimes_behind_linker_scripts_are_found() {
        let folder = tempfile::tempdir().unwrap();
        let (script, object) = (folder.path().join("libasan.so"), folder.path().join("libasan.so.8"));
        fs::write(&script, format!("INPUT ( {} )\n", object.display())).unwrap();
        assert_eq!(shared_object(&script), None);
        fs::write(&object, b"\x7fELF").unwrap();
        assert_eq!(shared_object(&script), Some(object.clone()));
        assert_eq!(shared_object(&object), fs::canonicalize(&object).ok());
        assert_eq!(shared_object(Path::new("libasan.so")), None);
    }
}
