//! `cargo kbench export --lang c` and `--lang python`, and in Rust what a signature may hold: structs, addresses with an offset, narrow
//! floats. Headers compile without a warning as C and as C++, and what they say of a launch is what the Python package says.
//!
//! Above 400 lines: the programs that launch the exports stand beside the tests.

use std::fs;
use std::path::Path;
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

fn command(program: &str, folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(args).current_dir(folder).env_remove("CARGO_TARGET_DIR").env_remove("RUSTFLAGS");
    command
}

fn has(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success())
}

/// A package with these files.
fn package(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("src")).unwrap();
    for (name, text) in files {
        fs::write(folder.path().join(name), text).unwrap();
    }
    // Versions that are there without a network.
    fs::copy(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.lock"), folder.path().join("Cargo.lock")).unwrap();
    folder
}

const HOST_MANIFEST: &str = r#"
[package]
name = "host-kernels"
version = "0.0.0"
edition = "2024"

[workspace]

[build-dependencies]
cc = "1"

[package.metadata.kbench]
timing = { warmup = 1, iterations = 5, max_seconds = 1 }
gates.correctness = { seeds = 1, max_rms_err = 1e-5 }

[package.metadata.kbench.kernels.weigh]
backend = "c"
source = "weigh.c"
flags = ["-O2", "-march=native", "-DEXTRA=' '"]
defines = { WIDTH = "D" }
shapes = { narrow = { int = 12, D = 4 }, wide = { int = 6, D = 8 } }
toggles = { macro = { PARTS = [1, 2] }, default = { PARTS = 2 } }
tensors.x = { dtype = "f32", dims = ["int", "D"] }
tensors.w = { dtype = "f32", dims = ["D + 3"] }
tensors.part = { dtype = "f64", dims = ["PARTS", "int"], role = "scratch" }
tensors.y = { dtype = "f32", dims = ["int"], role = "out" }
launches = [
    { entry = "parts", when = "PARTS > 1", args = [
        "x", "part", { struct = [{ tensor = "w", offset = "3" }, { scalar = "i32", value = "int" }, { struct = [{ scalar = "char", value = "0 - 2" }], type = "struct sign" }], type = "struct view" } ] },
    { entry = "all", when = "PARTS == 1", args = [
        "x", "y", { tensor = "w", offset = "min(D, 3)" }, { scalar = "i64", value = "int" }] },
    { entry = "add", when = "PARTS > 1", zero = ["y"], args = [
        "part", "y", { scalar = "bool", value = "int > 1" }, { scalar = "bf16", value = "1.5 if D > 0 else D / 3" }, { scalar = "u64", value = "int" }] },
]
reference = { source = "reference.c", entry = "reference", args = ["x", "w", "y", { scalar = "i32", value = "int" }, { scalar = "i32", value = "D" }] }
"#;

const WEIGH: &str = r"
#include <stdbool.h>
#include <stdint.h>
struct sign { char value; };
struct view { const float *weights; int32_t count; struct sign sign; };
void parts(const float *x, double *part, struct view view)
{
    for (int p = 0; p < PARTS; p++)
        for (int i = 0; i < view.count; i++) {
            double sum = 0;
            for (int j = p; j < WIDTH; j += PARTS) sum += x[i * WIDTH + j] * view.weights[j];
            part[p * view.count + i] = sum * view.sign.value;
        }
}
void all(const float *x, float *y, const float *weights, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        double sum = 0;
        for (int j = 0; j < WIDTH; j++) sum += x[i * WIDTH + j] * weights[j + 3 - (WIDTH < 3 ? WIDTH : 3)];
        y[i] = (float)(-3 * sum);
    }
}
/* 1.5 is 0x3fc0 in bf16. */
void add(const double *part, float *y, bool many, uint16_t factor, uint64_t count)
{
    if (factor != 0x3fc0 || !many) return;
    for (uint64_t i = 0; i < count; i++)
        for (int p = 0; p < PARTS; p++) y[i] += (float)(1.5 * part[p * count + i]);
}
";

const REFERENCE: &str = r"
void reference(const double *x, const double *w, double *y, int n, int d)
{
    for (int i = 0; i < n; i++) {
        y[i] = 0;
        for (int j = 0; j < d; j++) y[i] -= 3 * x[i * d + j] * w[3 + j];
    }
}
";

/// Launches each variant and checks what it computes; C99 and C++ alike.
const HOST_PROGRAM: &str = r#"
#include "include/kbench/kbench.h"

static int check(const weigh_kernel *kernel, int variant, weigh_dims dims)
{
    float x[320], w[11], y[40];
    int64_t i, j;
    int status;
    weigh_elements elements;
    if (weigh_count(variant, dims, 0, &elements) != 0 || elements.x != (size_t)(dims.int_ * dims.d)) return 1;
    for (i = 0; i < 320; i++) x[i] = (float)(i % 17) - 8;
    for (i = 0; i < 11; i++) w[i] = (float)i;
    for (i = 0; i < 40; i++) y[i] = NAN;
    status = variant < 0 ? weigh_launch(kernel, dims, x, w, y) : weigh_launch_variant(kernel, variant, dims, x, w, y);
    if (status != 0) return 2;
    for (i = 0; i < dims.int_; i++) {
        double sum = 0;
        for (j = 0; j < dims.d; j++) sum -= 3 * x[i * dims.d + j] * w[3 + j];
        if (!(fabs(sum - y[i]) < 1e-3)) return 3;
    }
    return 0;
}

int main(void)
{
    weigh_kernel kernel;
    kbench_choice choice;
    weigh_dims dims = {12, 4}, wide = {40, 8}, none = {12, 5}, many = {INT64_MAX / 2, 4};
    float x[1], y[1];
    int variant, status = weigh_load(&kernel);
    if (status != 0) {
        printf("%s\n", kbench_message(status));
        return 0;
    }
    if (weigh_pick(&kernel, dims, &choice) != 0) return 1;
    printf("%s since %s\n", weigh_variant(choice.variant), kbench_rule_text(choice.rule));
    for (variant = 0; variant < WEIGH_VARIANTS; variant++) {
        weigh_dims own = strstr(weigh_variant(variant), "WIDTH=4") != NULL ? dims : wide;
        if (check(&kernel, variant, own) != 0) return 10 + variant;
    }
    if (weigh_pick(&kernel, wide, &choice) != 0 || choice.rule != KBENCH_DEFAULT) return 2;
    if (weigh_pick(&kernel, none, &choice) != KBENCH_NO_VARIANT) return 3;
    if (weigh_launch(&kernel, many, x, x, y) != KBENCH_SIZES) return 4;
    return WEIGH_V0_PARTS == 2 ? 0 : 5;
}
"#;

const HOST_MAIN: &str = r#"
//! Launches what was exported.
use kbench::weigh::{self, Dims};

mod kbench;

fn main() {
    for dims in [Dims { int: 12, d: 4 }, Dims { int: 40, d: 8 }] {
        let x: Vec<f32> = (0..dims.int * dims.d).map(|i| f32::from(u8::try_from(i % 17).unwrap()) - 8.0).collect();
        let w: Vec<f32> = (0..=10u8).take(dims.d + 3).map(f32::from).collect();
        let mut y = vec![f32::NAN; dims.int];
        weigh::launch(dims, &x, &w, &mut y).unwrap();
        for (x, y) in x.chunks(dims.d).zip(&y) {
            let sum: f32 = x.iter().zip(&w[3..]).map(|(x, w)| -3.0 * x * w).sum();
            assert!((sum - y).abs() < 1e-3, "{sum} {y}");
        }
    }
}
"#;

#[test]
fn programs_in_c_cpp_and_rust_launch_the_winner_of_a_c_kernel() {
    let folder = package(&[
        ("Cargo.toml", HOST_MANIFEST),
        ("weigh.c", WEIGH),
        ("reference.c", REFERENCE),
        ("src/main.rs", "fn main() {}\n"),
        ("main.c", HOST_PROGRAM),
    ]);
    let package = folder.path();
    succeed(kbench(package, &["autotune"]));
    // The variant that makes one launch wins at `narrow`, whatever was measured.
    let elite = package.join("elite.json");
    let mut json: serde_json::Value = serde_json::from_slice(&fs::read(&elite).unwrap()).unwrap();
    json["kernels"][0]["elite"][0]["toggles"]["PARTS"] = 1.into();
    fs::write(&elite, json.to_string()).unwrap();

    let (code, shown) = run(kbench(package, &["export", "--lang", "c"]));
    assert_eq!(code, Some(0), "{shown}");
    assert!(shown.contains("-march=native") && shown.contains("include/kbench"), "{shown}");
    assert_eq!(run(kbench(package, &["export", "--lang", "c", "--check"])).0, Some(0));
    let script = fs::read_to_string(package.join("include/kbench/build.sh")).unwrap();
    assert!(script.contains("-march=native compiles for the processor"), "{script}");
    succeed(command("sh", package, &["include/kbench/build.sh", "out"]));
    let strict = ["-Wall", "-Wextra", "-Wpedantic", "-Werror", "out/libkbench.a", "-lm"];
    for (compiler, first) in [("cc", ["-std=c99", "-xc"]), ("g++", ["-std=c++11", "-xc++"])] {
        if !has(compiler) {
            println!("skipped: no {compiler}");
            continue;
        }
        let own = [&first[..], &["main.c", "-xnone", "-o", "program"], &strict].concat();
        succeed(command(compiler, package, &own));
        let shown = succeed(command("./program", package, &[]));
        assert!(shown.contains("PARTS=1") && shown.contains("since it won on this device at these sizes"), "{shown}");
        let mut named = command("./program", package, &[]);
        named.env("KBENCH_VARIANT_WEIGH", "fast");
        assert!(succeed(named).contains("names no variant"));
        let mut default = command("./program", package, &[]);
        default.env("KBENCH_VARIANT_WEIGH", "default");
        assert!(succeed(default).contains("since it is the default"));
    }

    // The same in Rust.
    let (code, shown) = run(kbench(package, &["export"]));
    assert_eq!(code, Some(0), "{shown}");
    let script = "#[path = \"src/kbench/build.rs\"]\nmod kernels;\n\nfn main() {\n    kernels::compile();\n}\n";
    fs::write(package.join("build.rs"), format!("//! Compiles what was exported.\n{script}")).unwrap();
    fs::write(package.join("src/main.rs"), HOST_MAIN).unwrap();
    let cargo = env!("CARGO");
    succeed(command(cargo, package, &["run", "--offline", "--quiet"]));
    for variant in ["v0", "v1"] {
        let mut named = command(cargo, package, &["run", "--offline", "--quiet"]);
        named.env("KBENCH_VARIANT_WEIGH", variant);
        // One variant is for one width, and the program has both.
        assert!(run(named).1.contains("NoVariant"));
    }
    let mut default = command(cargo, package, &["run", "--offline", "--quiet"]);
    default.env("KBENCH_VARIANT_WEIGH", "default");
    succeed(default);
    let pedantic =
        ["clippy", "--offline", "--quiet", "--", "-W", "clippy::pedantic", "-W", "missing_docs", "-D", "warnings"];
    succeed(command(cargo, package, &pedantic));

    // Python has no way to launch it.
    let (code, shown) = run(kbench(package, &["export", "--lang", "python"]));
    assert!(code == Some(2) && shown.contains("only kernels in CUDA"), "{shown}");
    // A folder of another language is not written to.
    let (code, shown) = run(kbench(package, &["export", "--lang", "c", "--out", "src/kbench"]));
    assert!(code == Some(2) && shown.contains("has not written"), "{shown}");
}

/// Every kind of argument, in launches that a variant makes all or some of.
const CUDA_MANIFEST: &str = r#"
[package]
name = "gpu-kernels"
version = "0.0.0"
edition = "2024"

[workspace]

[dependencies]
cudarc = { version = "0.19", default-features = false, features = ["std", "driver", "nvrtc", "dynamic-loading", "cuda-13000"] }

[package.metadata.kbench]
gates.correctness = { seeds = 2, max_rms_err = 1e-4 }

[package.metadata.kbench.kernels.weigh]
source = "weigh.cu"
arch = ["sm_80", "sm_90a"]
shapes = { small = { N = 1000, W = 8 }, large = { N = 1000000, W = 32 } }
toggles = { macro = { THREADS = [128, 256], PARTS = [1, 64] }, default = { THREADS = 256, PARTS = 64 } }
tensors.x = { dtype = "f32", dims = ["N"], init = { uniform = { low = 0.0, high = 1.0 } } }
tensors.w = { dtype = "f32", dims = ["W + 4"], init = { uniform = { low = 0.0, high = 1.0 } } }
tensors.part = { dtype = "f32", dims = ["PARTS"], role = "scratch" }
tensors.sum = { dtype = "f32", dims = [1], role = "out" }
launches = [
    { entry = "weigh", grid = ["PARTS"], block = ["THREADS"], when = "PARTS > 1", dynamic_shared = "4 * THREADS", args = [
        "x", "part", { struct = [{ tensor = "w", offset = "4" }, { scalar = "i32", value = "W" }, { struct = [{ scalar = "char", value = "0 - 2" }, { scalar = "f64", value = "N / 8" }] }] }, { scalar = "i32", value = "N" }] },
    { entry = "weigh", grid = [1], block = ["THREADS"], when = "PARTS == 1", dynamic_shared = "4 * THREADS", args = [
        "x", "sum", { struct = [{ tensor = "w", offset = "4" }, { scalar = "i32", value = "W" }, { struct = [{ scalar = "char", value = "0 - 2" }, { scalar = "f64", value = "N / 8" }] }] }, { scalar = "i32", value = "N" }] },
    { entry = "add", grid = ["ceil_div(PARTS, 32)"], block = [32], when = "PARTS > 1", zero = ["sum"], args = ["part", "sum", { scalar = "i32", value = "PARTS" }] },
    { entry = "scale", grid = [1], block = [1], args = [
        { tensor = "sum", offset = "0 * N" }, { scalar = "bool", value = "N > 1" }, { scalar = "f16", value = "N / 1000" }, { scalar = "bf16", value = "1 / 3" }, { scalar = "f8e4m3", value = "sqrt(W)" }, { scalar = "f8e5m2", value = "W / 3" }] },
]
reference = { backend = "c", source = "reference.c", entry = "reference", args = ["x", "w", "sum", { scalar = "i32", value = "N" }, { scalar = "i32", value = "W" }] }

[package.metadata.kbench.kernels.mapped]
source = "mapped.cu"
entry = "mapped"
arch = ["sm_90a"]
grid = ["2 * ceil_div(N * N, TILE)", "min(SM_COUNT, N // 3 if N > 100 else 2)"]
block = ["TILE"]
cluster = ["2"]
args = [{ tensor_map = "x", box = [1, 16], swizzle = 0 }, "y", { symbol = "weights", tensor = "w" }]
shapes = { small = { N = 64 }, large = { N = 256 } }
tensors.x = { dtype = "f32", dims = ["N", "N"] }
tensors.w = { dtype = "f32", dims = ["16"] }
tensors.y = { dtype = "f32", dims = ["N"], role = "out" }
toggles = { macro = { TILE = [64] } }
reference = { backend = "c", source = "reference.c", entry = "nothing", args = ["y"] }
"#;

const WEIGH_CU: &str = r#"
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_fp8.h>
struct sign { char value; double divided; };
struct view { const float *weights; int count; struct sign sign; };
extern "C" __global__ void weigh(const float *x, float *part, struct view view, int n)
{
    extern __shared__ float sums[];
    float sum = 0;
    for (int i = blockIdx.x * THREADS + threadIdx.x; i < n; i += THREADS * gridDim.x) sum += x[i] * view.weights[i % view.count];
    sums[threadIdx.x] = sum;
    for (int half = THREADS / 2; half > 0; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half) sums[threadIdx.x] += sums[threadIdx.x + half];
    }
    if (threadIdx.x == 0) part[blockIdx.x] = sums[0] * view.sign.value / (float)view.sign.divided;
}
extern "C" __global__ void add(const float *part, float *sum, int count)
{
    int at = blockIdx.x * 32 + threadIdx.x;
    if (at < count) atomicAdd(sum, part[at]);
}
extern "C" __global__ void scale(float *sum, bool many, __half thousands, __nv_bfloat16 third, __nv_fp8_e4m3 root, __nv_fp8_e5m2 thirds)
{
    float factor = many ? __half2float(thousands) * __bfloat162float(third) * (float)root * (float)thirds : 0;
    *sum *= factor;
}
"#;

/// The narrow numbers as they are rounded: 1/3 to bf16, the root of 8 and of 32 to E4M3, 8/3 and 32/3 to E5M2.
const REFERENCE_C: &str = r"
void reference(const double *x, const double *w, double *sum, int n, int width)
{
    double factor = n / 1000.0;
    factor *= 0.333984375 * (width == 8 ? 2.75 : 5.5) * (width == 8 ? 2.5 : 10);
    *sum = 0;
    for (int i = 0; i < n; i++) *sum += x[i] * w[4 + i % width];
    *sum *= -2 / (n / 8.0) * factor;
}
void nothing(double *y) { y[0] = 0; }
";

const MAPPED_CU: &str = r#"
struct alignas(64) Map { char bytes[128]; };
__constant__ float weights[16];
extern "C" __global__ void mapped(const __grid_constant__ Map x, float *y)
{
    if (threadIdx.x == 0) y[blockIdx.x] = weights[blockIdx.x % 16] * x.bytes[0] * TILE;
}
"#;

/// Prints the geometry and the elements of each variant, and names what a program calls.
const CUDA_PROGRAM: &str = r#"
#include "include/kbench/kbench.h"

#ifdef LAUNCH
int launch(CUstream stream, CUdeviceptr x, CUdeviceptr w, CUdeviceptr sum)
{
    weigh_kernel kernel;
    mapped_kernel other;
    weigh_dims dims = {1000, 8};
    mapped_dims sizes = {64};
    int status = weigh_load(&kernel);
    if (status == 0) status = weigh_launch(&kernel, stream, dims, x, w, sum);
    if (status == 0) weigh_unload(&kernel);
    if (status == 0) status = mapped_load(&other);
    return status == 0 ? mapped_launch(&other, stream, sizes, x, sum, w) : status;
}
#endif

static void show(const char *name, int variant, int status, const kbench_launch *launches, int count)
{
    int at;
    printf("%s v%d: %s\n", name, variant, kbench_message(status));
    for (at = 0; at < count; at++) {
        const kbench_launch *one = &launches[at];
        if (one->entry == NULL) continue;
        printf("%d %u %u %u / %u %u %u / %u / %u\n", at, one->grid[0], one->grid[1], one->grid[2], one->block[0], one->block[1],
               one->block[2], one->cluster[0], one->dynamic_shared);
    }
}

int main(void)
{
    int variant;
    for (variant = 0; variant < WEIGH_VARIANTS; variant++) {
        weigh_dims dims = {1000000, 32};
        kbench_launch launches[WEIGH_LAUNCHES];
        weigh_elements elements;
        int status = weigh_geometry(variant, dims, 132, launches);
        show("weigh", variant, status, launches, WEIGH_LAUNCHES);
        if (weigh_count(variant, dims, 132, &elements) != 0) return 1;
        printf("%d %d %d\n", (int)elements.x, (int)elements.w, (int)elements.part);
    }
    {
        mapped_dims dims = {256}, none = {-1}, many = {INT64_MAX};
        kbench_launch launches[MAPPED_LAUNCHES];
        int status = mapped_geometry(0, dims, 132, launches);
        show("mapped", 0, status, launches, MAPPED_LAUNCHES);
        if (mapped_geometry(0, none, 132, launches) != KBENCH_SIZES) return 2;
        if (mapped_geometry(0, many, 132, launches) != KBENCH_SIZES) return 3;
    }
    return 0;
}
"#;

/// The same by the Python package, whose array library and numpy are stubs here.
const CUDA_SCRIPT: &str = r#"
import ctypes, sys, types
sys.dont_write_bytecode = True
for name in ("cupy", "numpy"):
    sys.modules[name] = types.ModuleType(name)
sys.path.insert(0, "python")
from kbench import mapped, weigh

def show(name, module, variant, dims):
    print(f"{name} v{variant}: no error")
    for one in module.geometry(variant, dims, 132):
        cluster = one.cluster[0] if one.cluster else 0
        print(one.stage, *one.grid, "/", *one.block, "/", cluster, "/", one.dynamic_shared)

dims = weigh.Dims(n=1000000, w=32)
for variant in range(len(weigh.VARIANTS)):
    show("weigh", weigh, variant, dims)
    shapes = weigh._shapes(variant, dims, 132)
    print(*shapes["x"], *shapes["w"], *shapes["part"])
show("mapped", mapped, 0, mapped.Dims(n=256))

# The numbers that a launch passes.
weigh.shared.zero = lambda *arguments: None
addresses = dict.fromkeys(("x", "w", "part", "sum"), 4096)
shapes = weigh._shapes(0, dims, 132)
launches = list(weigh._launches(0, dims, 132, None, shapes, addresses, None))
view = launches[0][2]
inner = view.field_2
assert (view.field_0, view.field_1, inner.field_0, inner.field_1) == (4096 + 16, 32, -2, 125000.0), view
assert ctypes.sizeof(view) == 32
scalars = [one.value for one in launches[-1][1:]]
assert scalars == [True, 0x63d0, 0x3eab, 0x4b, 0x49], scalars
for wrong in (-1, 2.0):
    try:
        mapped.Dims(n=wrong)
        raise SystemExit(f"{wrong} is no size")
    except ValueError:
        pass
try:
    list(weigh._launches(0, weigh.Dims(n=2**31, w=32), 132, None, shapes, addresses, None))
    raise SystemExit("2^31 is no int")
except ValueError:
    pass
"#;

/// A program that names everything of the modules; it is compiled and not run.
const CUDA_MAIN: &str = r"
//! Launches what was exported.
use cudarc::driver::CudaContext;
use kbench::{Error, mapped, weigh};

mod kbench;

fn main() -> Result<(), Error> {
    let stream = CudaContext::new(0)?.default_stream();
    let x = stream.alloc_zeros::<f32>(64 * 64)?;
    let w = stream.alloc_zeros::<f32>(16)?;
    let mut y = stream.alloc_zeros::<f32>(64)?;
    weigh::launch(&stream, weigh::Dims { n: 64 * 64, w: 12 }, &x, &w, &mut y.slice_mut(..1))?;
    mapped::launch(&stream, mapped::Dims { n: 64 }, &x, &mut y, &w)
}
";

#[test]
fn exports_of_cuda_kernels_compile_and_agree_in_every_language() {
    let Some(nvcc) = std::env::var_os("NVCC") else {
        return println!("skipped: no nvcc in $NVCC");
    };
    let folder = package(&[
        ("Cargo.toml", CUDA_MANIFEST),
        ("weigh.cu", WEIGH_CU),
        ("mapped.cu", MAPPED_CU),
        ("reference.c", REFERENCE_C),
        ("src/main.rs", CUDA_MAIN),
        ("main.c", CUDA_PROGRAM),
        ("show.py", CUDA_SCRIPT),
    ]);
    let package = folder.path();
    for lang in ["rust", "c", "python"] {
        let (code, shown) = run(kbench(package, &["export", "--lang", lang]));
        assert_eq!(code, Some(0), "{shown}");
        assert_eq!(run(kbench(package, &["export", "--lang", lang, "--check"])).0, Some(0));
    }
    let expected = "\
weigh v0: no error\n0 64 1 1 / 256 1 1 / 0 / 1024\n2 2 1 1 / 32 1 1 / 0 / 0\n3 1 1 1 / 1 1 1 / 0 / 0\n1000000 36 64\n\
mapped v0: no error\n0 2048 85 1 / 64 1 1 / 2 / 0\n";
    let toolkit = Path::new(&nvcc).parent().unwrap().parent().unwrap().join("include");
    let include = format!("-I{}", toolkit.display());
    for (compiler, language) in [("cc", ["-std=c99", "-xc"]), ("g++", ["-std=c++11", "-xc++"])] {
        if !has(compiler) || !toolkit.join("cuda.h").is_file() {
            println!("skipped: no {compiler}, or no cuda.h");
            continue;
        }
        let strict = [&language[..], &["-Wall", "-Wextra", "-Werror", &include, "main.c"]].concat();
        succeed(command(compiler, package, &[&strict[..], &["-DLAUNCH", "-fsyntax-only"]].concat()));
        // What calls no driver needs none.
        succeed(command(compiler, package, &[&strict[..], &["-o", "show", "-lm"]].concat()));
        assert_eq!(succeed(command("./show", package, &[])), expected);
    }
    if has("python3") {
        assert_eq!(succeed(command("python3", package, &["show.py"])), expected);
        let compile = "import glob, py_compile\nfor file in glob.glob('python/kbench/*.py'): py_compile.compile(file, doraise=True)";
        succeed(command("python3", package, &["-c", compile]));
        // What Python keeps beside the modules makes nothing stale.
        assert_eq!(run(kbench(package, &["export", "--lang", "python", "--check"])).0, Some(0));
    }
    let pedantic =
        ["clippy", "--offline", "--quiet", "--", "-W", "clippy::pedantic", "-W", "missing_docs", "-D", "warnings"];
    succeed(command(env!("CARGO"), package, &pedantic));
    let mut doc =
        command(env!("CARGO"), package, &["doc", "--offline", "--quiet", "--no-deps", "--document-private-items"]);
    doc.env("RUSTDOCFLAGS", "-D warnings");
    succeed(doc);
}
