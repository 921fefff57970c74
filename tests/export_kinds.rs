//! The Rust modules of unusual tables: each kind of expression, name, argument and choice compiles without a warning of clippy's pedantic
//! lints or of rustdoc, and `cargo fmt` of an older edition changes nothing.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use model::kbench;

mod model;

/// Expressions over `N`, `M` and the toggle `K`, as integers.
const INTEGERS: &[&str] = &[
    "N if N != 4 else 2",
    "1 if N > 4 else 0",
    "0 if N > 4 else 1",
    "1 if N > 4 else (2 if N < 4 else 3)",
    "(1 if N > 3 else 2) + 1",
    "N if N % 2 else M",
    "N if N > 3 else N",
    "N >= 4 and N <= 8",
    "N == 4 or N < 4",
    "not (N == 4)",
    "not (N < 4 or M < 3)",
    "not (N > 4) == 1",
    "N not in [1, 2, 3]",
    "N and M or K > 1",
    "K > 1 and N > 4",
    "N & 15 == 0",
    "(N & 15) == 0",
    "N == N",
    "N - -1",
    "-1",
    "-1000000",
    "1000000",
    "N / 2 * 2",
    "2 ** K",
    "ceil_div(N, K)",
    "~N & 31",
];

/// The same as numbers with fractions.
const FRACTIONS: &[&str] = &[
    "3.14159",
    "0.7071067811865476 * N",
    "6.283185307179586 / N",
    "1.4426950408889634 / sqrt(N)",
    "not (N / 3 > 2.5)",
    "not (N / 3 == 2.5)",
    "N / 3 if N / 3 > 2 else 1",
    "(N - 0.5) * (M - 0.5)",
    "-(N / 3)",
    "123456.789",
];

/// A package of kernels that do nothing; `tables` gives the body of each table, after its source.
fn package(tables: &[(&str, String, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    fs::create_dir(folder.path().join("src")).unwrap();
    let mut manifest = MANIFEST.to_owned();
    for (at, (name, table, source)) in tables.iter().enumerate() {
        write(&format!("k{at}.c"), source);
        let _ = writeln!(
            manifest,
            "\n[package.metadata.kbench.kernels.\"{name}\"]\nbackend = \"c\"\nsource = \"k{at}.c\"\n{table}\n\
             reference = {{ backend = \"c\", source = \"reference.c\", entry = \"reference\", args = [\"y\"] }}"
        );
    }
    write("Cargo.toml", &manifest);
    write("reference.c", "void reference(double *y) { y[0] = 0; }\n");
    write("copy.c", "void copy(const float *x, float *y, int n) { for (int i = 0; i < n; i++) y[i] = x[i]; }\n");
    write(
        "copy_reference.c",
        "void copy(const double *x, double *y, int n) { for (int i = 0; i < n; i++) y[i] = x[i]; }\n",
    );
    write("src/main.rs", "//! Launches nothing.\nmod kbench;\n\nfn main() {}\n");
    write(
        "build.rs",
        "//! Compiles what was exported.\n#[path = \"src/kbench/build.rs\"]\nmod kernels;\n\nfn main() {\n    kernels::compile();\n}\n",
    );
    // Versions that are there without a network.
    fs::copy(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.lock"), folder.path().join("Cargo.lock")).unwrap();
    folder
}

const MANIFEST: &str = r#"
[package]
name = "kinds"
version = "0.0.0"
edition = "2021"

[workspace]

[build-dependencies]
cc = "1"

[package.metadata.kbench]
timing = { warmup = 1, iterations = 5, max_seconds = 1 }
gates.correctness = { seeds = 1, max_rms_err = 1e-5, patterns = [] }

[package.metadata.kbench.kernels.copy]
backend = "c"
source = "copy.c"
entry = "copy"
args = ["x", "y", { scalar = "i32", value = "N" }]
shapes.only = { N = 64 }
tensors.x = { dtype = "f32", dims = ["N"] }
tensors.y = { dtype = "f32", dims = ["N"], role = "out" }
reference = { backend = "c", source = "copy_reference.c", entry = "copy", args = ["x", "y", { scalar = "i32", value = "N" }] }
"#;

const VECTORS: &str =
    "tensors.x = { dtype = \"f32\", dims = [\"N\"] }\ntensors.y = { dtype = \"f32\", dims = [\"N\"], role = \"out\" }";

/// The arguments of a kernel with these scalars behind x and y, and their parameters in C.
fn scalars(of: &[&str], values: &[&str]) -> (String, String) {
    let types = |at: usize| of[at % of.len()];
    let args =
        values.iter().enumerate().map(|(at, value)| format!(", {{ scalar = \"{}\", value = \"{value}\" }}", types(at)));
    let c_type = |name: &str| match name {
        "f32" => "float".to_owned(),
        "f64" => "double".to_owned(),
        "bool" => "_Bool".to_owned(),
        "char" => "char".to_owned(),
        integer => format!("{}int{}_t", if integer.starts_with('u') { "u" } else { "" }, &integer[1..]),
    };
    let parameters = (0..values.len()).map(|at| format!(", {} a{at}", c_type(types(at))));
    (args.collect(), parameters.collect())
}

/// elite.json with winners of all kernels: those of the kernel that was tuned, with these toggles and sizes.
fn add_winners(package: &Path, winners: &[(&str, serde_json::Value, serde_json::Value)]) {
    let path = package.join("elite.json");
    let mut elite: serde_json::Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    let first = elite["kernels"][0].clone();
    for (kernel, toggles, dims) in winners {
        let mut entry = first.clone();
        entry["kernel"] = (*kernel).into();
        entry["shape"] = "another".into();
        entry["device"]["name"] = "NVIDIA GeForce RTX 4090".into();
        entry["dims"] = dims.clone();
        entry["elite"][0]["toggles"] = toggles.clone();
        elite["kernels"].as_array_mut().unwrap().push(entry);
    }
    fs::write(path, elite.to_string()).unwrap();
}

fn succeed(mut command: Command) -> String {
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{command:?}\n{text}");
    text
}

fn cargo(package: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO"));
    command.args(args).current_dir(package).env_remove("CARGO_TARGET_DIR").env_remove("RUSTFLAGS");
    command
}

#[test]
fn modules_of_unusual_tables_have_no_warnings() {
    let mut tables: Vec<(&str, String, String)> = Vec::new();
    // Names with underscores in the documentation, and the name of the folder.
    let (args, parameters) = scalars(&["i32", "i64"], INTEGERS);
    tables.push((
        "kbench",
        format!(
            "entry = \"k\"\nargs = [\"x\", \"y\"{args}]\nshapes.only = {{ N = 64, M = 8, HEAD_DIM = 4 }}\n{VECTORS}\ntoggles.macro = {{ K = [1, 2] }}"
        ),
        format!("#include <stdint.h>\nvoid k(const float *x, float *y{parameters}) {{}}\n"),
    ));
    let (args, parameters) = scalars(&["f32", "f64"], FRACTIONS);
    tables.push((
        "fractions",
        format!("entry = \"k\"\nargs = [\"x\", \"y\"{args}]\nshapes.only = {{ N = 64, M = 8 }}\n{VECTORS}\ntoggles.macro = {{ K = [1, 2] }}"),
        format!("void k(const float *x, float *y{parameters}) {{}}\n"),
    ));
    // A long tuple of scalars of every type.
    let all = ["i8", "u8", "i16", "u16", "i32", "u32", "i64", "u64", "f32", "f64", "bool", "char"];
    let (args, parameters) = scalars(&all, &["N % 3"; 36]);
    tables.push((
        "launch",
        format!("entry = \"k\"\nargs = [\"x\", \"y\"{args}]\nshapes.only = {{ N = 64 }}\n{VECTORS}"),
        format!("#include <stdint.h>\nvoid k(const float *x, float *y{parameters}) {{}}\n"),
    ));
    // Sizes and tensors with names of the module's own functions and variables, of keywords and of lengths.
    tables.push((
        "names",
        "entry = \"k\"\nargs = [\"lengths\", \"launch\", \"type\", \"variant\", \"y\", { scalar = \"i32\", value = \"ceil_div(power, 3) + device ** 2 + y_len\" }, \
         { scalar = \"f32\", value = \"real / 3\" }]\nshapes.only = { power = 4, device = 5, real = 6, y_len = 7, fn = 8, sm_count = 9 }\n\
         tensors.lengths = { dtype = \"f32\", dims = [\"power\"] }\ntensors.launch = { dtype = \"f32\", dims = [\"device\", \"fn\"] }\n\
         tensors.variant = { dtype = \"i8\", dims = [\"real\"] }\ntensors.type = { dtype = \"f64\", dims = [\"sm_count\"], role = \"scratch\" }\ntensors.y = { dtype = \"f32\", dims = [\"y_len\"], role = \"out\" }"
            .to_owned(),
        "void k(const float *a, const float *b, double *c, const signed char *v, float *y, int d, float e) {}\n".to_owned(),
    ));
    // No sizes, and one element.
    tables.push((
        "fixed",
        "entry = \"k\"\nargs = [\"x\", \"y\"]\nshapes.only = {}\ntensors.x = { dtype = \"f32\", dims = [16] }\n\
         tensors.y = { dtype = \"f32\", dims = [], role = \"out\" }"
            .to_owned(),
        "void k(const float *x, float *y) {}\n".to_owned(),
    ));
    // Launches that depend on toggles and sizes, floats among the toggles, and defines and flags over sizes.
    tables.push((
        "stages",
        "shapes = { a = { N = 64 }, b = { N = 128 } }\ntoggles = { launch = { K = [1, 2], ALPHA = [0.5, 1.5], FAST = [true, false] } }\n\
         defines = { THIRD = \"N / 3\", LARGE = \"N > 100\", ALWAYS = \"K > 9 and N > 1\" }\n\
         flags = [\"-DTWICE={N * 2}\", { flag = \"-DODD\", when = \"N > 100 and not (N == 130)\" }]\n\
         launches = [\n{ entry = \"a\", when = \"K > 1\", args = [\"x\", \"part\", { scalar = \"f32\", value = \"ALPHA * N\" }] },\n\
         { entry = \"b\", when = \"K == 1 or N > 4\", zero = [\"y\"], args = [{ tensor = \"x\", offset = \"N - 4 if N > 4 else 0\" }, \"y\", \
         { struct = [\"x\", { struct = [{ scalar = \"bool\", value = \"FAST\" }], type = \"struct inner\" }], type = \"struct view\" }] },\n]\n\
         tensors.x = { dtype = \"f32\", dims = [\"N\"] }\ntensors.part = { dtype = \"f64\", dims = [\"K\", \"N\"], role = \"scratch\" }\n\
         tensors.y = { dtype = \"f32\", dims = [\"max(N, 4) if N != 5 else N\"], role = \"out\" }"
            .to_owned(),
        "struct inner { _Bool a; };\nstruct view { const float *x; struct inner inner; };\n\
         void a(const float *x, double *part, float alpha) {}\nvoid b(const float *x, float *y, struct view view) {}\n"
            .to_owned(),
    ));
    let borrowed: Vec<(&str, String, &str)> =
        tables.iter().map(|(name, table, source)| (*name, table.clone(), source.as_str())).collect();
    let folder = package(&borrowed);
    let package = folder.path();
    succeed(kbench(package, &["autotune", "--kernel", "copy"]));
    let mut winners = vec![
        ("kbench", serde_json::json!({ "K": 2 }), serde_json::json!({ "N": 640, "M": 8, "HEAD_DIM": 4 })),
        ("fixed", serde_json::json!({}), serde_json::json!({})),
    ];
    for (at, n) in (0..12).map(|at| (at, 100 + 10 * at)) {
        let toggles =
            serde_json::json!({ "K": 1 + at % 2, "ALPHA": if at % 3 == 0 { 0.5 } else { 1.5 }, "FAST": at % 4 == 0 });
        winners.push(("stages", toggles, serde_json::json!({ "N": n })));
    }
    add_winners(package, &winners);
    succeed(kbench(package, &["export"]));
    succeed(cargo(package, &["fmt"]));
    succeed(kbench(package, &["export", "--check"]));
    let pedantic =
        ["clippy", "--offline", "--quiet", "--", "-W", "clippy::pedantic", "-W", "missing_docs", "-D", "warnings"];
    succeed(cargo(package, &pedantic));
    let mut doc = cargo(package, &["doc", "--offline", "--quiet", "--no-deps", "--document-private-items"]);
    doc.env("RUSTDOCFLAGS", "-D warnings");
    succeed(doc);
    // The header, as C and as C++; `N == N` is the table's.
    succeed(kbench(package, &["export", "--lang", "c", "--out", "include"]));
    fs::write(package.join("header.c"), "#include \"include/kbench.h\"\nint main(void) { return 0; }\n").unwrap();
    for (compiler, language, standard) in [("cc", "c", "-std=c99"), ("c++", "c++", "-std=c++11")] {
        let mut command = Command::new(compiler);
        let warnings = ["-Wall", "-Wextra", "-Wpedantic", "-Werror", "-Wno-tautological-compare"];
        command.args(["-x", language, standard, "-fsyntax-only"]).args(warnings).arg("header.c").current_dir(package);
        succeed(command);
    }
}

#[test]
fn kernels_whose_files_would_have_one_name_are_refused() {
    let table = || format!("entry = \"k\"\nargs = [\"x\", \"y\"]\nshapes.only = {{ N = 64 }}\n{VECTORS}");
    let source = "void k(const float *x, float *y) {}\n";
    let folder = package(&[("a-b", table(), source), ("a.b", table(), source)]);
    let output = kbench(folder.path(), &["export"]).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert!(error.contains("kernel `a.b`: its files and variables would have the names of those of `a-b`"), "{error}");
}
