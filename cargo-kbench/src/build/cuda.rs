//! The CUDA backend: a cubin through nvcc. Longer than 400 lines: its unit tests stand with it.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::{env, fs, io, thread};

use kbench_runtime::driver::threads;
use kbench_runtime::fingerprint;

use super::cache::Cache;
use super::cubin::{self, Kernel};
use super::entry::{Unresolved, resolve};
use super::error::CompileError;
use super::files::Files;
use super::generated::{self, entry_address};
use super::inputs::Inputs;
use super::invocation::{Invocation, version_line};
use super::occupancy::compute_capability;
use super::ptxas::Report;
use super::search::{SearchPath, SearchPaths};
use super::signature::{self, Mismatch};
use super::{Built, Entry, Function, NO_PANIC, Param, Resources, Toolchain, Unit, binary, files, nvcc, program, text};

const HOST_COMPILER_HELP: &str = "install g++, or name one with `-ccbin` in flags or in $NVCC_CCBIN";

/// nvcc with its tools.
#[derive(Debug)]
pub(super) struct Nvcc {
    /// Path.
    pub(super) path: PathBuf,
    /// Version line: `Cuda compilation tools, release 13.0, V13.0.88`.
    pub(super) version: String,
    /// Version of the ptxas beside it: in an installation from wheels the two can differ.
    ptxas: String,
    /// Fingerprint of nvcc and the programs beside it; `None` if it cannot be determined.
    programs: Option<Vec<String>>,
    /// Host compilers by requested name.
    hosts: Mutex<HashMap<PathBuf, Host>>,
    searches: SearchPaths,
    /// Sources and entries whose types cannot be asserted after the source.
    unasserted: Mutex<HashSet<(PathBuf, Vec<String>)>>,
}

/// A host compiler.
#[derive(Debug, Clone)]
struct Host {
    version: String,
    /// See [`Nvcc::programs`].
    program: Option<String>,
}

impl Nvcc {
    /// Finds nvcc and asks its version.
    pub(super) fn find(given: Option<&Path>, work_directory: &Path) -> Result<Self, CompileError> {
        let path = nvcc::find(given, work_directory)?;
        let path = std::path::absolute(&path).map_err(CompileError::io("resolve", &path))?;
        let release = |line: &str| line.contains("release ");
        let version = version_line(Command::new(&path), release).map_err(|error| CompileError::NoCompiler {
            what: format!("nvcc at `{}` does not run: {error}", path.display()),
            help: "repair that installation, or name another with --nvcc".to_owned(),
        })?;
        let ptxas = version_line(Command::new(path.with_file_name("ptxas")), release).unwrap_or_default();
        let beside =
            [".", "ptxas", "cudafe++", "nvcc.profile", "../nvvm/bin/cicc", "../nvvm/libdevice/libdevice.10.bc"];
        let programs = beside.iter().map(|name| if *name == "." { path.clone() } else { path.with_file_name(name) });
        let programs = programs.filter(|path| path.is_file()).map(|path| program::identity(&path)).collect();
        Ok(Self {
            path,
            version,
            ptxas,
            programs,
            hosts: Mutex::default(),
            searches: SearchPaths::default(),
            unasserted: Mutex::default(),
        })
    }

    /// Fingerprint of this compiler and its host compiler for a key.
    pub(super) fn toolchain(&self, unit: &Unit, files: &Files) -> Result<Toolchain, CompileError> {
        let host = self.host_compiler(&unit.flags)?;
        let from = |name: &str| env::var(name).unwrap_or_default();
        let more = [from("NVCC_PREPEND_FLAGS"), from("NVCC_APPEND_FLAGS")];
        let words = more.iter().flat_map(|flags| flags.split_whitespace());
        let mut inputs = Inputs::of(words.chain(unit.flags.iter().map(String::as_str)), &unit.directory, files);
        inputs.untracked |= more.iter().any(|flags| flags.contains(['"', '\'', '\\']));
        let is_tracked = self.programs.is_some() && host.program.is_some();
        let compiler = (text(&self.path), &self.version, &self.ptxas, &self.programs);
        let key = fingerprint::of("nvcc", &(compiler, &host.version, &host.program));
        Ok(Toolchain { key, inputs, is_tracked })
    }

    /// The compiler that preprocesses for nvcc.
    fn host_compiler(&self, flags: &[String]) -> Result<Host, CompileError> {
        let name = host_compiler(flags, env::var_os("NVCC_CCBIN").map(PathBuf::from));
        let mut hosts = self.hosts.lock().expect("no panic while locked");
        if let Some(host) = hosts.get(&name) {
            return Ok(host.clone());
        }
        // `-ccbin` may name a folder.
        let in_folder = name.join("gcc");
        let program = if in_folder.is_file() { &in_folder } else { &name };
        let missing = || CompileError::NoCompiler {
            what: format!("nvcc needs a host compiler, and `{}` was not found", program.display()),
            help: HOST_COMPILER_HELP.to_owned(),
        };
        let found = nvcc::which(program).ok_or_else(missing)?;
        let version = version_line(Command::new(&found), |line| !line.is_empty()).map_err(|_| missing())?;
        let host = Host { version, program: program::identity(&found) };
        hosts.insert(name, host.clone());
        Ok(host)
    }

    /// Folders of the headers of a unit.
    fn search_path(&self, unit: &Unit, arch: &str, work: &Path) -> Option<Arc<SearchPath>> {
        let ask = |flags: &[String], full: bool| {
            let mut command = Invocation::new(&self.path, &unit.directory);
            command.env("TMPDIR", work);
            if full {
                command.arg(format!("-arch={arch}")).arg("-I").arg(&unit.directory).args(flags);
            } else {
                let variables = ["CPATH", "CPLUS_INCLUDE_PATH", "NVCC_PREPEND_FLAGS", "NVCC_APPEND_FLAGS"];
                for name in variables {
                    command.env(name, "");
                }
            }
            command.args(["-E", "-Xcompiler", "-v", "-x", "cu", "/dev/null", "-o", "/dev/null"]);
            command
        };
        self.searches.of(&unit.flags, &unit.directory, work, [&|| ask(&[], false), &|| ask(&unit.flags, true)])
    }

    /// Compiles in `work`, a temporary folder. `tracked` has the inputs of the flags, if the outcome is to be kept.
    pub(super) fn build(
        &self,
        unit: &Unit,
        cache: &Cache,
        work: &Path,
        ended: &AtomicBool,
        tracked: Option<&Inputs>,
    ) -> Result<Built, CompileError> {
        let mismatch = |(entry, found): (usize, Mismatch)| {
            let Entry { name, signature } = &unit.entries[entry];
            CompileError::ParameterType {
                entry: name.clone(),
                index: found.index,
                declared: signature.get(found.index).map_or_else(String::new, signature::declared),
                found: found.found,
            }
        };
        let asserting = if self.is_asserted(unit) { signature::asserting(unit) } else { None };
        if let Some(text) = &asserting {
            let source = cache.store_shim(text, "cu")?;
            // The error is at a line of the generated file, not of an included one.
            let ours = format!("{}(", source.display());
            match self.compile(unit, &source, cache, work, ended, tracked) {
                Err(CompileError::Failed { stderr, .. }) if stderr.contains(&ours) => {
                    if let Some(found) = signature::asserted(&stderr) {
                        return Err(mismatch(found));
                    }
                }
                built => return built.map_err(refused),
            }
        }
        let source = generated_source(unit, cache)?;
        let built = self.compile(unit, &source, cache, work, ended, tracked).map_err(refused)?;
        if asserting.is_some() {
            // The assertions do not find an entry in a namespace, or an overloaded one.
            let mut unasserted = self.unasserted.lock().expect(NO_PANIC);
            unasserted.insert(asserted_as(unit));
        }
        let by_symbol =
            unit.entries.iter().zip(&built.functions).enumerate().find_map(|(at, (entry, function))| {
                Some((at, signature::of_symbol(&function.symbol, &entry.signature)?))
            });
        by_symbol.map_or(Ok(built), |found| Err(mismatch(found)))
    }

    /// Whether the types of the entries' parameters have to be asserted, since no symbol has them.
    fn is_asserted(&self, unit: &Unit) -> bool {
        unit.entries.iter().any(|entry| !entry.signature.is_empty())
            && !unit.entries.iter().any(Entry::is_instance)
            && fs::read_to_string(&unit.source).is_ok_and(|text| text.contains("extern \"C\""))
            && !self.unasserted.lock().expect(NO_PANIC).contains(&asserted_as(unit))
    }

    /// The PTX of a unit.
    pub(super) fn ptx(&self, unit: &Unit, cache: &Cache, work: &Path) -> Result<Vec<u8>, CompileError> {
        let source = generated_source(unit, cache)?;
        let arch = unit.arch.as_deref().unwrap_or_default().replace("sm_", "compute_");
        let output = work.join("kernel.ptx");
        let mut compile = Invocation::new(&self.path, &unit.directory);
        compile.env("TMPDIR", work);
        compile.arg("-ptx").arg(format!("-arch={arch}"));
        if let Some(folder) = cache.store_headers(&unit.headers)? {
            compile.arg("-I").arg(folder);
        }
        compile.arg("-I").arg(&unit.directory);
        compile.args(&unit.flags).macros(&unit.macros).arg("-o").arg(&output).arg(&source);
        compile.run(work, &super::NEVER).map_err(refused)?;
        fs::read(&output).map_err(CompileError::unwritten(&self.path.to_string_lossy(), &output))
    }

    /// Compiles `source`, which is the unit's or includes it. Returns nvcc's failure as an error.
    fn compile(
        &self,
        unit: &Unit,
        source: &Path,
        cache: &Cache,
        work: &Path,
        ended: &AtomicBool,
        tracked: Option<&Inputs>,
    ) -> Result<Built, CompileError> {
        let arch = unit.arch.as_deref().ok_or_else(|| CompileError::Unsupported {
            what: format!("`{}` needs an architecture to be compiled for, `arch = [\"sm_90a\"]`", unit.entries[0].name),
        })?;
        let [output, depfile] = ["kernel.cubin", "kernel.d"].map(|name| work.join(name));
        let mut compile = Invocation::new(&self.path, &unit.directory);
        // nvcc's temporary files are removed with the folder, also after an interrupt.
        compile.env("TMPDIR", work);
        compile.arg("-cubin").arg(format!("-arch={arch}")).args(["-Xptxas", "-v"]);
        if let Some(folder) = cache.store_headers(&unit.headers)? {
            compile.arg("-I").arg(folder);
        }
        compile.arg("-I").arg(&unit.directory).args(&unit.flags).macros(&unit.macros);
        let path = depfile.to_string_lossy();
        if path.contains(['"', '\\']) {
            // nvcc passes arguments through a shell, which would split such a path.
            compile.arg("-MD").arg("-MF").arg(&depfile);
        } else {
            // The host compiler writes the list: nvcc's own -MD would run it again, a quarter of the time of a small
            // kernel. Quoted, since nvcc splits arguments at commas.
            for word in ["-MD", "-MT", "kernel", "-MF", &format!("\"{path}\"")] {
                compile.arg("-Xcompiler").arg(word);
            }
        }
        compile.arg("-o").arg(&output).arg(source);
        let said = thread::scope(|scope| {
            if tracked.is_some() {
                // Asked for once in a run, beside the first compilation; an answer that is missing is asked for below.
                let _ = threads::spawn_scoped(scope, || self.search_path(unit, arch, work));
            }
            compile.run(work, ended)
        })?;

        let code = fs::read(&output).map_err(CompileError::unwritten(&self.path.to_string_lossy(), &output))?;
        let understood =
            |error| CompileError::io("understand", &output)(io::Error::new(io::ErrorKind::InvalidData, error));
        check_architecture(arch, cubin::architecture(&code).map_err(understood)?)?;
        let kernels = cubin::kernels(&code).map_err(understood)?;
        let report = Report::parse(&said);
        let mut functions = Vec::new();
        for (at, entry) in unit.entries.iter().enumerate() {
            let kernel = if entry.is_instance() {
                let symbol = binary::pointed_to(&code, &entry_address(at)).map_err(understood)?;
                let named = |kernel: &&Kernel| Some(&kernel.symbol) == symbol.as_ref();
                let candidates = || kernels.iter().map(|kernel| kernel.symbol.clone()).collect();
                let missing = || CompileError::EntryNotFound { entry: entry.name.clone(), candidates: candidates() };
                kernels.iter().find(named).ok_or_else(missing)?
            } else {
                find_entry(&kernels, &entry.name)?
            };
            check_signature(entry, kernel)?;
            let (entry, symbol) = (entry.name.clone(), kernel.symbol.clone());
            functions.push(Function { entry, symbol, resources: resources(kernel, &report), bounds: kernel.bounds });
        }
        let symbols: Vec<&str> = functions.iter().map(|function| function.symbol.as_str()).collect();
        let depfile_text = files::read_whole(&depfile)?;
        let mut dependencies = files::dependencies(&depfile_text, &unit.directory);
        dependencies.retain(|path| path == &unit.source || (path != source && !path.starts_with(cache.shims())));
        let traced = tracked.and_then(|inputs| {
            self.search_path(unit, arch, work)?.trace(&dependencies, &unit.directory, inputs, &unit.macros)
        });
        let (present, absent) = traced.map(|traced| (traced.present, traced.absent)).unzip();
        dependencies.extend(present.into_iter().flatten());
        Ok(Built {
            identity: binary::cubin_identity(&code, &symbols).map_err(understood)?,
            functions,
            defined: Vec::new(),
            command: compile.recorded(work),
            link: Vec::new(),
            messages: report.messages.join("\n"),
            dependencies,
            absent,
            code,
        })
    }
}

/// The compiled file: the source, or a file that includes it.
fn generated_source(unit: &Unit, cache: &Cache) -> Result<PathBuf, CompileError> {
    if unit.entries.iter().any(Entry::is_instance) || !unit.constants.is_empty() {
        let unsupported = || CompileError::Unsupported {
            what: format!("the path `{}` cannot stand in an #include", unit.source.display()),
        };
        let text = generated::cuda(unit).ok_or_else(unsupported)? + &generated::cuda_instances(&unit.entries);
        cache.store_shim(&text, "cu")
    } else {
        Ok(unit.source.clone())
    }
}

/// Everything that assertions on the types of a unit depend on.
fn asserted_as(unit: &Unit) -> (PathBuf, Vec<String>) {
    (unit.source.clone(), unit.entries.iter().map(|entry| entry.name.clone()).collect())
}

/// The host compiler of nvcc: the last `-ccbin` (`--compiler-bindir`) of the flags, `$NVCC_CCBIN`, or gcc.
fn host_compiler(flags: &[String], variable: Option<PathBuf>) -> PathBuf {
    let mut found = None;
    let mut flags = flags.iter();
    while let Some(flag) = flags.next() {
        for name in ["-ccbin", "--compiler-bindir", "-compiler-bindir"] {
            if flag == name {
                found = flags.next().cloned().or(found);
                break;
            } else if let Some(value) = flag.strip_prefix(name).and_then(|rest| rest.strip_prefix('=')) {
                found = Some(value.to_owned());
                break;
            }
        }
    }
    found.map(PathBuf::from).or(variable).unwrap_or_else(|| "gcc".into())
}

/// A failure of nvcc, with its kind if it is known.
fn refused(error: CompileError) -> CompileError {
    let CompileError::Failed { stderr, .. } = &error else { return error };
    if let Some(refused) = Report::parse(stderr).too_much_shared.into_iter().next() {
        return CompileError::TooMuchShared { entry: refused.symbol, bytes: refused.bytes, max: refused.max };
    }
    // gcc without g++ lacks the C++ front end.
    if ["cc1plus", "Failed to preprocess host compiler properties"].iter().any(|words| stderr.contains(words)) {
        return CompileError::NoCompiler {
            what: format!("nvcc needs a host C++ compiler and has none that works: {}", stderr.trim()),
            help: HOST_COMPILER_HELP.to_owned(),
        };
    }
    error
}

fn find_entry<'a>(kernels: &'a [Kernel], entry: &str) -> Result<&'a Kernel, CompileError> {
    let symbols: Vec<&str> = kernels.iter().map(|kernel| kernel.symbol.as_str()).collect();
    let entry = entry.to_owned();
    match resolve(&symbols, &entry) {
        Ok(symbol) => Ok(kernels.iter().find(|kernel| kernel.symbol == symbol).expect("one of them")),
        Err(Unresolved::NotFound(candidates)) => Err(CompileError::EntryNotFound { entry, candidates }),
        Err(Unresolved::Ambiguous(candidates)) => Err(CompileError::AmbiguousEntry { entry, candidates }),
    }
}

/// Checks the architecture of the code: code for another architecture would have a wrong name, and its limits would be
/// those of a wrong table.
fn check_architecture(asked: &str, found: Option<u32>) -> Result<(), CompileError> {
    let found = found.map(|number| (number / 10, number % 10));
    match (compute_capability(asked), found) {
        (Some(wanted), Some(found @ (major, minor))) if wanted != found => {
            Err(CompileError::OtherArchitecture { asked: asked.to_owned(), found: format!("sm_{major}{minor}") })
        }
        _ => Ok(()),
    }
}

/// Compares the declared arguments with the kernel's parameters by number and size, which a cubin has. An entry without
/// declared arguments is not compared.
fn check_signature(entry: &Entry, kernel: &Kernel) -> Result<(), CompileError> {
    let Some(found) = &kernel.parameters else { return Ok(()) };
    let declared: Vec<u64> = entry.signature.iter().map(Param::bytes).collect();
    if declared.is_empty() || declared == *found {
        return Ok(());
    }
    Err(CompileError::SignatureMismatch { entry: entry.name.clone(), declared, found: found.clone() })
}

fn resources(kernel: &Kernel, report: &Report) -> Resources {
    let said = report.entry(&kernel.symbol).cloned().unwrap_or_default();
    Resources {
        registers: kernel.registers.or(said.registers),
        static_shared: said.shared,
        spill_stores: said.spill_stores,
        spill_loads: said.spill_loads,
        stack: said.stack,
        code_bytes: Some(kernel.code_bytes),
        barriers: said.barriers,
        max_threads: kernel.max_threads,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nvcc_gets_the_host_compiler_of_the_environment() {
        let host = |flags: &[&str], variable: Option<&str>| {
            let flags: Vec<_> = flags.iter().map(|&flag| flag.to_owned()).collect();
            host_compiler(&flags, variable.map(PathBuf::from)).display().to_string()
        };
        assert_eq!(host(&[], None), "gcc");
        assert_eq!(host(&[], Some("clang")), "clang");
        assert_eq!(host(&["-O3", "-ccbin", "g++-12"], Some("clang")), "g++-12");
        assert_eq!(host(&["-ccbin=a", "--compiler-bindir=/opt/b"], None), "/opt/b");
        assert_eq!(host(&["-ccbin"], None), "gcc");
    }

    #[test]
    fn code_for_another_architecture_is_refused() {
        assert!(check_architecture("sm_90a", Some(90)).is_ok() && check_architecture("sm_120", Some(120)).is_ok());
        assert!(check_architecture("sm_90", None).is_ok());
        let error = check_architecture("sm_80", Some(90)).unwrap_err();
        assert!(error.to_string().contains("sm_90, the table asks for sm_80"), "{error}");
        assert!(!error.is_variants_own());
    }

    #[test]
    fn failures_of_nvcc_are_typed() {
        let failed = |stderr: &str| {
            refused(CompileError::Failed { command: vec![], status: String::new(), stderr: stderr.to_owned() })
        };
        let error =
            failed("ptxas error   : Entry function 'k' uses too much shared data (0x445c0 bytes, 0x38c00 max)\n");
        assert!(matches!(error, CompileError::TooMuchShared { bytes: 0x445c0, max: 0x38c00, .. }), "{error:?}");
        let error = failed("gcc: fatal error: cannot execute 'cc1plus': execvp: No such file or directory\n");
        assert!(matches!(error, CompileError::NoCompiler { .. }), "{error:?}");
        assert!(matches!(failed("a.cu(1): error: expected a \";\"\n"), CompileError::Failed { .. }));
    }
}
