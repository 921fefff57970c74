use super::*;

#[path = "../../benches/published/mod.rs"]
mod published;

fn toggle(name: &str, layer: Layer, values: &[i64]) -> Toggle {
    Toggle {
        name: name.to_owned(),
        values: values.iter().copied().map(Value::Int).collect(),
        layer,
        reach: Reach::Macro,
    }
}

fn space(toggles: Vec<Toggle>, constraints: &[&str]) -> Space {
    let default = Variant(vec![0; toggles.len()]);
    let constraints = constraints.iter().map(|text| Expr::parse(text).unwrap()).collect();
    Space { toggles, constraints, default }
}

fn macro_space(params: &[(&str, &[i64])], constraints: &[&str]) -> Space {
    space(params.iter().map(|(name, values)| toggle(name, Layer::Macro, values)).collect(), constraints)
}

/// The example of the design document with an additional boolean and string.
fn example() -> Space {
    let mut space = space(
        vec![
            toggle("USE_WARP_SPECIALIZATION", Layer::Macro, &[0, 1]),
            toggle("TILE_M", Layer::Macro, &[64, 128]),
            toggle("NUM_PRODUCER_WARPS", Layer::Micro, &[1, 2]),
        ],
        &["USE_WARP_SPECIALIZATION == 1 or NUM_PRODUCER_WARPS == 1"],
    );
    let fast = Toggle {
        name: "FAST".to_owned(),
        values: vec![Value::Bool(false), Value::Bool(true)],
        layer: Layer::Micro,
        reach: Reach::Macro,
    };
    let mode = Toggle {
        name: "MODE".to_owned(),
        values: ["rn", "rz"].map(|text| Value::Str(text.to_owned())).to_vec(),
        layer: Layer::Micro,
        reach: Reach::Macro,
    };
    space.toggles.extend([fast, mode]);
    space.default = Variant(vec![0; 5]);
    space
}

/// The smaller published spaces; the benchmark has all of them.
#[test]
fn published_spaces_have_their_published_sizes() {
    for published in published::all().into_iter().filter(|published| published.name != "hotspot") {
        let params: Vec<(&str, &[i64])> =
            published.toggles.iter().map(|(name, values)| (*name, values.as_slice())).collect();
        let space = macro_space(&params, &published.constraints);
        assert_eq!(space.cartesian(), published.cartesian, "{}", published.name);
        assert_eq!(space.solve().count(), Some(published.valid), "{}", published.name);
    }
}

/// A product that is too large to enumerate: four copies of the divisor pattern of ATF's Gaussian convolution.
#[test]
fn constraints_prune_before_the_product_is_built() {
    let names: Vec<String> = (0..12).map(|index| format!("T{index}")).collect();
    let values: Vec<i64> = (1..=64).collect();
    let toggles = names.iter().map(|name| toggle(name, Layer::Macro, &values)).collect();
    let constraints: Vec<String> = (1..12).map(|index| format!("T{} == T{}", index - 1, index)).collect();
    let space = space(toggles, &constraints.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(space.cartesian(), 64u128.pow(12));
    assert_eq!(space.variants().count(), 64);
    assert_eq!(space.counts().removed[0], Some(64u128.pow(12) / 64 * 63));
}

#[test]
fn layers() {
    let space = example();
    let counts = space.counts();
    assert_eq!(counts.cartesian, 32);
    assert_eq!(counts.valid, Some(24));
    assert_eq!(counts.macro_points, Some(4));
    assert_eq!(counts.micro_points, Some(4));
    assert_eq!(counts.removed, [Some(8)]);
    let specialized = space.parse("USE_WARP_SPECIALIZATION=1").unwrap();
    let labels: Vec<_> = space.variants_of_layer(Layer::Micro, &specialized).map(|variant| variant.0).collect();
    assert_eq!(labels.len(), 8);
    assert!(labels.contains(&specialized.0));
    assert!(labels.iter().all(|indices| indices[..2] == specialized.0[..2]));
}

#[test]
fn a_space_without_toggles_has_one_variant() {
    let empty = space(Vec::new(), &[]);
    assert_eq!(empty.variants().collect::<Vec<_>>(), [Variant(Vec::new())]);
    assert_eq!(empty.label(&empty.default), "");
    assert_eq!(space(Vec::new(), &["1 == 2"]).variants().count(), 0);
    assert_eq!(macro_space(&[("A", &[1, 2])], &["1 == 2"]).variants().count(), 0);
}

#[test]
fn a_constraint_without_a_value_is_not_satisfied() {
    let space = macro_space(&[("A", &[0, 1, 2])], &["4 % A == 0"]);
    assert_eq!(space.variants().map(|variant| space.label(&variant)).collect::<Vec<_>>(), ["A=1", "A=2"]);
    assert!(matches!(space.violated(&Variant(vec![0])), Some((_, Some(EvalError::DivisionByZero(_))))));
}

#[test]
fn names_and_values() {
    let space = example();
    let variant = space.parse(" TILE_M=128, FAST=1,MODE=rz").unwrap();
    assert_eq!(space.label(&variant), "USE_WARP_SPECIALIZATION=0 TILE_M=128 NUM_PRODUCER_WARPS=1 FAST=true MODE=rz");
    let defines: Vec<String> = space
        .reaching(&variant, Reach::Macro)
        .map(|(toggle, value)| format!("-D{}={}", toggle.name, macro_text(value)))
        .collect();
    assert_eq!(defines.join(" "), "-DUSE_WARP_SPECIALIZATION=0 -DTILE_M=128 -DNUM_PRODUCER_WARPS=1 -DFAST=1 -DMODE=rz");
    let json = serde_json::to_string(&space.settings(&variant)).unwrap();
    assert_eq!(json, r#"{"USE_WARP_SPECIALIZATION":0,"TILE_M":128,"NUM_PRODUCER_WARPS":1,"FAST":true,"MODE":"rz"}"#);
    let settings: Settings = serde_json::from_str(&json).unwrap();
    assert_eq!(space.variant(&settings), Ok(variant.clone()));
    assert_eq!(space.value(&variant, "TILE_M"), Some(&Value::Int(128)));
    assert_eq!(space.parse(""), Ok(space.default.clone()));
}

#[test]
fn mistakes_in_a_variant() {
    let space = example();
    let error = |text| space.parse(text).unwrap_err().to_string();
    insta::assert_snapshot!(error("TILE_M"), @"expected `TOGGLE=value`, found `TILE_M`");
    insta::assert_snapshot!(error("TILEM=64"), @"no toggle `TILEM`; did you mean `TILE_M`?");
    insta::assert_snapshot!(error("X=64"), @"no toggle `X`; there are `USE_WARP_SPECIALIZATION`, `TILE_M`, `NUM_PRODUCER_WARPS`, `FAST` and `MODE`");
    insta::assert_snapshot!(error("TILE_M=96"), @"`TILE_M` has no value `96`; its values are `64` and `128`");
    insta::assert_snapshot!(error("TILE_M=64,TILE_M=128"), @"`TILE_M` is given twice");
    insta::assert_snapshot!(error("NUM_PRODUCER_WARPS=2"), @"`USE_WARP_SPECIALIZATION=0 TILE_M=64 NUM_PRODUCER_WARPS=2 FAST=false MODE=rn` does not satisfy `USE_WARP_SPECIALIZATION == 1 or NUM_PRODUCER_WARPS == 1`");
}

#[test]
fn a_variant_is_read_as_it_is_printed() {
    let texts = |name: &str, values: &[&str]| Toggle {
        name: name.to_owned(),
        values: values.iter().map(|value| Value::Str((*value).to_owned())).collect(),
        layer: Layer::Macro,
        reach: Reach::Macro,
    };
    let space = Space {
        toggles: vec![
            texts("T", &["float", "unsigned int", "int"]),
            texts("MSG", &["\"a, b\"", "\"it's $HOME\"", "x", "x y"]),
            texts("F", &["-O2", "-O2 -g", "a=b"]),
        ],
        constraints: Vec::new(),
        default: Variant(vec![0, 0, 0]),
    };
    for t in 0..3 {
        for message in 0..4 {
            for flag in 0..3 {
                let variant = Variant(vec![t, message, flag]);
                let printed = space.label(&variant);
                assert_eq!(space.parse(&printed), Ok(variant.clone()), "{printed}");
                let commas: Vec<String> = space.get(&variant).map(|(name, value)| format!("{name}={value}")).collect();
                assert_eq!(space.parse(&commas.join(",")), Ok(variant.clone()), "{commas:?}");
                assert_eq!(space.parse(&format!(" {} ", commas.join(" , "))), Ok(variant), "{commas:?}");
            }
        }
    }
    assert_eq!(space.parse(""), Ok(space.default.clone()));
    assert_eq!(space.parse("T = int"), Ok(Variant(vec![2, 0, 0])));
    let error = |text: &str| space.parse(text).unwrap_err().to_string();
    assert!(error("T=unsigned F=-O2").starts_with("`T` has no value `unsigned`; its values are"));
    assert_eq!(error("T=int G=1"), "no toggle `G`; there are `T`, `MSG` and `F`");
    assert_eq!(error("T=int T=int"), "`T` is given twice");
    assert_eq!(error("T=int int"), "expected `TOGGLE=value`, found `int`");
    assert_eq!(error("T=int x F=-O2"), "expected `TOGGLE=value`, found `x`");
}

#[test]
fn a_space_is_narrowed_to_some_values_and_its_default_moves_into_it() {
    let space = example();
    let narrowed = |texts: &[&str]| {
        let only: Vec<OnlyValues> = texts.iter().map(|text| text.parse().unwrap()).collect();
        space.narrowed(&only)
    };
    let label = |space: &Space| space.label(&space.default);
    let whole = space.solve().count();
    for (only, count, default) in [
        (&["TILE_M=64,128"][..], whole, "USE_WARP_SPECIALIZATION=0 TILE_M=64 NUM_PRODUCER_WARPS=1 FAST=false MODE=rn"),
        (&["TILE_M=128"], Some(12), "USE_WARP_SPECIALIZATION=0 TILE_M=128 NUM_PRODUCER_WARPS=1 FAST=false MODE=rn"),
        (
            &["MODE=rz", "FAST=1", "TILE_M=64"],
            Some(3),
            "USE_WARP_SPECIALIZATION=0 TILE_M=64 NUM_PRODUCER_WARPS=1 FAST=true MODE=rz",
        ),
        // Two producer warps need warp specialization.
        (
            &["NUM_PRODUCER_WARPS=2"],
            Some(8),
            "USE_WARP_SPECIALIZATION=1 TILE_M=64 NUM_PRODUCER_WARPS=2 FAST=false MODE=rn",
        ),
    ] {
        let narrowed = narrowed(only).unwrap();
        assert_eq!(narrowed.solve().count(), count, "{only:?}");
        assert_eq!(label(&narrowed), default, "{only:?}");
    }
    for (only, error) in [
        ("TILE=64", "no toggle `TILE`; there are "),
        ("TILE_M=64,96", "`TILE_M` has no value `96`; its values are `64` and `128`"),
    ] {
        assert!(narrowed(&[only]).unwrap_err().to_string().starts_with(error), "{only}");
    }
    let nothing = narrowed(&["NUM_PRODUCER_WARPS=2", "USE_WARP_SPECIALIZATION=0"]);
    assert_eq!(nothing.unwrap_err(), VariantError::Nothing);
    assert!("TILE_M".parse::<OnlyValues>().is_err());
}
