//! Several launches that are one run.

use super::*;

/// A reduction in two stages; a toggle decides whether the second is launched.
const TWO_STAGES: &str = r#"
[package.metadata.kbench.kernels.k]
source = "k.cu"
launches = [
    { entry = "sums", grid = "PARTS", block = 128, args = ["x", "partial", "y", { scalar = "i32", value = "N" }] },
    { entry = "total", grid = 1, block = 128, args = ["partial", "y"], when = "PARTS > 1", zero = ["y"] },
]
shapes = { small = { N = 1024 } }
toggles = { macro = { PARTS = [4, 1] } }

[package.metadata.kbench.kernels.k.tensors]
x = { dtype = "f32", dims = ["N"] }
partial = { dtype = "f32", dims = ["PARTS"], role = "scratch" }
y = { dtype = "f32", dims = [], role = "out" }

[package.metadata.kbench.kernels.k.reference]
source = "ref.c"
entry = "k_ref"
args = ["x", "y"]
"#;

fn changed(from: &str, to: &str) -> Fixture {
    assert!(TWO_STAGES.contains(from), "{from}");
    Fixture::new(&TWO_STAGES.replacen(from, to, 1))
}

#[test]
fn launches_are_read_in_order() {
    let (project, warnings) = Fixture::new(TWO_STAGES).load().unwrap();
    assert_eq!(warnings, []);
    let implementation = &project.packages[0].kernels[0].implementation;
    assert_eq!(implementation.entries(), ["sums", "total"]);
    let [sums, total] = &implementation.launches[..] else { panic!("{implementation:?}") };
    assert!(sums.when.is_none() && sums.zero.is_empty());
    assert_eq!((sums.grid[0].text(), sums.args.len(), sums.places.len()), ("PARTS", 4, 4));
    assert_eq!((total.when.as_ref().unwrap().text(), &total.zero[..]), ("PARTS > 1", &[2][..]));
    assert_eq!(implementation.names(), ["PARTS", "N", "PARTS"]);
}

#[test]
fn a_launch_without_variants_is_a_mistake_if_the_space_excludes_it() {
    let never = |when: &str| changed("PARTS > 1", when).load().is_err();
    assert!(never("PARTS > 4") && never("PARTS == 2") && never("N < 1024"));
    assert!(!never("PARTS == 1") && !never("PARTS * 256 == N") && !never("N == 1024 and PARTS < 4"));
    let constrained =
        changed("macro = { PARTS = [4, 1] }", "macro = { PARTS = [4, 1] }, constraints = [\"PARTS > 1\"]");
    assert!(constrained.load().is_ok());
    let table =
        TWO_STAGES.replace("macro = { PARTS = [4, 1] }", "macro = { PARTS = [4, 1] }, constraints = [\"PARTS > 1\"]");
    assert!(Fixture::new(&table.replace("when = \"PARTS > 1\"", "when = \"PARTS == 1\"")).load().is_err());
}

#[test]
fn mistakes_of_launches_are_drawn_at_their_place() {
    let changes = [
        ("source = \"k.cu\"", "source = \"k.cu\"\nentry = \"k\"\nblock = 128"),
        ("entry = \"sums\", grid", "grid"),
        ("grid = 1, block = 128, args", "args"),
        ("args = [\"partial\", \"y\"], when", "when"),
        ("args = [\"x\", \"y\"]\n", ""),
        ("when = \"PARTS > 1\"", "when = \"PART > 1\""),
        ("when = \"PARTS > 1\"", "when = \"PARTS > 4\""),
        ("zero = [\"y\"]", "zero = [\"z\"]"),
        ("zero = [\"y\"]", "zero = [\"x\"]"),
        ("entry = \"total\"", "entry = \"sums\""),
        ("\"partial\", \"y\", {", "\"partial\", {"),
    ];
    let mut drawn: Vec<String> = changes.iter().map(|(from, to)| changed(from, to).diagnostics()).collect();
    drawn.push(Fixture::new(&TWO_STAGES.replace("\"y\"]", "\"partial\"]").replace("\"y\", {", "{")).diagnostics());
    let table = TWO_STAGES.replace("\"N\" }] }", "\"N\" }], when = \"PARTS == 1\" }");
    drawn.push(Fixture::new(&table.replace("when = \"PARTS > 1\"", "when = \"PARTS < 4\"")).diagnostics());
    let i = TWO_STAGES.find("launches = [").unwrap();
    let j = TWO_STAGES.find("]\nshapes").unwrap();
    drawn.push(Fixture::new(&format!("{}launches = [{}", &TWO_STAGES[..i], &TWO_STAGES[j..])).diagnostics());
    insta::assert_snapshot!(drawn.join("\n"));
}
