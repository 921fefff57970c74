//! `cargo kbench export`: what it writes compiles, launches the winner, and is told stale when what it was made from changes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use model::kbench;

mod model;

/// What a command wrote, and how it ended.
fn run(mut command: Command) -> (Option<i32>, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    (status.code(), String::from_utf8_lossy(&[stdout, stderr].concat()).into_owned())
}

fn succeed(command: Command) -> String {
    let words = format!("{command:?}");
    let (code, text) = run(command);
    assert_eq!(code, Some(0), "{words}\n{text}");
    text
}

/// Exit code and output of an export.
fn export(package: &Path, flags: &[&str]) -> (Option<i32>, String) {
    run(kbench(package, &[&["export"], flags].concat()))
}

fn cargo(package: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO"));
    command.args(args).current_dir(package).env_remove("CARGO_TARGET_DIR").env_remove("RUSTFLAGS");
    command
}

/// The files of an export by name.
fn files(package: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let entries = fs::read_dir(package.join("src/kbench")).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = entries.map(|path| (path.clone(), fs::read(path).unwrap())).collect();
    files.sort();
    files
}

const MANIFEST: &str = r#"
[package]
name = "two-kernels"
version = "0.0.0"
edition = "2024"

[workspace]

[build-dependencies]
cc = "1"

[package.metadata.kbench]
timing = { warmup = 1, iterations = 5, max_seconds = 1 }
search = { strategy = "exhaustive", elite = 1 }
gates.correctness = { seeds = 1, max_rms_err = 1e-5 }

[package.metadata.kbench.kernels.scale]
backend = "c"
source = "kernels/scale.c"
entry = "scale"
defines = { WIDTH = "D" }
args = ["x", "sums", "y", { scalar = "i32", value = "N" }, { scalar = "f32", value = "1 / sqrt(D)" }, { scalar = "i64", value = "ceil_div(N, STEP) if N > 4 else N // 2" }]
shapes = { narrow = { N = 6, D = 4 }, wide = { N = 3, D = 8 } }
toggles = { macro = { STEP = [1, 2] }, default = { STEP = 2 } }
tensors.x = { dtype = "f32", dims = ["N", "D"] }
tensors.sums = { dtype = "f64", dims = ["N"], role = "scratch" }
tensors.y = { dtype = "f32", dims = ["N", "D"], role = "out" }
reference = { backend = "c", source = "kernels/reference.c", entry = "reference", args = ["x", "y", { scalar = "i32", value = "N" }, { scalar = "i32", value = "D" }] }

[package.metadata.kbench.kernels.in-place]
backend = "c"
source = "kernels/in_place.c"
entry = "add"
args = ["values", { scalar = "u8", value = "BY + 1" }]
shapes.only = { "type" = 16 }
toggles = { macro = { BY = [1] } }
tensors.values = { dtype = "u16", dims = ["type"], role = "inout" }
reference = { backend = "c", source = "kernels/add_two.c", entry = "add_two", args = ["values"] }
"#;

/// `helper` and `calls` are the linker's to see in each variant: a program that has two of them must still link.
const SCALE: &str = "
#include <stdint.h>
long calls;
float helper(float x, float scale) { calls++; return x * scale; }
void scale(const float *x, double *sums, float *y, int32_t n, float factor, int64_t steps)
{
    if (steps != (n > 4 ? (n + STEP - 1) / STEP : n / 2)) return;
    for (int i = 0; i < n; i += STEP)
        for (int r = i; r < n && r < i + STEP; r++) {
            sums[r] = 0;
            for (int j = 0; j < WIDTH; j++) sums[r] += x[r * WIDTH + j];
            for (int j = 0; j < WIDTH; j++) y[r * WIDTH + j] = helper(x[r * WIDTH + j], factor) + (float)sums[r];
        }
}
";

const REFERENCE: &str = "
#include <math.h>
void reference(const double *x, double *y, int n, int d)
{
    for (int i = 0; i < n; i++) {
        double sum = 0;
        for (int j = 0; j < d; j++) sum += x[i * d + j];
        for (int j = 0; j < d; j++) y[i * d + j] = x[i * d + j] / sqrt(d) + sum;
    }
}
";

const IN_PLACE: &str = "
#include <stdint.h>
void add(uint16_t *values, uint8_t by)
{
    for (int i = 0; i < 16; i++) values[i] = (uint16_t)(values[i] + by * BY);
}
";

const ADD_TWO: &str = "
#include <stdint.h>
void add_two(uint16_t *values) { for (int i = 0; i < 16; i++) values[i] += 2; }
";

const BUILD: &str = "//! Compiles what was exported.\n#[path = \"src/kbench/build.rs\"]\nmod kernels;\n\nfn main() {\n    kernels::compile();\n}\n";

/// A program that launches both kernels and checks what they do.
const MAIN: &str = r#"
//! Launches what was exported.
use kbench::{Error, Rule, in_place, scale};

mod kbench;

fn check(dims: scale::Dims) {
    let x: Vec<f32> = (0..u16::try_from(dims.n * dims.d).unwrap()).map(|i| f32::from(i) - 7.5).collect();
    let mut y = vec![f32::NAN; x.len()];
    scale::launch(dims, &x, &mut y).unwrap();
    let factor = 1.0 / f32::from(u8::try_from(dims.d).unwrap()).sqrt();
    for (x, y) in x.chunks(dims.d).zip(y.chunks(dims.d)) {
        let sum: f32 = x.iter().sum();
        for (x, y) in x.iter().zip(y) {
            assert!((x * factor + sum - y).abs() < 1e-3, "{x} {y}");
        }
    }
}

fn main() {
    let dims = scale::Dims { n: 6, d: 4 };
    if std::env::var_os("KBENCH_VARIANT_SCALE").is_some() {
        match scale::pick(dims) {
            Ok(choice) => println!("{:?}: {}", choice.variant, choice.rule),
            Err(error) => println!("{error}"),
        }
        return;
    }
    check(dims);
    check(scale::Dims { n: 3, d: 8 });
    check(scale::Dims { n: 100, d: 8 });
    println!("{} since {}", scale::pick(dims).unwrap().variant, scale::pick(dims).unwrap().rule);
    // No variant was compiled for rows of 5.
    assert_eq!(scale::pick(scale::Dims { n: 6, d: 5 }), Err(Error::NoVariant));
    let short = scale::launch(dims, &[0.0; 23], &mut [0.0; 24]);
    assert_eq!(short, Err(Error::Length { argument: "x", expected: 24, found: 23 }));
    let many = scale::Dims { n: usize::MAX / 2, d: 4 };
    assert_eq!(scale::launch(many, &[], &mut []), Err(Error::Sizes));

    let mut values = [1; 16];
    let dims = in_place::Dims { type_: 16 };
    in_place::launch(dims, &mut values).unwrap();
    assert_eq!(values, [3; 16]);
    assert_eq!(in_place::pick(dims).unwrap().rule, Rule::Default);
}
"#;

/// A package with two kernels that was never tuned.
fn package() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    for name in ["src", "kernels"] {
        fs::create_dir(folder.path().join(name)).unwrap();
    }
    write("Cargo.toml", MANIFEST);
    write("src/main.rs", "fn main() {}\n");
    write("kernels/scale.c", SCALE);
    write("kernels/reference.c", REFERENCE);
    write("kernels/in_place.c", IN_PLACE);
    write("kernels/add_two.c", ADD_TWO);
    // Versions that are there without a network.
    let lock = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.lock");
    fs::copy(lock, folder.path().join("Cargo.lock")).unwrap();
    folder
}

#[test]
fn a_program_launches_the_winners_that_were_exported() {
    let folder = package();
    let package = folder.path();
    succeed(kbench(package, &["autotune", "--kernel", "scale", "--per-shape"]));
    let (code, shown) = export(package, &[]);
    assert_eq!(code, Some(0), "{shown}");
    assert!(shown.contains("no winner of `in-place`"), "{shown}");
    fs::write(package.join("build.rs"), BUILD).unwrap();
    fs::write(package.join("src/main.rs"), MAIN).unwrap();
    let shown = succeed(cargo(package, &["run", "--offline", "--quiet"]));
    assert!(shown.contains("since it won on this device at these sizes"), "{shown}");
    let named = |variant: &str| {
        let mut command = cargo(package, &["run", "--offline", "--quiet"]);
        command.env("KBENCH_VARIANT_SCALE", variant);
        succeed(command)
    };
    assert_eq!(named("v0"), "V0: an environment variable names it\n");
    assert_eq!(named("v1"), "no variant was compiled for these sizes; export the kernel with a shape like them\n");
    assert!(named("fast").contains("KBENCH_VARIANT_SCALE=fast names no variant"));

    let pedantic =
        ["clippy", "--offline", "--quiet", "--", "-W", "clippy::pedantic", "-W", "missing_docs", "-D", "warnings"];
    succeed(cargo(package, &pedantic));
    let mut doc = cargo(package, &["doc", "--offline", "--quiet", "--no-deps", "--document-private-items"]);
    doc.env("RUSTDOCFLAGS", "-D warnings");
    succeed(doc);
    // What cargo and rustfmt do to the package does not make the export stale.
    let before = files(package);
    succeed(cargo(package, &["fmt"]));
    assert_eq!(files(package), before);
    assert_eq!(export(package, &["--check"]).0, Some(0));
}

/// The messages of a check that fails.
fn stale(package: &Path) -> String {
    let (code, shown) = export(package, &["--check"]);
    assert_eq!(code, Some(1), "{shown}");
    shown
}

#[test]
fn an_export_is_stale_once_what_it_was_made_from_has_changed() {
    let folder = package();
    let package = folder.path();
    assert!(stale(package).contains("`mod.rs` is not there"));
    let (code, first) = export(package, &[]);
    assert_eq!(code, Some(0), "{first}");
    let written = files(package);
    assert_eq!(export(package, &["--check"]).0, Some(0));
    assert_eq!(export(package, &[]), (code, first));
    assert_eq!(files(package), written, "two exports are equal");

    let change = |name: &str, from: &str, to: &str| {
        let path = package.join(name);
        let old = fs::read_to_string(&path).unwrap();
        assert!(old.contains(from), "{name} has no `{from}`");
        fs::write(&path, old.replace(from, to)).unwrap();
        let shown = stale(package);
        fs::write(&path, old).unwrap();
        assert_eq!(export(package, &["--check"]).0, Some(0));
        shown
    };
    let shown = change("kernels/scale.c", "calls++", "calls += 2");
    assert!(shown.contains("scale: source changed") && !shown.contains("in-place: source"), "{shown}");
    let shown = change("Cargo.toml", "STEP = [1, 2]", "STEP = [1, 2, 3]");
    assert!(shown.contains("scale: toggles changed"), "{shown}");
    let shown = change("Cargo.toml", "default = { STEP = 2 }", "default = { STEP = 1 }");
    assert!(shown.contains("stale"), "{shown}");
    // What is changed by hand, taken away or added.
    let shown = change("src/kbench/two_kernels_scale_v0.c", "#define STEP 2", "#define STEP 1");
    assert!(shown.contains("two_kernels_scale_v0.c"), "{shown}");
    fs::write(package.join("src/kbench/more.rs"), "").unwrap();
    assert!(stale(package).contains("`more.rs` is no part of the export"));
    assert_eq!(export(package, &[]).0, Some(0));
    assert_eq!(files(package), written, "what is no part of it is gone");

    // Another compiler, by its version.
    let script = package.join("other-cc");
    let text = "#!/bin/sh\nfor word in \"$@\"; do [ \"$word\" = --version ] && echo 'other 99.0' && exit; done\nexec cc \"$@\"\n";
    fs::write(&script, text).unwrap();
    fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let mut command = kbench(package, &["export", "--check"]);
    command.env("CC", &script);
    let (code, shown) = run(command);
    assert_eq!(code, Some(1), "{shown}");
    assert!(shown.contains("to `other 99.0`"), "{shown}");

    // A search that found another winner.
    succeed(kbench(package, &["autotune", "--kernel", "in-place"]));
    let shown = stale(package);
    assert!(shown.contains("in-place: elite.json changed"), "{shown}");
}

#[test]
fn what_cannot_be_exported_is_an_error_that_leaves_everything_as_it_was() {
    let folder = package();
    let package = folder.path();
    // A folder of someone else's.
    fs::create_dir(package.join("src/kbench")).unwrap();
    fs::write(package.join("src/kbench/mine.rs"), "fn mine() {}\n").unwrap();
    let (code, shown) = export(package, &[]);
    assert_eq!(code, Some(2), "{shown}");
    assert!(shown.contains("mine.rs") && shown.contains("--out"), "{shown}");
    assert_eq!(files(package).len(), 1);
    // A folder that cannot be made.
    let (code, shown) = export(package, &["--out", "src/main.rs/kbench"]);
    assert_eq!(code, Some(3), "{shown}");
    assert!(shown.contains("src/main.rs/kbench"), "{shown}");
    let (code, shown) = export(package, &["--out", "src/other"]);
    assert_eq!(code, Some(0), "{shown}");

    // A damaged elite.json, and one whose winner the table does not know any more.
    fs::write(package.join("elite.json"), "{").unwrap();
    let (code, shown) = export(package, &["--out", "src/other"]);
    assert_eq!(code, Some(2), "{shown}");
    assert!(shown.contains("elite.json"), "{shown}");
    fs::remove_file(package.join("elite.json")).unwrap();
    succeed(kbench(package, &["autotune", "--kernel", "in-place"]));
    let manifest = MANIFEST.replace("BY = [1]", "BY = [2]");
    fs::write(package.join("Cargo.toml"), manifest).unwrap();
    let (code, shown) = export(package, &["--out", "src/other"]);
    assert_eq!(code, Some(2), "{shown}");
    assert!(shown.contains("`BY` has no value `1`") && shown.contains("tune it again"), "{shown}");
}
