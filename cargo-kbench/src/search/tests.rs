//! Longer than 400 lines: all strategies have the same tests.

// Compared floats are exact by construction.
#![allow(clippy::float_cmp)]

use std::collections::HashSet;

use proptest::prelude::*;

use super::*;
use crate::expr::{Expr, Value};
use crate::space::{Layer, Reach, Space, Toggle};

fn toggle(name: &str, layer: Layer, values: &[i64]) -> Toggle {
    Toggle {
        name: name.to_owned(),
        values: values.iter().map(|&value| Value::Int(value)).collect(),
        layer,
        reach: Reach::Macro,
    }
}

fn space(toggles: Vec<Toggle>, constraints: &[&str]) -> Space {
    let constraints = constraints.iter().map(|text| Expr::parse(text).unwrap()).collect();
    let default = Variant(vec![0; toggles.len()]);
    Space { toggles, constraints, default }
}

/// Tiles of an artificial kernel, with two flags: 1,404 valid variants.
fn tiles() -> Space {
    let toggles = vec![
        toggle("X", Layer::Macro, &[16, 32, 48, 64, 96, 128, 192, 256]),
        toggle("Y", Layer::Macro, &[1, 2, 4, 8, 16]),
        toggle("TX", Layer::Macro, &[1, 2, 3, 4, 6, 8]),
        toggle("TY", Layer::Macro, &[1, 2, 3, 4]),
        toggle("PAD", Layer::Micro, &[0, 1]),
        toggle("FAST", Layer::Micro, &[0, 1]),
    ];
    space(toggles, &["X * Y <= 1024", "PAD == 0 or X % 32 != 0"])
}

fn values(space: &Space, variant: &Variant) -> Vec<f64> {
    space.get(variant).map(|(_, value)| value.as_float().unwrap()).collect()
}

/// Fastest at X * Y = 256 and TX * TY = 8, X whole warps; too large tiles fail at launch.
fn outcome(space: &Space, variant: &Variant) -> Outcome {
    let v = values(space, variant);
    if v[0] * v[2] * v[1] * v[3] > 4096.0 {
        return Outcome::Failed(Failure::Launch);
    }
    let off = |value: f64, best: f64| (value / best).log2().powi(2);
    let partial = if v[0] % 32.0 == 0.0 { 1.0 } else { 1.3 };
    let flags = 1.0 + 0.2 * (1.0 - v[5]) + 0.1 * v[4];
    Outcome::Measured((1.0 + 0.1 * off(v[0] * v[1], 256.0) + 0.15 * off(v[2] * v[3], 8.0)) * partial * flags)
}

fn search(strategy: StrategyName, evaluations: Option<u64>, seed: u64) -> Search {
    Search {
        strategy,
        elite: 3,
        seed,
        evaluations,
        seconds: None,
        shape: 0,
        proposer: None,
        roofline: None,
        partition: None,
    }
}

/// Runs to the end in batches; each outcome arrives in the order of `arrange`.
fn run(space: &Space, search: &Search, batch: usize, arrange: impl Fn(&mut Vec<Variant>)) -> Vec<(Variant, Outcome)> {
    let mut strategy = strategy(&Candidates::new(space), search);
    let mut trajectory = Vec::new();
    loop {
        let remaining = strategy.remaining();
        let mut asked = strategy.ask(batch);
        assert!(asked.len() <= batch && asked.len() as u64 <= remaining);
        if asked.is_empty() {
            assert_eq!(strategy.ask(batch), [], "an end is an end");
            return trajectory;
        }
        trajectory.extend(asked.iter().map(|variant| (variant.clone(), outcome(space, variant))));
        arrange(&mut asked);
        for variant in &asked {
            strategy.tell(variant, outcome(space, variant));
        }
    }
}

fn best(trajectory: &[(Variant, Outcome)]) -> f64 {
    trajectory.iter().filter_map(|(_, outcome)| outcome.objective()).fold(f64::INFINITY, f64::min)
}

const LEARNING: [StrategyName; 3] = [StrategyName::Auto, StrategyName::Annealing, StrategyName::Genetic];

#[test]
fn one_seed_gives_one_sequence_of_variants() {
    let space = tiles();
    for (name, strategy) in StrategyName::ALL.map(|strategy| (strategy.name(), strategy)) {
        let tried = |seed| run(&space, &search(strategy, Some(40), seed), 1, |_| {});
        assert_eq!(tried(7), tried(7), "{name}");
        if strategy != StrategyName::Exhaustive {
            assert_ne!(tried(7), tried(8), "{name}");
        }
    }
}

#[test]
fn the_order_of_results_does_not_change_the_search() {
    let space = tiles();
    for (name, strategy) in StrategyName::ALL.map(|strategy| (strategy.name(), strategy)) {
        let search = search(strategy, Some(60), 3);
        assert_eq!(run(&space, &search, 5, |_| {}), run(&space, &search, 5, |batch| batch.reverse()), "{name}");
    }
}

#[test]
fn more_can_be_asked_for_while_others_are_pending() {
    let space = tiles();
    for (name, strategy_name) in StrategyName::ALL.map(|strategy| (strategy.name(), strategy)) {
        let mut strategy = strategy(&Candidates::new(&space), &search(strategy_name, Some(60), 3));
        let mut pending: Vec<Variant> = Vec::new();
        let mut seen = HashSet::new();
        loop {
            let asked = strategy.ask(4);
            assert!(asked.iter().all(|variant| seen.insert(variant.clone())), "{name} repeats itself");
            let is_over = asked.is_empty() && pending.is_empty();
            pending.extend(asked);
            if is_over {
                break;
            }
            // The last variant of a batch gets its outcome first, and the first ones wait long.
            if let Some(variant) = pending.pop() {
                strategy.tell(&variant, outcome(&space, &variant));
            }
        }
        // The traverse ends by itself.
        assert!(seen.len() >= 60 || strategy_name == StrategyName::Evo, "{name} stopped at {}", seen.len());
    }
}

#[test]
fn auto_bounds_pending_variants_and_comes_as_near() {
    let space = tiles();
    let best =
        space.variants().filter_map(|variant| outcome(&space, &variant).objective()).fold(f64::INFINITY, f64::min);
    let mut logs = 0.0;
    for seed in 0..3 {
        let mut strategy = strategy(&Candidates::new(&space), &search(StrategyName::Auto, Some(100), seed));
        let (mut pending, mut asked, mut found) = (std::collections::VecDeque::new(), 0, f64::INFINITY);
        loop {
            let batch = strategy.batch();
            assert!(batch <= (asked / 8).max(6), "{batch} pending of {asked}");
            let fresh = strategy.ask(batch.saturating_sub(pending.len()));
            asked += fresh.len();
            pending.extend(fresh);
            let Some(variant) = pending.pop_front() else { break };
            let outcome = outcome(&space, &variant);
            found = outcome.objective().map_or(found, |time| time.min(found));
            strategy.tell(&variant, outcome);
        }
        assert_eq!((asked, strategy.batch()), (100, 12));
        logs += (found / best).ln() / 3.0;
    }
    assert!(logs.exp() < 1.02, "{}", logs.exp());
}

#[test]
fn every_search_begins_with_the_default() {
    let mut space = tiles();
    space.default = space.variants().nth(700).unwrap();
    for (name, strategy) in StrategyName::ALL.map(|strategy| (strategy.name(), strategy)) {
        assert_eq!(run(&space, &search(strategy, Some(9), 1), 3, |_| {})[0].0, space.default, "{name}");
    }
}

#[test]
fn without_a_budget_a_small_space_is_exhausted_and_a_large_one_is_not() {
    let small =
        space(vec![toggle("A", Layer::Macro, &[1, 2, 4, 8, 16]), toggle("B", Layer::Macro, &[1, 2, 3])], &["A != B"]);
    let tried = |space: &Space, strategy| strategy_lengths(space, strategy);
    for strategy in LEARNING.into_iter().chain([StrategyName::Random]) {
        assert_eq!(tried(&small, strategy), small.variants().count());
        assert_eq!(tried(&tiles(), strategy), EVALUATIONS as usize);
    }
    assert_eq!(tried(&tiles(), StrategyName::Exhaustive), tiles().variants().count());
}

/// Evaluations of a search without a budget; all variants fail, which is the fastest outcome to compute.
fn strategy_lengths(space: &Space, name: StrategyName) -> usize {
    let mut strategy = strategy(&Candidates::new(space), &search(name, None, 0));
    let mut tried = 0;
    loop {
        let asked = strategy.ask(16);
        if asked.is_empty() {
            return tried;
        }
        tried += asked.len();
        for variant in &asked {
            strategy.tell(variant, Outcome::Failed(Failure::Compile));
        }
    }
}

/// The seed fixes every run, so these results are not random.
#[test]
fn auto_is_far_ahead_of_random() {
    let space = tiles();
    let optimum =
        best(&space.variants().map(|variant| (variant.clone(), outcome(&space, &variant))).collect::<Vec<_>>());
    let excess = |strategy| -> f64 {
        let runs = (0..4).map(|seed| best(&run(&space, &search(strategy, Some(40), seed), 1, |_| {})));
        runs.map(|time| (time / optimum).ln()).sum()
    };
    let (auto, random) = (excess(StrategyName::Auto), excess(StrategyName::Random));
    assert!(auto < 0.5 * random, "{auto} of auto, {random} of random");
}

#[test]
fn auto_avoids_variants_like_rejected_ones() {
    let space = tiles();
    let failed = |strategy| {
        let runs = (0..3).flat_map(|seed| run(&space, &search(strategy, Some(60), seed), 1, |_| {}).split_off(20));
        runs.filter(|(_, outcome)| outcome.objective().is_none()).count()
    };
    let (auto, random) = (failed(StrategyName::Auto), failed(StrategyName::Random));
    assert!(auto * 3 < random * 2, "{auto} of auto failed, {random} of random");
}

/// 10^20 points, which cannot be listed.
#[test]
fn a_space_too_large_to_list_is_searched() {
    let values: Vec<i64> = (1..=100).collect();
    let toggles = (0..10).map(|at| toggle(&format!("T{at}"), Layer::Macro, &values)).collect();
    let space = space(toggles, &["T0 % 2 == 1", "T1 >= T2 or T3 == 1"]);
    assert_eq!(Candidates::new(&space).list(), None);
    let time = |variant: &Variant| 1.0 + variant.0.iter().map(|&index| f64::from(index)).sum::<f64>();
    for name in LEARNING.into_iter().chain([StrategyName::Random, StrategyName::Exhaustive]) {
        let mut strategy = strategy(&Candidates::new(&space), &search(name, Some(30), 0));
        let mut seen = HashSet::new();
        while seen.len() < 30 {
            for variant in strategy.ask(1) {
                assert!(space.is_valid(&variant));
                assert!(seen.insert(variant.clone()));
                strategy.tell(&variant, Outcome::Measured(time(&variant)));
            }
        }
    }
}

#[test]
fn parts_of_a_space_divide_it_whether_it_is_listed_or_not() {
    for (toggles, is_listed) in [(10, true), (18, true), (19, false)] {
        let space = space((0..toggles).map(|at| toggle(&format!("T{at}"), Layer::Macro, &[0, 1])).collect(), &[]);
        let parts = [1, 2].map(|part| Candidates::of_part(&space, Some(format!("{part}/2").parse().unwrap())));
        let mut sizes = 0;
        for candidates in &parts {
            assert_eq!(candidates.list().is_some(), is_listed);
            assert_eq!(candidates.first(), std::slice::from_ref(&space.default));
            sizes += candidates.each().inspect(|variant| assert!(candidates.contains(variant))).count();
            let mut rng = generator(0, 0);
            for _ in 0..20 {
                let drawn = candidates.sample(&mut rng).unwrap();
                let held = parts.iter().filter(|part| part.contains(&drawn)).count();
                assert_eq!(held, if drawn == space.default { 2 } else { 1 });
                assert!(candidates.contains(&drawn));
                assert!(candidates.neighbours(&drawn).iter().all(|variant| candidates.contains(variant)));
            }
        }
        assert_eq!(sizes, (1 << toggles) + 1, "both have the default");
    }
}

/// 2^72 points, of which few are valid: draws from the product would find none.
#[test]
fn rare_variants_of_a_large_space_are_counted_and_sampled_alike() {
    let values: Vec<i64> = (0..64).collect();
    let toggles = (0..12).map(|at| toggle(&format!("T{at}"), Layer::Macro, &values)).collect();
    let constraints: Vec<String> = (0..8).map(|at| format!("T{at} == 0")).collect();
    let space = space(toggles, &constraints.iter().map(String::as_str).collect::<Vec<_>>());
    let candidates = Candidates::new(&space);
    assert_eq!((candidates.len(), candidates.list()), (Some(1 << 24), None));
    let mut rng = generator(0, 0);
    let drawn: Vec<Variant> = (0..640).filter_map(|_| candidates.sample(&mut rng)).collect();
    assert!(drawn.len() == 640 && drawn.iter().all(|variant| space.is_valid(variant)));
    // 10 draws for each of 64 values of each free toggle; at most three standard deviations more.
    let mut counts = vec![[0; 64]; 4];
    for variant in &drawn {
        (0..4).for_each(|at| counts[at][usize::from(variant.0[8 + at])] += 1);
    }
    assert!(counts.iter().flatten().all(|&count| count <= 24), "{counts:?}");
    let near = candidates.neighbours(&space.default);
    assert_eq!(near.len(), 4 * 63);
    assert_eq!(candidates.each().take(3).collect::<Vec<_>>(), space.variants().take(3).collect::<Vec<_>>());
    assert_eq!(strategy(&candidates, &search(StrategyName::Exhaustive, None, 0)).remaining(), 1 << 24);
}

/// The variants that pass, best first.
fn ranked(space: &Space) -> Vec<Variant> {
    let mut all: Vec<(Variant, Outcome)> =
        space.variants().map(|variant| (variant.clone(), outcome(space, &variant))).collect();
    all.retain(|(_, outcome)| outcome.objective().is_some());
    all.sort_by(|(_, a), (_, b)| a.objective().unwrap().total_cmp(&b.objective().unwrap()));
    all.into_iter().map(|(variant, _)| variant).collect()
}

#[test]
fn variants_of_earlier_elites_follow_the_default() {
    let space = tiles();
    let known = ranked(&space);
    // One variant twice, and one that the constraints exclude.
    let invalid = Variant(vec![7, 4, 0, 0, 0, 0]);
    assert!(!space.is_valid(&invalid));
    let warm = [known[5].clone(), invalid, known[9].clone(), known[5].clone(), space.default.clone()];
    let candidates = Candidates::new(&space).beginning_with(warm);
    let expected = [space.default.clone(), known[5].clone(), known[9].clone()];
    for (name, strategy_name) in StrategyName::ALL.map(|strategy| (strategy.name(), strategy)) {
        for batch in [1, 2, 5] {
            let mut strategy = strategy(&candidates, &search(strategy_name, Some(30), 3));
            let mut asked: Vec<Variant> = Vec::new();
            while asked.len() < 30 {
                let more = strategy.ask(batch);
                if more.is_empty() {
                    break;
                }
                for variant in &more {
                    strategy.tell(variant, outcome(&space, variant));
                }
                asked.extend(more);
            }
            // `auto` tries the second after its first points, since the first leads.
            let places = if strategy_name == StrategyName::Auto { [0, 1, 6] } else { [0, 1, 2] };
            assert_eq!(places.map(|at| asked[at].clone()), expected, "{name}");
            assert_eq!(asked.iter().collect::<HashSet<_>>().len(), asked.len(), "{name} repeats itself");
        }
    }
}

/// The seed fixes every run, so these results are not random.
#[test]
fn auto_is_nearer_with_a_good_start_and_as_near_soon_with_a_bad_one() {
    let space = tiles();
    let known = ranked(&space);
    let time_of = |variant: &Variant| outcome(&space, variant).objective().unwrap();
    let optimum = time_of(&known[0]);
    // Geometric means of best over optimum after 10 and 40 evaluations, over five seeds.
    let after = |warm: &[Variant]| -> [f64; 2] {
        let candidates = Candidates::new(&space).beginning_with(warm.to_vec());
        let mut logs = [0.0; 2];
        for seed in 0..5 {
            let mut strategy = strategy(&candidates, &search(StrategyName::Auto, Some(40), seed));
            let mut best = f64::INFINITY;
            for evaluations in 1..=40 {
                let variant = strategy.ask(1).pop().expect("there are more");
                let outcome = outcome(&space, &variant);
                strategy.tell(&variant, outcome);
                best = best.min(outcome.objective().unwrap_or(f64::INFINITY));
                if let Some(place) = [10, 40].iter().position(|&at| at == evaluations) {
                    logs[place] += (best / optimum).ln();
                }
            }
        }
        logs.map(|sum: f64| (sum / 5.0).exp())
    };
    // Good variants are 10 % from the best, bad ones the slowest of all.
    let away = known.partition_point(|variant| time_of(variant) < 1.1 * optimum);
    let (good, bad) = (&known[away..away + 3], &known[known.len() - 3..]);
    let [cold, warm, misled] = [&[], good, bad].map(after);
    assert!(warm[0] < cold[0], "{warm:?} with a good start, {cold:?} without");
    assert!(misled[1] < cold[1] + 0.02, "{misled:?} with a bad start, {cold:?} without");
}

#[test]
fn identical_code_counts_for_the_model_and_not_for_the_elite() {
    assert_eq!(Outcome::Identical(2.0).objective(), Some(2.0));
    let space = tiles();
    let mut strategy = strategy(&Candidates::new(&space), &search(StrategyName::Evo, None, 0));
    for variant in strategy.ask(usize::MAX) {
        strategy.tell(&variant, Outcome::Identical(1.0));
    }
    assert_eq!(strategy.ask(usize::MAX), [], "no elite of identical code alone");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// For any space, batch size and outcomes.
    #[test]
    fn every_proposal_is_valid_and_new(
        sizes in prop::collection::vec(1i64..6, 1..5),
        limit in 0i64..12,
        batch in 1usize..9,
        budget in 1u64..60,
        seed in any::<u64>(),
        failing in 2u64..5,
    ) {
        let toggles: Vec<Toggle> = sizes.iter().enumerate()
            .map(|(at, &size)| toggle(&format!("T{at}"), if at % 2 == 0 { Layer::Macro } else { Layer::Micro }, &(0..size).collect::<Vec<_>>()))
            .collect();
        let sum = (0..sizes.len()).map(|at| format!("T{at}")).collect::<Vec<_>>().join(" + ");
        let space = space(toggles, &[&format!("{sum} <= {limit}")]);
        let all = space.variants().count() as u64;
        for (name, strategy_name) in StrategyName::ALL.map(|strategy| (strategy.name(), strategy)) {
            let mut strategy = strategy(&Candidates::new(&space), &search(strategy_name, Some(budget), seed));
            let mut seen = HashSet::new();
            loop {
                let asked = strategy.ask(batch);
                if asked.is_empty() {
                    break;
                }
                for variant in asked {
                    prop_assert!(space.is_valid(&variant), "{name}");
                    prop_assert!(seen.insert(variant.clone()), "{name} proposed {variant:?} twice");
                    let sum: u64 = variant.0.iter().map(|&index| u64::from(index)).sum();
                    let outcome = if sum % failing == 1 { Outcome::Failed(Failure::Launch) } else { Outcome::Measured(1.0 + sum as f64) };
                    strategy.tell(&variant, outcome);
                }
            }
            if strategy_name == StrategyName::Exhaustive {
                prop_assert_eq!(seen.len() as u64, all);
            } else if strategy_name != StrategyName::Evo {
                prop_assert_eq!(seen.len() as u64, all.min(budget), "{}", name);
            }
        }
    }
}

#[test]
fn variants_that_a_plan_certainly_reaches_are_likely_from_the_start() {
    let space = space(vec![toggle("A", Layer::Macro, &[1, 2, 3, 4, 5]), toggle("B", Layer::Micro, &[1, 2, 3])], &[]);
    let likely = |search: &Search| {
        let mut strategy = strategy(&Candidates::new(&space), search);
        let mut all = strategy.ask(strategy.batch());
        let asked = all.len();
        all.extend(strategy.likely(100, &|| false));
        assert_eq!(all.iter().collect::<HashSet<_>>().len(), all.len(), "none is asked for or likely twice");
        (asked, all.len())
    };
    let whole = search(StrategyName::Auto, Some(15), 0);
    assert_eq!(likely(&whole), (6, 15));
    assert_eq!(likely(&Search { evaluations: Some(14), ..whole.clone() }), (6, 6));
    assert_eq!(likely(&Search { seconds: Some(1), ..whole }), (6, 6), "a second may end before it");
}
