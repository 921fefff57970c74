//! Mistakes and the errors that are drawn for them.
//!
//! Longer than 400 lines: each mistake stands beside the error that is drawn for it.

use super::*;

/// The minimal table with one change.
fn changed(from: &str, to: &str) -> String {
    assert!(MINIMAL.contains(from), "{from}");
    Fixture::new(&MINIMAL.replacen(from, to, 1)).diagnostics()
}

/// The minimal table with more keys at its end.
fn with(more: &str) -> String {
    Fixture::new(&format!("{MINIMAL}{more}\n")).diagnostics()
}

/// The minimal table with one more tensor, which is an argument.
fn with_tensor(tensor: &str) -> String {
    let table =
        MINIMAL.replace("args = [", "args = [\"t\", ").replace("tensors = { ", &format!("tensors = {{ {tensor}, "));
    Fixture::new(&table).diagnostics()
}

#[test]
fn two_workers_for_c_kernels_need_a_runner_that_separates_them() {
    const WORKERS: &str = "[package.metadata.kbench.kernels.k.workers]";
    let in_c = MINIMAL.replace("k.cu", "k.c").replace("grid = \"ceil_div(N, TILE)\"\nblock = 128\n", "");
    let with = |more: &str| Fixture::new(&format!("{in_c}{more}\n")).diagnostics();
    let drawn = with(&format!("{WORKERS}\ncount = 2"));
    assert!(drawn.contains("several workers for C kernels on one machine"), "{drawn}");
    for workers in
        ["count = 1", "count = 2\nrunner = [\"srun\"]", "runner = [\"ssh\", \"h\"]\npath = \"/opt/cargo-kbench\""]
    {
        assert_eq!(with(&format!("{WORKERS}\n{workers}")), "", "{workers}");
    }
    let drawn = with(&format!("{WORKERS}\ncount = 0"));
    assert!(drawn.contains("`count` is too small"), "{drawn}");
}

/// A misspelt word at any level: one error with a suggestion, and no errors that follow from the missing word.
#[test]
fn a_misspelling_is_one_error() {
    const WHOLE: &str = r#"
[package.metadata.kbench.kernels.k]
source = "k.cu"
entry = "k"
backend = "cuda"
grid = "ceil_div(N, TILE)"
block = 128
args = ["a", "c", { scalar = "i32", value = "N" }]
shapes.main = { N = 1000 }

[package.metadata.kbench.kernels.k.tensors]
a = { dtype = "f32", dims = ["N"], init = { normal = { mean = 0.0, std = 1.0 } } }
c = { dtype = "f32", dims = ["N"], role = "out" }

[package.metadata.kbench.kernels.k.reference]
source = "ref.c"
entry = "k_ref"

[package.metadata.kbench.kernels.k.toggles]
macro = { TILE = [128, 256], FLAG = [1, 2] }
default = { TILE = 256 }
constraints = ["FLAG <= TILE"]

[package.metadata.kbench.kernels.k.baselines]
small = { toggles = { TILE = 128 } }

[package.metadata.kbench.kernels.k.gates]
performance = [{ shape = "main", min_speedup = 1, over = "small" }]
correctness = { seeds = 2, shapes = ["main"], naive = "small" }

[package.metadata.kbench.kernels.k.search]
strategy = "evo"
shape = "main"
objective = "p50"
budget = { evaluations = 9 }
"#;
    assert_eq!(Fixture::new(WHOLE).diagnostics(), "");
    for (right, wrong) in [
        ("kbench.kernels.k", "kbench.kernel.k"),
        ("kbench.kernels.k", "kbnch.kernels.k"),
        ("source = \"k.cu\"", "sorce = \"k.cu\""),
        ("grid =", "grdi ="),
        ("args =", "arg ="),
        ("shapes.main", "shape.main"),
        ("tensors]", "tensor]"),
        ("reference]", "refrence]"),
        ("toggles]", "togles]"),
        ("baselines]", "baseline]"),
        ("macro =", "macros ="),
        ("default =", "defaults ="),
        ("dtype = \"f32\", dims = [\"N\"], role", "dtype = \"f23\", dims = [\"N\"], role"),
        ("dtype = \"f32\", dims = [\"N\"], role", "dtpye = \"f32\", dims = [\"N\"], role"),
        ("dims = [\"N\"], role", "dim = [\"N\"], role"),
        ("role =", "rol ="),
        ("\"out\"", "\"outt\""),
        ("init =", "inti ="),
        ("normal =", "nromal ="),
        ("scalar =", "scaler ="),
        ("value =", "vlaue ="),
        ("\"i32\"", "\"i23\""),
        ("\"cuda\"", "\"cdua\""),
        ("{ toggles =", "{ toggle ="),
        ("{ TILE = 128 }", "{ TIEL = 128 }"),
        ("{ TILE = 256 }", "{ TIEL = 256 }"),
        ("over = \"small\"", "over = \"smal\""),
        ("naive = \"small\"", "naive = \"smal\""),
        ("min_speedup", "min_sepedup"),
        ("shape = \"main\", min", "shape = \"mian\", min"),
        ("correctness =", "corectness ="),
        ("\"evo\"", "\"eov\""),
        ("strategy =", "startegy ="),
        ("objective =", "objectiv ="),
        ("\"p50\"", "\"p5\""),
        ("evaluations", "evalutions"),
    ] {
        assert!(WHOLE.contains(right), "{right}");
        let said = Fixture::new(&WHOLE.replace(right, wrong)).diagnostics();
        assert_eq!(said.matches("error: ").count(), 1, "{wrong}:\n{said}");
        assert!(said.contains("did you mean"), "{wrong}:\n{said}");
    }
    // A missing name that is used in many places is one error, with all places.
    let said = Fixture::new(&WHOLE.replace("{ N = 1000 }", "{ M = 1000 }")).diagnostics();
    assert_eq!(said.matches("error: ").count(), 1, "{said}");
    // A name that resembles no other gets no suggestion, and is one error too.
    for (right, wrong) in [("\"out\"", "\"result\""), ("[128, 256]", "[128, 1.5]")] {
        let said = Fixture::new(&WHOLE.replace(right, wrong)).diagnostics();
        assert_eq!(said.matches("error: ").count(), 1, "{wrong}:\n{said}");
    }
}

#[test]
fn syntax() {
    insta::assert_snapshot!(changed("block = 128", "block = = 128"), @r#"
    error: extra `=`, expected nothing
     --> Cargo.toml:9:9
      |
    9 | block = = 128
      |         ^

    error: unexpected key or value, expected newline, `#`
     --> Cargo.toml:9:11
      |
    9 | block = = 128
      |           ^
    "#);
    insta::assert_snapshot!(changed("block = 128", "block = 128\nblock = 256"), @r#"
    error: duplicate key
      --> Cargo.toml:10:1
       |
    10 | block = 256
       | ^^^^^
    "#);
}

#[test]
fn tables() {
    insta::assert_snapshot!(with("[kbench.timing]\nwarmup = 1"), @r#"
    error: two kbench tables in one manifest
      --> Cargo.toml:15:2
       |
     5 | [package.metadata.kbench.kernels.k]
       |                   ------ and the one in `metadata`
    ...
    15 | [kbench.timing]
       |  ^^^^^^ the bare `[kbench]`
       |
       = help: keep one; cargo warns of the bare form, not of the other
    "#);
    insta::assert_snapshot!(Fixture::new("[package.metadata.kbench]\nkernel.k.source = 'k.cu'").diagnostics(), @r#"
    error: unknown key `kernel` in the table of a package
     --> Cargo.toml:5:1
      |
    5 | kernel.k.source = 'k.cu'
      | ^^^^^^ did you mean `kernels`?

    error: a kernel needs `shapes`
     --> Cargo.toml:5:8
      |
    5 | kernel.k.source = 'k.cu'
      |        ^
      |
      = help: `shapes`: Named problem sizes: a table of dimensions each; the first is the default

    error: a kernel needs `tensors`
     --> Cargo.toml:5:8
      |
    5 | kernel.k.source = 'k.cu'
      |        ^
      |
      = help: `tensors`: Named tensors

    error: a kernel without a `reference`: a tuner that compares with nothing names kernels that never ran as the fastest
     --> Cargo.toml:5:8
      |
    5 | kernel.k.source = 'k.cu'
      |        ^
      |
      = help: `reference`: Function or program that computes the right outputs

    error: a kernel needs `entry`
     --> Cargo.toml:5:8
      |
    5 | kernel.k.source = 'k.cu'
      |        ^
      |
      = help: `entry`: Name of the function: an extern "C" name, a C++ name, or an instance of a template with toggles and dimensions in it, "ns::kernel<float, TILE>"; {TOGGLE} chooses among functions

    error: a kernel needs `args`
     --> Cargo.toml:5:8
      |
    5 | kernel.k.source = 'k.cu'
      |        ^
      |
      = help: `args`: Arguments in the order of the signature: names of tensors, scalars, tensor maps and symbols

    error: a CUDA kernel needs `grid`
     --> Cargo.toml:5:8
      |
    5 | kernel.k.source = 'k.cu'
      |        ^

    error: a CUDA kernel needs `block`
     --> Cargo.toml:5:8
      |
    5 | kernel.k.source = 'k.cu'
      |        ^
    "#);
    insta::assert_snapshot!(Fixture::new("[package.metadata.kbench]\nkernels = {}").diagnostics(), @r#"
    error: no kernels
     --> Cargo.toml:5:1
      |
    5 | kernels = {}
      | ^^^^^^^ this table is empty
    "#);
    insta::assert_snapshot!(Fixture::new("[package.metadata]\nkbench = 1").diagnostics(), @r#"
    error: `kbench` must be a table
     --> Cargo.toml:5:10
      |
    5 | kbench = 1
      |          ^ this is an integer
    "#);
    insta::assert_snapshot!(Fixture::new("[package.metadata]\nkbench.kernels = [1]").diagnostics(), @r#"
    error: `kernels` must be a table
     --> Cargo.toml:5:18
      |
    5 | kbench.kernels = [1]
      |                  ^^^ this is an array
    "#);
    insta::assert_snapshot!(Fixture::new("").diagnostics(), @r#"
    error: package `demo` has no kbench table
     --> Cargo.toml:2:8
      |
    2 | name = "demo"
      |        ^^^^^^
      |
      = help: describe its kernels under `[package.metadata.kbench.kernels.NAME]`
    "#);
    insta::assert_snapshot!(with("[workspace.metadata.kbench.kernels.w]\nsource = 'k.cu'"), @r#"
    error: kernels in the table of a workspace
      --> Cargo.toml:15:28
       |
    15 | [workspace.metadata.kbench.kernels.w]
       |                     ------ ^^^^^^^
       |                     |
       |                     this table holds defaults for the packages of the workspace
       |
       = help: a kernel belongs to a package: move it to `[package.metadata.kbench.kernels.NAME]` there
    "#);
}

#[test]
fn a_virtual_workspace_without_tables() {
    let fixture = Fixture { folder: tempfile::tempdir().unwrap() };
    fixture.write("Cargo.toml", "[workspace]\nmembers = []\n");
    insta::assert_snapshot!(fixture.diagnostics(), @r#"
    error: no package of this workspace has a kbench table
     --> Cargo.toml:1:1
      |
    1 | [workspace]
      | ^
      |
      = help: describe a package's kernels in its manifest, under `[package.metadata.kbench.kernels.NAME]`
    "#);
}

#[test]
fn every_mistake_in_one_run() {
    let table = MINIMAL
        .replace("entry =", "entyr =")
        .replace("block = 128", "block = true")
        .replace("ceil_div(N, TILE)", "ceil_div(N, TIEL)")
        .replace("\"x\", \"y\"", "\"x\", \"z\"");
    insta::assert_snapshot!(Fixture::new(&table).diagnostics(), @r#"
    error: unknown key `entyr` in a kernel
     --> Cargo.toml:7:1
      |
    7 | entyr = "k"
      | ^^^^^ did you mean `entry`?

    error: unknown name `TIEL`
     --> Cargo.toml:8:21
      |
    8 | grid = "ceil_div(N, TIEL)"
      |                     ^^^^ neither a dimension nor a toggle
      |
      = help: did you mean `TILE`?

    error: `block` must be an expression: a string or a number
     --> Cargo.toml:9:9
      |
    9 | block = true
      |         ^^^^ this is a boolean

    error: no tensor `z`
      --> Cargo.toml:10:14
       |
    10 | args = ["x", "z", { scalar = "i32", value = "N" }]
       |              ^^^
       |
       = help: there are `x` and `y`

    error: unknown key `entyr` in a reference
      --> Cargo.toml:14:33
       |
    14 | reference = { source = "ref.c", entyr = "k_ref" }
       |                                 ^^^^^ did you mean `entry`?
    "#);
}

#[test]
fn keys() {
    insta::assert_snapshot!(changed("grid =", "gird ="), @r#"
    error: unknown key `gird` in a kernel
     --> Cargo.toml:8:1
      |
    8 | gird = "ceil_div(N, TILE)"
      | ^^^^ did you mean `grid`?
    "#);
    insta::assert_snapshot!(with("[package.metadata.kbench.kernels.k.timing]\nsomething = 1"), @r#"
    error: unknown key `something` in timing
      --> Cargo.toml:16:1
       |
    16 | something = 1
       | ^^^^^^^^^
       |
       = help: its keys are `warmup`, `iterations`, `precision`, `max_seconds`, `cache`, `launch` and `timeout_seconds`
    "#);
    insta::assert_snapshot!(with("[package.metadata.kbench.timing]\nwarm-up = 1"), @r#"
    error: unknown key `warm-up` in timing
      --> Cargo.toml:16:1
       |
    16 | warm-up = 1
       | ^^^^^^^ did you mean `warmup`?
    "#);
    insta::assert_snapshot!(changed("reference = { source = \"ref.c\", entry = \"k_ref\" }\n", ""), @r#"
    error: a kernel without a `reference`: a tuner that compares with nothing names kernels that never ran as the fastest
     --> Cargo.toml:5:34
      |
    5 | [package.metadata.kbench.kernels.k]
      |                                  ^
      |
      = help: `reference`: Function or program that computes the right outputs
    "#);
    insta::assert_snapshot!(changed("source = \"k.cu\"\n", ""), @r#"
    error: a kernel needs `source`
     --> Cargo.toml:5:34
      |
    5 | [package.metadata.kbench.kernels.k]
      |                                  ^
      |
      = help: `source`: Source file, relative to this manifest; {TOGGLE} chooses among files
    "#);
    insta::assert_snapshot!(changed("kernels.k]", "kernels.\"k 1\"]"), @r#"
    error: `k 1` cannot name a kernel
     --> Cargo.toml:5:34
      |
    5 | [package.metadata.kbench.kernels."k 1"]
      |                                  ^^^^^ use letters, digits, `_`, `-` and `.`
    "#);
}

#[test]
fn types() {
    insta::assert_snapshot!(changed("entry = \"k\"", "entry = 1"), @r#"
    error: `entry` must be a string
     --> Cargo.toml:7:9
      |
    7 | entry = 1
      |         ^ this is an integer
    "#);
    insta::assert_snapshot!(changed("args = [", "args = 1 #"), @r#"
    error: `args` must be an array
      --> Cargo.toml:10:8
       |
    10 | args = 1 #"x", "y", { scalar = "i32", value = "N" }]
       |        ^ this is an integer
    "#);
    insta::assert_snapshot!(changed("[64, 128]", "[64, [1]]"), @r#"
    error: `TILE` must be an integer, a float, a boolean or a string
      --> Cargo.toml:13:35
       |
    13 | toggles = { macro = { TILE = [64, [1]] } }
       |                                   ^^^ this is an array
    "#);
    insta::assert_snapshot!(changed("dtype = \"f32\"", "dtype = \"f23\""), @r#"
    error: `f23` is no value of `dtype`
      --> Cargo.toml:12:27
       |
    12 | tensors = { x = { dtype = "f23", dims = ["N"] }, y = { dtype = "f32", dims = ["N"], role = "out" } }
       |                           ^^^^^
       |
       = help: did you mean `f32`?
    "#);
    insta::assert_snapshot!(changed("block = 128", "block = 128\nbackend = \"fak\""), @r#"
    error: `fak` is no value of `backend`
      --> Cargo.toml:10:11
       |
    10 | backend = "fak"
       |           ^^^^^
       |
       = help: there are `cuda` and `c`
    "#);
    insta::assert_snapshot!(with("timing = { iterations = 0, warmup = nan }"), @r#"
    error: `iterations` is too small
      --> Cargo.toml:15:25
       |
    15 | timing = { iterations = 0, warmup = nan }
       |                         ^ expected 1 or more

    error: a number out of range
      --> Cargo.toml:15:37
       |
    15 | timing = { iterations = 0, warmup = nan }
       |                                     ^^^ expected a finite number
    "#);
    insta::assert_snapshot!(with("timing = { precision = -0.1, max_seconds = '2' }"), @r#"
    error: `precision` is too small
      --> Cargo.toml:15:24
       |
    15 | timing = { precision = -0.1, max_seconds = '2' }
       |                        ^^^^ expected 0 or more

    error: `max_seconds` must be a number
      --> Cargo.toml:15:44
       |
    15 | timing = { precision = -0.1, max_seconds = '2' }
       |                                            ^^^ this is a string
    "#);
    insta::assert_snapshot!(with("timing = { iterations = 5000000000 }"), @r#"
    error: `iterations` is too large
      --> Cargo.toml:15:25
       |
    15 | timing = { iterations = 5000000000 }
       |                         ^^^^^^^^^^
    "#);
}

#[test]
fn shapes() {
    insta::assert_snapshot!(changed("{ small = { N = 1024 } }", "{}"), @r#"
    error: no shapes
      --> Cargo.toml:11:1
       |
    11 | shapes = {}
       | ^^^^^^ expected one shape or more: `small = { N = 1024 }`
    "#);
    insta::assert_snapshot!(changed("N = 1024", "N = 0"), @r#"
    error: `N` is too small
      --> Cargo.toml:11:26
       |
    11 | shapes = { small = { N = 0 } }
       |                          ^ expected 1 or more
    "#);
    insta::assert_snapshot!(changed("N = 1024", "N = 1024, TILE = 1"), @r#"
    error: `TILE` is a dimension and a toggle
      --> Cargo.toml:11:32
       |
    11 | shapes = { small = { N = 1024, TILE = 1 } }
       |                                ^^^^ expressions could not tell which is meant
    "#);
    insta::assert_snapshot!(changed("N = 1024", "N = 1024, SM_COUNT = 1"), @r#"
    error: `SM_COUNT` means something else in expressions
      --> Cargo.toml:11:32
       |
    11 | shapes = { small = { N = 1024, SM_COUNT = 1 } }
       |                                ^^^^^^^^ choose another name
    "#);
    insta::assert_snapshot!(changed("{ small = { N = 1024 } }", "{ small = { N = 1024 }, long = { N = 1, M = 2 } }"), @r#"
    error: shape `small` has no dimension `M`
      --> Cargo.toml:11:12
       |
    11 | shapes = { small = { N = 1024 }, long = { N = 1, M = 2 } }
       |            ^^^^^ shape `long` has it
       |
       = help: every shape gives a size to the same dimensions
    "#);
}

#[test]
fn expressions() {
    insta::assert_snapshot!(changed("ceil_div(N, TILE)", "ceil_div(N, TILE"), @r#"
    error: expected `)` at the end
     --> Cargo.toml:8:25
      |
    8 | grid = "ceil_div(N, TILE"
      |                         ^ in this expression
    "#);
    insta::assert_snapshot!(changed("ceil_div(N, TILE)", "N / 3"), @r#"
    error: `grid` must be an integer from 1 to 4294967295
     --> Cargo.toml:8:9
      |
    8 | grid = "N / 3"
      |         ^^^^^ 341.3333333333333 at shape `small` with the default variant
      |
      = help: `/` keeps fractions: use `//` to round down or `ceil_div(a, b)` to round up
    "#);
    insta::assert_snapshot!(changed("ceil_div(N, TILE)", "N - 1024"), @r#"
    error: `grid` must be an integer from 1 to 4294967295
     --> Cargo.toml:8:9
      |
    8 | grid = "N - 1024"
      |         ^^^^^^^^ 0 at shape `small` with the default variant
    "#);
    insta::assert_snapshot!(changed("ceil_div(N, TILE)", "N / (TILE - 64)"), @r#"
    error: division by zero in `N / (TILE - 64)`
     --> Cargo.toml:8:9
      |
    8 | grid = "N / (TILE - 64)"
      |         ^^^^^^^^^^^^^^^ at shape `small` with the default variant
    "#);
    insta::assert_snapshot!(changed("ceil_div(N, TILE)", "2 * (N * 99999999999999999)"), @r#"
    error: overflow in `N * 99999999999999999`
     --> Cargo.toml:8:14
      |
    8 | grid = "2 * (N * 99999999999999999)"
      |              ^^^^^^^^^^^^^^^^^^^^^ at shape `small` with the default variant
      |
      = help: integers have 64 bits; a float literal (`4.0 * …`) computes with floats
    "#);
    insta::assert_snapshot!(changed("ceil_div(N, TILE)", "min(N, SM_COUNT) * 2"), @"");
    insta::assert_snapshot!(changed("block = 128", "block = \"4 * WARP * (SM_COUNT > 1) * (MAX_SHARED > 1)\""), @"");
    // Expressions of a kernel on the host have no properties of a GPU.
    let in_c = MINIMAL.replace("k.cu", "k.c").replace("grid = \"ceil_div(N, TILE)\"\nblock = 128\n", "");
    insta::assert_snapshot!(Fixture::new(&in_c.replace("value = \"N\"", "value = \"WARP * N\"")).diagnostics(), @r#"
    error: unknown name `WARP`
     --> Cargo.toml:8:46
      |
    8 | args = ["x", "y", { scalar = "i32", value = "WARP * N" }]
      |                                              ^^^^ a property of a GPU, and this kernel runs on the host
    "#);
    insta::assert_snapshot!(changed("block = 128", "block = [1, 2, 3, 4]"), @r#"
    error: `block` has one to three sizes: x, y and z
     --> Cargo.toml:9:9
      |
    9 | block = [1, 2, 3, 4]
      |         ^^^^^^^^^^^^ this has 4
    "#);
    insta::assert_snapshot!(changed("\"i32\", value = \"N\"", "\"i8\", value = \"N\""), @r#"
    error: `value` must be an integer that fits i8
      --> Cargo.toml:10:45
       |
    10 | args = ["x", "y", { scalar = "i8", value = "N" }]
       |                                             ^ 1024 at shape `small` with the default variant
    "#);
    insta::assert_snapshot!(changed("dims = [\"N\"]", "dims = [\"N - 2000\"]"), @r#"
    error: `dims` must be an integer, 1 or more
      --> Cargo.toml:12:43
       |
    12 | tensors = { x = { dtype = "f32", dims = ["N - 2000"] }, y = { dtype = "f32", dims = ["N"], role = "out" } }
       |                                           ^^^^^^^^ -976 at shape `small` with the default variant
    "#);
    // In a string with escapes, the place is the whole string.
    insta::assert_snapshot!(changed("\"ceil_div(N, TILE)\"", "\"\\u004e + M\""), @r#"
    error: unknown name `M`
     --> Cargo.toml:8:8
      |
    8 | grid = "\u004e + M"
      |        ^^^^^^^^^^^^ neither a dimension nor a toggle
      |
      = help: there are `N`, `TILE` and `SM_COUNT`
    "#);
}

#[test]
fn ranges() {
    let toggle = |range: &str| changed("[64, 128]", range);
    insta::assert_snapshot!(toggle("{ from = 8, to = 4 }"), @r#"
    error: toggle `TILE` has no values
      --> Cargo.toml:13:30
       |
    13 | toggles = { macro = { TILE = { from = 8, to = 4 } } }
       |                              ^^^^^^^^^^^^^^^^^^^^ no value is in this range
    "#);
    insta::assert_snapshot!(toggle("{ from = 8 }"), @r#"
    error: a range needs `to`
      --> Cargo.toml:13:30
       |
    13 | toggles = { macro = { TILE = { from = 8 } } }
       |                              ^^^^^^^^^^^^ or `powers_of_two`
    "#);
    insta::assert_snapshot!(toggle("{ from = 8, to = 64, step = 0 }"), @r#"
    error: `step` is too small
      --> Cargo.toml:13:58
       |
    13 | toggles = { macro = { TILE = { from = 8, to = 64, step = 0 } } }
       |                                                          ^ expected 1 or more
    "#);
    insta::assert_snapshot!(toggle("{ from = 0, to = 65535 }"), @r#"
    error: toggle `TILE` has more than 65535 values
      --> Cargo.toml:13:30
       |
    13 | toggles = { macro = { TILE = { from = 0, to = 65535 } } }
       |                              ^^^^^^^^^^^^^^^^^^^^^^^^
    "#);
    insta::assert_snapshot!(toggle("{ from = 1, to = 4, stepp = 2 }"), @r#"
    error: unknown key `stepp` in a range
      --> Cargo.toml:13:50
       |
    13 | toggles = { macro = { TILE = { from = 1, to = 4, stepp = 2 } } }
       |                                                  ^^^^^ did you mean `step`?
    "#);
    insta::assert_snapshot!(toggle("{ powers_of_two = [5, 7] }"), @r#"
    error: toggle `TILE` has no values
      --> Cargo.toml:13:30
       |
    13 | toggles = { macro = { TILE = { powers_of_two = [5, 7] } } }
       |                              ^^^^^^^^^^^^^^^^^^^^^^^^^^ no value is in this range
    "#);
    insta::assert_snapshot!(toggle("{ powers_of_two = [1, 2, 4] }"), @r#"
    error: `powers_of_two` must be the least and the greatest value
      --> Cargo.toml:13:48
       |
    13 | toggles = { macro = { TILE = { powers_of_two = [1, 2, 4] } } }
       |                                                ^^^^^^^^^ as in [1, 64]
    "#);
    insta::assert_snapshot!(toggle("{ powers_of_two = [1, 4], to = 8 }"), @r#"
    error: `powers_of_two` and `to` exclude each other
      --> Cargo.toml:13:56
       |
    13 | toggles = { macro = { TILE = { powers_of_two = [1, 4], to = 8 } } }
       |                                                        ^^
    "#);
    insta::assert_snapshot!(toggle("{ powers_of_two = 8 }"), @r#"
    error: `powers_of_two` must be an array
      --> Cargo.toml:13:48
       |
    13 | toggles = { macro = { TILE = { powers_of_two = 8 } } }
       |                                                ^ this is an integer
    "#);
    insta::assert_snapshot!(toggle("64"), @r#"
    error: `TILE` must be an array or a range
      --> Cargo.toml:13:30
       |
    13 | toggles = { macro = { TILE = 64 } }
       |                              ^^ this is an integer
    "#);
}

#[test]
fn toggles() {
    insta::assert_snapshot!(changed("[64, 128]", "[]"), @r#"
    error: toggle `TILE` has no values
      --> Cargo.toml:13:30
       |
    13 | toggles = { macro = { TILE = [] } }
       |                              ^^ expected one value or more
    "#);
    insta::assert_snapshot!(changed("[64, 128]", "[64, 64]"), @r#"
    error: toggle `TILE` has the value `64` twice
      --> Cargo.toml:13:35
       |
    13 | toggles = { macro = { TILE = [64, 64] } }
       |                                   ^^ the compiler sees `-DTILE=64` both times
    "#);
    insta::assert_snapshot!(changed("[64, 128] }", "[1, 2] }, micro = { TILE = [1], FAST = [true, 1] }"), @r#"
    error: toggle `TILE` is in `macro` and in `micro`
      --> Cargo.toml:13:50
       |
    13 | toggles = { macro = { TILE = [1, 2] }, micro = { TILE = [1], FAST = [true, 1] } }
       |                       ---- it is here            ^^^^ again here

    error: toggle `FAST` has the value `1` twice
      --> Cargo.toml:13:76
       |
    13 | toggles = { macro = { TILE = [1, 2] }, micro = { TILE = [1], FAST = [true, 1] } }
       |                                                                            ^ the compiler sees `-DFAST=1` both times
    "#);
    insta::assert_snapshot!(changed("TILE = [64, 128]", "TILE = [64, 128], __X = [1], int = [1], 2x = [1], sqrt = [1]"), @r#"
    error: `__X` cannot name a macro
      --> Cargo.toml:13:41
       |
    13 | toggles = { macro = { TILE = [64, 128], __X = [1], int = [1], 2x = [1], sqrt = [1] } }
       |                                         ^^^ this name is reserved

    error: `int` cannot name a macro
      --> Cargo.toml:13:52
       |
    13 | toggles = { macro = { TILE = [64, 128], __X = [1], int = [1], 2x = [1], sqrt = [1] } }
       |                                                    ^^^ this name is reserved

    error: `2x` cannot name a macro
      --> Cargo.toml:13:63
       |
    13 | toggles = { macro = { TILE = [64, 128], __X = [1], int = [1], 2x = [1], sqrt = [1] } }
       |                                                               ^^ use letters, digits and `_`, no digit first

    error: `sqrt` means something else in expressions
      --> Cargo.toml:13:73
       |
    13 | toggles = { macro = { TILE = [64, 128], __X = [1], int = [1], 2x = [1], sqrt = [1] } }
       |                                                                         ^^^^ choose another name
    "#);
    insta::assert_snapshot!(changed("[64, 128] }", "[64, 128] }, default = { TILEE = 64 }"), @r#"
    error: no toggle `TILEE`
      --> Cargo.toml:13:55
       |
    13 | toggles = { macro = { TILE = [64, 128] }, default = { TILEE = 64 } }
       |                                                       ^^^^^
       |
       = help: did you mean `TILE`?
    "#);
    insta::assert_snapshot!(changed("[64, 128] }", "[64, 128] }, default = { TILE = 96 }"), @r#"
    error: toggle `TILE` has no value `96`
      --> Cargo.toml:13:62
       |
    13 | toggles = { macro = { TILE = [64, 128] }, default = { TILE = 96 } }
       |                                                              ^^ its values are `64` and `128`
    "#);
    insta::assert_snapshot!(changed("[64, 128] }", "[64, 128] }, default = { TILE = \"64\" }"), @r#"
    error: toggle `TILE` has no value `"64"`
      --> Cargo.toml:13:62
       |
    13 | toggles = { macro = { TILE = [64, 128] }, default = { TILE = "64" } }
       |                                                              ^^^^ its values are `64` and `128`
    "#);
    insta::assert_snapshot!(changed("[64, 128] }", "[64, 128] }, constraints = [\"TILE > 64\"]"), @r#"
    error: the default variant does not satisfy this constraint
      --> Cargo.toml:13:59
       |
    13 | toggles = { macro = { TILE = [64, 128] }, constraints = ["TILE > 64"] }
       |                                                           ^^^^^^^^^ the default is `TILE=64`
       |
       = help: without `default`, it is the first value of each toggle; give one that satisfies it
    "#);
    insta::assert_snapshot!(changed("[64, 128] }", "[64, 128] }, default = { TILE = 64 }, constraints = [\"TILE > 64\"]"), @r#"
    error: the default variant does not satisfy this constraint
      --> Cargo.toml:13:84
       |
    13 | toggles = { macro = { TILE = [64, 128] }, default = { TILE = 64 }, constraints = ["TILE > 64"] }
       |                                                                                    ^^^^^^^^^ the default is `TILE=64`
    "#);
    insta::assert_snapshot!(changed("[64, 128] }", "[64, 128] }, constraints = [\"TIL > 64\", \"N % TILE == 0\", \"TILE ==\"]"), @r#"
    error: unknown name `TIL` in a constraint
      --> Cargo.toml:13:59
       |
    13 | toggles = { macro = { TILE = [64, 128] }, constraints = ["TIL > 64", "N % TILE == 0", "TILE =="] }
       |                                                           ^^^ not a toggle
       |
       = help: did you mean `TILE`?

    error: unknown name `N` in a constraint
      --> Cargo.toml:13:71
       |
    13 | toggles = { macro = { TILE = [64, 128] }, constraints = ["TIL > 64", "N % TILE == 0", "TILE =="] }
       |                                                                       ^ a dimension
       |
       = help: constraints are over toggles, so that they hold at every shape

    error: expected a value at the end
      --> Cargo.toml:13:95
       |
    13 | toggles = { macro = { TILE = [64, 128] }, constraints = ["TIL > 64", "N % TILE == 0", "TILE =="] }
       |                                                                                               ^ in this expression
    "#);
    insta::assert_snapshot!(changed("[64, 128] }", "[64, 128] }, constraints = [\"1 % (TILE - 64) == 0\"]"), @r#"
    error: division by zero in `1 % (TILE - 64)`, with the default variant
      --> Cargo.toml:13:59
       |
    13 | toggles = { macro = { TILE = [64, 128] }, constraints = ["1 % (TILE - 64) == 0"] }
       |                                                           ^^^^^^^^^^^^^^^ the default is `TILE=64`
    "#);
    insta::assert_snapshot!(changed("block = 128", "block = 128\ndefines = { TILE = 1, for = \"N\" }"), @r#"
    error: `TILE` is a toggle too
      --> Cargo.toml:10:13
       |
    10 | defines = { TILE = 1, for = "N" }
       |             ^^^^ a macro has one definition

    error: `for` cannot name a macro
      --> Cargo.toml:10:23
       |
    10 | defines = { TILE = 1, for = "N" }
       |                       ^^^ this name is reserved
    "#);
}

#[test]
fn tensors_and_arguments() {
    insta::assert_snapshot!(changed("role = \"out\"", "role = \"in\""), @r#"
    error: no tensor is an output
      --> Cargo.toml:12:1
       |
    12 | tensors = { x = { dtype = "f32", dims = ["N"] }, y = { dtype = "f32", dims = ["N"], role = "in" } }
       | ^^^^^^^
       |
       = help: say `role = "out"` or `role = "inout"` for each output
    "#);
    insta::assert_snapshot!(changed("[\"x\", \"y\", ", "[\"x\", "), @r#"
    error: the kernel does not get the output `y`
      --> Cargo.toml:10:8
       |
    10 | args = ["x", { scalar = "i32", value = "N" }]
       |        ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^ it is not among these arguments
    "#);
    insta::assert_snapshot!(changed("[\"x\", ", "["), @r#"
    warning: tensor `x` is never used
      --> Cargo.toml:12:13
       |
    12 | tensors = { x = { dtype = "f32", dims = ["N"] }, y = { dtype = "f32", dims = ["N"], role = "out" } }
       |             ^ no `args` name it
    "#);
    insta::assert_snapshot!(changed("role = \"out\"", "role = \"out\", init = { constant = 0 }"), @r#"
    error: `y` is written by the kernel: it has no `init`
      --> Cargo.toml:12:99
       |
    12 | tensors = { x = { dtype = "f32", dims = ["N"] }, y = { dtype = "f32", dims = ["N"], role = "out", init = { constant = 0 } } }
       |                                                                                                   ^^^^ its contents before the launch are not used
    "#);
    insta::assert_snapshot!(changed("{ scalar = \"i32\", value = \"N\" }", "{ scalar = \"i32\", box = 1 }"), @r#"
    error: a `scalar` needs `value`
      --> Cargo.toml:10:19
       |
    10 | args = ["x", "y", { scalar = "i32", box = 1 }]
       |                   ^^^^^^^^^^^^^^^^^^^^^^^^^^^

    error: `box` does not belong to a `scalar`
      --> Cargo.toml:10:37
       |
    10 | args = ["x", "y", { scalar = "i32", box = 1 }]
       |                                     ^^^
    "#);
    insta::assert_snapshot!(changed("{ scalar = \"i32\", value = \"N\" }", "{ value = \"N\" }"), @r#"
    error: an argument is a tensor's name, a `scalar`, a `struct`, a `tensor` with an `offset`, a `tensor_map` or a `symbol`
      --> Cargo.toml:10:19
       |
    10 | args = ["x", "y", { value = "N" }]
       |                   ^^^^^^^^^^^^^^^ none of these
    "#);
    insta::assert_snapshot!(changed("{ scalar = \"i32\", value = \"N\" }", "{ tensor_map = \"x\", box = [1, 2], swizzle = 5 }"), @r#"
    error: the reference is a C function: it has no `tensor_map`
      --> Cargo.toml:10:19
       |
    10 | args = ["x", "y", { tensor_map = "x", box = [1, 2], swizzle = 5 }]
       |                   ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^ only CUDA has these
       |
       = help: give it `args` of its own

    error: the box has 2 sizes, the tensor map 1
      --> Cargo.toml:10:45
       |
    10 | args = ["x", "y", { tensor_map = "x", box = [1, 2], swizzle = 5 }]
       |                                             ^^^^^^ one for each dimension, outermost first

    error: `swizzle` must be 0, 32, 64 or 128
      --> Cargo.toml:10:63
       |
    10 | args = ["x", "y", { tensor_map = "x", box = [1, 2], swizzle = 5 }]
       |                                                               ^ bytes
    "#);
    insta::assert_snapshot!(changed("{ scalar = \"i32\", value = \"N\" }", "{ symbol = \"a b\", tensor = \"x\" }"), @r#"
    error: the reference is a C function: it has no `symbol`
      --> Cargo.toml:10:19
       |
    10 | args = ["x", "y", { symbol = "a b", tensor = "x" }]
       |                   ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^ only CUDA has these
       |
       = help: give it `args` of its own

    error: `a b` is no symbol
      --> Cargo.toml:10:30
       |
    10 | args = ["x", "y", { symbol = "a b", tensor = "x" }]
       |                              ^^^^^ expected a C identifier
    "#);
    insta::assert_snapshot!(with_tensor("t = { dtype = 'i32', dims = ['N'], init = { normal = {} } }"), @r#"
    error: this `init` does not suit the tensor
      --> Cargo.toml:12:66
       |
    12 | tensors = { t = { dtype = 'i32', dims = ['N'], init = { normal = {} } }, x = { dtype = "f32", dims = ["N"] }, y = { dtype = "f32", d...
       |                                                                  ^^ i32 has no fractions; use `integers = { low = 0, high = 15 }`
    "#);
    insta::assert_snapshot!(with_tensor("t = { dtype = 'u8', dims = ['N'], init = { integers = { low = 0, high = 256 } } }"), @r#"
    error: this `init` does not suit the tensor
      --> Cargo.toml:12:67
       |
    12 | tensors = { t = { dtype = 'u8', dims = ['N'], init = { integers = { low = 0, high = 256 } } }, x = { dtype = "f32", dims = ["N"] }, ...
       |                                                                   ^^^^^^^^^^^^^^^^^^^^^^^ u8 holds 0 to 255
    "#);
    insta::assert_snapshot!(with_tensor("t = { dtype = 'f32', dims = ['N'], init = { uniform = { low = 1, high = 1 } } }"), @r#"
    error: this `init` does not suit the tensor
      --> Cargo.toml:12:67
       |
    12 | tensors = { t = { dtype = 'f32', dims = ['N'], init = { uniform = { low = 1, high = 1 } } }, x = { dtype = "f32", dims = ["N"] }, y ...
       |                                                                   ^^^^^^^^^^^^^^^^^^^^^ `low` must be less than `high`
    "#);
    insta::assert_snapshot!(with_tensor("t = { dtype = 'f32', dims = ['N'], init = { normal = {}, constant = 1 } }"), @r#"
    error: `init` says one of normal, uniform, integers, arange, constant, offsets, file, command and from
      --> Cargo.toml:12:55
       |
    12 | tensors = { t = { dtype = 'f32', dims = ['N'], init = { normal = {}, constant = 1 } }, x = { dtype = "f32", dims = ["N"] }, y = { dt...
       |                                                       ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^ this says 2
    "#);
    insta::assert_snapshot!(with_tensor("t = { dtype = 'f32', dims = ['N'], init = { file = 'x.bin' } }"), @r#"
    error: cannot find `x.bin`
      --> Cargo.toml:12:64
       |
    12 | tensors = { t = { dtype = 'f32', dims = ['N'], init = { file = 'x.bin' } }, x = { dtype = "f32", dims = ["N"] }, y = { dtype = "f32"...
       |                                                                ^^^^^^^ no such file
       |
       = help: paths are relative to the manifest that says them
    "#);
    insta::assert_snapshot!(with_tensor("t = { dtype = 'f32', dims = ['N'], init = { file = 'x.safetensors' } }"), @r#"
    error: which `tensor` of the .safetensors file?
      --> Cargo.toml:12:64
       |
    12 | tensors = { t = { dtype = 'f32', dims = ['N'], init = { file = 'x.safetensors' } }, x = { dtype = "f32", dims = ["N"] }, y = { dtype...
       |                                                                ^^^^^^^^^^^^^^^
    "#);
}

#[test]
fn quantisation() {
    let quantised = |from: &str, scale: &str, scale_dims: &str| {
        with_tensor(&format!(
            "t = {{ dtype = 'f8e4m3', dims = ['N', 4], quantize = {{ from = '{from}', scale = '{scale}' }} }}, \
             f = {{ dtype = 'f16', dims = ['N', 4] }}, s = {{ dtype = 'f32', dims = [{scale_dims}] }}"
        ))
    };
    insta::assert_snapshot!(quantised("f", "s", "4"), @"");
    insta::assert_snapshot!(quantised("f", "s", ""), @"");
    insta::assert_snapshot!(quantised("f", "s", "2"), @r#"
    error: dimension `2` of `s` is not one dimension of `f`
      --> Cargo.toml:12:87
       |
    12 | tensors = { t = { dtype = 'f8e4m3', dims = ['N', 4], quantize = { from = 'f', scale = 's' } }, f = { dtype = 'f16', dims = ['N', 4] ...
       |                                                                                       ^^^ the dims of `f` are [N, 4]
       |
       = help: write the same expression in both; `dims = []` is one scale for all
    "#);
    insta::assert_snapshot!(quantised("g", "z", "4"), @r#"
    error: no tensor `g`
      --> Cargo.toml:12:74
       |
    12 | tensors = { t = { dtype = 'f8e4m3', dims = ['N', 4], quantize = { from = 'g', scale = 'z' } }, f = { dtype = 'f16', dims = ['N', 4] ...
       |                                                                          ^^^
       |
       = help: there are `t`, `f`, `s`, `x` and `y`

    error: no tensor `z`
      --> Cargo.toml:12:87
       |
    12 | tensors = { t = { dtype = 'f8e4m3', dims = ['N', 4], quantize = { from = 'g', scale = 'z' } }, f = { dtype = 'f16', dims = ['N', 4] ...
       |                                                                                       ^^^
       |
       = help: there are `t`, `f`, `s`, `x` and `y`
    "#);
    insta::assert_snapshot!(quantised("x", "s", "'N'"), @r#"
    error: `t` and `x` have different dims
      --> Cargo.toml:12:74
       |
    12 | tensors = { t = { dtype = 'f8e4m3', dims = ['N', 4], quantize = { from = 'x', scale = 's' } }, f = { dtype = 'f16', dims = ['N', 4] ...
       |                                                                          ^^^ its dims are [N], not [N, 4]
    "#);
    insta::assert_snapshot!(quantised("t", "s", "4"), @r#"
    error: quantised from a tensor that is itself quantised
      --> Cargo.toml:12:74
       |
    12 | tensors = { t = { dtype = 'f8e4m3', dims = ['N', 4], quantize = { from = 't', scale = 's' } }, f = { dtype = 'f16', dims = ['N', 4] ...
       |                                                                          ^^^
    "#);
    insta::assert_snapshot!(quantised("f", "f", "4"), @r#"
    error: `f` cannot receive scales
      --> Cargo.toml:12:87
       |
    12 | ...', 4], quantize = { from = 'f', scale = 'f' } }, f = { dtype = 'f16', dims = ['N', 4] }, s = { dtype = 'f32', dims = [4] }, x = {...
       |                                            ^^^ expected a tensor with no contents of its own
    "#);
}

#[test]
fn functions() {
    insta::assert_snapshot!(changed("k.cu", "missing.cu"), @r#"
    error: cannot find `missing.cu`
     --> Cargo.toml:6:10
      |
    6 | source = "missing.cu"
      |          ^^^^^^^^^^^^ no such file
      |
      = help: paths are relative to the manifest that says them
    "#);
    insta::assert_snapshot!(changed("k.cu", "x.npy"), @r#"
    error: which `backend` is this kernel for?
     --> Cargo.toml:6:10
      |
    6 | source = "x.npy"
      |          ^^^^^^^ the extension does not say it
      |
      = help: say `backend = "cuda"` or `backend = "c"`
    "#);
    insta::assert_snapshot!(changed("entry = \"k\"", "entry = \"k<float\""), @r#"
    error: `k<float` is no function name
     --> Cargo.toml:7:9
      |
    7 | entry = "k<float"
      |         ^^^^^^^^^ expected a C identifier, or a C++ name such as `ns::kernel<float, TILE>`
    "#);
    insta::assert_snapshot!(changed("grid = \"ceil_div(N, TILE)\"\nblock = 128\n", ""), @r#"
    error: a CUDA kernel needs `grid`
     --> Cargo.toml:5:34
      |
    5 | [package.metadata.kbench.kernels.k]
      |                                  ^

    error: a CUDA kernel needs `block`
     --> Cargo.toml:5:34
      |
    5 | [package.metadata.kbench.kernels.k]
      |                                  ^
    "#);
    insta::assert_snapshot!(changed("source = \"k.cu\"", "source = \"k.c\""), @r#"
    warning: `grid` is not used: a C kernel is called, not launched
     --> Cargo.toml:8:1
      |
    8 | grid = "ceil_div(N, TILE)"
      | ^^^^

    warning: `block` is not used: a C kernel is called, not launched
     --> Cargo.toml:9:1
      |
    9 | block = 128
      | ^^^^^
    "#);
    insta::assert_snapshot!(changed("{ source = \"ref.c\", entry = \"k_ref\" }", "{ source = \"ref.c\", args = [\"x\"] }"), @r#"
    error: a reference needs `entry`
      --> Cargo.toml:14:1
       |
    14 | reference = { source = "ref.c", args = ["x"] }
       | ^^^^^^^^^

    error: the reference does not get the output `y`
      --> Cargo.toml:14:40
       |
    14 | reference = { source = "ref.c", args = ["x"] }
       |                                        ^^^^^ it is not among these arguments
    "#);
    insta::assert_snapshot!(changed("block = 128", "block = 128\narch = [\"sm_90a\", \"90\"]"), @r#"
    error: `90` is no architecture
      --> Cargo.toml:10:19
       |
    10 | arch = ["sm_90a", "90"]
       |                   ^^^^ expected `sm_` and a number: `sm_90a`
    "#);
}

#[test]
fn headers_have_paths_inside_their_folder() {
    let headers = "block = 128\nheaders = { \"lib/a.h\" = \"\", \"../b.h\" = \"\", \"/c.h\" = \"\", \"d.h\" = 1 }";
    insta::assert_snapshot!(changed("block = 128", headers), @r#"
    error: `../b.h` cannot name a header
      --> Cargo.toml:10:29
       |
    10 | headers = { "lib/a.h" = "", "../b.h" = "", "/c.h" = "", "d.h" = 1 }
       |                             ^^^^^^^^ expected a relative path, as in `#include`

    error: `/c.h` cannot name a header
      --> Cargo.toml:10:44
       |
    10 | headers = { "lib/a.h" = "", "../b.h" = "", "/c.h" = "", "d.h" = 1 }
       |                                            ^^^^^^ expected a relative path, as in `#include`

    error: `d.h` must be a string
      --> Cargo.toml:10:65
       |
    10 | headers = { "lib/a.h" = "", "../b.h" = "", "/c.h" = "", "d.h" = 1 }
       |                                                                 ^ this is an integer
    "#);
}

#[test]
fn derived_tensors_have_the_sizes_of_their_contents() {
    let with = |init: &str| with_tensor(&format!("t = {{ dtype = \"f16\", dims = [\"N\", 2], init = {{ {init} }} }}"));
    insta::assert_snapshot!(with("from = [\"x\", \"x\"], axes = [1, 0]"), @"");
    insta::assert_snapshot!(with("from = \"x\", view = [\"N // 2\", 2], border = { width = [\"N // 4\", 0], value = -inf }"), @"");
    insta::assert_snapshot!(with("from = [\"x\", \"x\"]"), @r#"
    error: the sizes of `t` are not those of its contents
      --> Cargo.toml:12:41
       |
    12 | tensors = { t = { dtype = "f16", dims = ["N", 2], init = { from = ["x", "x"] } }, x = { dtype = "f32", dims = ["N"] }, y = { dtype =...
       |                                         ^^^^^^^^ [1024, 2] at shape `small`, and the contents have [2, 1024]
       |
       = help: `axes = [1, 0]` transposes, `view` splits and joins axes, `border` adds to both ends
    "#);
    insta::assert_snapshot!(with("from = [\"x\", \"x\"], axes = [1, 1]"), @r#"
    error: `axes` is not an order of the 2 axes
      --> Cargo.toml:12:86
       |
    12 | ..., 2], init = { from = ["x", "x"], axes = [1, 1] } }, x = { dtype = "f32", dims = ["N"] }, y = { dtype = "f32", dims = ["N"], role...
       |                                             ^^^^^^ expected each of the numbers 0 to 1 once
    "#);
    insta::assert_snapshot!(with("from = \"x\", view = [\"N // 3\", 2]"), @r#"
    error: `view` has 682 elements, `from` 1024
      --> Cargo.toml:12:79
       |
    12 | ..."N", 2], init = { from = "x", view = ["N // 3", 2] } }, x = { dtype = "f32", dims = ["N"] }, y = { dtype = "f32", dims = ["N"], r...
       |                                         ^^^^^^^^^^^^^ at shape `small` with the default variant
    "#);
    insta::assert_snapshot!(with("from = \"x\", view = [\"N\", 1], border = { width = [1, 2, 3] }"), @r#"
    error: `width` has 3 widths
      --> Cargo.toml:12:108
       |
    12 | ...iew = ["N", 1], border = { width = [1, 2, 3] } } }, x = { dtype = "f32", dims = ["N"] }, y = { dtype = "f32", dims = ["N"], role ...
       |                                       ^^^^^^^^^ expected one width, or one for each of the 2 axes
    "#);
    // One mistake has one message.
    let drawn = with("from = \"x\", view = [\"N\", 1], border = { width = -1 }");
    assert!(drawn.contains("`width` must be an integer, 0 or more") && !drawn.contains("widths"), "{drawn}");
    insta::assert_snapshot!(with("from = \"x\", view = [\"N // 2\", 2], border = { width = 0, value = 1e9 }"), @r#"
    error: this `init` does not suit the tensor
      --> Cargo.toml:12:67
       |
    12 | tensors = { t = { dtype = "f16", dims = ["N", 2], init = { from = "x", view = ["N // 2", 2], border = { width = 0, value = 1e9 } } }...
       |                                                                   ^^^ f16 cannot hold 1000000000
    "#);
    insta::assert_snapshot!(with("from = \"z\""), @r#"
    error: no tensor `z`
      --> Cargo.toml:12:67
       |
    12 | tensors = { t = { dtype = "f16", dims = ["N", 2], init = { from = "z" } }, x = { dtype = "f32", dims = ["N"] }, y = { dtype = "f32",...
       |                                                                   ^^^
       |
       = help: there are `t`, `x` and `y`
    "#);
    insta::assert_snapshot!(with("from = \"y\""), @r#"
    error: `y` has no contents
      --> Cargo.toml:12:67
       |
    12 | tensors = { t = { dtype = "f16", dims = ["N", 2], init = { from = "y" } }, x = { dtype = "f32", dims = ["N"] }, y = { dtype = "f32",...
       |                                                                   ^^^ expected an input
    "#);
    insta::assert_snapshot!(with("from = \"t\""), @r#"
    error: `t` is made of itself
      --> Cargo.toml:12:67
       |
    12 | tensors = { t = { dtype = "f16", dims = ["N", 2], init = { from = "t" } }, x = { dtype = "f32", dims = ["N"] }, y = { dtype = "f32",...
       |                                                                   ^^^ `t` needs it first
    "#);
    insta::assert_snapshot!(with("from = []"), @r#"
    error: `from` is empty
      --> Cargo.toml:12:67
       |
    12 | tensors = { t = { dtype = "f16", dims = ["N", 2], init = { from = [] } }, x = { dtype = "f32", dims = ["N"] }, y = { dtype = "f32", ...
       |                                                                   ^^ expected one tensor or several
    "#);
    insta::assert_snapshot!(with("constant = 1, axes = [0, 1]"), @r#"
    error: `axes` belongs to `from`
      --> Cargo.toml:12:74
       |
    12 | tensors = { t = { dtype = "f16", dims = ["N", 2], init = { constant = 1, axes = [0, 1] } }, x = { dtype = "f32", dims = ["N"] }, y =...
       |                                                                          ^^^^
    "#);
    insta::assert_snapshot!(with("view = [\"N\", 2]"), @r#"
    error: `init` says one of normal, uniform, integers, arange, constant, offsets, file, command and from
      --> Cargo.toml:12:58
       |
    12 | tensors = { t = { dtype = "f16", dims = ["N", 2], init = { view = ["N", 2] } }, x = { dtype = "f32", dims = ["N"] }, y = { dtype = "...
       |                                                          ^^^^^^^^^^^^^^^^^^^ this says 0
    "#);
    insta::assert_snapshot!(with("from = \"x\", constant = 1"), @r#"
    error: `init` says one of normal, uniform, integers, arange, constant, offsets, file, command and from
      --> Cargo.toml:12:58
       |
    12 | tensors = { t = { dtype = "f16", dims = ["N", 2], init = { from = "x", constant = 1 } }, x = { dtype = "f32", dims = ["N"] }, y = { ...
       |                                                          ^^^^^^^^^^^^^^^^^^^^^^^^^^^^ this says 2
    "#);
}

#[test]
fn clobber_is_for_inputs_only() {
    insta::assert_snapshot!(changed("role = \"out\"", "role = \"out\", clobber = true"), @r#"
    error: `y` is not an input
      --> Cargo.toml:12:99
       |
    12 | tensors = { x = { dtype = "f32", dims = ["N"] }, y = { dtype = "f32", dims = ["N"], role = "out", clobber = true } }
       |                                                                                                   ^^^^^^^ `clobber` belongs to a tensor with role "in"
    "#);
    insta::assert_snapshot!(changed("x = { dtype = \"f32\"", "x = { clobber = true, dtype = \"f32\""), @"");
}

#[test]
fn a_name_in_cpp_needs_a_source_in_cpp() {
    let reference = "{ source = \"ref.c\", entry = \"k_ref\" }";
    insta::assert_snapshot!(changed(reference, "{ source = \"ref.c\", entry = \"ns::k_ref<float>\" }"), @r#"
    error: `ns::k_ref<float>` is a name in C++, and `ref.c` is C
      --> Cargo.toml:14:41
       |
    14 | reference = { source = "ref.c", entry = "ns::k_ref<float>" }
       |                                         ^^^^^^^^^^^^^^^^^^ expected a C identifier
       |
       = help: sources in C++ end in `.cpp`, `.cc`, `.cxx`, `.c++` and `.C`
    "#);
}

#[test]
fn the_architecture_is_no_flag() {
    let with_flags = |arch: &str, flags: &str| changed("block = 128", &format!("block = 128\n{arch}\nflags = {flags}"));
    insta::assert_snapshot!(with_flags("arch = [\"sm_80\"]", "[\"-O3\", \"-arch=sm_90\"]"), @r#"
    error: `-arch=sm_90` asks for another architecture than `arch`
      --> Cargo.toml:11:17
       |
    11 | flags = ["-O3", "-arch=sm_90"]
       |                 ^^^^^^^^^^^^^ the table says sm_80
       |
       = help: leave the flag out and say `arch = ["sm_90"]`
    "#);
    assert!(
        with_flags("", "[\"-gencode\", \"arch=compute_90,code=sm_90\"]")
            .contains("the architecture is that of the GPU")
    );
    for flags in ["[\"-arch=sm_80\"]", "[\"--gpu-architecture\", \"sm_80\"]", "[\"-lineinfo\"]"] {
        assert_eq!(with_flags("arch = [\"sm_80\"]", flags), "", "{flags}");
    }
    for flag in
        ["-code=sm_90", "--gpu-code=sm_80", "--generate-code=arch=compute_90", "-arch=native", "--gpu-architecture=all"]
    {
        assert!(with_flags("arch = [\"sm_80\"]", &format!("[\"{flag}\"]")).contains(flag), "{flag}");
    }
}

#[test]
fn baselines_and_gates() {
    insta::assert_snapshot!(with("baselines.a = {}"), @r#"
    error: baseline `a` needs one of: toggles, kernel, source, command
      --> Cargo.toml:15:11
       |
    15 | baselines.a = {}
       |           ^
    "#);
    insta::assert_snapshot!(with("baselines.a = { kernel = 'k' }"), @r#"
    error: a kernel cannot be its own baseline
      --> Cargo.toml:15:26
       |
    15 | baselines.a = { kernel = 'k' }
       |                          ^^^
       |
       = help: `toggles = { … }` names another variant of it
    "#);
    insta::assert_snapshot!(with("baselines.a = { kernel = 'kk', entry = 'e' }"), @r#"
    error: no kernel `kk`
      --> Cargo.toml:15:26
       |
    15 | baselines.a = { kernel = 'kk', entry = 'e' }
       |                          ^^^^

    error: `entry` does not belong to a baseline by `kernel`
      --> Cargo.toml:15:32
       |
    15 | baselines.a = { kernel = 'kk', entry = 'e' }
       |                                ^^^^^
    "#);
    insta::assert_snapshot!(with("baselines.a = { toggles = { TILE = 65 }, command = ['true'] }"), @r#"
    error: baseline `a` takes one of: toggles, kernel, source, command
      --> Cargo.toml:15:42
       |
    15 | baselines.a = { toggles = { TILE = 65 }, command = ['true'] }
       |                 -------                  ^^^^^^^
    "#);
    insta::assert_snapshot!(with("baselines.a = { toggles = { TILE = 65 } }"), @r#"
    error: toggle `TILE` has no value `65`
      --> Cargo.toml:15:36
       |
    15 | baselines.a = { toggles = { TILE = 65 } }
       |                                    ^^ its values are `64` and `128`
    "#);
    insta::assert_snapshot!(with("baselines.a = { command = [] }"), @r#"
    error: an empty command
      --> Cargo.toml:15:27
       |
    15 | baselines.a = { command = [] }
       |                           ^^ expected a program and its arguments
    "#);
    insta::assert_snapshot!(with("baselines.a = { source = 'naive.c', entry = 'n', correctness = {} }"), @r#"
    error: `correctness` does not belong to a baseline by `source`
      --> Cargo.toml:15:50
       |
    15 | baselines.a = { source = 'naive.c', entry = 'n', correctness = {} }
       |                                                  ^^^^^^^^^^^
    "#);
    insta::assert_snapshot!(with("baselines.a = { source = 'naive.c' }"), @r#"
    error: a baseline needs `entry`
      --> Cargo.toml:15:11
       |
    15 | baselines.a = { source = 'naive.c' }
       |           ^
    "#);
    insta::assert_snapshot!(with("gates.performance = [{ min_speedup = 2 }, { shape = 'smal', max_p50_us = 1 }, { min_speedup = 2, over = 'b' }, {}]"), @r#"
    error: `min_speedup` without a baseline
      --> Cargo.toml:15:38
       |
    15 | gates.performance = [{ min_speedup = 2 }, { shape = 'smal', max_p50_us = 1 }, { min_speedup = 2, over = 'b' }, {}]
       |                                      ^ this needs `over`
       |
       = help: name one of `baselines`: `over = "…"`

    error: no shape `smal`
      --> Cargo.toml:15:53
       |
    15 | gates.performance = [{ min_speedup = 2 }, { shape = 'smal', max_p50_us = 1 }, { min_speedup = 2, over = 'b' }, {}]
       |                                                     ^^^^^^
       |
       = help: did you mean `small`?

    error: no baseline `b`
      --> Cargo.toml:15:105
       |
    15 | gates.performance = [{ min_speedup = 2 }, { shape = 'smal', max_p50_us = 1 }, { min_speedup = 2, over = 'b' }, {}]
       |                                                                                                         ^^^

    error: a performance limit without a limit
      --> Cargo.toml:15:112
       |
    15 | gates.performance = [{ min_speedup = 2 }, { shape = 'smal', max_p50_us = 1 }, { min_speedup = 2, over = 'b' }, {}]
       |                                                                                                                ^^ expected `max_p50_us` or `min_speedup`
    "#);
    insta::assert_snapshot!(with("gates.correctness = { shapes = ['large'], max_bad_fraction = 2, seeds = 0 }"), @r#"
    error: no shape `large`
      --> Cargo.toml:15:33
       |
    15 | gates.correctness = { shapes = ['large'], max_bad_fraction = 2, seeds = 0 }
       |                                 ^^^^^^^
       |
       = help: there is `small`

    error: `max_bad_fraction` needs `max_abs_err`
      --> Cargo.toml:15:43
       |
    15 | gates.correctness = { shapes = ['large'], max_bad_fraction = 2, seeds = 0 }
       |                                           ^^^^^^^^^^^^^^^^ elements above that count as bad

    error: `max_bad_fraction` is a share
      --> Cargo.toml:15:62
       |
    15 | gates.correctness = { shapes = ['large'], max_bad_fraction = 2, seeds = 0 }
       |                                                              ^ expected 0 to 1

    error: `seeds` is too small
      --> Cargo.toml:15:73
       |
    15 | gates.correctness = { shapes = ['large'], max_bad_fraction = 2, seeds = 0 }
       |                                                                         ^ expected 1 or more
    "#);
    insta::assert_snapshot!(with("gates.resources = { level = 'error', min_occupancy = 50 }"), @r#"
    error: `error` is no value of `level`
      --> Cargo.toml:15:29
       |
    15 | gates.resources = { level = 'error', min_occupancy = 50 }
       |                             ^^^^^^^
       |
       = help: there are `allow`, `warn` and `deny`

    error: `min_occupancy` is a share
      --> Cargo.toml:15:54
       |
    15 | gates.resources = { level = 'error', min_occupancy = 50 }
       |                                                      ^^ expected 0 to 1
    "#);
    insta::assert_snapshot!(with("gates.sanitize = 'error'"), @r#"
    error: `error` is no value of `sanitize`
      --> Cargo.toml:15:18
       |
    15 | gates.sanitize = 'error'
       |                  ^^^^^^^
       |
       = help: there are `allow`, `warn` and `deny`
    "#);
    insta::assert_snapshot!(with("gates.sanitize = true"), @r#"
    error: `sanitize` must be a string or a table
      --> Cargo.toml:15:18
       |
    15 | gates.sanitize = true
       |                  ^^^^ this is a boolean
    "#);
    insta::assert_snapshot!(with("gates.sanitize = { tools = ['memchek', 'address'], shapes = ['smal'], timeout_seconds = 0 }"), @r#"
    error: `memchek` is no value of `tools`
      --> Cargo.toml:15:29
       |
    15 | gates.sanitize = { tools = ['memchek', 'address'], shapes = ['smal'], timeout_seconds = 0 }
       |                             ^^^^^^^^^
       |
       = help: did you mean `memcheck`?

    error: `address` cannot watch a kernel in CUDA
      --> Cargo.toml:15:40
       |
    15 | gates.sanitize = { tools = ['memchek', 'address'], shapes = ['smal'], timeout_seconds = 0 }
       |                                        ^^^^^^^^^
       |
       = help: its tools are `memcheck`, `racecheck`, `initcheck` and `synccheck`

    error: no shape `smal`
      --> Cargo.toml:15:62
       |
    15 | gates.sanitize = { tools = ['memchek', 'address'], shapes = ['smal'], timeout_seconds = 0 }
       |                                                              ^^^^^^
       |
       = help: did you mean `small`?

    error: `timeout_seconds` is too small
      --> Cargo.toml:15:89
       |
    15 | gates.sanitize = { tools = ['memchek', 'address'], shapes = ['smal'], timeout_seconds = 0 }
       |                                                                                         ^ expected 1 or more
    "#);
    insta::assert_snapshot!(with("gates.sanitize = { tools = [], shapes = [] }"), @r#"
    error: sanitizers without a tool
      --> Cargo.toml:15:28
       |
    15 | gates.sanitize = { tools = [], shapes = [] }
       |                            ^^ leave it out to run all, or say `level = "allow"`

    error: sanitizers at no shape
      --> Cargo.toml:15:41
       |
    15 | gates.sanitize = { tools = [], shapes = [] }
       |                                         ^^ leave it out to run them at the smallest
    "#);
    insta::assert_snapshot!(with("gates.counters = { any = ['dram_throughput < 50', 'sm__throughput', 'sm__throughput > x'] }"), @r#"
    error: `dram_throughput` is no metric
      --> Cargo.toml:15:28
       |
    15 | gates.counters = { any = ['dram_throughput < 50', 'sm__throughput', 'sm__throughput > x'] }
       |                            ^^^^^^^^^^^^^^^
       |
       = help: did you mean `dram__throughput`?

    error: `sm__throughput` is not a comparison
      --> Cargo.toml:15:51
       |
    15 | gates.counters = { any = ['dram_throughput < 50', 'sm__throughput', 'sm__throughput > x'] }
       |                                                   ^^^^^^^^^^^^^^^^
       |
       = help: write a metric, one of `>=`, `<=`, `>`, `<`, and a number: `dram__throughput < 50`

    error: `x` is no number
      --> Cargo.toml:15:87
       |
    15 | gates.counters = { any = ['dram_throughput < 50', 'sm__throughput', 'sm__throughput > x'] }
       |                                                                                       ^ expected one in the metric's unit, percent for most
    "#);
    insta::assert_snapshot!(with("gates.counters = { any = [], all = ['sm__throughput > 1'] }"), @r#"
    error: `any` and `all` in one gate
      --> Cargo.toml:15:30
       |
    15 | gates.counters = { any = [], all = ['sm__throughput > 1'] }
       |                    ---       ^^^
       |                    |
       |                    the other one
       |
       = help: keep one: of `any` one condition must hold, of `all` every one
    "#);
    insta::assert_snapshot!(with("gates.counters = { all = [], shapes = [] }"), @r#"
    error: counters without a condition
      --> Cargo.toml:15:26
       |
    15 | gates.counters = { all = [], shapes = [] }
       |                          ^^ leave it out for the default conditions

    error: counters at no shape
      --> Cargo.toml:15:39
       |
    15 | gates.counters = { all = [], shapes = [] }
       |                                       ^^ leave it out to count at the search's
    "#);
    insta::assert_snapshot!(with("gates.counters = { any = ['perf__cycles > 1', 'roofline__cmpute > 1'] }"), @r#"
    error: `perf__cycles` cannot be counted of a kernel in CUDA
      --> Cargo.toml:15:28
       |
    15 | gates.counters = { any = ['perf__cycles > 1', 'roofline__cmpute > 1'] }
       |                            ^^^^^^^^^^^^
       |
       = help: there are `sm__pipe_tensor_cycles_active`, `dram__throughput`, `sm__throughput`, `lts__throughput`, `l1tex__throughput`, `sm__warps_active`, `roofline__compute` and `roofline__memory`

    error: `roofline__cmpute` is no metric
      --> Cargo.toml:15:48
       |
    15 | gates.counters = { any = ['perf__cycles > 1', 'roofline__cmpute > 1'] }
       |                                                ^^^^^^^^^^^^^^^^
       |
       = help: did you mean `roofline__compute`?
    "#);
    insta::assert_snapshot!(with("search = { elite = 0, strategy = 'bayes', shape = 'x', budget = { seconds = 0 } }"), @r#"
    error: `elite` is too small
      --> Cargo.toml:15:20
       |
    15 | search = { elite = 0, strategy = 'bayes', shape = 'x', budget = { seconds = 0 } }
       |                    ^ expected 1 or more

    error: `bayes` is no value of `strategy`
      --> Cargo.toml:15:34
       |
    15 | search = { elite = 0, strategy = 'bayes', shape = 'x', budget = { seconds = 0 } }
       |                                  ^^^^^^^
       |
       = help: there are `auto`, `evo`, `random`, `annealing`, `genetic` and `exhaustive`

    error: no shape `x`
      --> Cargo.toml:15:51
       |
    15 | search = { elite = 0, strategy = 'bayes', shape = 'x', budget = { seconds = 0 } }
       |                                                   ^^^
       |
       = help: there is `small`

    error: `seconds` is too small
      --> Cargo.toml:15:77
       |
    15 | search = { elite = 0, strategy = 'bayes', shape = 'x', budget = { seconds = 0 } }
       |                                                                             ^ expected 1 or more
    "#);
}

#[test]
fn objectives() {
    insta::assert_snapshot!(with("search = { objective = ['p50', 'energi', 'p50'] }"), @r#"
    error: a search has one objective or two
      --> Cargo.toml:15:24
       |
    15 | search = { objective = ['p50', 'energi', 'p50'] }
       |                        ^^^^^^^^^^^^^^^^^^^^^^^^ this names 3
       |
       = help: limits are no objectives: see `gates.resources` and `gates.performance`

    error: `energi` is no value of `objective`
      --> Cargo.toml:15:32
       |
    15 | search = { objective = ['p50', 'energi', 'p50'] }
       |                                ^^^^^^^^
       |
       = help: did you mean `energy`?

    error: the objective `p50` twice
      --> Cargo.toml:15:42
       |
    15 | search = { objective = ['p50', 'energi', 'p50'] }
       |                                          ^^^^^ name each once
    "#);
    insta::assert_snapshot!(with("search.objective = 'throughput'\nwork = { flops = 0, bytes = 'N - N' }"), @r"
    error: a throughput follows from `work`, which is 0
      --> Cargo.toml:15:20
       |
    15 | search.objective = 'throughput'
       |                    ^^^^^^^^^^^^ at `small`
    ");
    insta::assert_snapshot!(with("search.objective = 'throughput'\nwork = {}"), @r"
    error: a throughput follows from `work`, which the kernel does not state
      --> Cargo.toml:15:20
       |
    15 | search.objective = 'throughput'
       |                    ^^^^^^^^^^^^
    ");
    assert_eq!(with("search.objective = 'throughput'\nwork = { flops = 0, bytes = 'N' }"), "");
    insta::assert_snapshot!(with("search.objective = { mean = { smal = 1, small = 0 }, median = 1 }"), @r#"
    error: no shape `smal`
      --> Cargo.toml:15:31
       |
    15 | search.objective = { mean = { smal = 1, small = 0 }, median = 1 }
       |                               ^^^^
       |
       = help: did you mean `small`?

    error: a weight of zero
      --> Cargo.toml:15:49
       |
    15 | search.objective = { mean = { smal = 1, small = 0 }, median = 1 }
       |                                                 ^ leave the shape out

    error: unknown key `median` in an objective
      --> Cargo.toml:15:54
       |
    15 | search.objective = { mean = { smal = 1, small = 0 }, median = 1 }
       |                                                      ^^^^^^ did you mean `mean`?
    "#);
    insta::assert_snapshot!(with("search.objective = [{ mean = {} }, {}]"), @r#"
    error: a mean of no shapes
      --> Cargo.toml:15:30
       |
    15 | search.objective = [{ mean = {} }, {}]
       |                              ^^ expected `mean = { SHAPE = WEIGHT, … }`

    error: an objective without a name
      --> Cargo.toml:15:36
       |
    15 | search.objective = [{ mean = {} }, {}]
       |                                    ^^ expected `mean = { SHAPE = WEIGHT, … }` or `command = [PROGRAM, …]`
    "#);
    insta::assert_snapshot!(
        with("search.objective = { command = [], mean = {}, lang = 'python', out = '../x', better = 'more' }\nrunner = ['ssh']"),
        @r#"
    error: a command without a program
      --> Cargo.toml:15:32
       |
    15 | search.objective = { command = [], mean = {}, lang = 'python', out = '../x', better = 'more' }
       |                                ^^ expected `command = [PROGRAM, …]`

    error: `mean` and `command` in one objective
      --> Cargo.toml:15:43
       |
    15 | search.objective = { command = [], mean = {}, lang = 'python', out = '../x', better = 'more' }
       |                                           ^^ name each in a table of its own

    error: the folder of an export lies below the package's
      --> Cargo.toml:15:70
       |
    15 | search.objective = { command = [], mean = {}, lang = 'python', out = '../x', better = 'more' }
       |                                                                      ^^^^^^ expected a relative path without `..`

    error: `more` is no value of `better`
      --> Cargo.toml:15:87
       |
    15 | search.objective = { command = [], mean = {}, lang = 'python', out = '../x', better = 'more' }
       |                                                                                       ^^^^^^
       |
       = help: there are `lower` and `higher`

    error: `runner` beside an objective with `command`
      --> Cargo.toml:16:10
       |
    16 | runner = ['ssh']
       |          ^^^^^^^ the program runs here
    "#
    );
    insta::assert_snapshot!(with("search.objective = { mean = { small = 1 }, lang = 'c' }"), @r#"
    error: `lang` belongs to an objective with `command`
      --> Cargo.toml:15:51
       |
    15 | search.objective = { mean = { small = 1 }, lang = 'c' }
       |                                                   ^^^
    "#);
    insta::assert_snapshot!(with("search.objective = []"), @r#"
    error: a search has one objective or two
      --> Cargo.toml:15:20
       |
    15 | search.objective = []
       |                    ^^ this names 0
       |
       = help: limits are no objectives: see `gates.resources` and `gates.performance`
    "#);
    insta::assert_snapshot!(with("search.objective = { mean = { small = inf } }"), @r#"
    error: a number out of range
      --> Cargo.toml:15:39
       |
    15 | search.objective = { mean = { small = inf } }
       |                                       ^^^ expected a finite number
    "#);
    insta::assert_snapshot!(with("search.objective = ['registers', 5]\nbackend = 'c'"), @r#"
    warning: `grid` is not used: a C kernel is called, not launched
     --> Cargo.toml:8:1
      |
    8 | grid = "ceil_div(N, TILE)"
      | ^^^^

    warning: `block` is not used: a C kernel is called, not launched
     --> Cargo.toml:9:1
      |
    9 | block = 128
      | ^^^^^

    error: `registers` cannot be told of a kernel in C
      --> Cargo.toml:15:21
       |
    15 | search.objective = ['registers', 5]
       |                     ^^^^^^^^^^^ only of one in CUDA

    error: `objective` must be a string or a table
      --> Cargo.toml:15:34
       |
    15 | search.objective = ['registers', 5]
       |                                  ^ this is an integer
    "#);
}

#[test]
fn a_proposer_is_a_program() {
    insta::assert_snapshot!(with("search.proposer = []"), @r"
    error: an empty command
      --> Cargo.toml:15:19
       |
    15 | search.proposer = []
       |                   ^^ expected a program and its arguments
    ");
    insta::assert_snapshot!(with("search.proposer = 'sh'"), @r"
    error: `proposer` must be an array
      --> Cargo.toml:15:19
       |
    15 | search.proposer = 'sh'
       |                   ^^^^ this is a string
    ");
}

#[test]
fn an_init_beyond_its_type_is_a_mistake() {
    for (dtype, init, says) in [
        ("f32", "{ constant = 1e39 }", "f32 cannot hold 1e39"),
        ("f32", "{ uniform = { low = -1e39, high = 1 } }", "f32 holds -3.4028234663852886e38 to 3.4028234663852886e38"),
        ("f8e4m3", "{ uniform = { low = 0, high = 449 } }", "f8e4m3 holds -448 to 448"),
        ("f16", "{ normal = { std = 65504 } }", "f16 holds -65504 to 65504, these values go beyond"),
        ("u8", "{ arange = {} }", "u8 holds 0 to 255, element 1023 at shape `small` is 1023"),
        ("f16", "{ arange = { step = 100 } }", "f16 holds -65504 to 65504, element 1023 at shape `small` is 102300"),
        ("u8", "{ arange = { start = 10, step = -1 } }", "u8 holds 0 to 255, element 1023 at shape `small` is -1013"),
        ("i32", "{ arange = { step = 0.5 } }", "i32 cannot hold steps of 0.5 from 0"),
    ] {
        let drawn = with_tensor(&format!("t = {{ dtype = '{dtype}', dims = ['N'], init = {init} }}"));
        assert!(drawn.contains(says), "{drawn}");
    }
    for (dtype, init) in [
        ("f64", "{ uniform = { low = -1.79e308, high = 1.79e308 } }"),
        ("u16", "{ arange = {} }"),
        ("u16", "{ arange = { start = 2000, step = -1 } }"),
        ("i8", "{ integers = { low = -128, high = 127 } }"),
        ("f8e4m3", "{ normal = { std = 300 } }"),
    ] {
        let drawn = with_tensor(&format!("t = {{ dtype = '{dtype}', dims = ['N'], init = {init} }}"));
        assert!(!drawn.contains("init"), "{drawn}");
    }
}
