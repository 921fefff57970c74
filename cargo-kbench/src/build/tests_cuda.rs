//! The CUDA backend with a real nvcc, if there is one; each test prints that it was skipped.

use std::fs;

use kbench_runtime::dtype::DType;

use super::occupancy::{Demand, compute_capability, occupancy};
use super::*;

const SOURCE: &str = r#"
#include "tile.h"
__constant__ float d_filter[64];
extern "C" __global__ void plain(float *a, const float *b, int n) {
    __shared__ float s[1024];
    s[threadIdx.x % 1024] = b[threadIdx.x];
    __syncthreads();
    if (threadIdx.x < n) a[threadIdx.x] = s[1023 - threadIdx.x % 1024] * d_filter[threadIdx.x % 64] + TILE;
}
namespace ns {
template <int N> __global__ void __launch_bounds__(128) sdpa(float *a) { a[threadIdx.x] = N; }
__global__ void other(float *a) { a[0] = 1; }
}
template __global__ void ns::sdpa<64>(float *);
template __global__ void ns::sdpa<128>(float *);
namespace { __global__ void hidden(float *a) { a[0] = 1; } }
void host(float *a) { hidden<<<1, 1>>>(a); }
extern "C" __global__ void __launch_bounds__(1024, 2) spills(float *a) {
    float t[96];
#pragma unroll
    for (int i = 0; i < 96; i++) t[i] = a[i * threadIdx.x];
    __syncthreads();
#pragma unroll
    for (int i = 0; i < 96; i++) a[i * 7 + threadIdx.x] = t[i] * t[(i * 5) % 96];
}
struct alignas(64) Map { char bytes[128]; };
extern "C" __global__ void mapped(const __grid_constant__ Map m, float *a) { a[0] = m.bytes[a[1] > 2]; }
"#;

struct Package {
    folder: tempfile::TempDir,
    compiler: Compiler,
}

impl Package {
    /// The path of nvcc; prints a message and returns `None` without one.
    fn new() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let compiler = Compiler::new(&folder.path().join("target/kbench"), CompilerOptions::default());
        if let Err(error) = compiler.cuda_compiler() {
            eprintln!("skipped: {error}");
            return None;
        }
        let package = Self { folder, compiler };
        package.write("src/k.cu", SOURCE);
        package.write("include/tile.h", "#ifndef TILE\n#define TILE 1\n#endif\n");
        Some(package)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn unit(&self, entry: &str, macros: &[(&str, &str)]) -> Unit {
        Unit {
            backend: Backend::Cuda,
            source: self.folder.path().join("src/k.cu"),
            entries: vec![Entry::new(entry, vec![])],
            flags: vec!["-std=c++17".into(), "-Iinclude".into()],
            macros: macros.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect(),
            constants: vec![],
            headers: vec![],
            arch: Some("sm_90a".into()),
            directory: self.folder.path().to_owned(),
        }
    }

    fn compile(&self, unit: &Unit) -> Artifact {
        self.compiler.compile(unit).unwrap_or_else(|error| panic!("{error}"))
    }
}

#[test]
fn the_code_is_for_the_architecture_that_was_asked_for() {
    let Some(package) = Package::new() else { return };
    for arch in ["sm_80", "sm_90a", "sm_120"] {
        package.compile(&Unit { arch: Some(arch.into()), ..package.unit("plain", &[]) });
    }
    // As $NVCC_APPEND_FLAGS does, which is not a mistake of the table.
    let flags = vec!["-std=c++17".into(), "-Iinclude".into(), "-arch=sm_90".into()];
    let unit = Unit { arch: Some("sm_80".into()), flags, ..package.unit("plain", &[]) };
    let error = package.compiler.compile(&unit).unwrap_err();
    assert!(matches!(&error, CompileError::OtherArchitecture { found, .. } if found == "sm_90"), "{error:?}");
}

#[test]
fn parameters_have_the_types_that_the_table_declares() {
    let Some(package) = Package::new() else { return };
    package.write(
        "src/types.cu",
        "#define same same_\n#define T T_\n\
         struct float4_ { float x[4]; };\n\
         extern \"C\" __global__ void k(const TYPE *a, float *b, int n) { if (n > 0) b[0] = a[0]; }\n\
         extern \"C\" __global__ void raw(const float4_ *a, void *b, int n) { if (n > 0) *(float *)b = a->x[0]; }\n\
         extern \"C\" __global__ void unsized_(float *__restrict__ a, float *b, unsigned n) { if (n) b[0] = a[0]; }\n\
         namespace ns { extern \"C\" __global__ void inner(const float *a, float *b, int n) { if (n > 0) b[0] = a[0]; } }\n\
         __global__ void cpp(const float *a, double *b, int n) { if (n > 0) b[0] = a[0]; }\n\
         template <class T> __global__ void of(const T *a, T *b, int n) { if (n > 0) b[0] = a[0]; }\n\
         template __global__ void of<double>(const double *, double *, int);\n",
    );
    let tensor = |writable| Param::Tensor { dtype: DType::F32, writable };
    let build = |entry: &str, ty: &str| {
        let unit = package.unit(entry, &[("TYPE", ty), ("struct", "struct"), ("n", "n"), ("points_to", "1")]);
        let signature = vec![tensor(Some(false)), tensor(Some(true)), Param::Scalar(DType::I32)];
        let source = package.folder.path().join("src/types.cu");
        match package.compiler.compile(&Unit { source, entries: vec![Entry::new(entry, signature)], ..unit }) {
            Ok(_) => "right".to_owned(),
            Err(CompileError::ParameterType { index, found, declared, .. }) => format!("{index} {found}, {declared}"),
            Err(error) => panic!("{entry}: {error}"),
        }
    };
    assert_eq!(build("k", "float"), "right");
    assert_eq!(build("k", "double"), "0 double *, a tensor of f32");
    assert_eq!(build("raw", "float"), "right");
    assert_eq!(build("unsized_", "float"), "2 unsigned int, a scalar of i32");
    assert_eq!(build("inner", "float"), "right");
    assert_eq!(build("cpp", "float"), "1 double *, a tensor of f32 that is written");
    assert_eq!(build("of", "float"), "0 double const*, a tensor of f32");
}

#[test]
fn resources_of_several_kernels() {
    let Some(package) = Package::new() else { return };
    let plain = package.compile(&package.unit("plain", &[("TILE", "3")]));
    assert_eq!(plain.functions[0].symbol, "plain");
    assert!(plain.compiler.contains("release"), "{}", plain.compiler);
    for word in ["-cubin", "-arch=sm_90a", "-DTILE=3", "-std=c++17", "kernel.cubin"] {
        assert!(plain.command.iter().any(|arg| arg == word), "{word}: {:?}", plain.command);
    }
    let Resources { registers, static_shared, spill_stores, stack, code_bytes, barriers, max_threads, .. } =
        plain.resources();
    assert!((4..=40).contains(&registers.unwrap()));
    assert_eq!(
        (static_shared, spill_stores, stack, barriers, max_threads),
        (Some(4096), Some(0), Some(0), Some(1), None)
    );
    assert!(code_bytes.unwrap() >= 128);
    let spills = package.compile(&package.unit("spills", &[])).resources();
    assert!(spills.spill_stores.unwrap() > 0 && spills.spill_loads.unwrap() > 0);
    assert_eq!((spills.registers, spills.max_threads), (Some(32), Some(1024)));
    let sdpa = package.compile(&package.unit("ns::sdpa<64>", &[])).resources();
    assert_eq!(sdpa.max_threads, Some(128));

    let demand = Demand { threads: 1024, registers: 32, shared_bytes: 0, barriers: 1 };
    let fits = occupancy(compute_capability("sm_90a").unwrap(), demand).unwrap();
    assert_eq!(fits.blocks, 2, "what __launch_bounds__(1024, 2) asked for");
}

#[test]
fn launches_that_attributes_allow() {
    let Some(package) = Package::new() else { return };
    let source = "extern \"C\" __global__ void plain(float *a) { a[threadIdx.x] = 1; }
extern \"C\" __global__ void __cluster_dims__(2, 1, 1) clustered(float *a) { a[threadIdx.x] = 1; }
extern \"C\" __global__ void __launch_bounds__(128, 1, 2) few_blocks(float *a) { a[threadIdx.x] = 1; }\n";
    package.write("src/k.cu", source);
    let of = |entry: &str| package.compile(&package.unit(entry, &[])).functions[0].bounds;
    assert_eq!(of("plain"), Bounds::default());
    assert_eq!(of("clustered"), Bounds { cluster: Some([2, 1, 1]), ..Bounds::default() });
    assert_eq!(of("few_blocks"), Bounds { max_cluster: Some(2), ..Bounds::default() });
}

#[test]
fn resources_of_cubin_and_ptxas_agree() {
    let Some(package) = Package::new() else { return };
    let cubin = package.folder.path().join("out.cubin");
    let (nvcc, _) = package.compiler.cuda_compiler().unwrap();
    let output = std::process::Command::new(nvcc)
        .args(["-cubin", "-arch=sm_80", "-Xptxas", "-v", "-Iinclude", "src/k.cu", "-o"])
        .arg(&cubin)
        .current_dir(package.folder.path())
        .output()
        .unwrap();
    let report = ptxas::Report::parse(&String::from_utf8_lossy(&output.stderr));
    let kernels = cubin::kernels(&fs::read(&cubin).unwrap()).unwrap();
    assert_eq!(kernels.len(), 7);
    assert_eq!(report.entries.len(), 7);
    for kernel in &kernels {
        let said = report.entry(&kernel.symbol).unwrap();
        assert!(kernel.registers.is_some());
        assert_eq!(kernel.registers, said.registers, "{}", kernel.symbol);
    }
}

#[test]
fn names_resolve_to_kernels() {
    let Some(package) = Package::new() else { return };
    let symbol = |entry: &str| package.compile(&package.unit(entry, &[])).functions.remove(0).symbol;
    assert_eq!(symbol("other"), "_ZN2ns5otherEPf");
    assert_eq!(symbol("ns::sdpa<128>"), "_ZN2ns4sdpaILi128EEEvPf");
    assert!(symbol("hidden").contains("6hidden"));
    let error = package.compiler.compile(&package.unit("sdpa", &[])).unwrap_err();
    assert!(matches!(&error, CompileError::AmbiguousEntry { candidates, .. } if candidates.len() == 2), "{error}");
    let error = package.compiler.compile(&package.unit("host", &[])).unwrap_err();
    assert!(matches!(&error, CompileError::EntryNotFound { candidates, .. } if candidates.len() == 7), "{error}");
}

#[test]
fn dead_and_live_toggles() {
    let (Some(one), Some(two)) = (Package::new(), Package::new()) else { return };
    let identity =
        |package: &Package, macros: &[(&str, &str)]| package.compile(&package.unit("plain", macros)).identity;
    let first = identity(&one, &[("TILE", "3"), ("DEAD", "1")]);
    assert_eq!(first, identity(&one, &[("TILE", "3"), ("DEAD", "2")]));
    assert_ne!(first, identity(&one, &[("TILE", "4"), ("DEAD", "1")]));
    assert_eq!(first, identity(&two, &[("TILE", "3"), ("DEAD", "1")]), "another folder");
}

#[test]
fn declared_arguments_are_compared_with_the_kernel() {
    let Some(package) = Package::new() else { return };
    let tensor = || Param::Tensor { dtype: DType::F32, writable: Some(false) };
    let declared = |entry: &str, signature: Vec<Param>| {
        package.compiler.compile(&Unit { entries: vec![Entry::new(entry, signature)], ..package.unit(entry, &[]) })
    };
    assert!(declared("plain", vec![tensor(), tensor(), Param::Scalar(DType::I32)]).is_ok());
    assert!(declared("mapped", vec![Param::TensorMap, tensor()]).is_ok());
    let error = declared("plain", vec![tensor(), tensor(), Param::Scalar(DType::F64)]).unwrap_err();
    assert_eq!(error.to_string(), "parameter 3 of `plain` is `int`, the table declares a scalar of f64");
    assert!(matches!(declared("plain", vec![tensor(), tensor()]), Err(CompileError::SignatureMismatch { .. })));
}

#[test]
fn headers_and_the_cache() {
    let Some(package) = Package::new() else { return };
    let unit = package.unit("plain", &[]);
    let again = || {
        let options = CompilerOptions::default();
        Compiler::new(&package.folder.path().join("target/kbench"), options).compile(&unit).unwrap()
    };
    let first = package.compile(&unit);
    assert!(again().cached);
    package.write("include/tile.h", "#define TILE 5\n");
    let edited = again();
    assert!(!edited.cached);
    assert_ne!(edited.identity, first.identity);
    assert_ne!(edited.source_hash, first.source_hash);
}

#[test]
fn headers_of_the_table_are_found_first() {
    let Some(package) = Package::new() else { return };
    // A stub for a header of another project, and one that lies in the package too.
    package.write(
        "src/k.cu",
        "#include <helper_math.h>\n#include \"tile.h\"\n__global__ void k(float *a) { a[0] = twice(TILE); }",
    );
    package.write("include/tile.h", "#error \"not this one\"");
    let stub = ("helper_math.h".to_owned(), "__device__ inline float twice(float x) { return 2 * x; }".to_owned());
    let tile = |size: u32| vec![stub.clone(), ("tile.h".to_owned(), format!("#define TILE {size}\n"))];
    let with = |headers| package.compile(&Unit { headers, ..package.unit("k", &[]) });
    let three = with(tile(3));
    assert!(!three.cached && with(tile(3)).cached);
    // A change of a text is a change of the code, and is found in the cache again.
    let four = with(tile(4));
    assert!(!four.cached);
    assert_ne!(three.identity, four.identity);
    assert!(with(tile(3)).cached);
    let without = package.compiler.compile(&package.unit("k", &[])).unwrap_err();
    let CompileError::Failed { stderr, .. } = &without else { panic!("{without}") };
    assert!(stderr.contains("helper_math.h"), "{stderr}");
}

#[test]
fn refusals_are_typed() {
    let Some(package) = Package::new() else { return };
    package.write("src/k.cu", "extern \"C\" __global__ void k(float *a) { __shared__ float s[70000]; s[threadIdx.x] = a[0]; __syncthreads(); a[1] = s[a[0] > 0]; }");
    let error = package.compiler.compile(&package.unit("k", &[])).unwrap_err();
    let CompileError::TooMuchShared { entry, bytes, max } = &error else { panic!("{error}") };
    assert_eq!((entry.as_str(), *max), ("k", 227 * 1024));
    assert!(*bytes >= 280_000);
    package.write("src/other.cu", "__global__ void k(float *a) { a[0] = b; }");
    let unit = Unit { source: package.folder.path().join("src/other.cu"), ..package.unit("k", &[]) };
    let CompileError::Failed { stderr, .. } = package.compiler.compile(&unit).unwrap_err() else { panic!() };
    assert!(stderr.contains("other.cu(1): error: identifier \"b\" is undefined"), "{stderr}");
    let unit = Unit { arch: Some("sm_1".into()), ..unit };
    let CompileError::Failed { stderr, .. } = package.compiler.compile(&unit).unwrap_err() else { panic!() };
    assert!(stderr.contains("sm_1"), "{stderr}");
    let unit = Unit { arch: None, ..unit };
    assert!(matches!(package.compiler.compile(&unit), Err(CompileError::Unsupported { .. })));
    let unit = Unit { flags: vec!["-ccbin".into(), "no-such-compiler".into()], ..package.unit("k", &[]) };
    let error = package.compiler.compile(&unit).unwrap_err();
    assert!(matches!(&error, CompileError::NoCompiler { what, .. } if what.contains("no-such-compiler")), "{error}");
}

/// Not a test but a measurement: `cargo test --release -p cargo-kbench --lib -- --ignored --nocapture cubin_look_up`.
#[test]
#[ignore = "measures"]
fn time_of_a_cubin_look_up() {
    let Some(package) = Package::new() else { return };
    let units: Vec<_> = (0..8).map(|n| package.unit("plain", &[("TILE", &n.to_string())])).collect();
    for run in ["cold", "warm"] {
        let compiler = Compiler::new(&package.folder.path().join("target/kbench"), CompilerOptions::default());
        let began = Instant::now();
        compiler.compile(&units[0]).unwrap();
        let (first, began) = (began.elapsed(), Instant::now());
        units[1..].iter().for_each(|unit| drop(compiler.compile(unit).unwrap()));
        println!("{run}: first {first:?}, then {:?} each", began.elapsed() / 7);
    }
}

#[test]
fn debug_lines_change_no_code() {
    let Some(package) = Package::new() else { return };
    let plain = package.unit("plain", &[]);
    let mut lines = plain.clone();
    lines.flags.push("-lineinfo".into());
    let other = package.unit("plain", &[("TILE", "2")]);
    let [plain, lines, other] = [plain, lines, other].map(|unit| package.compiler.compile(&unit).unwrap());
    assert_ne!(plain.hash, lines.hash);
    assert!(sanitizer::same_code(&plain, &lines));
    assert!(!sanitizer::same_code(&plain, &other));
}

#[test]
fn constants_and_instances_of_templates() {
    let Some(package) = Package::new() else { return };
    package.write(
        "src/k.cu",
        "#include <cuda_fp16.h>\n\
         namespace ns {\n\
         enum class Order { Row, Column };\n\
         template <class T, int BM, int BN = 8, Order O = Order::Row, bool WIDE = false>\n\
         __global__ void kernel(const T *a, float *b, int n) {\n\
             __shared__ float tile[BM];\n\
             int i = blockIdx.x * BM + threadIdx.x;\n\
             tile[threadIdx.x] = i < n ? float(a[i]) : 0;\n\
             __syncthreads();\n\
             float sum = 0;\n\
             #pragma unroll UNROLL\n\
             for (int j = 0; j < BN * n; ++j) sum += tile[j % BM];\n\
             if (i < n) b[i] = sum;\n\
         }\n\
         template <int UNUSED> __global__ void same(float *b) { __shared__ float t[32]; t[threadIdx.x] = b[0]; __syncthreads(); b[threadIdx.x] = t[31 - threadIdx.x]; }\n\
         }\n\
         void launch(float *b) { ns::same<7><<<1, 1>>>(b); }\n",
    );
    let unit = |entry: &str, unroll: &str| {
        let constant = |name: &str, ty, value: &str| Constant { name: name.into(), ty, value: value.into() };
        let constants = vec![constant("UNROLL", "int", unroll), constant("BM", "int", "64")];
        Unit { constants, ..package.unit(entry, &[]) }
    };
    let of = |entry: &str| package.compile(&unit(entry, "4"));
    // Defaults, aliases, arithmetic, enumerators: the compiler determines the kernel.
    let symbol = "_ZN2ns6kernelIfLi128ELi8ELNS_5OrderE0ELb0EEEvPKT_Pfi";
    let plain = of("ns::kernel<float, 128>");
    assert_eq!(plain.functions[0].symbol, symbol);
    assert_eq!(of("::ns::kernel<float, 2 * BM, 4 + 4, ns::Order::Row>").functions[0].symbol, symbol);
    assert_eq!(
        of("ns::kernel<half, 128, 8, ns::Order::Column, (BM > 8)>").functions[0].symbol,
        "_ZN2ns6kernelI6__halfLi128ELi8ELNS_5OrderE1ELb1EEEvPKT_Pfi"
    );
    assert_ne!(package.compile(&unit("ns::kernel<float, 128>", "2")).identity, plain.identity, "#pragma unroll");
    assert_eq!(of("ns::same<1>").identity, of("ns::same<2>").identity, "an argument that changes nothing");
    assert_ne!(of("ns::same<1>").functions, of("ns::same<2>").functions);
    let tensor = |dtype, writable| Param::Tensor { dtype, writable: Some(writable) };
    let signature = vec![tensor(DType::F64, false), tensor(DType::F32, true), Param::Scalar(DType::I32)];
    let error = package
        .compiler
        .compile(&Unit {
            entries: vec![Entry::new("ns::kernel<float, 128>", signature)],
            ..unit("ns::kernel<float, 128>", "4")
        })
        .unwrap_err();
    assert!(matches!(&error, CompileError::ParameterType { index: 0, .. }), "{error:?}");
    for (entry, said) in
        [("ns::kernal<float, 128>", "kernal"), ("ns::kernel<float, 0, 8, 9, 9, 9>", "instance of function template")]
    {
        let error = package.compiler.compile(&unit(entry, "4")).unwrap_err();
        let CompileError::Failed { stderr, .. } = &error else { panic!("{error:?}") };
        assert!(stderr.contains("entry(1): error") && stderr.contains(said), "{stderr}");
    }
}
