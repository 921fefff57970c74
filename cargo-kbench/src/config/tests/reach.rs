//! Toggles that are not macros, and texts that contain toggles.

use super::*;

/// A kernel with toggles of every table.
const WHOLE: &str = r#"
[package.metadata.kbench.kernels.k]
backend = "cuda"
source = "k{WAYS}.cu"
entry = "ns::kernel_{WAYS}<float, TILE, D, (T > 2)>"
flags = ["-maxrregcount={REGS * 8}", "-O3", { flag = "--use_fast_math", when = "FAST" }]
grid = "ceil_div(N, BLOCK)"
block = "BLOCK"
args = ["x", "y", { scalar = "i32", value = "N" }]
shapes = { small = { N = 1024, D = 64 } }
tensors = { x = { dtype = "f32", dims = ["N"] }, y = { dtype = "f32", dims = ["N"], role = "out" } }
reference = { source = "ref.c", entry = "k_ref" }

[package.metadata.kbench.kernels.k.toggles]
macro = { TILE = [64, 128], WAYS = [1, 2] }
constant = { FACTOR = [1, 2], WIDE = [false, true], LIMIT = [1, 5000000000], RATE = [0.5, 1] }
launch = { BLOCK = [128, 256], REGS = [8, 16], T = [1, 2] }
micro = { FAST = [false, true] }
constraints = ["BLOCK >= TILE"]
"#;

fn whole(change: (&str, &str)) -> Fixture {
    assert!(WHOLE.contains(change.0), "{}", change.0);
    let fixture = Fixture::new(&WHOLE.replacen(change.0, change.1, 1));
    fixture.write("k1.cu", "");
    fixture.write("k2.cu", "");
    fixture
}

#[test]
fn tables_of_toggles_choose_macros_constants_and_launch() {
    let fixture = whole(("", ""));
    let (project, warnings) = fixture.load().unwrap();
    assert_eq!(warnings, []);
    let kernel = &project.packages[0].kernels[0];
    let names = |reach: Reach| -> Vec<&str> {
        kernel.space.reaching(&kernel.space.default, reach).map(|(toggle, _)| toggle.name.as_str()).collect()
    };
    assert_eq!(names(Reach::Macro), ["TILE", "WAYS", "FAST"]);
    assert_eq!(names(Reach::Constant), ["FACTOR", "WIDE", "LIMIT", "RATE"]);
    assert_eq!(names(Reach::Launch), ["BLOCK", "REGS", "T"]);
    let micro: Vec<_> = kernel.space.toggles.iter().filter(|toggle| toggle.layer == Layer::Micro).collect();
    assert_eq!(micro.len(), 1);
    assert_eq!(kernel.implementation.source, fixture.path().join("k1.cu"));
    assert_eq!(kernel.implementation.launches[0].entry.template_arguments(), ["TILE", "D", "T"]);
}

#[test]
fn texts_with_toggles_are_checked_at_their_place() {
    let changes = [
        ("{REGS * 8}", "{REG * 8}"),
        ("{REGS * 8}", "{REGS / 0}"),
        ("{REGS * 8}", "{REGS * 8"),
        ("{REGS * 8}", "32"),
        ("when = \"FAST\"", "when = \"FASTER\""),
        ("when = \"FAST\"", "where = \"FAST\""),
        ("kernel_{WAYS}", "kernel_{WAY}"),
        ("(T > 2)>", "(T > 2)"),
        ("k{WAYS}.cu", "k{WAYS + 1}.cu"),
        ("k{WAYS}.cu", "k{N}.cu"),
        ("FACTOR = [1, 2]", "FACTOR = [1, \"two\"]"),
        ("FACTOR = [1, 2]", "TILE = [1, 2]"),
        ("FACTOR = [1, 2]", "int = [1, 2]"),
    ];
    let drawn = changes.map(|change| whole(change).diagnostics());
    insta::assert_snapshot!(drawn.join("\n"));
}
