//! The C backend: a shared object through the compiler that the cc crate finds (`$CC`, `cc`, …; for C++ `$CXX`, `c++`, …). Above 400
//! lines: the shim and its compilation depend on each other.
//!
//! A generated file, the shim, is compiled: a prototype from the declared arguments, `kbench_entry`, which unpacks an
//! array of pointers, and the user's source by `#include`. So a declaration that differs from the definition is the C
//! compiler's own error, at the line of the definition.
//!
//! The shim shares no names with the user's source. It includes no header, which would make feature macros (`#define
//! _GNU_SOURCE`) ineffective and hide a missing `#include <stdint.h>`: it spells `int32_t` as `__INT32_TYPE__`, the
//! macro behind it. It precedes the source and therefore sees none of the source's macros, and toggles are undefined
//! while it is read.
//!
//! In C++ the user's source comes first, and the caller after it: names are mangled, functions overloaded, and entries
//! may be instances of templates. Argument classes that convert only to the declared types replace the prototype.
//!
//! All functions are hidden except `kbench_entry`. The dynamic loader would otherwise prefer libc's `truncate` to the kernel's,
//! and the compiler could not inline a function without `static`, since another library might replace it.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::{fs, io};

use kbench_runtime::dtype::DType;
use kbench_runtime::fingerprint;

use super::binary::{self, Definition};
use super::cache::Cache;
use super::error::CompileError;
use super::files::Files;
use super::generated::{self, Language, entry_address};
use super::inputs::Inputs;
use super::invocation::{Invocation, version_line};
use super::search::{SearchPath, SearchPaths};
use super::{Bounds, Built, Entry, Function, Param, Resources, Toolchain, Unit, files, loaded, nvcc, program, text};

/// Symbol that the worker looks up in every shared object.
const ENTRY: &str = "kbench_entry";

/// The C compiler.
#[derive(Debug)]
pub(super) struct Cc {
    language: Language,
    build: cc::Build,
    tool: cc::Tool,
    /// Path with links followed: two compilers may have one version line.
    pub(super) path: PathBuf,
    /// First line of `--version`.
    pub(super) version: String,
    /// Fingerprint of the compiler and the programs that it starts; `None` if it cannot be determined.
    programs: Option<Vec<String>>,
    searches: SearchPaths,
    /// Whether the compiler supports `-fstack-usage`; tested on the first compilation.
    stack_usage: OnceLock<bool>,
    /// Whether the assembler lists the files that it reads (`.incbin`); tested on the first compilation.
    assembler_lists: OnceLock<bool>,
    /// Whether the linker lists the files that it reads; known after the first link.
    lists_links: OnceLock<bool>,
}

impl Cc {
    /// Finds the compiler; `scratch` is a folder for the cc crate, which does not write yet.
    pub(super) fn find(scratch: &Path, language: Language) -> Result<Self, CompileError> {
        let no_compiler = |what: String| CompileError::NoCompiler {
            what,
            help: match language {
                Language::C => "install a C compiler (gcc or clang), or name one in $CC".to_owned(),
                Language::Cpp => "install a C++ compiler (g++ or clang++), or name one in $CXX".to_owned(),
            },
        };
        // All values that the crate would take from a build script's environment are set here.
        let target = target_triple();
        let mut build = cc::Build::new();
        build.target(&target).host(&target).opt_level(3).debug(false).pic(true).warnings(false);
        build.out_dir(scratch).inherit_rustflags(false);
        build
            .cpp(language == Language::Cpp)
            .cargo_metadata(false)
            .cargo_warnings(false)
            .cargo_debug(false)
            .cargo_output(false);
        build.emit_rerun_if_env_changed(false);
        let tool = build.try_get_compiler().map_err(|error| no_compiler(error.to_string()))?;
        let version = version_line(tool.to_command(), |line| !line.is_empty()).map_err(|error| {
            let name = tool.path().display();
            no_compiler(match error.kind() {
                io::ErrorKind::NotFound => {
                    format!("the {} compiler `{name}` was not found", language.name().to_uppercase())
                }
                _ => format!("the {} compiler `{name}` does not run: {error}", language.name().to_uppercase()),
            })
        })?;
        let path = nvcc::which(tool.path()).and_then(|path| fs::canonicalize(path).ok()).unwrap_or_default();
        // Behind a wrapper (`CC="ccache gcc"`, `CC="nice gcc"`) the compiler is one of its arguments.
        let command = tool.to_command();
        let words = command.get_args().chain([command.get_program(), "as".as_ref(), "ld".as_ref()]).map(Path::new);
        let programs = words.chain([tool.path()]).filter_map(nvcc::which);
        let programs = programs.map(|path| program::identity(&path)).collect();
        let (searches, stack_usage, assembler_lists, lists_links) = Default::default();
        Ok(Self { language, build, tool, path, version, programs, searches, stack_usage, assembler_lists, lists_links })
    }

    /// Whether the compiler is clang, or is compatible with clang.
    pub(super) fn is_clang(&self) -> bool {
        self.tool.is_like_clang()
    }

    /// Path of a library of the compiler, by file name.
    pub(super) fn file(&self, name: &str) -> Option<PathBuf> {
        let mut command = self.tool.to_command();
        let output = command.arg(format!("-print-file-name={name}")).stdin(Stdio::null()).output().ok()?;
        let path = PathBuf::from(String::from_utf8(output.stdout).ok()?.trim());
        // A compiler without the file prints the name unchanged.
        path.is_absolute().then_some(path)
    }

    /// Fingerprint of this compiler and the shim's text for a key.
    pub(super) fn toolchain(&self, unit: &Unit, files: &Files) -> Result<Toolchain, CompileError> {
        let command = self.base(Path::new("/"), &unit.flags).recorded(Path::new("/"));
        let words = command[1..].iter().chain(&unit.flags).map(String::as_str);
        let inputs = Inputs::of(words, &unit.directory, files);
        // With `=native`, machine code depends on this CPU, and several machines may share a target directory.
        let is_native = unit.flags.iter().chain(&command).any(|flag| flag.ends_with("=native"));
        let cpu = is_native.then(cpu_features);
        let compiler = (text(&self.path), &self.version, &self.programs);
        let key = fingerprint::of("cc", &(compiler, command, shim(unit)?, cpu));
        Ok(Toolchain { key, inputs, is_tracked: self.programs.is_some() })
    }

    /// The compiler with the flags of every unit.
    fn base(&self, directory: &Path, flags: &[String]) -> Invocation {
        let command = self.tool.to_command();
        let mut invocation = Invocation::new(command.get_program(), directory);
        let own_level = flags.iter().any(|flag| flag.starts_with("-O"));
        // Recent versions of the crate implement `warnings(false)` by `-w`; the compiler's default warnings are wanted.
        let kept = command.get_args().filter(|arg| *arg != "-w" && !(own_level && *arg == "-O3"));
        invocation.args(kept);
        invocation.args(["-fvisibility=hidden", "-ffunction-sections"]);
        if self.tool.is_like_clang() {
            // Flags are used to compile and to link; clang warns about flags that a step does not need.
            invocation.arg("-Qunused-arguments");
        }
        for (name, value) in command.get_envs() {
            if let Some(value) = value {
                invocation.env(name, value);
            }
        }
        invocation
    }

    /// Whether the compiler accepts a flag. The test uses a folder of this process, since two tests may run at once.
    fn knows(&self, flag: &str, work: &Path) -> bool {
        self.build.clone().out_dir(work).is_flag_supported(flag).unwrap_or(false)
    }

    /// Folders of the headers of a unit.
    fn search_path(&self, unit: &Unit, work: &Path) -> Option<Arc<SearchPath>> {
        let ask = |flags: &[String], full: bool| {
            let mut command = self.base(&unit.directory, flags);
            command.env("TMPDIR", work);
            if full {
                command.arg("-I").arg(&unit.directory).args(flags);
            } else {
                command.env("CPATH", "").env("C_INCLUDE_PATH", "").env("CPLUS_INCLUDE_PATH", "");
            }
            command.args(["-E", "-v", "-x", self.language.name(), "/dev/null", "-o", "/dev/null"]);
            command
        };
        self.searches.of(&unit.flags, &unit.directory, work, [&|| ask(&[], false), &|| ask(&unit.flags, true)])
    }

    /// Links; returns the linker's output and the files that it read, `None` if it does not list them.
    fn link(
        &self,
        link: &Invocation,
        work: &Path,
        ended: &AtomicBool,
    ) -> Result<(String, Option<Vec<PathBuf>>), CompileError> {
        let list = work.join("link.d");
        if *self.lists_links.get().unwrap_or(&true) {
            let mut listing = link.clone();
            listing.arg("-Xlinker").arg(format!("--dependency-file={}", list.display()));
            match listing.run(work, ended) {
                Ok(said) => {
                    // A linker may accept the flag and write no list.
                    let text = if list.exists() { files::read_whole(&list)? } else { String::new() };
                    // Empty rules for make follow the first rule.
                    let rule = text.split("\n\n").next().unwrap_or_default();
                    let mut read = files::linked(rule, link.directory());
                    read.retain(|path| !path.starts_with(work));
                    let _ = self.lists_links.set(true);
                    return Ok((said, Some(read)));
                }
                Err(CompileError::Failed { stderr, .. }) if stderr.contains("dependency-file") => {
                    let _ = self.lists_links.set(false);
                }
                // Only the recorded command has this flag.
                Err(CompileError::Failed { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok((link.run(work, ended)?, None))
    }

    /// The flags of a compilation in `work`.
    fn compilation(&self, unit: &Unit, cache: &Cache, work: &Path) -> Result<Invocation, CompileError> {
        let mut compile = self.base(&unit.directory, &unit.flags);
        compile.env("TMPDIR", work);
        if *self.stack_usage.get_or_init(|| self.knows("-fstack-usage", work)) {
            compile.arg("-fstack-usage");
        }
        for entry in unit.entries.iter().filter(|_| self.language == Language::C) {
            // The entry may have the name of a builtin function.
            compile.arg(format!("-fno-builtin-{}", entry.name));
        }
        if let Some(folder) = cache.store_headers(&unit.headers)? {
            compile.arg("-I").arg(folder);
        }
        compile.arg("-I").arg(&unit.directory).args(&unit.flags).macros(&unit.macros);
        Ok(compile)
    }

    /// The symbol of each entry in an object.
    fn symbols(&self, unit: &Unit, code: &[u8], object: &Path) -> Result<Vec<String>, CompileError> {
        let mut symbols = Vec::new();
        for (at, Entry { name, .. }) in unit.entries.iter().enumerate() {
            if self.language == Language::Cpp {
                // A name in C++ is a symbol of the compiler's choice; a static function may have none.
                let symbol = parsed(binary::pointed_to(code, &entry_address(at)), object)?;
                symbols.push(symbol.unwrap_or_default());
                continue;
            }
            if let Definition::Undefined { mut candidates } = parsed(binary::definition(code, name), object)? {
                candidates.retain(|name| !name.trim_start_matches('_').starts_with(ENTRY));
                return Err(CompileError::EntryNotFound { entry: name.clone(), candidates });
            }
            symbols.push(name.clone());
        }
        Ok(symbols)
    }

    /// Compiles in `work`, a folder of its own. `tracked` holds the inputs that the flags name, if the result is kept
    /// in the cache.
    pub(super) fn build(
        &self,
        unit: &Unit,
        cache: &Cache,
        work: &Path,
        ended: &AtomicBool,
        tracked: Option<&Inputs>,
    ) -> Result<Built, CompileError> {
        let source = cache.store_shim(&shim(unit)?, if self.language == Language::C { "c" } else { "cpp" })?;
        let [object, depfile, assembled, stack, library] =
            ["kernel.o", "kernel.d", "assembled.d", "kernel.su", "kernel.so"].map(|name| work.join(name));
        let mut compile = self.compilation(unit, cache, work)?;
        compile.arg("-MD").arg("-MF").arg(&depfile).arg("-c").arg(&source).arg("-o").arg(&object);
        let command = compile.recorded(work);
        if *self.assembler_lists.get_or_init(|| self.knows("-Wa,--MD,/dev/null", work)) {
            // A path may contain a comma.
            compile.args(["-Xassembler", "--MD", "-Xassembler"]).arg(&assembled);
        }
        let mut messages = compile.run(work, ended)?;

        let read = |path: &Path| fs::read(path).map_err(CompileError::unwritten(&command[0], path));
        let code = read(&object)?;
        let symbols = self.symbols(unit, &code, &object)?;
        let mut defined = parsed(binary::defined_names(&code), &object)?;

        let mut link = self.base(&unit.directory, &unit.flags);
        link.env("TMPDIR", work);
        link.arg("-shared").arg(&object).args(&unit.flags);
        if cfg!(any(target_os = "linux", target_os = "android")) {
            // A missing symbol is an error here, before the worker loads the object. Objects and archives among the
            // flags have visible symbols, which take precedence over those of other libraries.
            // A function that was inlined everywhere and that nothing calls would move the entry to another address.
            link.args(["-Wl,-z,defs", "-Wl,-Bsymbolic", "-Wl,--gc-sections"]);
        }
        link.arg("-lm").arg("-o").arg(&library);
        let (said, linked) = self.link(&link, work, ended)?;
        messages.push_str(&said);

        let code = read(&library)?;
        if defined.is_empty() {
            // With `-flto` only the library has symbols.
            defined = parsed(binary::defined_names(&code), &library)?;
        }
        let own = parsed(binary::shared_object_identity(&code), &library)?;
        // Loaded libraries are part of a kernel's behaviour, also those that a library of the user loads.
        let has_users = linked.iter().flatten().any(|path| is_shared(path) && !is_of_compiler(path));
        let loaded =
            if has_users { loaded::libraries(&library, &unit.directory, work, ended) } else { Some(Vec::new()) };
        let libraries = linked.iter().chain(&loaded).flatten().filter(|path| is_shared(path));
        let libraries: BTreeSet<String> =
            libraries.filter_map(|path| Some(fingerprint::of_bytes(&fs::read(path).ok()?))).collect();
        let identity = fingerprint::of("linked", &(own, libraries));
        // With `-flto` there is no such file.
        let stack = if stack.exists() { largest_frame(&files::read_whole(&stack)?) } else { None };
        let functions = functions(unit, &symbols, stack, &code, &library)?;
        // Flags may turn the list off, or its destination elsewhere (`-Wp,-MMD,k.d`).
        let is_listed = depfile.exists();
        let depfile = if is_listed { files::read_whole(&depfile)? } else { String::new() };
        let mut dependencies = files::dependencies(&depfile, &unit.directory);
        if assembled.exists() {
            // The list also has the source, by its file name alone.
            let read = files::dependencies(&files::read_whole(&assembled)?, &unit.directory);
            dependencies.extend(read.into_iter().filter(|path| path.exists()));
        }
        dependencies.retain(|path| !path.starts_with(cache.shims()) && !path.starts_with(work));
        let traced = tracked.filter(|_| is_listed).and_then(|inputs| {
            let mut traced =
                self.search_path(unit, work)?.trace(&dependencies, &unit.directory, inputs, &unit.macros)?;
            let more: Vec<PathBuf> = std::env::var_os("LIBRARY_PATH").iter().flat_map(std::env::split_paths).collect();
            traced.absent.extend(inputs.absent_libraries(&unit.directory, &more));
            let own = || linked.iter().flatten().filter(|path| inputs.names(path, &unit.directory, &more));
            let searches = own().any(|path| files::is_searching_linker_script(path))
                || linked.iter().flatten().any(|path| files::is_thin_archive(path));
            let is_known = loaded.is_some() && (linked.is_some() || !inputs.has_libraries());
            (is_known && !searches).then_some(traced)
        });
        dependencies.extend(linked.into_iter().chain(loaded).flatten());
        let (present, absent) = traced.map(|traced| (traced.present, traced.absent)).unzip();
        dependencies.extend(present.into_iter().flatten());
        let link = link.recorded(work);
        Ok(Built { code, identity, functions, defined, command, link, messages, dependencies, absent })
    }
}

/// The functions of a library: the symbol that calls each entry, and its resources.
fn functions(
    unit: &Unit,
    symbols: &[String],
    stack: Option<u64>,
    code: &[u8],
    library: &Path,
) -> Result<Vec<Function>, CompileError> {
    let mut functions = Vec::new();
    for (at, (Entry { name, .. }, symbol)) in unit.entries.iter().zip(symbols).enumerate() {
        let code_bytes = match parsed(binary::definition(code, symbol), library)? {
            Definition::Defined { code_bytes } => code_bytes,
            Definition::Undefined { .. } | Definition::Unknown => None,
        };
        let resources = Resources { stack, code_bytes, ..Resources::default() };
        functions.push(Function { entry: name.clone(), symbol: caller(at), resources, bounds: Bounds::default() });
    }
    Ok(functions)
}

/// Libraries of compilers, which load no library of the user.
const OF_COMPILERS: [&str; 7] = ["libc", "libm", "libmvec", "libgcc_s", "libgomp", "libpthread", "libstdc++"];

fn is_of_compiler(library: &Path) -> bool {
    let name = library.file_name().unwrap_or_default().to_string_lossy();
    name.starts_with("ld-linux") || name.split_once(".so").is_some_and(|(name, _)| OF_COMPILERS.contains(&name))
}

/// Whether a file that was linked is loaded when the kernel is: `libx.so`, `libx.so.6`.
fn is_shared(path: &Path) -> bool {
    path.file_name().is_some_and(|name| {
        let name = name.to_string_lossy();
        name.ends_with(".so") || name.contains(".so.")
    })
}

fn parsed<T>(result: object::Result<T>, path: &Path) -> Result<T, CompileError> {
    result.map_err(|error| CompileError::io("understand", path)(io::Error::new(io::ErrorKind::InvalidData, error)))
}

/// Largest stack in bytes of any function in a `.su` file: `shim.c:7:6:sdpa<tab>2112<tab>static`. Functions that are
/// not inlined have lines of their own, so a chain of calls uses more.
fn largest_frame(stack_usage: &str) -> Option<u64> {
    stack_usage.lines().filter_map(|line| line.split('\t').nth(1)?.parse().ok()).max()
}

/// The text of the shim.
fn shim(unit: &Unit) -> Result<String, CompileError> {
    let unsupported = |what: String| CompileError::Unsupported { what };
    let identifier = |name: &str| {
        name.bytes().all(|byte| byte == b'_' || byte.is_ascii_alphanumeric())
            && !name.starts_with(|c: char| c.is_ascii_digit())
            && !name.is_empty()
    };
    let language = Language::of(&unit.source);
    let wrong = |entry: &&Entry| language == Language::C && !identifier(&entry.name);
    if let Some(Entry { name, .. }) = unit.entries.iter().find(wrong) {
        return Err(unsupported(format!("`{name}` is no name of a C function")));
    }
    let source = absolute(&unit.source)?;
    let source = generated::quoted(&source)
        .ok_or_else(|| unsupported(format!("the path `{}` cannot stand in a C #include", unit.source.display())))?;
    let params = || unit.entries.iter().flat_map(|entry| &entry.signature);
    if language == Language::Cpp {
        let head = "/* Written by cargo kbench: the source, and how it is called. */\n";
        let constants = generated::constants(&unit.constants, language);
        return Ok(format!("{head}{constants}#include \"{source}\"\n{}", cpp::callers(&unit.entries)?));
    }
    // `-DENTRY=…` renames the function in the source and in the shim.
    let is_entry = |name: &String| unit.entries.iter().any(|entry| entry.name == *name);
    let macros = || unit.macros.iter().map(|(name, _)| name).filter(|name| !is_entry(name));
    let mut text =
        String::from("/* Written by cargo kbench: the arguments that the table declares, and how it passes them. */\n");
    for name in macros() {
        let _ = writeln!(text, "#pragma push_macro(\"{name}\")\n#undef {name}");
    }
    let open = |param: &Param| match param {
        Param::Tensor { dtype, writable: None } => Some(*dtype),
        _ => None,
    };
    let mut declared = Vec::new();
    for dtype in params().filter_map(open) {
        if !declared.contains(&dtype) {
            if declared.is_empty() {
                // Of such types, and of the user's definitions that are compatible with them.
                text.push_str("#pragma GCC diagnostic ignored \"-Wpedantic\"\n");
            }
            // A prototype with such a union is compatible with a definition with either pointer.
            let ty = c_type(dtype);
            let union = format!("union {{ {ty} *written; const {ty} *read; }}");
            let _ = writeln!(text, "typedef {union} __attribute__((__transparent_union__)) {};", either(dtype));
            declared.push(dtype);
        }
    }
    // The types of structs are known only after the source.
    let has_struct = |entry: &Entry| entry.signature.iter().any(|param| matches!(param, Param::Struct { .. }));
    for (at, entry) in unit.entries.iter().enumerate().filter(|(_, entry)| !has_struct(entry)) {
        call(&mut text, at, entry)?;
    }
    for name in macros() {
        let _ = writeln!(text, "#pragma pop_macro(\"{name}\")");
    }
    text += &generated::constants(&unit.constants, Language::C);
    let _ = writeln!(text, "#include \"{source}\"");
    for (at, entry) in unit.entries.iter().enumerate().filter(|(_, entry)| has_struct(entry)) {
        for (index, param) in entry.signature.iter().enumerate() {
            if let Param::Struct { bytes, ty } = param {
                let ty = struct_type(ty.as_ref())?;
                let name = &entry.name;
                let said = format!("argument {} of {name}: the table declares {bytes} bytes for `{ty}`", index + 1);
                let _ = writeln!(text, "_Static_assert(sizeof({ty}) == {bytes}, \"{said}\");");
            }
        }
        call(&mut text, at, entry)?;
    }
    Ok(text)
}

/// The name of a struct in the source.
fn struct_type(ty: Option<&String>) -> Result<&str, CompileError> {
    ty.map(String::as_str)
        .ok_or_else(|| CompileError::Unsupported { what: "a struct needs its `type` in C".to_owned() })
}

/// The error of a function with a tensor map among its arguments.
fn takes_tensor_map() -> CompileError {
    CompileError::Unsupported { what: "a function of the host takes no tensor map".to_owned() }
}

/// Name of the function that calls entry `at`.
fn caller(at: usize) -> String {
    if at == 0 { ENTRY.to_owned() } else { format!("{ENTRY}_{at}") }
}

/// Name of the type of a pointer that may be const or not.
fn either(dtype: DType) -> String {
    format!("__kbench_{dtype}")
}

/// The prototype of an entry and its caller.
fn call(text: &mut String, at: usize, entry: &Entry) -> Result<(), CompileError> {
    let Entry { name, signature } = entry;
    let of = |param: &Param| {
        Ok(match param {
            Param::Tensor { dtype, writable: None } => either(*dtype),
            Param::Tensor { dtype, writable: Some(false) } => format!("const {} *", c_type(*dtype)),
            Param::Tensor { dtype, writable: Some(true) } => format!("{} *", c_type(*dtype)),
            Param::Scalar(dtype) => c_type(*dtype).to_owned(),
            Param::Bool => "_Bool".to_owned(),
            Param::Char => "char".to_owned(),
            Param::Struct { ty, .. } => struct_type(ty.as_ref())?.to_owned(),
            Param::TensorMap => return Err(takes_tensor_map()),
        })
    };
    let types: Vec<String> = signature.iter().map(of).collect::<Result<_, CompileError>>()?;
    let prototype = if types.is_empty() { "void".to_owned() } else { types.join(", ") };
    let caller = caller(at);
    // Not inlined into the caller, so that the running function is the one whose size is reported.
    let _ = writeln!(text, "__attribute__((__noinline__)) void {name}({prototype});");
    if signature.iter().any(|param| matches!(param, Param::Tensor { writable: None, .. })) {
        // gcc's analysis across functions does not treat the union as either pointer.
        let _ = writeln!(text, "#if defined(__GNUC__) && !defined(__clang__)");
        let _ = writeln!(text, "__attribute__((__noipa__)) void {name}({prototype});\n#endif");
    }
    let _ = writeln!(text, "__attribute__((__visibility__(\"default\"))) void {caller}(void **);");
    let _ = writeln!(text, "void {caller}(void **__kbench_args)\n{{\n    (void)__kbench_args;");
    let args: Vec<_> = (signature.iter().zip(&types).enumerate())
        .map(|(i, (param, ty))| match param {
            Param::Scalar(_) | Param::Bool | Param::Char | Param::Struct { .. } => {
                format!("*(const {ty} *)__kbench_args[{i}]")
            }
            Param::Tensor { dtype, writable: None } => format!("({} *)__kbench_args[{i}]", c_type(*dtype)),
            Param::Tensor { .. } | Param::TensorMap => format!("({ty})__kbench_args[{i}]"),
        })
        .collect();
    let _ = writeln!(text, "    {name}({});\n}}", args.join(", "));
    Ok(())
}

fn absolute(path: &Path) -> Result<PathBuf, CompileError> {
    std::path::absolute(path).map_err(CompileError::io("resolve", path))
}

/// [`DType::c_type`] without a header.
fn c_type(dtype: DType) -> &'static str {
    match dtype.c_type() {
        "int8_t" => "__INT8_TYPE__",
        "int16_t" => "__INT16_TYPE__",
        "int32_t" => "__INT32_TYPE__",
        "int64_t" => "__INT64_TYPE__",
        "uint8_t" => "__UINT8_TYPE__",
        "uint16_t" => "__UINT16_TYPE__",
        "uint32_t" => "__UINT32_TYPE__",
        "uint64_t" => "__UINT64_TYPE__",
        plain => plain,
    }
}

/// The name of this machine for the cc crate.
fn target_triple() -> String {
    let arch = match std::env::consts::ARCH {
        "riscv64" => "riscv64gc",
        "powerpc64" if cfg!(target_endian = "little") => "powerpc64le",
        "x86" => "i686",
        "arm" => "armv7",
        other => other,
    };
    let abi = if cfg!(target_arch = "arm") { "eabihf" } else { "" };
    match std::env::consts::OS {
        "linux" if cfg!(target_env = "musl") => format!("{arch}-unknown-linux-musl{abi}"),
        "linux" => format!("{arch}-unknown-linux-gnu{abi}"),
        "macos" => format!("{arch}-apple-darwin"),
        os => format!("{arch}-unknown-{os}"),
    }
}

/// The properties that `-march=native` depends on: model and features of the first CPU.
fn cpu_features() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let wanted = ["model name", "flags", "Features", "CPU implementer", "CPU part", "isa"];
    let lines = text.split("\n\n").next().unwrap_or_default().lines();
    lines.filter(|line| wanted.iter().any(|name| line.starts_with(name))).collect::<Vec<_>>().join("\n")
}

mod cpp;
#[cfg(test)]
mod tests;
