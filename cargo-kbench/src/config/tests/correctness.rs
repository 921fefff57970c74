//! The correctness gate: its defaults, and the checks that a table can add.

use kbench_runtime::dtype::DType;
use kbench_runtime::protocol::Pattern;

use super::*;

fn loaded(more: &str) -> Kernel {
    let text = format!("{}\n{more}\n", MINIMAL.replace("small = {", "large = { N = 4096 }, small = {"));
    let (project, warnings) = Fixture::new(&text).load().unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(warnings, []);
    project.packages[0].kernels[0].clone()
}

fn drawn(more: &str) -> String {
    Fixture::new(&format!("{MINIMAL}{more}\n")).diagnostics()
}

#[test]
fn sizes_make_shapes_that_are_only_checked() {
    let kernel =
        loaded("gates = { correctness = { sizes = { N = [1, 77, 1024] }, shapes = ['large'] }, sanitize = 'deny' }");
    let names: Vec<(&str, bool)> = kernel.shapes.iter().map(|shape| (shape.name.as_str(), shape.check_only)).collect();
    // 1024 is that of `small` itself.
    assert_eq!(names, [("large", false), ("small", false), ("small with N = 1", true), ("small with N = 77", true)]);
    assert_eq!(kernel.shapes[2].dims, [("N".to_owned(), 1)]);
    assert_eq!(kernel.gates.correctness.shapes, [0, 2, 3]);
    assert_eq!((kernel.search.shape, kernel.gates.sanitize.shapes), (0, vec![1]));
    assert_eq!(loaded("gates.correctness.sizes = { N = 'any' }").shapes.len(), 2 + 7);
    assert_eq!(loaded("").gates.correctness.shapes, [0, 1]);
}

#[test]
fn patterns_are_all_that_change_a_tensor() {
    assert_eq!(loaded("").gates.correctness.patterns, Pattern::ALL);
    let two = loaded("gates.correctness.patterns = ['equal', 'large']").gates.correctness.patterns;
    assert_eq!(two, [Pattern::Large, Pattern::Equal]);
    assert_eq!(loaded("gates.correctness.patterns = []").gates.correctness.patterns, []);
}

#[test]
fn a_naive_version_is_a_baseline_that_runs_where_the_kernel_does() {
    let table = "baselines = { other = { toggles = { TILE = 128 } }, torch = { command = ['python3'] } }\n";
    let limits = loaded(&format!("{table}gates.correctness = {{ naive = 'other' }}")).gates.correctness;
    assert_eq!((limits.naive, limits.max_naive_ratio), (Some(0), 2.0));
    let program = drawn(&format!("{table}gates.correctness = {{ naive = 'torch' }}"));
    insta::assert_snapshot!(program, @r#"
    error: this baseline cannot be `naive`
      --> Cargo.toml:16:31
       |
    16 | gates.correctness = { naive = 'torch' }
       |                               ^^^^^^^
       |
       = help: name one by `toggles`, or by `source` with the kernel's own backend
    "#);
}

#[test]
fn mistakes_are_drawn_at_their_place() {
    insta::assert_snapshot!(drawn("gates.correctness = { sizes = { M = [1] }, naive = 'x', max_naive_ratio = 3.0 }"), @r#"
    error: unknown dimension `M`
      --> Cargo.toml:15:33
       |
    15 | gates.correctness = { sizes = { M = [1] }, naive = 'x', max_naive_ratio = 3.0 }
       |                                 ^
       |
       = help: there is `N`

    error: no baseline `x`
      --> Cargo.toml:15:52
       |
    15 | gates.correctness = { sizes = { M = [1] }, naive = 'x', max_naive_ratio = 3.0 }
       |                                                    ^^^
    "#);
    insta::assert_snapshot!(drawn("gates.correctness = { sizes = { N = 'all' }, patterns = ['hot'], max_bias_ratio = 2 }"), @r#"
    error: `all` is no value of `N`
      --> Cargo.toml:15:37
       |
    15 | gates.correctness = { sizes = { N = 'all' }, patterns = ['hot'], max_bias_ratio = 2 }
       |                                     ^^^^^
       |
       = help: there is `any`

    error: `hot` is no value of `patterns`
      --> Cargo.toml:15:58
       |
    15 | gates.correctness = { sizes = { N = 'all' }, patterns = ['hot'], max_bias_ratio = 2 }
       |                                                          ^^^^^
       |
       = help: there are `large`, `hot-row`, `hot-tile`, `equal`, `denormal`, `sign-flips`, `negative`, `positive`, `opposite-signs`, `zeros`, `ascending`, `outlier-first` and `outlier-last`

    error: `max_bias_ratio` is a share
      --> Cargo.toml:15:83
       |
    15 | gates.correctness = { sizes = { N = 'all' }, patterns = ['hot'], max_bias_ratio = 2 }
       |                                                                                   ^ expected 0 to 1
    "#);
    insta::assert_snapshot!(drawn("gates.correctness = { sizes = { N = [0] }, max_total_err = 0.1, max_naive_ratio = 3.0 }"), @r#"
    error: `N` is too small
      --> Cargo.toml:15:38
       |
    15 | gates.correctness = { sizes = { N = [0] }, max_total_err = 0.1, max_naive_ratio = 3.0 }
       |                                      ^ expected 1 or more

    error: `max_total_err` where nothing is quantised
      --> Cargo.toml:15:44
       |
    15 | gates.correctness = { sizes = { N = [0] }, max_total_err = 0.1, max_naive_ratio = 3.0 }
       |                                            ^^^^^^^^^^^^^ no tensor has `quantize`

    error: `max_naive_ratio` needs `naive`
      --> Cargo.toml:15:65
       |
    15 | gates.correctness = { sizes = { N = [0] }, max_total_err = 0.1, max_naive_ratio = 3.0 }
       |                                                                 ^^^^^^^^^^^^^^^ this limits errors by those of a baseline
    "#);
    let divided = MINIMAL.replace("ceil_div(N, TILE)", "N / TILE");
    let more = "gates.correctness = { sizes = { N = [64, 65] } }\n";
    insta::assert_snapshot!(Fixture::new(&format!("{divided}{more}")).diagnostics(), @r#"
    error: `grid` must be an integer from 1 to 4294967295
     --> Cargo.toml:8:9
      |
    8 | grid = "N / TILE"
      |         ^^^^^^^^ 1.015625 at shape `small with N = 65` with the default variant
      |
      = help: `/` keeps fractions: use `//` to round down or `ceil_div(a, b)` to round up
    "#);
    let arange = MINIMAL.replace("dims = [\"N\"] }", "dims = [\"N\"], init = { arange = {} } }");
    insta::assert_snapshot!(Fixture::new(&format!("{arange}gates.correctness = {{ patterns = ['equal'] }}\n")).diagnostics(), @r#"
    warning: the pattern `equal` changes no tensor
      --> Cargo.toml:15:35
       |
    15 | gates.correctness = { patterns = ['equal'] }
       |                                   ^^^^^^^
       |
       = help: patterns are for tensors whose `init` is normal, uniform, or integers of both signs
    "#);
}

#[test]
fn a_reference_by_command_has_no_other_keys() {
    let command = |reference: &str| MINIMAL.replace("{ source = \"ref.c\", entry = \"k_ref\" }", reference);
    let (project, _) =
        Fixture::new(&command("{ command = [\"python3\", \"ref.py\"], precision = \"f32\" }")).load().unwrap();
    let reference = &project.packages[0].kernels[0].reference;
    assert!(matches!(&reference.kind, ReferenceKind::Command(words) if words.len() == 2));
    assert_eq!(reference.precision, DType::F32);
    insta::assert_snapshot!(Fixture::new(&command("{ command = [], entry = \"k\" }")).diagnostics(), @r#"
    error: an empty command
      --> Cargo.toml:14:25
       |
    14 | reference = { command = [], entry = "k" }
       |                         ^^ expected a program and its arguments

    error: `entry` does not belong to a reference by `command`
      --> Cargo.toml:14:29
       |
    14 | reference = { command = [], entry = "k" }
       |               -------       ^^^^^
    "#);
}
