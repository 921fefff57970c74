//! The C backend and the cache, with the C compiler of this machine.
//!
//! Longer than 400 lines: the tests share one package, whose files they change.

use std::path::Path;
use std::time::{Duration, SystemTime};
use std::{fs, thread};

use kbench_runtime::dtype::DType;
use object::{Object as _, ObjectSymbol as _};

use super::*;

/// A package with sources and its own work directory.
struct Package {
    folder: tempfile::TempDir,
}

/// The signature of the kernel in [`SOURCE`].
fn signature() -> Vec<Param> {
    vec![
        Param::Tensor { dtype: DType::F32, writable: Some(false) },
        Param::Tensor { dtype: DType::F32, writable: Some(true) },
        Param::Scalar(DType::I32),
    ]
}

const SOURCE: &str = "\
#include \"scale.h\"
#ifndef N
#define N 1
#endif
static float helper(float x) { return x * SCALE; }
void kernel(const float *in, float *out, int n) {
    for (int i = 0; i < n; i++) out[i] = helper(in[i]) + N;
}
";

impl Package {
    fn new() -> Self {
        let package = Self { folder: tempfile::tempdir().unwrap() };
        package.write("src/k.c", SOURCE);
        package.write("src/scale.h", "#define SCALE 2\n");
        package
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn compiler(&self) -> Compiler {
        Compiler::new(&self.path().join("target/kbench"), CompilerOptions::default())
    }

    fn unit(&self) -> Unit {
        Unit {
            backend: Backend::C,
            source: self.path().join("src/k.c"),
            flags: vec![],
            macros: vec![],
            constants: vec![],
            headers: vec![],
            arch: None,
            entries: vec![Entry::new("kernel", signature())],
            directory: self.path().to_owned(),
        }
    }

    fn with(&self, macros: &[(&str, &str)]) -> Unit {
        let macros = macros.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
        Unit { macros, ..self.unit() }
    }

    fn with_constants(&self, constants: &[(&str, &'static str, &str)]) -> Unit {
        let constant = |&(name, ty, value): &(&str, _, &str)| Constant { name: name.into(), ty, value: value.into() };
        Unit { constants: constants.iter().map(constant).collect(), ..self.unit() }
    }

    /// Compiles with a new compiler, as in a new run.
    fn compile(&self, unit: &Unit) -> Artifact {
        self.compiler().compile(unit).unwrap_or_else(|error| panic!("{error}"))
    }

    fn fail(&self, unit: &Unit) -> CompileError {
        self.compiler().compile(unit).expect_err("a failure")
    }

    /// Waits, so that the next compiler does not treat the sources as edited during its run.
    fn settle(&self) {
        for name in ["src/k.c", "src/scale.h"] {
            let file = fs::File::options().append(true).open(self.path().join(name)).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(1)).unwrap();
        }
    }
}

#[test]
fn an_artifact_has_its_command_and_runs() {
    let package = Package::new();
    let artifact = package.compile(&package.with(&[("N", "7"), ("DEAD", "1")]));
    assert_eq!(artifact.functions[0].symbol, "kbench_entry");
    assert_eq!(artifact.hash, fingerprint::of_bytes(&fs::read(&artifact.code).unwrap()));
    assert!(!artifact.cached);
    for word in ["-O3", "-fPIC", "-DN=7", "-DDEAD=1", "-c", "kernel.o"] {
        assert!(artifact.command.iter().any(|arg| arg == word), "{word}: {:?}", artifact.command);
    }
    assert!(artifact.link.contains(&"-shared".to_owned()));
    assert!(!artifact.compiler.is_empty());
    assert!(artifact.resources().code_bytes.unwrap() > 8);
    assert!(artifact.resources().stack.is_some());
    assert_eq!(artifact.resources().registers, None);
    let tmp = package.path().join("target/kbench/cache/tmp");
    assert_eq!(fs::read_dir(tmp).unwrap().flatten().filter(|entry| entry.path().is_dir()).count(), 0);

    // The recorded command compiles again.
    let (program, args) = artifact.command.split_first().unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let args = args.iter().map(|arg| if arg == "kernel.o" { scratch.path().join(arg) } else { arg.into() });
    let args: Vec<_> =
        args.map(|arg| if arg == Path::new("kernel.d") { scratch.path().join(arg) } else { arg }).collect();
    assert!(std::process::Command::new(program).args(args).current_dir(package.path()).status().unwrap().success());

    assert_eq!(call(&artifact.code), [9.0, 11.0, 13.0]);
}

/// `kbench_entry` of a kernel (in, out, n) on 1, 2, 3: in a process of its own.
fn call(code: &Path) -> Vec<f32> {
    let scratch = tempfile::tempdir().unwrap();
    let main = scratch.path().join("main.c");
    fs::write(
        &main,
        "#include <stdio.h>\nvoid kbench_entry(void **);\nint main(void) { float in[] = {1, 2, 3}, out[3]; int n = 3;\n\
         void *args[] = {in, out, &n}; kbench_entry(args); for (int i = 0; i < n; i++) printf(\"%g\\n\", out[i]); }\n",
    )
    .unwrap();
    let program = scratch.path().join("main");
    let built = std::process::Command::new("cc").arg(&main).arg(code).arg("-o").arg(&program).status().unwrap();
    assert!(built.success());
    let library = code.parent().unwrap();
    let output = std::process::Command::new(program).env("LD_LIBRARY_PATH", library).output().unwrap();
    String::from_utf8(output.stdout).unwrap().lines().map(|line| line.parse().unwrap()).collect()
}

#[test]
fn a_live_toggle_changes_the_identity_and_a_dead_one_does_not() {
    let package = Package::new();
    let one = package.compile(&package.with(&[("N", "7"), ("DEAD", "1")]));
    let dead = package.compile(&package.with(&[("N", "7"), ("DEAD", "2")]));
    let live = package.compile(&package.with(&[("N", "8"), ("DEAD", "1")]));
    assert!(!dead.cached && !live.cached);
    assert_eq!(one.identity, dead.identity);
    assert_ne!(one.command, dead.command);
    assert_ne!(one.identity, live.identity);
    // No instruction names the called library function, only a relocation.
    package.write(
        "src/k.c",
        "#include <math.h>\nvoid kernel(const float *in, float *out, int n) { out[0] = F(in[n]); }\n",
    );
    let sin = package.compile(&package.with(&[("F", "sinf")]));
    let cos = package.compile(&package.with(&[("F", "cosf")]));
    assert_ne!(sin.identity, cos.identity);
}

#[test]
fn identity_and_source_hash_do_not_depend_on_the_folder() {
    let (one, two) = (Package::new(), Package::new());
    let (first, second) = (one.compile(&one.unit()), two.compile(&two.unit()));
    assert_eq!(first.identity, second.identity);
    assert_eq!(first.source_hash, second.source_hash);
    two.write("src/scale.h", "#define SCALE 2.0f\n");
    let edited = two.compile(&two.unit());
    assert_ne!(edited.source_hash, first.source_hash);
}

#[test]
fn only_a_changed_unit_is_compiled_again() {
    let package = Package::new();
    package.settle();
    let first = package.compile(&package.unit());
    let again = package.compile(&package.unit());
    assert!(again.cached);
    assert!(first.took > Duration::ZERO);
    assert_eq!(Artifact { cached: false, ..again }, first);

    let header = fs::File::options().append(true).open(package.path().join("src/scale.h")).unwrap();
    header.set_modified(SystemTime::now() - Duration::from_secs(7)).unwrap();
    assert!(package.compile(&package.unit()).cached, "touched");

    package.write("src/scale.h", "#define SCALE 3\n");
    package.settle();
    let edited = package.compile(&package.unit());
    assert!(!edited.cached);
    assert_ne!(edited.identity, first.identity);
    package.write("src/scale.h", "#define SCALE 2\n");
    let back = package.compile(&package.unit());
    assert!(back.cached, "edited back");
    assert_eq!(back.identity, first.identity);

    for changed in [
        Unit { flags: vec!["-O1".into()], ..package.unit() },
        Unit { entries: vec![Entry::new("kernel", vec![signature().remove(0); 3])], ..package.unit() },
        package.with(&[("N", "2")]),
    ] {
        if let Ok(artifact) = package.compiler().compile(&changed) {
            assert!(!artifact.cached, "{changed:?}");
        }
    }
}

#[test]
fn damaged_code_is_compiled_again() {
    let package = Package::new();
    package.settle();
    let first = package.compile(&package.unit());
    fs::write(&first.code, "rubbish").unwrap();
    let second = package.compile(&package.unit());
    assert!(!second.cached);
    assert_eq!(fingerprint::of_bytes(&fs::read(&second.code).unwrap()), second.hash);
    assert!(package.compile(&package.unit()).cached);
}

#[test]
fn the_compiler_checks_the_declared_arguments() {
    let package = Package::new();
    let mut unit = package.unit();
    unit.entries[0].signature[2] = Param::Scalar(DType::I64);
    let CompileError::Failed { stderr, .. } = package.fail(&unit) else { panic!() };
    let line = package.path().join("src/k.c:6:6: error: conflicting types for");
    assert!(stderr.contains(&line.display().to_string()), "{stderr}");
    unit.entries[0].signature.pop();
    assert!(matches!(package.fail(&unit), CompileError::Failed { .. }));
    let mut unit = package.unit();
    unit.entries[0].signature[0] = Param::Tensor { dtype: DType::F32, writable: Some(true) };
    assert!(matches!(package.fail(&unit), CompileError::Failed { .. }), "a const pointer declared writable");
}

#[test]
fn a_kernels_own_functions_win_over_the_c_librarys() {
    let package = Package::new();
    // Each is also a function of libc or libm, or a builtin.
    for entry in ["truncate", "swab", "gamma", "exp", "memset", "main"] {
        let source = format!(
            "void {entry}(const float *in, float *out, int n) {{ for (int i = 0; i < n; i++) out[i] = in[i] + 1; }}\n"
        );
        package.write("src/k.c", &source);
        let artifact = package.compile(&Unit {
            entries: vec![Entry::new(entry, signature())],
            flags: vec!["-O2".into()],
            ..package.unit()
        });
        assert_eq!(call(&artifact.code), [2.0, 3.0, 4.0], "{entry}");
        assert!(!artifact.messages.contains("built-in"), "{}", artifact.messages);
        assert!(artifact.resources().code_bytes.is_some());
    }
    package.write(
        "src/k.c",
        "float gamma(float x) { return x + 1; }\n\
         void kernel(const float *in, float *out, int n) { for (int i = 0; i < n; i++) out[i] = gamma(in[i]); }\n",
    );
    assert_eq!(call(&package.compile(&package.unit()).code), [2.0, 3.0, 4.0]);
}

#[test]
fn a_helper_without_static_is_inlined_as_in_a_program() {
    let package = Package::new();
    let source = |kind: &str| {
        let helper = format!("{kind} float twice(float x) {{ return 2 * x; }}\n");
        helper
            + "void kernel(const float *in, float *out, int n) { for (int i = 0; i < n; i++) out[i] = twice(in[i]); }\n"
    };
    let compiled = |kind: &str, flags: &[&str]| {
        package.write("src/k.c", &source(kind));
        let flags = flags.iter().map(|&flag| flag.to_owned()).collect();
        package.compile(&Unit { flags, ..package.unit() })
    };
    let [own, helper] = [compiled("static", &[]), compiled("", &[])];
    assert_eq!(own.resources().code_bytes, helper.resources().code_bytes);
    // Every call is inlined, so the library has no code of the helper; a program that contains the source has its name.
    let code = fs::read(&helper.code).unwrap();
    let file = object::File::parse(&*code).unwrap();
    assert!(file.symbols().all(|symbol| symbol.name() != Ok("twice")));
    assert_eq!(own.defined, ["kernel"]);
    assert_eq!(helper.defined, ["kernel", "twice"]);
    // With `-flto` the object has no symbols.
    assert_eq!(compiled("", &["-flto"]).defined, ["kernel"]);
}

#[test]
fn only_the_shims_entry_is_visible() {
    let package = Package::new();
    package.write(
        "src/k.c",
        "float weights[2][2] = {{3}}, other[4];\nfloat helper(float x) { return x * weights[0][0] + other[0]; }\n\
         void kernel(const float *in, float *out, int n) { for (int i = 0; i < n; i++) out[i] = helper(in[i]); }\n",
    );
    let artifact = package.compile(&package.unit());
    let code = fs::read(&artifact.code).unwrap();
    let file = object::File::parse(&*code).unwrap();
    let defined = file.dynamic_symbols().filter(object::ObjectSymbol::is_definition);
    let mut visible: Vec<_> = defined.map(|symbol| symbol.name().unwrap().to_owned()).collect();
    visible.sort();
    assert_eq!(visible, ["kbench_entry"]);
}

#[test]
fn toggles_never_meet_the_names_of_the_shim() {
    let package = Package::new();
    let names = ["args", "kbench_entry", "void", "const", "float", "int", "visibility", "__kbench"];
    let own = ["void", "const", "float", "int"].map(|name| format!("#undef {name}\n#define {name} {name}\n"));
    let mut source = own.concat();
    source +=
        "void kernel(const float *in, float *out, int n) { for (int i = 0; i < n; i++) out[i] = in[i] + args; }\n";
    package.write("src/k.c", &source);
    let artifact = package.compile(&package.with(&names.map(|name| (name, "2"))));
    assert_eq!(call(&artifact.code), [3.0, 4.0, 5.0]);
}

#[test]
fn missing_functions_and_missing_libraries_are_different_errors() {
    let package = Package::new();
    let unit = Unit { entries: vec![Entry::new("kernle", signature())], ..package.unit() };
    let CompileError::EntryNotFound { entry, candidates } = package.fail(&unit) else { panic!() };
    assert_eq!((entry.as_str(), candidates), ("kernle", vec!["kernel".to_owned()]));
    package.write("src/k.c", "void no(void);\nvoid kernel(const float *in, float *out, int n) { no(); }\n");
    let CompileError::Failed { stderr, .. } = package.fail(&package.unit()) else { panic!() };
    assert!(stderr.contains("undefined") && stderr.contains("no"), "{stderr}");
}

#[test]
fn the_shim_adds_no_feature_macros_and_no_warnings() {
    let package = Package::new();
    package.write(
        "src/k.c",
        "#define _GNU_SOURCE\n#include <math.h>\n#warning look here\n\
         void kernel(const float *in, float *out, int n) { float s, c; sincosf(in[n], &s, &c); out[0] = s * c * M_PI; }\n",
    );
    let unit = Unit { flags: vec!["-std=c11".into(), "-Werror=implicit".into(), "-O2".into()], ..package.unit() };
    let artifact = package.compile(&unit);
    assert!(artifact.messages.contains("look here"));
    assert!(!artifact.command.contains(&"-O3".to_owned()), "{:?}", artifact.command);
}

#[test]
fn a_stack_array_counts_as_stack() {
    let package = Package::new();
    package.write(
        "src/k.c",
        "void kernel(const float *in, float *out, int n) { volatile float t[1000]; for (int i = 0; i < n; i++) t[i] = in[i]; \
         out[0] = t[n]; }\n",
    );
    let stack = package.compile(&package.unit()).resources().stack;
    assert!(stack.is_none_or(|bytes| (3800..6000).contains(&bytes)), "{stack:?}");
}

#[test]
fn many_compilers_share_a_cache() {
    let package = Package::new();
    package.settle();
    let shared = package.compiler();
    let identities: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = (0..6)
            .map(|i| {
                let (package, shared) = (&package, &shared);
                scope.spawn(move || {
                    // Three threads of one run, and three runs.
                    let own = package.compiler();
                    let compiler = if i < 3 { shared } else { &own };
                    let n = (i % 2).to_string();
                    (0..2).map(|_| compiler.compile(&package.with(&[("N", &n)])).unwrap().identity).next_back().unwrap()
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(identities[0], identities[2]);
    assert_eq!(identities[1], identities[5]);
    assert_ne!(identities[0], identities[1]);
    assert!(package.compile(&package.with(&[("N", "0")])).cached);
}

#[test]
fn a_unit_requested_twice_at_once_is_compiled_once() {
    let package = Package::new();
    let compiler = package.compiler();
    let compiled = thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| compiler.compile(&package.unit()).unwrap())).collect();
        threads.into_iter().filter_map(|thread| thread.join().ok()).filter(|artifact| !artifact.cached).count()
    });
    assert_eq!(compiled, 1);
    // A failure releases the lock too.
    let wrong = package.with(&[("N", "no_such_name")]);
    assert!(compiler.compile(&wrong).is_err() && compiler.compile(&wrong).is_err());
}

#[test]
fn an_edit_during_a_run_is_noticed() {
    let package = Package::new();
    package.settle();
    let compiler = package.compiler();
    compiler.compile(&package.unit()).unwrap();
    package.write("src/scale.h", "#define SCALE 3\n");
    assert!(compiler.compile(&package.unit()).unwrap().cached, "what the run began with");
    let error = compiler.compile(&package.with(&[("N", "5")])).unwrap_err();
    assert!(matches!(&error, CompileError::Changed { path } if path.ends_with("scale.h")), "{error:?}");
}

#[test]
fn a_fifo_in_place_of_a_header_or_an_object_is_an_error_at_once() {
    let package = Package::new();
    package.compile(&package.unit());
    let header = package.path().join("src/scale.h");
    fs::remove_file(&header).unwrap();
    nix::unistd::mkfifo(&header, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let started = Instant::now();
    let error = package.fail(&package.unit());
    assert!(!error.is_variants_own() && error.to_string().ends_with("src/scale.h`: not an ordinary file"), "{error}");
    let forced = ["-include", "src/scale.h"].map(str::to_owned);
    package.write("src/k.c", "void kernel(const float *in, float *out, int n) {}");
    for flags in [&forced[..], &["src/scale.h".to_owned()], &["@src/scale.h".to_owned()]] {
        let error = package.fail(&Unit { flags: flags.to_vec(), ..package.unit() });
        assert!(error.to_string().ends_with("src/scale.h`: not an ordinary file"), "{error}");
    }
    assert!(started.elapsed() < Duration::from_secs(20));
    package.write("src/k.c", "#include \"/dev/null\"\nvoid kernel(const float *in, float *out, int n) {}");
    package.compile(&package.unit());
}

#[test]
fn an_unusable_cache_is_an_io_error() {
    let package = Package::new();
    package.write("target/kbench/cache", "a file");
    let error = package.fail(&package.unit());
    assert!(matches!(error, CompileError::Io { .. }), "{error:?}");
    let unit = Unit { source: package.path().join("src/none.c"), ..package.unit() };
    let error = package.fail(&unit);
    assert!(matches!(&error, CompileError::Io { action, .. } if action == "read"), "{error:?}");
}

#[test]
fn the_fake_backend_is_cached_too() {
    let package = Package::new();
    package.write("model.toml", "time_ns = '10 * N'\n");
    let unit =
        Unit { backend: Backend::Fake, source: package.path().join("model.toml"), ..package.with(&[("N", "4")]) };
    let artifact = package.compile(&unit);
    assert_eq!(fs::read_to_string(&artifact.code).unwrap(), r#"{"time_ns":40.0,"fault":null}"#);
    assert_eq!(artifact.compiler, "fake");
}

/// Not a test but a measurement: `cargo test --release -p cargo-kbench --lib -- --ignored --nocapture look_up`.
#[test]
#[ignore = "measures"]
fn time_of_a_look_up() {
    let package = Package::new();
    package.settle();
    let units: Vec<_> = (0..64).map(|n| package.with(&[("N", &n.to_string())])).collect();
    for run in ["cold", "warm"] {
        let compiler = package.compiler();
        let began = Instant::now();
        compiler.compile(&units[0]).unwrap();
        let (first, began) = (began.elapsed(), Instant::now());
        units[1..].iter().for_each(|unit| drop(compiler.compile(unit).unwrap()));
        println!("{run}: first {first:?}, then {:?} each", began.elapsed() / 63);
    }
}

/// Whether a second run reuses the outcome of the first, before and after `change`.
fn kept(package: &Package, unit: &Unit, change: impl FnOnce()) -> [bool; 2] {
    package.settle();
    package.compile(unit);
    let before = package.compile(unit).cached;
    change();
    [before, package.compile(unit).cached]
}

/// Runs a tool of the C compiler in the package's folder.
fn tool(package: &Package, program: &str, args: &[&str]) {
    assert!(std::process::Command::new(program).args(args).current_dir(package.path()).status().unwrap().success());
}

#[test]
fn a_changed_file_of_the_flags_compiles_again() {
    let package = Package::new();
    package.write("outer.txt", "@inner.txt");
    package.write("inner.txt", "-DN=5");
    let unit = Unit { flags: vec!["@outer.txt".into()], ..package.unit() };
    assert_eq!(kept(&package, &unit, || package.write("inner.txt", "-DN=6")), [true, false]);
    assert_eq!(call(&package.compile(&unit).code), [8.0, 10.0, 12.0]);

    package.write("src/scale.h", "#if HAS\n#define SCALE 3\n#else\n#define SCALE 2\n#endif\n");
    let unit = Unit { flags: vec!["-DHAS=__has_include(\"fast.h\")".into()], ..package.unit() };
    assert_eq!(kept(&package, &unit, || package.write("fast.h", "")), [true, false]);
    assert_eq!(call(&package.compile(&unit).code), [4.0, 7.0, 10.0]);
    package.write("src/scale.h", "#define SCALE 2\n");

    package.write("pre.h", "#define M 1\n");
    let unit = Unit { flags: ["-include", "pre.h"].map(String::from).into(), ..package.unit() };
    assert_eq!(kept(&package, &unit, || package.write("pre.h", "#define M 2\n")), [true, false]);
    let unit = Unit { flags: ["-imacros", "pre.h"].map(String::from).into(), ..package.unit() };
    assert_eq!(kept(&package, &unit, || package.write("pre.h", "#define M 3\n")), [true, false]);
    // Flags of a Makefile for lists of headers.
    let unit = Unit { flags: vec!["-MP".into()], ..package.unit() };
    assert_eq!(kept(&package, &unit, || package.write("src/scale.h", "#define SCALE 3\n")), [true, false]);
    for flags in [&["-MMD"][..], &["-Wp,-MMD,k.d"]] {
        let unit = Unit { flags: flags.iter().map(ToString::to_string).collect(), ..package.unit() };
        assert_eq!(kept(&package, &unit, || ()), [false, false], "{flags:?}");
    }
    package.write("quoted.txt", "'-DN=5'");
    let unit = Unit { flags: vec!["@quoted.txt".into()], ..package.unit() };
    assert_eq!(kept(&package, &unit, || ()), [false, false], "what cannot be tracked is not kept");
}

#[test]
fn a_changed_file_of_the_linker_compiles_again() {
    let package = Package::new();
    package.write("src/k.c", "float g(void);\nvoid kernel(const float *in, float *out, int n) { for (int i = 0; i < n; i++) out[i] = in[i] + g(); }\n");
    let library = |folder: &str, value: u32, shared: bool| {
        package.write("g.c", &format!("float g(void) {{ return {value}; }}\n"));
        fs::create_dir_all(package.path().join(folder)).unwrap();
        tool(&package, "cc", &["-fPIC", "-c", "g.c", "-o", "g.o"]);
        if shared {
            tool(&package, "cc", &["-shared", "g.o", "-o", &format!("{folder}/libg.so")]);
        } else {
            tool(&package, "ar", &["rcs", &format!("{folder}/libg.a"), "g.o"]);
        }
    };
    library("second", 1, false);
    let unit = Unit { flags: ["-Lfirst", "-Lsecond", "-lg"].map(String::from).into(), ..package.unit() };
    assert_eq!(kept(&package, &unit, || library("second", 2, false)), [true, false]);
    assert_eq!(call(&package.compile(&unit).code), [3.0, 4.0, 5.0]);
    assert_eq!(kept(&package, &unit, || library("first", 3, false)), [true, false], "found first now");
    assert_eq!(call(&package.compile(&unit).code), [4.0, 5.0, 6.0]);
    let object = Unit { flags: vec!["g.o".into()], ..package.unit() };
    assert_eq!(kept(&package, &object, || library("first", 4, false)), [true, false]);
    // A thin archive names an object that no list has.
    tool(&package, "ar", &["rcsT", "thin.a", "g.o"]);
    let thin = Unit { flags: vec!["thin.a".into()], ..package.unit() };
    assert_eq!(kept(&package, &thin, || library("first", 8, false)), [false, false]);
    assert_eq!(call(&package.compile(&thin).code), [9.0, 10.0, 11.0]);
    // Linker scripts of the package search for files that no list has.
    let rename = |folder: &str| {
        let at = |name: &str| package.path().join(folder).join(name);
        fs::rename(at("libg.a"), at("libown.a")).unwrap();
    };
    rename("second");
    package.write("all.ld", "SEARCH_DIR(third) SEARCH_DIR(second) INPUT(-lown)\n");
    let script = Unit { flags: vec!["all.ld".into()], ..package.unit() };
    let shadow = || {
        library("third", 7, false);
        rename("third");
    };
    assert_eq!(kept(&package, &script, shadow), [false, false]);
    assert_eq!(call(&package.compile(&script).code), [8.0, 9.0, 10.0]);
    // Libraries that are loaded at run time are part of the kernel's behaviour.
    library("first", 5, true);
    let before = package.compile(&unit);
    library("first", 6, true);
    let after = package.compile(&unit);
    assert!(!after.cached && before.identity != after.identity);
    // Also those that only a library loads.
    let folder = package.path().join("first").display().to_string();
    let runpath = format!("-Wl,-rpath,{folder}");
    package.write("f.c", "float g(void);\nfloat f(void) { return g(); }\n");
    tool(&package, "cc", &["-shared", "-fPIC", "f.c", "-o", "first/libf.so", "-Lfirst", "-lg", &runpath]);
    package.write("src/k.c", "float f(void);\nvoid kernel(const float *in, float *out, int n) { for (int i = 0; i < n; i++) out[i] = in[i] + f(); }\n");
    let unit = Unit { flags: ["-Lfirst", "-lf", &runpath].map(String::from).into(), ..package.unit() };
    package.settle();
    let before = package.compile(&unit);
    assert!(package.compile(&unit).cached);
    library("first", 7, true);
    let after = package.compile(&unit);
    assert!(!after.cached && before.identity != after.identity);
}

#[test]
fn a_new_file_that_is_found_first_compiles_again() {
    let package = Package::new();
    package.write("second/scale2.h", "#define TWICE 2\n");
    package.write("src/scale.h", "#include <scale2.h>\n#define SCALE TWICE\n");
    let unit = Unit { flags: ["-I", "first", "-Isecond"].map(String::from).into(), ..package.unit() };
    let shadows = ["first/scale2.h", "scale2.h"];
    for name in shadows {
        assert_eq!(kept(&package, &unit, || package.write(name, "#define TWICE 3\n")), [true, false], "{name}");
        assert_eq!(call(&package.compile(&unit).code), [4.0, 7.0, 10.0]);
        fs::remove_file(package.path().join(name)).unwrap();
        assert_eq!(call(&package.compile(&unit).code), [3.0, 5.0, 7.0]);
    }
    package.write("src/scale.h", "#if __has_include(\"fast.h\")\n#define SCALE 3\n#else\n#define SCALE 2\n#endif\n");
    assert_eq!(kept(&package, &unit, || package.write("second/fast.h", "")), [true, false]);
    assert_eq!(call(&package.compile(&unit).code), [4.0, 7.0, 10.0]);
    fs::remove_file(package.path().join("second/fast.h")).unwrap();
    assert_eq!(call(&package.compile(&unit).code), [3.0, 5.0, 7.0]);
}

#[test]
fn a_changed_file_of_the_assembler_compiles_again() {
    let package = Package::new();
    package.write("table.bin", "\0\0\0\0");
    // `.incbin` in two strings
    let source = "__asm__(\".section .rodata\\ntable: .inc\" \"bin \\\"table.bin\\\"\\n.previous\\n\");\n";
    package.write("src/scale.h", &format!("extern const char table[];\n#define SCALE (2 + table[0])\n{source}"));
    let mut unit = package.unit();
    unit.flags.push(format!("-Wa,-I{}", package.path().display()));
    let first = package.compile(&unit);
    package.write("table.bin", "\x01\0\0\0");
    let second = package.compile(&unit);
    assert!(!second.cached && second.hash != first.hash);
    assert_eq!([call(&first.code), call(&second.code)], [[3.0, 5.0, 7.0], [4.0, 7.0, 10.0]]);
}

#[test]
fn builds_with_unlisted_inputs_are_not_kept() {
    let package = Package::new();
    package.write("table.bin", "\0\0\0\0");
    let source = "__asm__(\".section .rodata\\ntable: .incbin \\\"table.bin\\\"\\n.previous\\n\");\n";
    package.write("src/scale.h", &format!("#define SCALE 2\n{source}"));
    let compiler = package.compiler();
    let first = compiler.compile(&package.unit()).unwrap();
    assert!(!first.cached && compiler.compile(&package.unit()).unwrap().cached, "once a run");
    assert!(!package.compile(&package.unit()).cached);
}

#[test]
fn constants_are_no_macros() {
    let package = Package::new();
    package.write(
        "src/k.c",
        "#ifdef FACTOR\n#error a macro\n#endif\n\
         static float table[FACTOR];\n\
         void kernel(const float *in, float *out, int n) {\n\
         #pragma GCC unroll FACTOR\n\
         for (int i = 0; i < n; i++) out[i] = in[i] * (float)RATE + table[i % FACTOR] + (WIDE ? LARGE / 5000000000 : 0); }\n",
    );
    let unit = |factor| {
        let more = [("RATE", "double", "0.5"), ("WIDE", "bool", "1"), ("LARGE", "long long", "5000000000")];
        package.with_constants(&[&[("FACTOR", "int", factor)], &more[..]].concat())
    };
    let (two, four) = (package.compile(&unit("2")), package.compile(&unit("4")));
    assert_ne!(two.identity, four.identity);
    assert!(package.compile(&unit("2")).cached && two.command != four.command, "both know the constants");
    let CompileError::Failed { stderr, .. } = package.fail(&package.unit()) else { panic!() };
    assert!(stderr.contains("FACTOR"), "{stderr}");
}

#[test]
fn functions_in_cpp() {
    let package = Package::new();
    package.write(
        "src/k.cpp",
        "#include <algorithm>\n#include <vector>\n\
         namespace ns {\n\
         template <typename T, int BLOCK, bool WIDE = false>\n\
         void kernel(const T *in, T *out, int n) {\n\
             std::vector<T> copy(in, in + n);\n\
             for (int i = 0; i < n; i += BLOCK)\n\
                 for (int j = i; j < std::min(i + BLOCK, n); j++) out[j] = copy[j] + BLOCK * LEVEL; }\n\
         int plain(float *in, float *out, int n) { if (n) out[0] = in[0]; return n; }\n\
         void sized(float *in, double *out, int n) { if (n) out[0] = in[0]; }\n\
         void longer(float *in, float *out, long n) { if (n) out[0] = in[0]; }\n\
         }\n\
         static void hidden(const void *in, float *out, const int &n) { if (n) out[0] = *(const float *)in; }\n\
         extern \"C\" void simple(const float *__restrict__ in, float *out, int n) { if (n) out[0] = in[0]; }\n",
    );
    let unit = |entry: &str| {
        let constants = vec![Constant { name: "LEVEL".into(), ty: "int", value: "3".into() }];
        let entries = vec![Entry::new(entry, signature())];
        Unit { source: package.path().join("src/k.cpp"), entries, constants, ..package.unit() }
    };
    for entry in ["ns::kernel<float, 8>", "ns::kernel<float, 8, (LEVEL > 2)>", "ns::plain", "hidden", "simple"] {
        let artifact = package.compile(&unit(entry));
        assert_eq!(artifact.functions[0].symbol, "kbench_entry");
        let code_bytes = artifact.functions[0].resources.code_bytes;
        assert!(entry == "hidden" || code_bytes.is_some_and(|bytes| bytes > 0), "{entry}");
        assert!(package.compile(&unit(entry)).cached, "{entry}");
    }
    assert_ne!(
        package.compile(&unit("ns::kernel<float, 8>")).identity,
        package.compile(&unit("ns::kernel<float, 16>")).identity
    );
    for (entry, said) in [
        ("ns::kernel<double, 8>", "args:1:"),
        ("ns::sized", "args:2:"),
        ("ns::longer", "args:3:"),
        ("ns::kernal<float, 8>", "entry:1:"),
        ("ns::kernel<float, 8, 9, 10>", "entry:1:"),
        ("absent", "entry:1:"),
    ] {
        let CompileError::Failed { stderr, .. } = package.fail(&unit(entry)) else { panic!("{entry}") };
        assert!(stderr.contains(said), "{entry}: {stderr}");
    }
}

#[test]
fn several_functions_in_cpp_and_all_kinds_of_arguments() {
    let package = Package::new();
    package.write(
        "src/k.cpp",
        "struct view { float *data; int length; };\n\
         template <int N> void first(view in, bool up, char sign, float *part) { if (up) part[0] = in.data[0] * N * sign; }\n\
         void second(const float *part, float *out) { out[0] = part[0]; }\n\
         void either(float *part, const view &in) { part[0] = in.length; }\n",
    );
    let tensor = |writable| Param::Tensor { dtype: DType::F32, writable };
    let structure = |ty: &str, bytes| Param::Struct { bytes, ty: Some(ty.to_owned()) };
    let unit = |ty: &str, bytes| Unit {
        source: package.path().join("src/k.cpp"),
        entries: vec![
            Entry::new("first<4>", vec![structure(ty, bytes), Param::Bool, Param::Char, tensor(None)]),
            Entry::new("second", vec![tensor(None), tensor(Some(true))]),
            Entry::new("either", vec![tensor(None), structure("view", bytes)]),
        ],
        ..package.unit()
    };
    let artifact = package.compile(&unit("struct view", 16));
    let symbols: Vec<&str> = artifact.functions.iter().map(|function| function.symbol.as_str()).collect();
    assert_eq!(symbols, ["kbench_entry", "kbench_entry_1", "kbench_entry_2"]);
    assert!(artifact.functions.iter().all(|function| function.resources.code_bytes.is_some()));
    let CompileError::Failed { stderr, .. } = package.fail(&unit("view", 24)) else { panic!() };
    assert!(stderr.contains("argument 1 of first<4>: the table declares 24 bytes for `view`"), "{stderr}");
    let CompileError::Failed { stderr, .. } = package.fail(&unit("absent", 16)) else { panic!() };
    assert!(stderr.contains("args:1:"), "{stderr}");
}

#[test]
fn headers_of_the_table_are_found_first_and_are_part_of_the_key() {
    let package = Package::new();
    package.write("include/lib/scale.h", "#error \"the real one\"\n");
    package.write(
        "src/k.c",
        "#include <lib/scale.h>\n#include \"absent.h\"\n\
         void kernel(const float *in, float *out, int n) { for (int i = 0; i < n; i++) out[i] = in[i] * SCALE + ABSENT; }\n",
    );
    let unit = |scale: &str| {
        let headers = [("lib/scale.h", scale), ("absent.h", "#define ABSENT 0\n")];
        let headers = headers.map(|(name, text)| (name.to_owned(), text.to_owned())).to_vec();
        Unit { headers, flags: vec!["-Iinclude".into()], ..package.unit() }
    };
    let two = package.compile(&unit("#define SCALE 2\n"));
    assert!(package.compile(&unit("#define SCALE 2\n")).cached);
    let three = package.compile(&unit("#define SCALE 3\n"));
    assert!(!three.cached);
    assert_ne!(two.identity, three.identity);
    let CompileError::Failed { stderr, .. } = package.fail(&Unit { headers: vec![], ..unit("") }) else { panic!() };
    assert!(stderr.contains("the real one"), "{stderr}");
}
