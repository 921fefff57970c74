// Compared floats are exact by construction.
#![allow(clippy::float_cmp)]

use rand::RngExt as _;

use super::gp::{Factor, Parameters, kernel};
use super::pool::Pool;
use super::validity::Validity;
use super::*;
use crate::config::StrategyName;
use crate::expr::Value;
use crate::search::Failure;
use crate::space::{Layer, Reach, Space, Toggle};

fn toggle(name: &str, values: Vec<Value>) -> Toggle {
    Toggle { name: name.to_owned(), values, layer: Layer::Macro, reach: Reach::Macro }
}

fn ints(values: &[i64]) -> Vec<Value> {
    values.iter().map(|&value| Value::Int(value)).collect()
}

fn all(toggles: &[Toggle]) -> Vec<Variant> {
    toggles.iter().fold(vec![Variant(Vec::new())], |variants, toggle| {
        let longer = |variant: Variant| {
            (0..toggle.values.len() as u16).map(move |index| Variant([variant.0.as_slice(), &[index]].concat()))
        };
        variants.into_iter().flat_map(longer).collect()
    })
}

#[test]
fn features_are_positions_products_and_divisibility() {
    let toggles = [
        toggle("TILE", ints(&[64, 16, 48, 32])),
        toggle("ONLY", ints(&[7])),
        toggle("UNROLL", ints(&[1, 2, 4])),
        toggle("FAST", vec![Value::Bool(false), Value::Bool(true)]),
        toggle("MODE", ["rn", "rz", "ru"].map(|text| Value::Str(text.to_owned())).to_vec()),
    ];
    let features = Features::new(&toggles, &all(&toggles));
    // TILE, UNROLL, FAST, three of MODE, TILE times UNROLL, powers of two in TILE.
    assert_eq!(features.len(), 8);
    let of = |indices: [u16; 5]| features.of(&Variant(indices.to_vec()));
    let (small, large) = (of([1, 0, 0, 0, 0]), of([0, 0, 2, 1, 1]));
    assert_eq!((small[0], large[0]), (0.0, 1.0), "the order of the values is no matter");
    assert_eq!((small[1], large[1]), (0.0, 1.0));
    assert_eq!((small[2], large[2]), (0.0, 1.0));
    assert_eq!((small[6], large[6]), (0.0, 1.0), "products are scaled over all variants");
    let distance: f32 = (3..6).map(|at| (small[at] - large[at]).powi(2)).sum();
    assert!((distance - 1.0).abs() < 1e-6, "two texts are as far apart as two flags");
    // 16 and 48 have four powers of two, 32 five, 64 six.
    assert_eq!([0, 1, 2, 3].map(|tile| of([tile, 0, 0, 0, 0])[7]), [1.0, 0.0, 0.0, 0.5]);
    let middle = of([3, 0, 1, 0, 0]);
    assert!((middle[0] - f32::midpoint(1.0 / 3.0, 0.5)).abs() < 1e-6, "half by rank, half by logarithm");
}

#[test]
fn improvement_is_that_of_the_integral() {
    for (gap, deviation) in [(0.0f64, 1.0), (1.0, 0.5), (-1.0, 0.7), (-4.0, 1.0), (2.0, 1e-3)] {
        // Midpoint rule over the values below the best.
        let (mut sum, steps) = (0.0, 200_000);
        let low = -12.0 * deviation - gap.abs();
        for step in 0..steps {
            let value = low + (gap - low) * (f64::from(step) + 0.5) / f64::from(steps);
            let z = value / deviation;
            sum += (gap - value) * (-0.5 * z * z).exp() / (deviation * (2.0 * std::f64::consts::PI).sqrt());
        }
        let integral = sum * (gap - low) / f64::from(steps);
        let expected = improvement::log_expected(gap, deviation);
        assert!((expected - integral.ln()).abs() < 2e-3, "{gap} {deviation}: {expected}, not {}", integral.ln());
    }
    let far: Vec<f64> = (1..200).map(|away| improvement::log_expected(-f64::from(away), 1.0)).collect();
    assert!(far.windows(2).all(|pair| pair[0] > pair[1] && pair[1].is_finite()), "the far ones are ranked too");
    assert_eq!(improvement::log_expected(-1.0, 0.0), f64::NEG_INFINITY);
}

fn points(n: usize, width: usize) -> Vec<Vec<f32>> {
    let mut rng = generator(1, 0);
    (0..n).map(|_| (0..width).map(|_| rng.random()).collect()).collect()
}

fn smooth(x: &[f32]) -> f64 {
    f64::from((3.0 * x[0]).sin() + x[1] * x[1])
}

#[test]
fn the_gradient_of_the_likelihood_equals_finite_differences() {
    let x = points(12, 3);
    let y: Vec<f64> = x.iter().map(|x| smooth(x)).collect();
    let rows: Vec<&[f32]> = x.iter().map(Vec::as_slice).collect();
    let logs = vec![0.3, -0.2, 0.9, -4.0];
    let (_, slope) = Parameters::of(logs.clone()).likelihood(&rows, &y).unwrap();
    for (at, slope) in slope.iter().enumerate() {
        let moved = |by: f64| {
            let mut logs = logs.clone();
            logs[at] += by;
            Parameters::of(logs).likelihood(&rows, &y).unwrap().0
        };
        let difference = (moved(1e-4) - moved(-1e-4)) / 2e-4;
        assert!((difference - slope).abs() < 1e-3 * (1.0 + slope.abs()), "{at}: {slope}, not {difference}");
    }
}

#[test]
fn a_fit_finds_the_features_that_matter() {
    let x = points(60, 4);
    let y: Vec<f64> = x.iter().map(|x| smooth(x)).collect();
    let rows: Vec<&[f32]> = x.iter().map(Vec::as_slice).collect();
    let mut parameters = Parameters::prior(&[3.0; 4]);
    for _ in 0..4 {
        parameters.fit(&rows, &y, &[3.0; 4]);
    }
    let inverse = parameters.inverse_scales();
    assert!(inverse[0] > inverse[2] && inverse[0] > inverse[3] && inverse[1] > inverse[2], "{inverse:?}");
}

/// A pool over the values 0 to 63 and 0 to 7, with observations at some of them.
fn pool(observed: &[[u16; 2]]) -> (Pool, Features, Parameters) {
    let toggles = [toggle("A", ints(&(1..=64).collect::<Vec<_>>())), toggle("B", ints(&(1..=12).collect::<Vec<_>>()))];
    let features = Features::new(&toggles, &all(&toggles));
    let parameters = Parameters::prior(&vec![1.5; features.len()]);
    let mut pool = Pool::default();
    pool.reset(&parameters);
    let (before, after) = observed.split_at(observed.len() / 2);
    for at in before {
        pool.observe(&features.of(&Variant(at.to_vec())));
    }
    // Candidates may come after observations.
    pool.add(&features, all(&toggles));
    for at in after {
        pool.observe(&features.of(&Variant(at.to_vec())));
    }
    (pool, features, parameters)
}

const OBSERVED: [[u16; 2]; 5] = [[0, 0], [10, 3], [40, 7], [63, 1], [30, 5]];

#[test]
fn the_posterior_of_the_pool_equals_the_textbook_formula() {
    let (pool, features, parameters) = pool(&OBSERVED);
    let y = [1.0, -0.5, 0.3, 2.0, -1.0];
    let (mean, weights, variance) = pool.weights(&y);
    let scaled = |indices: &[u16]| -> Vec<f32> {
        let x = features.of(&Variant(indices.to_vec()));
        x.iter().zip(parameters.inverse_scales()).map(|(x, inverse)| x * inverse as f32).collect()
    };
    let mut factor = Factor::default();
    let rows: Vec<Vec<f32>> = OBSERVED.iter().map(|at| scaled(at)).collect();
    for (at, row) in rows.iter().enumerate() {
        let solved = factor.solve(rows[..at].iter().map(|other| kernel(row, other)).collect());
        let pivot = 1.0 + parameters.noise() - solved.iter().map(|value| value * value).sum::<f64>();
        factor.push(solved, pivot.sqrt());
    }
    assert!(variance > 0.0);
    let mut checked = 0;
    for block in &pool.blocks {
        let means = &block.combine(&[(mean, &weights)])[0];
        for (column, variant) in block.variants.iter().enumerate().step_by(29) {
            let x = scaled(&variant.0);
            let solved = factor.solve(rows.iter().map(|row| kernel(row, &x)).collect());
            let (constant, targets) = factor.generalized_mean(&y);
            let expected = constant + solved.iter().zip(&targets).map(|(a, b)| a * b).sum::<f64>();
            let left = 1.0 - solved.iter().map(|value| value * value).sum::<f64>();
            assert!((f64::from(means[column]) - expected).abs() < 1e-3, "{} {expected}", means[column]);
            assert!((f64::from(block.unexplained(column)) - left).abs() < 1e-3, "{} {left}", block.unexplained(column));
            checked += 1;
        }
    }
    assert!(checked > 20);
}

#[test]
fn pending_variants_change_no_mean_and_are_forgotten() {
    let (mut pool, features, _) = pool(&OBSERVED);
    let state = |pool: &Pool| -> Vec<(f32, f32)> {
        let (mean, weights, _) = pool.weights(&[1.0, -0.5, 0.3, 2.0, -1.0]);
        let each = |block: &super::pool::Block| -> Vec<(f32, f32)> {
            let means = &block.combine(&[(mean, &weights)])[0];
            means.iter().enumerate().map(|(column, mean)| (*mean, block.unexplained(column))).collect()
        };
        pool.blocks.iter().flat_map(each).collect()
    };
    let before = state(&pool);
    pool.observe(&features.of(&Variant(vec![20, 2])));
    let during = state(&pool);
    assert!(before.iter().zip(&during).all(|(a, b)| a.0 == b.0 && a.1 >= b.1));
    assert!(before.iter().zip(&during).any(|(a, b)| a.1 > 1.5 * b.1));
    pool.truncate(OBSERVED.len());
    assert_eq!(state(&pool), before);
}

#[test]
fn trees_learn_a_step() {
    let x = points(150, 3);
    let y: Vec<f64> = x.iter().map(|x| f64::from(u8::from(x[1] > 0.6))).collect();
    let rows: Vec<&[f32]> = x.iter().map(Vec::as_slice).collect();
    let forest = Forest::fit(&rows, &y, &mut generator(0, 0));
    let predicted = forest.predict(&[vec![0.5, 0.2, 0.5], vec![0.5, 0.95, 0.5], vec![0.5, 0.6, 0.5]]);
    assert!(predicted[0].0 < 0.1 && predicted[1].0 > 0.9, "{predicted:?}");
    assert!(predicted[2].1 > predicted[0].1, "at the step it knows least: {predicted:?}");
    let constant = Forest::fit(&rows, &vec![2.0; 150], &mut generator(0, 0));
    assert_eq!(constant.predict(&[vec![0.0; 3]]), [(2.0, 0.0)]);
}

/// Registers grow with A, and variants above the gate's limit are rejected.
fn observation(features: &Features, at: [u16; 2], with_resources: bool) -> Observation {
    let registers = 20 + 3 * u64::from(at[0]);
    let variant = Variant(at.to_vec());
    let outcome = if registers > 120 { Outcome::Failed(Failure::Resources) } else { Outcome::Measured(1.0) };
    let resources = with_resources.then(|| Resources { registers: Some(registers), ..Resources::default() });
    Observation { serial: 0, x: features.of(&variant), variant, outcome, resources }
}

fn combined(validity: &Validity, block: &super::pool::Block) -> Vec<Vec<f32>> {
    block.combine(&validity.sums().collect::<Vec<_>>())
}

#[test]
fn reported_resources_predict_rejections() {
    let observed = [[0, 0], [10, 3], [25, 7], [60, 1], [31, 5], [45, 2]];
    let chances = |with_resources: bool| -> Vec<(u16, f64)> {
        let (pool, features, _) = pool(&observed);
        let observations: Vec<Observation> =
            observed.iter().map(|&at| observation(&features, at, with_resources)).collect();
        let validity = Validity::new(&pool, observations.iter());
        let of_block = |block: &super::pool::Block| -> Vec<(u16, f64)> {
            let chances = validity.log_chances(block, &combined(&validity, block)).expect("some failed");
            block.variants.iter().zip(chances).map(|(variant, log)| (variant.0[0], log.exp())).collect()
        };
        pool.blocks.iter().flat_map(of_block).collect()
    };
    let error = |chances: Vec<(u16, f64)>| {
        let of = |(a, chance): &(u16, f64)| (chance - f64::from(u8::from(20 + 3 * a <= 120))).abs();
        chances.iter().map(of).sum::<f64>() / chances.len() as f64
    };
    let (with, without) = (error(chances(true)), error(chances(false)));
    assert!(without < 0.45, "failures alone teach something: {without}");
    assert!(with < 0.8 * without, "resources teach more: {with}, not {without}");
}

#[test]
fn without_failures_every_variant_is_likely_valid() {
    let (pool, features, _) = pool(&OBSERVED);
    let observations: Vec<Observation> = OBSERVED.iter().map(|&[_, b]| observation(&features, [0, b], true)).collect();
    let validity = Validity::new(&pool, observations.iter());
    assert!(pool.blocks.iter().all(|block| validity.log_chances(block, &combined(&validity, block)).is_none()));
}

/// A search of 768 variants that begins with three variants of earlier elites.
fn begun() -> (Auto, [Variant; 3]) {
    let toggles =
        vec![toggle("A", ints(&(1..=64).collect::<Vec<_>>())), toggle("B", ints(&(1..=12).collect::<Vec<_>>()))];
    let space = Space { toggles, constraints: Vec::new(), default: Variant(vec![0, 0]) };
    let elite = [[20, 3], [21, 3], [22, 3]].map(|at| Variant(at.to_vec()));
    let candidates = Candidates::new(&space).beginning_with(elite.clone());
    let search = Search {
        strategy: StrategyName::Auto,
        elite: 3,
        seed: 0,
        evaluations: None,
        seconds: None,
        shape: 0,
        proposer: None,
        roofline: None,
        partition: None,
    };
    (Auto::new(candidates, &search), elite)
}

/// Slower with each toggle.
fn slow(variant: &Variant) -> f64 {
    2.0 + f64::from(variant.0[0]) / 64.0 + f64::from(variant.0[1]) / 12.0
}

/// Asks for one variant after the other until this number of variants have outcomes.
fn continued(auto: &mut Auto, evaluations: usize, outcome: impl Fn(&Variant) -> Outcome) -> Vec<Variant> {
    let before = auto.asked.len();
    while auto.asked.len() < evaluations {
        for variant in auto.ask(1) {
            auto.tell(&variant, outcome(&variant));
        }
    }
    auto.asked[before..].iter().map(|asked| asked.variant.clone()).collect()
}

/// Places of the variants that followed earlier elites.
fn following(auto: &Auto) -> Vec<usize> {
    (0..auto.asked.len()).filter(|&at| auto.asked[at].follows).collect()
}

#[test]
fn an_earlier_elite_is_followed_only_while_it_leads_and_there_are_gains() {
    let run = |of_elite: &dyn Fn(usize) -> Outcome, near: f64| {
        let (mut auto, elite) = begun();
        let outcome = |variant: &Variant| match elite.iter().position(|one| one == variant) {
            Some(at) => of_elite(at),
            None => Outcome::Measured(if variant.0[0] > 40 { slow(variant) * near } else { slow(variant) }),
        };
        let asked = continued(&mut auto, 40, outcome);
        assert_eq!(asked[..2], [Variant(vec![0, 0]), elite[0].clone()], "the default is first");
        let places = elite.map(|one| asked.iter().position(|other| *other == one));
        (following(&auto), places, auto.known())
    };
    // The default, the best of the elites and four distant points; the others of the elites; four proposals.
    let fast = |_| Outcome::Measured(1.0);
    let places = [Some(1), Some(6), Some(7)];
    assert_eq!(run(&fast, 1.0), (vec![1, 6, 7, 8, 9, 10, 11], places, Known::Others));
    // A gain is 2 %: the third of the elites has one.
    let faster = |at| Outcome::Measured([1.0, 0.99, 0.97][at]);
    assert_eq!(run(&faster, 1.0), (vec![1, 6, 7, 8, 9, 10, 11, 12, 13], places, Known::Others));
    let (followed, [_, second, third], known) = run(&|_| Outcome::Measured(9.0), 1.0);
    assert_eq!((followed, known), (vec![1], Known::All), "a slow one is not followed");
    assert!(second.is_none_or(|at| at >= START) && third.is_none_or(|at| at >= START));
    let (followed, _, known) = run(&|_| Outcome::Failed(Failure::Launch), 1.0);
    assert_eq!((followed, known), (vec![1], Known::All), "a failed one is not followed");
    // Others that are faster, which a search finds later.
    let (followed, _, known) = run(&|_| Outcome::Measured(1.9), 0.4);
    assert!(followed.len() <= 7 && known == Known::All, "{followed:?} {known:?}");
}

#[test]
fn a_search_forgets_an_earlier_elite_that_led_without_gains() {
    let [mut one, mut other] = [begun(), begun()].map(|(auto, _)| auto);
    let elite = begun().1;
    let outcome = |variant: &Variant| Outcome::Measured(if elite.contains(variant) { 1.0 } else { slow(variant) });
    assert_eq!(continued(&mut one, 12, outcome), continued(&mut other, 12, outcome));
    // From here on, the elites' times are of no importance, as long as they lead.
    for variant in &elite {
        other.tell(variant, Outcome::Measured(1.5));
    }
    assert_eq!(continued(&mut one, 40, outcome), continued(&mut other, 40, outcome));
    assert_eq!((one.known(), other.known()), (Known::Others, Known::Others));
    // A faster one, and the model knows all.
    let last = one.ask(1).pop().unwrap();
    one.tell(&last, Outcome::Measured(0.9));
    let next = one.ask(1).pop().unwrap();
    assert_eq!(one.known(), Known::All);
    assert!(!elite.contains(&next) && one.models[0].is_fitted());
}

#[test]
fn pending_variants_count_as_no_gain_and_likely_ones_change_nothing() {
    let run = |guesses: bool| {
        let (mut auto, elite) = begun();
        let first = auto.ask(START);
        assert!(auto.ask(1).is_empty(), "some outcomes are needed");
        for variant in &first {
            auto.tell(variant, Outcome::Measured(if *variant == elite[0] { 1.0 } else { slow(variant) }));
        }
        assert_eq!(auto.ask(1), [elite[1].clone()]);
        if guesses {
            assert_eq!(auto.likely(3, &|| false), [elite[2].clone()]);
        }
        let mut asked = auto.ask(6);
        assert_eq!(following(&auto), [1, 6, 7, 8, 9, 10, 11]);
        if guesses {
            // Of the second model, which proposed once.
            let likely = auto.likely(3, &|| false);
            assert!(likely.len() == 3 && auto.models[1].is_fitted() && !likely.contains(&asked[5]), "{likely:?}");
        }
        asked.extend(auto.ask(13));
        assert_eq!((asked.len(), following(&auto).len()), (19, 7));
        asked
    };
    assert_eq!(run(true), run(false));
}
