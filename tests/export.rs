//! `cargo kbench export`: the files compile, launch the winner, and are reported as stale after a change of their sources. Above 400
//! lines: the sources of the exported packages stand beside the tests.

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
args = ["mut", { scalar = "u8", value = "BY + 1" }]
shapes.only = { "type" = 16 }
toggles = { macro = { BY = [1] } }
tensors.mut = { dtype = "u16", dims = ["type"], role = "inout" }
reference = { backend = "c", source = "kernels/add_two.c", entry = "add_two", args = ["mut"] }
"#;

const STAGES: &str = r#"
[package.metadata.kbench.kernels.total]
backend = "c"
source = "kernels/total.c"
tensors.x = { dtype = "f32", dims = ["N"], clobber = true }
tensors.part = { dtype = "f32", dims = ["PARTS"], role = "scratch" }
tensors.sum = { dtype = "f32", dims = [1], role = "out" }
shapes = { only = { N = 1000 } }
toggles = { macro = { PARTS = [1, 4] }, default = { PARTS = 4 } }
launches = [
    { entry = "part_sums", args = ["x", "part", { scalar = "i32", value = "N" }], when = "PARTS > 1" },
    { entry = "part_sums_of_one", args = ["x", "sum", { scalar = "i32", value = "N" }], when = "PARTS == 1" },
    { entry = "add_up", args = ["part", "sum"], when = "PARTS > 1", zero = ["sum"] },
]
reference = { backend = "c", source = "kernels/total_reference.c", entry = "total", args = ["x", "sum", { scalar = "i32", value = "N" }] }
"#;

const TOTAL: &str = "
#include <stdint.h>
void part_sums(const float *x, float *part, int32_t n)
{
    for (int p = 0; p < PARTS; p++) {
        part[p] = 0;
        for (int i = p; i < n; i += PARTS) part[p] += x[i];
    }
}
void part_sums_of_one(const float *x, float *sum, int32_t n) { part_sums(x, sum, n); }
void add_up(const float *part, float *sum)
{
    for (int p = 0; p < PARTS; p++) *sum += part[p];
}
";

const TOTAL_REFERENCE: &str = "
void total(const double *x, double *sum, int n)
{
    *sum = 0;
    for (int i = 0; i < n; i++) *sum += x[i];
}
";

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
use kbench::{Error, Rule, in_place, scale, total};

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

    let x: Vec<f32> = (0..1000u16).map(|i| f32::from(i % 10)).collect();
    let mut sum = [f32::NAN];
    total::launch(total::Dims { n: 1000 }, &mut x.clone(), &mut sum).unwrap();
    assert!((sum[0] - 4500.0).abs() < 1e-3, "{sum:?}");

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
    write("Cargo.toml", &format!("{MANIFEST}{STAGES}"));
    write("src/main.rs", "fn main() {}\n");
    write("kernels/total.c", TOTAL);
    write("kernels/total_reference.c", TOTAL_REFERENCE);
    write("kernels/scale.c", SCALE);
    write("kernels/reference.c", REFERENCE);
    write("kernels/in_place.c", IN_PLACE);
    write("kernels/add_two.c", ADD_TWO);
    // Versions that are there without a network.
    let lock = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.lock");
    fs::copy(lock, folder.path().join("Cargo.lock")).unwrap();
    folder
}

/// elite.json with an entry of `total` beside those of `scale`: the variant that is not the default.
fn both_variants_of_total(package: &Path) -> String {
    let text = fs::read_to_string(package.join("elite.json")).unwrap();
    let mut elite: serde_json::Value = serde_json::from_str(&text).unwrap();
    let mut entry = elite["kernels"][0].clone();
    entry["kernel"] = "total".into();
    entry["shape"] = "only".into();
    entry["dims"] = serde_json::json!({ "N": 7 });
    entry["elite"][0]["toggles"] = serde_json::json!({ "PARTS": 1 });
    elite["kernels"].as_array_mut().unwrap().push(entry);
    elite.to_string()
}

#[test]
fn a_program_launches_the_winners_that_were_exported() {
    let folder = package();
    let package = folder.path();
    succeed(kbench(package, &["autotune", "--kernel", "scale", "--per-shape"]));
    // So that both variants are exported, whichever wins.
    fs::write(package.join("elite.json"), both_variants_of_total(package)).unwrap();
    let (code, shown) = export(package, &[]);
    assert_eq!(code, Some(0), "{shown}");
    assert!(shown.contains("no winner of `in-place`"), "{shown}");
    fs::write(package.join("build.rs"), BUILD).unwrap();
    fs::write(package.join("src/main.rs"), MAIN).unwrap();
    let shown = succeed(cargo(package, &["run", "--offline", "--quiet"]));
    assert!(shown.contains("since it won on this device at these sizes"), "{shown}");
    // The variant that makes one launch where the default makes two.
    let mut command = cargo(package, &["run", "--offline", "--quiet"]);
    command.env("KBENCH_VARIANT_TOTAL", "v1");
    succeed(command);
    let named = |variant: &str| {
        let mut command = cargo(package, &["run", "--offline", "--quiet"]);
        command.env("KBENCH_VARIANT_SCALE", variant);
        succeed(command)
    };
    assert_eq!(named("v0"), "V0: an environment variable names it\n");
    assert_eq!(named("v1"), "no variant was compiled for these sizes; export the kernel with a shape like them\n");
    assert_eq!(named("default"), "V0: it is the default\n");
    assert!(named("fast").contains("KBENCH_VARIANT_SCALE=fast names no variant"));

    let pedantic =
        ["clippy", "--offline", "--quiet", "--", "-W", "clippy::pedantic", "-W", "missing_docs", "-D", "warnings"];
    succeed(cargo(package, &pedantic));
    let mut doc = cargo(package, &["doc", "--offline", "--quiet", "--no-deps", "--document-private-items"]);
    doc.env("RUSTDOCFLAGS", "-D warnings");
    succeed(doc);
    let module = fs::read_to_string(package.join("src/kbench/mod.rs")).unwrap();
    assert!(module.contains("The contents of `x` are lost."), "{module}");
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
fn an_export_is_stale_after_a_change_of_its_sources() {
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
    let shown = change("src/kbench/scale_v0.c", "#define STEP 2", "#define STEP 1");
    assert!(shown.contains("scale_v0.c"), "{shown}");
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
fn unsupported_exports_are_errors_and_change_no_file() {
    let folder = package();
    let package = folder.path();
    // A folder of someone else's.
    fs::create_dir(package.join("src/kbench")).unwrap();
    fs::write(package.join("src/kbench/mine.rs"), "fn mine() {}\n").unwrap();
    let (code, shown) = export(package, &[]);
    assert_eq!(code, Some(2), "{shown}");
    assert!(shown.contains("mine.rs") && shown.contains("--out"), "{shown}");
    assert_eq!(files(package).len(), 1);
    // A folder below a file.
    let (code, shown) = export(package, &["--out", "src/main.rs/kbench"]);
    assert_eq!(code, Some(2), "{shown}");
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

    // A type that Rust cannot pass, and a table that only a device completes.
    fs::remove_file(package.join("elite.json")).unwrap();
    fs::write(package.join("Cargo.toml"), MANIFEST.replace("{ scalar = \"u8\"", "{ scalar = \"f16\"")).unwrap();
    fs::write(package.join("kernels/in_place.c"), "void add(unsigned short *values, _Float16 by) { *values += by; }")
        .unwrap();
    let (code, shown) = export(package, &["--out", "src/other"]);
    assert_eq!(code, Some(2), "{shown}");
    assert!(shown.contains("`in-place`") && shown.contains("takes an f16 by value, a type that Rust lacks"), "{shown}");
    let of_any_device = CUDA_MANIFEST.replace("TILE if N > 100 else 32", "32 * min(SM_COUNT, 4)");
    let folder = cuda_package();
    fs::write(folder.path().join("Cargo.toml"), of_any_device).unwrap();
    let (code, shown) = export(folder.path(), &["--kernel", "mapped"]);
    assert_eq!(code, Some(2), "{shown}");
    assert!(shown.contains("`mapped`") && shown.contains("SM_COUNT outside of `grid`"), "{shown}");
}

/// Every part of a launch in two kernels.
const CUDA_MANIFEST: &str = r#"
[package]
name = "launches"
version = "0.0.0"
edition = "2024"

[workspace]

[dependencies]
cudarc = { version = "0.19", default-features = false, features = ["std", "driver", "nvrtc", "dynamic-loading", "cuda-13000"] }

[package.metadata.kbench.kernels.mapped]
source = "mapped.cu"
entry = "mapped"
arch = ["sm_80", "sm_90a"]
grid = ["ceil_div(N * N, TILE)", "SM_COUNT"]
block = ["TILE if N > 100 else 32"]
cluster = ["2"]
dynamic_shared = "8 * STAGED * N"
args = [{ tensor_map = "x", box = [1, 16], swizzle = 0 }, "half", "sums", "y", { scalar = "f64", value = "N / 3" }, { symbol = "weights", tensor = "w" }]
shapes = { small = { N = 64 }, large = { N = 4096 } }
tensors.x = { dtype = "f32", dims = ["N", "N"] }
tensors.half = { dtype = "f16", dims = ["N"] }
tensors.w = { dtype = "f32", dims = ["16"] }
tensors.sums = { dtype = "f32", dims = ["N", "TILE"], role = "scratch" }
tensors.y = { dtype = "f32", dims = ["N"], role = "out" }
toggles = { macro = { TILE = [64, 128], STAGED = [0, 1] } }
reference = { backend = "c", source = "reference.c", entry = "reference", args = ["y"] }

[package.metadata.kbench.kernels.plain]
source = "plain.cu"
entry = "ns::plain<float, PER_THREAD>"
arch = ["sm_90a"]
cooperative = true
grid = ["ceil_div(N, 128 * PER_THREAD)"]
block = ["128"]
args = ["x", "y", { scalar = "i32", value = "N" }]
shapes.only = { N = 4096 }
tensors.x = { dtype = "f32", dims = ["N"] }
tensors.y = { dtype = "f32", dims = ["N"], role = "out" }
toggles = { macro = { PER_THREAD = [1, 2] } }
reference = { backend = "c", source = "reference.c", entry = "reference", args = ["y"] }
"#;

const MAPPED: &str = "
struct alignas(64) Map { char bytes[128]; };
__constant__ float weights[16];
extern \"C\" __global__ void mapped(const __grid_constant__ Map x, const unsigned short *half, float *sums, float *y, double third)
{
    if (threadIdx.x == 0) y[blockIdx.x] = sums[blockIdx.x] = weights[half[0] % 16] * x.bytes[0] * third * TILE * STAGED;
}
";

const PLAIN: &str = "
namespace ns {
template <typename T, int COUNT> __global__ void plain(const T *x, T *y, int n)
{
    for (int i = 0; i < COUNT; i++) {
        int at = (blockIdx.x * COUNT + i) * 128 + threadIdx.x;
        if (at < n) y[at] = x[at];
    }
}
}
";

/// A program that names everything of the modules; it is compiled and not run.
const CUDA_MAIN: &str = r#"
//! Launches what was exported.
use cudarc::driver::{CudaContext, DevicePtr, DevicePtrMut};
use kbench::{ARCHS, Error, mapped, plain};

mod kbench;

fn main() -> Result<(), Error> {
    let context = CudaContext::new(0)?;
    let stream = context.default_stream();
    let dims = plain::Dims { n: 4096 };
    let x = stream.alloc_zeros::<f32>(dims.n)?;
    let mut y = stream.alloc_zeros::<f32>(dims.n)?;
    plain::launch(&stream, dims, &x, &mut y)?;
    plain::launch(&stream, dims, &x.slice(..), &mut y.slice_mut(..))?;
    let ((x, _read), (y, _written)) = (x.device_ptr(&stream), y.device_ptr_mut(&stream));
    // SAFETY: both have as many elements.
    unsafe { plain::launch_raw(&stream, dims, x, y)? };
    let choice = plain::pick(&context, dims)?;
    println!("{} since {}; {ARCHS:?}", choice.variant, choice.rule);
    let dims = mapped::Dims { n: 64 };
    let (x, half) = (stream.alloc_zeros::<f32>(64 * 64)?, stream.alloc_zeros::<u16>(64)?);
    let (mut y, w) = (stream.alloc_zeros::<f32>(64)?, stream.alloc_zeros::<f32>(16)?);
    mapped::launch(&stream, dims, &x, &half, &mut y, &w)
}
"#;

fn cuda_package() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    fs::create_dir(folder.path().join("src")).unwrap();
    write("Cargo.toml", CUDA_MANIFEST);
    write("src/main.rs", "fn main() {}\n");
    write("mapped.cu", MAPPED);
    write("plain.cu", PLAIN);
    write("reference.c", "void reference(double *y) { y[0] = 0; }\n");
    let lock = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.lock");
    fs::copy(lock, folder.path().join("Cargo.lock")).unwrap();
    folder
}

#[test]
fn the_module_of_cuda_kernels_compiles_with_cudarc_alone() {
    if std::env::var_os("NVCC").is_none() {
        return println!("skipped: no nvcc in $NVCC");
    }
    let folder = cuda_package();
    let package = folder.path();
    let (code, shown) = export(package, &[]);
    assert_eq!(code, Some(0), "{shown}");
    let mut names: Vec<String> =
        files(package).iter().map(|(path, _)| path.file_name().unwrap().to_str().unwrap().to_owned()).collect();
    names.sort();
    let expected =
        ["mapped_v0.sm_80.cubin", "mapped_v0.sm_80.ptx", "mapped_v0.sm_90a.cubin", "mod.rs", "plain_v0.sm_90a.cubin"];
    assert_eq!(names, expected, "an arch with `a` has no PTX for later ones");
    assert!(shown.contains("plain") && shown.contains("no PTX"), "{shown}");
    fs::write(package.join("src/main.rs"), CUDA_MAIN).unwrap();
    let pedantic =
        ["clippy", "--offline", "--quiet", "--", "-W", "clippy::pedantic", "-W", "missing_docs", "-D", "warnings"];
    succeed(cargo(package, &pedantic));
    let mut doc = cargo(package, &["doc", "--offline", "--quiet", "--no-deps", "--document-private-items"]);
    doc.env("RUSTDOCFLAGS", "-D warnings");
    succeed(doc);
    assert_eq!(export(package, &["--check"]).0, Some(0));
    // Another checkout of the same package, whose compile cache is empty, has the same bytes.
    let written = files(package);
    let other = cuda_package();
    assert_eq!(export(other.path(), &[]).0, Some(0));
    let bytes = |files: Vec<(PathBuf, Vec<u8>)>| files.into_iter().map(|(_, bytes)| bytes).collect::<Vec<_>>();
    assert_eq!(bytes(files(other.path())), bytes(written));
}

#[test]
fn apply_writes_the_winner_into_the_table_and_changes_nothing_else() {
    let folder = package();
    let package = folder.path();
    let manifest = package.join("Cargo.toml");
    let before = fs::read_to_string(&manifest).unwrap();
    let apply = |flags: &[&str]| run(kbench(package, &[&["apply", "--kernel", "total"], flags].concat()));
    let (code, shown) = apply(&[]);
    assert_eq!(code, Some(2), "{shown}");
    assert!(shown.contains("no winner of `total` at `only`"), "{shown}");
    succeed(kbench(package, &["autotune", "--kernel", "scale"]));
    let elite = both_variants_of_total(package);
    fs::write(package.join("elite.json"), &elite).unwrap();
    let (code, shown) = apply(&[]);
    assert_eq!(code, Some(0), "{shown}");
    let after = fs::read_to_string(&manifest).unwrap();
    assert_eq!(after, before.replace("default = { PARTS = 4 }", "default = { PARTS = 1 }"));
    let (_, shown) = apply(&[]);
    assert!(shown.contains("was the default already"), "{shown}");
    assert_eq!(fs::read_to_string(&manifest).unwrap(), after);
    // Winners of two devices: one has to be named.
    let mut two: serde_json::Value = serde_json::from_str(&elite).unwrap();
    let entries = two["kernels"].as_array_mut().unwrap();
    let mut other = entries.last().unwrap().clone();
    other["device"]["name"] = "another".into();
    entries.push(other);
    fs::write(package.join("elite.json"), two.to_string()).unwrap();
    let (code, shown) = apply(&[]);
    assert!(code == Some(2) && shown.contains("another") && shown.contains("--on"), "{shown}");
    assert_eq!(apply(&["--on", "another"]).0, Some(0));
}
