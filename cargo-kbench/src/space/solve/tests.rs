use std::collections::HashMap;

use proptest::prelude::*;
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::expr::Value;
use crate::space::{Layer, Reach, Toggle};

fn space(toggles: Vec<Vec<Value>>, constraints: &[String]) -> Space {
    let default = Variant(vec![0; toggles.len()]);
    let toggle = |(at, values)| Toggle { name: format!("T{at}"), values, layer: Layer::Macro, reach: Reach::Macro };
    let constraints = constraints.iter().map(|text| Expr::parse(text).unwrap()).collect();
    Space { toggles: toggles.into_iter().enumerate().map(toggle).collect(), constraints, default }
}

/// Toggles T0, T1, … with the values 1 to these.
fn integers(sizes: &[i64], constraints: &[&str]) -> Space {
    let toggles = sizes.iter().map(|&size| (1..=size).map(Value::Int).collect()).collect();
    space(toggles, &constraints.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>())
}

/// Reference implementation: builds the product and filters it by the expressions.
fn filtered(space: &Space) -> (Vec<Variant>, Vec<Variant>) {
    let mut product = vec![Vec::new()];
    for toggle in &space.toggles {
        product = product
            .into_iter()
            .flat_map(|point: Vec<u16>| {
                (0..toggle.values.len()).map(move |index| [point.clone(), vec![index as u16]].concat())
            })
            .collect();
    }
    product.into_iter().map(Variant).partition(|point| space.is_valid(point))
}

fn solve(space: &Space, effort: u64) -> Solutions {
    Solutions::of(space, &space.constraints, |_| None, effort)
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        6 => (-2i64..9).prop_map(Value::Int),
        1 => any::<bool>().prop_map(Value::Bool),
        1 => prop::sample::select(vec![0.5, 2.0, -1.5]).prop_map(Value::Float),
        1 => prop::sample::select(vec![i64::MAX, i64::MIN, 1 << 40]).prop_map(Value::Int),
        1 => prop::sample::select(vec!["a", "b"]).prop_map(|text| Value::Str(text.to_owned())),
    ]
}

/// Random expressions with names, some of them unknown, overflows, divisions by zero, strings and every operator.
fn expression() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        8 => (0usize..6).prop_map(|toggle| format!("T{toggle}")),
        2 => (0i64..9).prop_map(|int| int.to_string()),
        1 => prop::sample::select(vec!["0.5", "1e300", "'a'", "true", "false", "9223372036854775807"]).prop_map(str::to_owned),
    ];
    leaf.prop_recursive(4, 24, 3, |inner| {
        let pair = (inner.clone(), inner.clone());
        prop_oneof![
            4 => (prop::sample::select(vec!["+", "-", "*", "/", "//", "%", "**", "&", "|", "^", "<<", ">>"]), pair.clone()).prop_map(|(op, (a, b))| format!("({a} {op} {b})")),
            4 => (prop::sample::select(vec!["==", "!=", "<", "<=", ">", ">="]), pair.clone()).prop_map(|(op, (a, b))| format!("({a} {op} {b})")),
            4 => (prop::sample::select(vec!["and", "or"]), pair.clone()).prop_map(|(op, (a, b))| format!("({a} {op} {b})")),
            1 => (prop::sample::select(vec!["min", "max", "ceil_div"]), pair.clone()).prop_map(|(op, (a, b))| format!("{op}({a}, {b})")),
            1 => (inner.clone(), pair.clone()).prop_map(|(a, (b, c))| format!("({a} <= {b} < {c})")),
            1 => (inner.clone(), pair.clone()).prop_map(|(a, (b, c))| format!("({a} if {b} else {c})")),
            1 => (inner.clone(), prop::sample::select(vec!["in", "not in"]), pair.clone())
                .prop_map(|(a, op, (b, c))| format!("({a} {op} [{b}, {c}])")),
            1 => (inner.clone(), pair).prop_map(|(a, (b, c))| format!("({a} or {b} or {c} and {a})")),
            1 => (prop::sample::select(vec!["not ", "-", "+", "!", "sqrt", "abs", "log2", "is_power_of_two"]), inner).prop_map(|(op, a)| format!("({op}({a}))")),
        ]
    })
}

/// A typical comparison of a table on the first four toggles, which is sometimes true.
fn comparison() -> impl Strategy<Value = String> {
    let name = || (0usize..4).prop_map(|toggle| format!("T{toggle}"));
    let sum = (
        name(),
        name(),
        name(),
        prop::sample::select(vec!["{} * {} + {}", "{} * {} * {}", "{} + {} - {}", "({} - {}) * {}"]),
    );
    let sum = sum
        .prop_map(|(a, b, c, form)| [a, b, c].iter().fold(form.to_owned(), |text, name| text.replacen("{}", name, 1)));
    let order = prop::sample::select(vec!["<", "<=", ">", ">=", "==", "!="]);
    prop_oneof![
        3 => (sum.clone(), order.clone(), 0i64..24).prop_map(|(sum, op, limit)| format!("{sum} {op} {limit}")),
        1 => (sum.clone(), order.clone(), sum.clone()).prop_map(|(a, op, b)| format!("{a} {op} {b}")),
        1 => (0i64..9, sum, 9i64..30).prop_map(|(least, sum, most)| format!("{least} <= {sum} <= {most}")),
        1 => (name(), name()).prop_map(|(a, b)| format!("{a} % {b} == 0")),
        1 => (name(), name()).prop_map(|(a, b)| format!("{a} in [1, {b} + 1] and {a} & {b} < 4")),
        1 => (name(), name(), name()).prop_map(|(a, b, c)| format!("({a} if {b} > 1 else {c} << 1) < 5")),
        1 => (name(), name(), order.clone()).prop_map(|(a, b, op)| format!("{a} {op} {b}")),
        1 => (name(), 0i64..4, order).prop_map(|(a, b, op)| format!("{a} {op} {b}")),
    ]
}

/// A constraint: comparisons joined by `or` or `and`, or negated.
fn constraint() -> impl Strategy<Value = String> {
    prop::collection::vec(comparison(), 1..4).prop_flat_map(|parts| {
        let any = parts.join(" or ");
        let forms = vec![
            any.clone(),
            any.clone(),
            parts.join(" and "),
            format!("not ({})", parts.join(" and ")),
            format!("not ({any})"),
        ];
        prop::sample::select(forms)
    })
}

fn domain() -> impl Strategy<Value = Vec<Value>> {
    let integers = |(first, count): (i64, i64)| (first..first + count).map(Value::Int).collect();
    prop_oneof![4 => (-1i64..3, 1i64..6).prop_map(integers), 1 => prop::collection::vec(value(), 1..5)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 300 } else { 20_000 }))]

    /// For any constraints, every method gives the same variants in the same order. With so little effort that other
    /// orders are tried or constraints are left out of the diagrams, the set of variants is still the same.
    #[test]
    fn agrees_with_product_then_filter(
        toggles in prop_oneof![9 => prop::collection::vec(domain(), 4..6), 1 => prop::collection::vec(domain(), 0..4)],
        constraints in prop::collection::vec(prop_oneof![4 => constraint(), 1 => expression()], 0..5),
        effort in 0u64..64,
        seed: u64,
    ) {
        let space = space(toggles, &constraints);
        let (valid, invalid) = filtered(&space);
        let solutions = solve(&space, EFFORT);
        prop_assert_eq!(solutions.count(), Some(valid.len() as u128));
        prop_assert_eq!(&solutions.variants().collect::<Vec<_>>(), &valid);
        prop_assert_eq!(&solutions.list(), &valid);
        let by_index: Vec<Variant> = (0..valid.len() as u128).map(|index| solutions.get(index).unwrap()).collect();
        prop_assert_eq!(&by_index, &valid);
        prop_assert_eq!(solutions.get(valid.len() as u128), None);

        let hurried = solve(&space, effort);
        let mut found: Vec<Variant> = hurried.variants().collect();
        if let Some(count) = hurried.count() {
            prop_assert_eq!(count, valid.len() as u128);
            let by_index: Vec<Variant> = (0..count).map(|index| hurried.get(index).unwrap()).collect();
            prop_assert_eq!(&by_index, &found);
        }
        found.sort();
        prop_assert_eq!(&found, &valid);

        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        for solutions in [solutions, hurried] {
            prop_assert!(valid.iter().all(|variant| solutions.is_valid(variant)));
            prop_assert!(!invalid.iter().any(|variant| solutions.is_valid(variant)));
            if let Some(variant) = valid.first() {
                prop_assert!(solutions.sample(&mut rng).is_some_and(|sample| valid.contains(&sample)));
                let differ = |other: &&Variant| other.0.iter().zip(&variant.0).filter(|(a, b)| a != b).count() == 1;
                let mut neighbours = solutions.neighbours(variant);
                neighbours.sort();
                prop_assert_eq!(neighbours, valid.iter().filter(differ).cloned().collect::<Vec<_>>());
            }
        }
    }
}

/// Compares Pearson's statistic of draws over the valid variants with its 99.9 % quantile (Wilson and Hilferty).
fn assert_uniform(solutions: &Solutions, valid: &[Variant]) {
    const DRAWS: usize = 20_000;
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let mut drawn: HashMap<Variant, usize> = HashMap::new();
    for _ in 0..DRAWS {
        *drawn.entry(solutions.sample(&mut rng).unwrap()).or_default() += 1;
    }
    let expected = DRAWS as f64 / valid.len() as f64;
    let counts = valid.iter().map(|variant| drawn.get(variant).copied().unwrap_or(0));
    let statistic: f64 = counts.map(|count| (count as f64 - expected).powi(2) / expected).sum();
    let freedom = (valid.len() - 1) as f64;
    let spread = 2.0 / (9.0 * freedom);
    let limit = freedom * (1.0 - spread + 3.09 * spread.sqrt()).powi(3);
    assert!(statistic < limit, "{statistic} of {freedom} degrees of freedom, at most {limit}");
    assert!(drawn.keys().all(|variant| valid.contains(variant)));
}

/// Constraints of a space with three components of very different sizes.
const UNEVEN: &[&str] = &["T0 * T1 <= 6", "T2 % T3 == 0 or T2 == 1", "T4 != 2", "T0 + T1 < 8"];

#[test]
fn samples_are_uniform() {
    let space = integers(&[6, 6, 4, 4, 3], UNEVEN);
    let (valid, _) = filtered(&space);
    let solutions = solve(&space, EFFORT);
    assert_eq!(solutions.count(), Some(valid.len() as u128));
    assert_uniform(&solutions, &valid);
}

#[test]
fn samples_are_uniform_without_a_count() {
    let space = integers(&[6, 6, 4, 4, 3], UNEVEN);
    let (valid, _) = filtered(&space);
    let solutions = solve(&space, 40);
    assert_eq!((solutions.count(), solutions.unsolved.is_empty()), (None, false));
    assert_eq!(solutions.get(0), None);
    assert_uniform(&solutions, &valid);
}

#[test]
fn the_order_is_the_same_on_any_number_of_cores() {
    // Levels with more nodes than one task takes, and a list of more than one chunk.
    let space = integers(&[13, 11, 17, 9, 4], &["T0 * 97 + T1 * 89 != T2 * T3 * 7", "T0 + T2 <= T1 * T4 * 3"]);
    let on = |cores| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(cores).build().unwrap();
        pool.install(|| space.solve().list())
    };
    let alone = on(1);
    assert_eq!(alone, on(4));
    assert_eq!(alone, filtered(&space).0);
    assert!(alone.len() as u128 > CHUNK);
}

/// 2^50 points in one component, too many to enumerate.
#[test]
fn a_space_of_ten_to_the_fifteen_is_counted_and_sampled() {
    let sum: Vec<String> = (0..10).map(|toggle| format!("T{toggle}")).collect();
    let sum = sum.join(" + ");
    let space = integers(&[32; 10], &[&format!("{sum} <= 165"), "T0 * T1 <= 1000"]);
    let solutions = space.solve();
    assert_eq!(space.cartesian(), 1 << 50);
    // Without the second constraint, the sum of ten values 1 to 32 is symmetric around 165.
    let symmetric = integers(&[32; 10], &[&format!("{sum} <= 165")]).solve().count().unwrap();
    let equal = integers(&[32; 10], &[&format!("{sum} == 165")]).solve().count().unwrap();
    assert_eq!(2 * symmetric - equal, 1 << 50);
    let count = solutions.count().unwrap();
    assert!(count < symmetric && count > symmetric * 9 / 10);
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    for _ in 0..100 {
        let variant = solutions.sample(&mut rng).unwrap();
        assert!(space.is_valid(&variant));
        assert!(solutions.neighbours(&variant).iter().all(|neighbour| space.is_valid(neighbour)));
    }
    assert!(space.is_valid(&solutions.get(count - 1).unwrap()));
}

/// The table's order would distinguish all values of T0 to T7; a better order distinguishes the values of two toggles
/// at a time.
#[test]
fn toggles_are_reordered_where_the_tables_order_is_too_much_work() {
    let pairs: Vec<String> =
        (0..8).map(|toggle| format!("T{} % T{toggle} == T{} % 3", toggle + 8, (toggle + 1) % 8)).collect();
    let pairs: Vec<&str> = pairs.iter().map(String::as_str).collect();
    let space = integers(&[12; 16], &pairs);
    let effort = 1 << 18;
    let solutions = solve(&space, effort);
    let count = solutions.count().unwrap();
    let order: Vec<usize> = solutions.places.iter().map(|place| place.toggle).collect();
    assert_ne!(order, (0..16).collect::<Vec<_>>());
    // By hand: the number of ways to choose T8 to T15 for each pair of neighbours on the ring.
    let ways = |a: i64, b: i64| (1..=12).filter(|t| t % a == b % 3).count() as u128;
    let ring: u128 = (1..=12)
        .map(|first| {
            let mut sums: Vec<u128> = (1..=12).map(|value| u128::from(value == first)).collect();
            for _ in 0..8 {
                sums = (1..=12).map(|b| (1..=12).map(|a| sums[a as usize - 1] * ways(a, b)).sum()).collect();
            }
            sums[first as usize - 1]
        })
        .sum();
    assert_eq!(count, ring);
    assert!(solutions.variants().take(1000).all(|variant| space.is_valid(&variant)));
}
