//! Whole manifests, loaded by cargo and without it. Above 400 lines: the modules below share its fixture.

use std::fs;
use std::path::Path;

use kbench_runtime::dtype::DType;
use kbench_runtime::protocol::{CacheMode, LaunchMode};

use super::*;
use crate::expr::Value;
use crate::space::{Layer, Reach};

mod arbitrary;
mod args;
mod correctness;
mod counters;
mod launches;
mod mistakes;
mod reach;
mod sanitize;

/// A package in a folder of its own.
struct Fixture {
    folder: tempfile::TempDir,
}

impl Fixture {
    fn new(table: &str) -> Self {
        let fixture = Self { folder: tempfile::tempdir().unwrap() };
        fixture.write("Cargo.toml", &format!("[package]\nname = \"demo\"\n\n{table}"));
        for source in ["src/lib.rs", "k.cu", "k.c", "ref.c", "naive.c", "x.npy", "x.safetensors"] {
            fixture.write(source, "");
        }
        fixture
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Without cargo: cargo is slower, and has its own tests.
    fn options(&self) -> LoadOptions {
        LoadOptions {
            directory: Some(self.path().to_owned()),
            cargo: Some("no-cargo-here".into()),
            // The variables of the test's environment have no influence.
            target_dir: Some("target".into()),
            ..LoadOptions::default()
        }
    }

    fn load(&self) -> Result<(Project, Vec<Diagnostic>), LoadError> {
        load(&self.options())
    }

    /// Every diagnostic as drawn.
    fn diagnostics(&self) -> String {
        match self.load() {
            Ok((_, warnings)) => ConfigErrors { diagnostics: warnings }.render(false),
            Err(LoadError::Config(errors)) => errors.render(false),
            Err(error) => error.to_string(),
        }
        .trim_end()
        .to_owned()
    }
}

/// A table with the required keys only.
const MINIMAL: &str = r#"
[package.metadata.kbench.kernels.k]
source = "k.cu"
entry = "k"
grid = "ceil_div(N, TILE)"
block = 128
args = ["x", "y", { scalar = "i32", value = "N" }]
shapes = { small = { N = 1024 } }
tensors = { x = { dtype = "f32", dims = ["N"] }, y = { dtype = "f32", dims = ["N"], role = "out" } }
toggles = { macro = { TILE = [64, 128] } }
reference = { source = "ref.c", entry = "k_ref" }
"#;

#[test]
fn a_minimal_table_has_sensible_defaults() {
    let fixture = Fixture::new(MINIMAL);
    let (project, warnings) = fixture.load().unwrap();
    assert_eq!(warnings, []);
    assert_eq!(project.target_directory, fixture.path().join("target"));
    assert_eq!(project.elite_path(), fixture.path().join("elite.json"));
    let kernel = &project.packages[0].kernels[0];
    assert_eq!((kernel.name.as_str(), kernel.package.as_str()), ("k", "demo"));
    assert_eq!(kernel.implementation.backend, Backend::Cuda);
    assert_eq!(kernel.implementation.source, fixture.path().join("k.cu"));
    assert_eq!(kernel.implementation.launches[0].grid[0].text(), "ceil_div(N, TILE)");
    assert_eq!(kernel.implementation.launches[0].block[0].text(), "128");
    let reference = &kernel.reference;
    assert_eq!(reference.precision, DType::F64);
    let ReferenceKind::Function(function) = &reference.kind else { panic!("{reference:?}") };
    assert_eq!(function.backend, Backend::C);
    assert_eq!(function.launches[0].args.len(), 3);
    assert!(function.launches[0].grid.is_empty());
    assert_eq!(kernel.tensors[0].init, Init::Normal { mean: 0.0, std: 1.0 });
    assert_eq!(kernel.tensors[1].init, Init::None);
    assert_eq!(kernel.gates.correctness.max_rms_err, None, "the gate decides by each output's type");
    assert_eq!(kernel.gates.correctness.seeds, 5);
    assert_eq!(kernel.gates.correctness.shapes, [0]);
    assert_eq!(kernel.timing, Timing::default());
    assert_eq!((kernel.search.elite, kernel.search.evaluations), (3, None));
    assert_eq!(kernel.space.label(&kernel.space.default), "TILE=64");
}

/// The values of a toggle of the minimal table, in the table's syntax.
fn values(text: &str) -> Vec<Value> {
    let fixture = Fixture::new(&MINIMAL.replace("[64, 128]", text));
    let (project, diagnostics) = fixture.load().unwrap();
    assert!(diagnostics.is_empty(), "{text}");
    project.packages[0].kernels[0].space.toggles[0].values.clone()
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(16))]

    #[test]
    fn a_range_is_the_list_of_its_values(from in 1..200i64, steps in 0..8i64, step in 1..100i64, beyond in 0..100i64) {
        let list: Vec<i64> = (0..=steps).map(|at| from + at * step).collect();
        let to = from + steps * step + beyond.min(step - 1);
        let range = format!("{{ from = {from}, to = {to}, step = {step} }}");
        proptest::prop_assert_eq!(values(&range), values(&format!("{list:?}")));
    }

    #[test]
    fn a_range_of_powers_of_two_is_their_list(first in 1..100i64, more in 0..5000i64) {
        let powers: Vec<i64> = (0..20).map(|exponent| 1 << exponent).filter(|power| (first..=first + more).contains(power)).collect();
        if !powers.is_empty() {
            let range = format!("{{ powers_of_two = [{first}, {}] }}", first + more);
            proptest::prop_assert_eq!(values(&range), values(&format!("{powers:?}")));
        }
    }
}

#[test]
fn values_are_floats_and_ranges_too() {
    let ints = |values: &[i64]| values.iter().copied().map(Value::Int).collect::<Vec<_>>();
    assert_eq!(values("{ from = 32, to = 100, step = 32 }"), ints(&[32, 64, 96]));
    assert_eq!(values("{ from = 3, to = 5 }"), ints(&[3, 4, 5]));
    assert_eq!(values("{ powers_of_two = [1, 64] }"), ints(&[1, 2, 4, 8, 16, 32, 64]));
    assert_eq!(values("[1, 1.5]"), [Value::Int(1), Value::Float(1.5)]);
    let fixture = Fixture::new(&MINIMAL.replace("[64, 128] }", "[1, 0.5] }, default = { TILE = 0.5 }"));
    let (project, _) = fixture.load().unwrap();
    let space = &project.packages[0].kernels[0].space;
    assert_eq!(space.value(&space.default, "TILE"), Some(&Value::Float(0.5)));
    assert_eq!(space.parse("TILE=0.5").unwrap(), space.default);
    let settings = serde_json::to_string(&space.settings(&space.default)).unwrap();
    assert_eq!(space.variant(&serde_json::from_str(&settings).unwrap()).unwrap(), space.default);
}

#[test]
fn objectives_are_one_or_two() {
    let objectives = |search: &str| {
        let shapes = "shapes = { large = { N = 4096 }, small = { N = 1024 }, tiny = { N = 16 } }";
        let table = MINIMAL.replace("shapes = { small = { N = 1024 } }", shapes);
        let (project, _) = Fixture::new(&format!("{table}{search}\n")).load().unwrap();
        let kernel = &project.packages[0].kernels[0];
        (kernel.objectives.clone(), kernel.search.shape)
    };
    let mean = Objective::Mean(vec![(1, 2.0), (2, 0.5)]);
    assert_eq!(objectives(""), (vec![Objective::P50], 0));
    assert_eq!(objectives("search.objective = ['energy']"), (vec![Objective::Energy], 0));
    let shape_of_the_mean = "search.objective = { mean = { tiny = 0.5, small = 2 } }";
    assert_eq!(objectives(shape_of_the_mean), (vec![mean.clone()], 1), "the first shape of the mean");
    let both = "search = { objective = ['registers', { mean = { small = 2, tiny = 0.5 } }], shape = 'large' }";
    assert_eq!(objectives(both), (vec![Objective::Resource(ResourceName::Registers), mean], 0));
}

/// The example of the design document, completed.
const SDPA: &str = include_str!("tests/sdpa.toml");

#[test]
fn the_example_of_the_design() {
    let fixture = Fixture::new(SDPA);
    fixture.write("src/sdpa.cu", "");
    fixture.write("src/reference.c", "");
    insta::assert_snapshot!(fixture.diagnostics(), @"");
    let (project, _) = fixture.load().unwrap();
    let kernel = &project.packages[0].kernels[0];
    let names: Vec<&str> = kernel.tensors.iter().map(|tensor| tensor.name.as_str()).collect();
    assert_eq!(names, ["q16", "q", "q_scale", "k16", "k", "k_scale", "v16", "v", "v_scale", "o"]);
    assert_eq!(kernel.tensors[1].init, Init::Quantize { from: 0, scale: 2, scale_dims: vec![1] });
    assert_eq!(kernel.tensors[2].init, Init::Scale);
    assert_eq!(kernel.shapes[1].name, "mission");
    assert_eq!(kernel.shapes[1].dims, [("B".into(), 2), ("H".into(), 8), ("S".into(), 512), ("D".into(), 64)]);
    assert_eq!(kernel.search.shape, 1);
    assert_eq!(kernel.search.evaluations, Some(64));
    assert_eq!(kernel.space.toggles.len(), 6);
    assert_eq!(kernel.space.toggles.iter().filter(|toggle| toggle.layer == Layer::Micro).count(), 2);
    assert_eq!(kernel.space.variants().count(), 48);
    assert_eq!(kernel.gates.correctness.max_rms_err, None);
    let over: Vec<_> = kernel.gates.performance.iter().map(|limit| limit.limit.clone()).collect();
    assert_eq!(over[0], PerformanceBound::MinSpeedup { ratio: 15.0, over: 1 });
    assert_eq!(over[1], PerformanceBound::MinSpeedup { ratio: 1.10, over: 0 });
    assert!(matches!(&kernel.baselines[1].kind, BaselineKind::Command(program) if program.command[0] == "python3"));
    assert_eq!(kernel.work.flops.as_ref().unwrap().text(), "4*B*H*S*S*D");
}

#[test]
fn the_summary_of_check() {
    let fixture = Fixture::new(SDPA);
    fixture.write("src/sdpa.cu", "");
    fixture.write("src/reference.c", "");
    let (project, _) = fixture.load().unwrap();
    insta::assert_snapshot!(crate::report::check::summary(&project.packages[0].kernels[0]), @r#"
    demo/sdpa (cuda, sdpa)
      space       48 of 64 points, 16 removed by constraints
      macro       16 points at the default micro setting
      micro       2 points at the default macro setting
      default     USE_WARP_SPECIALIZATION=0 USE_PERSISTENT_CTA=0 TILE_M=64 TILE_N=64
                  NUM_PRODUCER_WARPS=1 USE_FAST_EXP=0
      removed by  16  USE_WARP_SPECIALIZATION == 1 or NUM_PRODUCER_WARPS == 1
      shapes      small    B=1 H=8 S=128 D=64
                  mission  B=2 H=8 S=512 D=64
                  long     B=2 H=8 S=2048 D=64
      baselines   stage2: USE_WARP_SPECIALIZATION=0 USE_PERSISTENT_CTA=0 TILE_M=64
                  TILE_N=64 NUM_PRODUCER_WARPS=1 USE_FAST_EXP=0
                  torch_math: python3 baselines/torch_sdpa.py --backend math
      gates       resources    registers <= 120, shared bytes <= 65536, spill bytes
                  <= 0
                  correctness  max abs err <= 0.06, mean err <= 0.02, 5 seeds, 13
                  patterns
                  performance  15 x torch_math at mission, 1.1 x stage2 at mission
      tuned at    mission
      objective   p50
      strategy    evo, seed 0
      budget      64 evaluations, 600 s
      kept        the 3 best
    "#);
    let (project, _) = Fixture::new(MINIMAL).load().unwrap();
    insta::assert_snapshot!(crate::report::check::summary(&project.packages[0].kernels[0]), @r#"
    demo/k (cuda, k)
      space      2 points
      macro      2 points at the default micro setting
      micro      1 point at the default macro setting
      default    TILE=64
      shapes     small  N=1024
      gates      resources    no limits
                 correctness  errors usual for each output's type, 5 seeds, 13
                 patterns
                 performance  no limits
      tuned at   small
      objective  p50
      strategy   auto, seed 0
      budget     200 evaluations, since the table has no budget
      kept       the 3 best
    "#);
}

#[test]
fn a_bare_table_is_the_same_table() {
    let fixture = Fixture::new(&MINIMAL.replace("package.metadata.", ""));
    assert_eq!(fixture.load().unwrap().0.packages[0].kernels[0].name, "k");
}

#[test]
fn defaults_come_from_the_package_and_the_workspace() {
    let kernel = MINIMAL.replace("toggles = { macro = { TILE = [64, 128] } }\n", "timing = { warmup = 3 }\n");
    let package = "
[package.metadata.kbench.toggles]
macro = { TILE = [32, 64] }
[package.metadata.kbench.timing]
iterations = 7
warmup = 4
";
    let fixture = Fixture::new(&(kernel + package));
    let workspace = "
[workspace]
members = [\"demo\", \"plain\"]
[workspace.metadata.kbench]
flags = [\"-O3\"]
runner = [\"srun\"]
timing = { iterations = 8, timeout_seconds = 9, precision = 0.01, max_seconds = 1.5, launch = \"stream\" }
";
    let folder = tempfile::tempdir().unwrap();
    fs::rename(fixture.path(), folder.path().join("demo")).unwrap();
    let fixture = Fixture { folder };
    fixture.write("Cargo.toml", workspace);
    fixture.write("plain/Cargo.toml", "[package]\nname = \"plain\"\n");
    fixture.write("plain/src/lib.rs", "");
    // At the root of a virtual workspace: every member that has a table.
    for cargo in ["no-cargo-here", "cargo"] {
        let options = LoadOptions { cargo: Some(cargo.into()), ..fixture.options() };
        let (project, _) = load(&options).unwrap();
        assert_eq!(project.packages.len(), 1);
        let kernel = &project.packages[0].kernels[0];
        assert_eq!(kernel.implementation.flags, [Flag::plain("-O3".to_owned())]);
        let ReferenceKind::Function(reference) = &kernel.reference.kind else { panic!("{:?}", kernel.reference) };
        assert_eq!(reference.flags, []);
        assert_eq!(kernel.runner, ["srun"]);
        assert_eq!(
            kernel.timing,
            Timing {
                warmup: 3,
                iterations: 7,
                iterations_stated: true,
                timeout_seconds: 9,
                precision: 0.01,
                max_seconds: 1.5,
                cache: CacheMode::Cold,
                launch: LaunchMode::Stream
            }
        );
        assert_eq!(kernel.space.toggles[0].values.len(), 2);
        assert_eq!(project.elite_path(), fixture.path().join("elite.json"));
    }

    let plain = LoadOptions { packages: vec!["plain".into()], ..fixture.options() };
    let LoadError::Config(errors) = load(&plain).unwrap_err() else { panic!() };
    insta::assert_snapshot!(errors.render(false).trim_end(), @r#"
    error: package `plain` has no kbench table
     --> plain/Cargo.toml:2:8
      |
    2 | name = "plain"
      |        ^^^^^^^
      |
      = help: describe its kernels under `[package.metadata.kbench.kernels.NAME]`
      = help: packages with one, for `-p`: `demo`
    "#);
    let wrong = LoadOptions { packages: vec!["dem".into()], ..fixture.options() };
    insta::assert_snapshot!(load(&wrong).unwrap_err(), @"no package `dem` in this workspace; did you mean `demo`?");
    let wrong = LoadOptions { packages: vec!["xyz".into()], ..fixture.options() };
    insta::assert_snapshot!(load(&wrong).unwrap_err(), @"no package `xyz` in this workspace; its packages: `demo` and `plain`");
    let target =
        LoadOptions { target_dir: Some("elsewhere".into()), packages: vec!["demo".into()], ..fixture.options() };
    assert_eq!(load(&target).unwrap().0.target_directory, fixture.path().join("elsewhere"));
    let inside = LoadOptions { directory: Some(fixture.path().join("demo/src")), ..fixture.options() };
    assert_eq!(load(&inside).unwrap().0.packages[0].name, "demo");
    let by_path = LoadOptions { manifest_path: Some("demo/Cargo.toml".into()), ..fixture.options() };
    assert_eq!(load(&by_path).unwrap().0.packages[0].name, "demo");
}

#[test]
fn a_folder_without_a_manifest() {
    let folder = tempfile::tempdir().unwrap();
    let options = LoadOptions { directory: Some(folder.path().to_owned()), ..LoadOptions::default() };
    let error = load(&options).unwrap_err();
    assert!(matches!(error, LoadError::NoManifest(_)), "{error}");
}

#[test]
fn every_kind_of_baseline_and_argument() {
    let table = MINIMAL
        .replace(
            r#"args = ["x""#,
            r#"args = [{ tensor_map = "x", box = [64], swizzle = 128 }, { symbol = "c", tensor = "w" }, "x""#,
        )
        .replace("tensors = {", r#"tensors = { w = { dtype = "i8", dims = [16] },"#)
        .replace(
            r#"entry = "k_ref" }"#,
            r#"entry = "k_ref", args = ["x", "w", "y"], precision = "f32" }
flags = ["-O2"]
cluster = [2]
defines = { HALF = "N / 2" }
baselines.variant = { toggles = { TILE = 128 } }
baselines.other = { kernel = "other" }
baselines.naive = { source = "naive.c", entry = "naive", args = ["x", "y"] }
baselines.plain = { source = "k.cu", entry = "plain", block = 64 }
baselines.program = { command = ["true"], correctness = { max_abs_err = 0.5 } }

[package.metadata.kbench.kernels.other]
source = "k.c"
entry = "other"
args = ["y"]
shapes = { small = { N = 1024 } }
tensors = { y = { dtype = "u8", dims = ["N"], role = "inout" } }
reference = { source = "ref.c", entry = "k_ref" }"#,
        );
    let fixture = Fixture::new(&table);
    insta::assert_snapshot!(fixture.diagnostics(), @"");
    let (project, _) = fixture.load().unwrap();
    let [kernel, other] = &project.packages[0].kernels[..] else { panic!() };
    assert!(matches!(
        &kernel.implementation.launches[0].args[0],
        Arg::TensorMap(TensorMap { tensor: 1, swizzle: 128, .. })
    ));
    assert!(matches!(&kernel.implementation.launches[0].args[1], Arg::Symbol { tensor: 0, .. }));
    assert_eq!(kernel.reference.precision, DType::F32);
    assert_eq!(kernel.tensors[0].init, Init::Integers { low: 0, high: 15 });
    let implementation = |index: usize| match &kernel.baselines[index].kind {
        BaselineKind::Implementation(implementation) => implementation,
        other => panic!("{other:?}"),
    };
    assert!(matches!(&kernel.baselines[0].kind, BaselineKind::Variant(variant) if variant.0 == [1]));
    assert!(matches!(&kernel.baselines[1].kind, BaselineKind::Kernel(name) if name == "other"));
    let naive = implementation(2);
    assert_eq!((naive.backend, naive.flags.len(), naive.launches[0].grid.len()), (Backend::C, 0, 0));
    assert_eq!(naive.defines[0].0, "HALF");
    let plain = implementation(3);
    let launch = &plain.launches[0];
    assert_eq!((plain.backend, plain.flags[0].text.text(), launch.args.len()), (Backend::Cuda, "-O2", 5));
    assert_eq!((launch.grid.len(), launch.block[0].text(), launch.cluster.len()), (1, "64", 0));
    let BaselineKind::Command(program) = &kernel.baselines[4].kind else { panic!() };
    let limits = program.correctness.as_ref().unwrap();
    assert_eq!((&program.command[..], limits.max_abs_err, limits.max_rms_err), (&["true".into()][..], Some(0.5), None));
    // Another backend, and no toggles: one variant.
    assert_eq!(other.space.variants().count(), 1);
    assert_eq!(other.gates.correctness.max_rms_err, None);
}
