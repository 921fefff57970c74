//! Arbitrary manifests cause errors and no panics.

use proptest::prelude::*;

use super::*;

/// Words that pass the first checks.
const KEYS: [&str; 34] = [
    "kernels",
    "k",
    "source",
    "entry",
    "grid",
    "args",
    "shapes",
    "small",
    "N",
    "tensors",
    "x",
    "y",
    "dtype",
    "dims",
    "role",
    "init",
    "quantize",
    "from",
    "scale",
    "toggles",
    "macro",
    "micro",
    "TILE",
    "default",
    "constraints",
    "reference",
    "baselines",
    "gates",
    "performance",
    "correctness",
    "over",
    "search",
    "timing",
    "shape",
];

fn scalar() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::sample::select(vec![
            "1",
            "0",
            "-1",
            "9223372036854775807",
            "99999999999999999999",
            "1.5",
            "nan",
            "inf",
            "true",
            "1979-05-27",
            "\"k.cu\"",
            "\"ref.c\"",
            "\"N\"",
            "\"TILE\"",
            "\"N / 0\"",
            "\"x\"",
            "\"y\"",
            "\"out\"",
            "\"f32\"",
            "\"i8\"",
            "\"small\"",
            "\"§ + 1\"",
            "\"\\u0041 +\"",
            "'''\nN'''",
            "\"\"",
            "\"cuda\"",
            "\"c\"",
            "[]",
            "{}",
            "{ N = 2 }",
            "[1, 1]",
            "[64, \"a\", true]",
            "{ scalar = \"i32\", value = \"N\" }",
            "{ tensor_map = \"x\", box = 1 }",
            "{ from = \"x\", scale = \"y\" }",
            "{ normal = {} }",
        ])
        .prop_map(str::to_owned),
        "[ -~]{0,8}".prop_map(|text| format!("{text:?}")),
    ]
}

fn value() -> impl Strategy<Value = String> {
    scalar().prop_recursive(4, 48, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(|values| format!("[{}]", values.join(", "))),
            prop::collection::btree_map(prop::sample::select(KEYS.to_vec()), inner, 0..6).prop_map(|entries| {
                let entries: Vec<String> = entries.iter().map(|(key, value)| format!("{key} = {value}")).collect();
                format!("{{ {} }}", entries.join(", "))
            }),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn an_arbitrary_table_never_panics(table in value()) {
        Fixture::new(&format!("[package.metadata]\nkbench = {table}\n")).diagnostics();
    }

    /// A valid table in which some keys have arbitrary values: most of it is read, together with the rest.
    #[test]
    fn an_arbitrary_key_never_panics(keys in prop::collection::vec((prop::sample::select(KEYS.to_vec()), value()), 1..4)) {
        let mut table: toml::Table = MINIMAL.parse().unwrap();
        let kernel = table["package"]["metadata"]["kbench"]["kernels"]["k"].as_table_mut().unwrap();
        for (key, value) in keys {
            // Texts that toml itself refuses belong to the other test.
            if let Ok(parsed) = format!("v = {value}").parse::<toml::Table>() {
                kernel.insert(key.to_owned(), parsed["v"].clone());
            }
        }
        Fixture::new(&toml::to_string(&table).unwrap()).diagnostics();
    }

    #[test]
    fn an_arbitrary_text_never_panics(text in "[ -~\n§]{0,60}") {
        Fixture::new(&text).diagnostics();
    }
}
