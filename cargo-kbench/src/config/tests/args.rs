//! Arguments other than plain tensors and numbers, and contents that depend on sizes.

use super::*;

const WHOLE: &str = r#"
[package.metadata.kbench.kernels.k]
source = "k.c"
entry = "k"
args = [
    { struct = [{ scalar = "char", value = "1" }, "x", { struct = [{ scalar = "bool", value = "N > 4" }, { scalar = "f64", value = "0.5" }] }, { scalar = "i16", value = 3 }], type = "struct view" },
    { tensor = "x", offset = "N // 2" },
    "y", "rows", "count", "mask", "columns",
]
shapes = { small = { N = 1024 } }
reference = { source = "ref.c", entry = "k_ref", args = ["x", "y"] }

[package.metadata.kbench.kernels.k.tensors]
x = { dtype = "f32", dims = ["N"] }
y = { dtype = "f32", dims = ["N"], role = "out" }
rows = { dtype = "i32", dims = ["N + 1"], init = { offsets = "8 * N" } }
count = { dtype = "i32", dims = [], init = { constant = "N * 3" } }
mask = { dtype = "f32", dims = ["N"], init = { constant = -inf } }
columns = { dtype = "i32", dims = ["N"], init = { integers = { low = 0, high = "N - 1" } } }
"#;

fn changed(from: &str, to: &str) -> Fixture {
    assert!(WHOLE.contains(from), "{from}");
    Fixture::new(&WHOLE.replacen(from, to, 1))
}

#[test]
fn structs_are_laid_out_as_c_does() {
    let (project, warnings) = Fixture::new(WHOLE).load().unwrap();
    assert_eq!(warnings, []);
    let kernel = &project.packages[0].kernels[0];
    let args = &kernel.implementation.launches[0].args;
    let Arg::Value(ArgValue::Struct { ty, fields }) = &args[0] else { panic!("{args:?}") };
    assert_eq!(ty.as_deref(), Some("struct view"));
    // char, padding, pointer, { bool, padding, double }, short, padding.
    assert_eq!(Layout::of(fields), Layout { bytes: 40, align: 8, places: vec![0, 8, 16, 32] });
    assert_eq!(args[0].tensors(), [0]);
    assert!(matches!(&args[1], Arg::Value(ArgValue::Offset { tensor: 0, offset }) if offset.text() == "N // 2"));
    let init = |tensor: usize| &kernel.tensors[tensor].init;
    assert!(matches!(init(2), Init::Offsets(last) if last.text() == "8 * N"));
    assert!(matches!(init(3), Init::Computed(value) if value.text() == "N * 3"));
    assert_eq!(*init(4), Init::Constant(f64::NEG_INFINITY));
    assert!(matches!(init(5), Init::Between { low, high } if (low.text(), high.text()) == ("0", "N - 1")));
}

#[test]
fn mistakes_of_arguments_and_contents_are_drawn_at_their_place() {
    let changes = [
        (", type = \"struct view\" }", " }"),
        ("type = \"struct view\"", "type = \"struct view {\""),
        ("{ tensor = \"x\", offset = \"N // 2\" }", "{ tensor = \"x\" }"),
        ("offset = \"N // 2\"", "offset = \"0 - N\""),
        ("offset = \"N // 2\"", "offset = \"N + 1\""),
        ("{ tensor = \"x\", offset = \"N // 2\" }", "{ struct = [], type = \"none\" }"),
        ("\"x\", { struct", "{ symbol = \"s\", tensor = \"x\" }, { struct"),
        ("scalar = \"bool\", value = \"N > 4\"", "scalar = \"boolean\", value = \"N > 4\""),
        ("value = \"1\" }, \"x\"", "value = \"300\" }, \"x\""),
        ("dims = [\"N + 1\"]", "dims = [\"N\", 2]"),
        ("dtype = \"i32\", dims = [\"N + 1\"]", "dtype = \"i8\", dims = [\"N + 1\"]"),
        ("constant = \"N * 3\"", "constant = \"N * 0.3\""),
        ("constant = \"N * 3\"", "constant = inf"),
        ("shapes = { small = { N = 1024 } }", "shapes = { small = { N = 1024 } }\ntiming.max_seconds = nan"),
    ];
    let drawn = changes.map(|(from, to)| changed(from, to).diagnostics());
    insta::assert_snapshot!(drawn.join("\n"));
}
