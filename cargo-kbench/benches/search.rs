//! What a search costs by itself: runs of 200 evaluations on a recorded space, the look-ups included.
//!
//! `cargo bench -p cargo-kbench --bench search`; time over elements is microseconds an evaluation.

use cargo_kbench::config::{Search, StrategyName};
use cargo_kbench::expr::Value;
use cargo_kbench::search::{self, Candidates, Outcome};
use cargo_kbench::space::{Layer, Reach, Space, Toggle, Variant};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

const EVALUATIONS: u64 = 200;

/// A space of so many candidates: six sizes and four flags, the first ones of their product.
fn candidates(count: usize) -> Candidates {
    let toggle = |name: &str, values: &[i64], layer| Toggle {
        name: name.to_owned(),
        values: values.iter().map(|&value| Value::Int(value)).collect(),
        layer,
        reach: Reach::Macro,
    };
    let mut toggles = vec![
        toggle("X", &[16, 32, 48, 64, 96, 128, 192, 256], Layer::Macro),
        toggle("Y", &[1, 2, 4, 8, 16], Layer::Macro),
        toggle("TX", &[1, 2, 3, 4], Layer::Macro),
        toggle("TY", &[1, 2, 3, 4], Layer::Macro),
        toggle("K", &[8, 16, 24, 32], Layer::Macro),
        toggle("UNROLL", &[1, 2, 4], Layer::Macro),
    ];
    toggles.extend(["A", "B", "C", "D"].map(|name| toggle(name, &[0, 1], Layer::Micro)));
    let default = Variant(vec![0; toggles.len()]);
    let space = Space { toggles, constraints: Vec::new(), default };
    let all = space.cartesian() as usize;
    // Spread evenly over the product.
    let variants = space.variants().enumerate().filter(|(at, _)| at * count / all != (at + 1) * count / all);
    let variants: Vec<Variant> = variants.map(|(_, variant)| variant).collect();
    assert_eq!(variants.len(), count);
    Candidates::recorded(space, variants)
}

fn time(variant: &Variant) -> f64 {
    variant.0.iter().enumerate().map(|(at, &index)| (f64::from(index) - 1.0 - at as f64 / 7.0).powi(2)).sum::<f64>()
        + 1.0
}

fn run(candidates: &Candidates, strategy: StrategyName) {
    let search = Search {
        strategy,
        elite: 3,
        seed: 0,
        evaluations: Some(EVALUATIONS),
        seconds: None,
        shape: 0,
        proposer: None,
        roofline: None,
        partition: None,
    };
    let mut strategy = search::strategy(candidates, &search);
    while let Some(variant) = strategy.ask(1).pop() {
        strategy.tell(&variant, Outcome::Measured(time(&variant)));
    }
}

fn overhead(c: &mut Criterion) {
    let mut group = c.benchmark_group("overhead");
    group.sample_size(10).throughput(Throughput::Elements(EVALUATIONS));
    for strategy in [StrategyName::Random, StrategyName::Annealing, StrategyName::Genetic] {
        let candidates = candidates(11_000);
        group.bench_function(strategy.name(), |b| b.iter(|| run(&candidates, strategy)));
    }
    for count in [4_400, 11_000, 20_000] {
        let candidates = candidates(count);
        group.bench_with_input(BenchmarkId::new("auto", count), &candidates, |b, candidates| {
            b.iter(|| run(candidates, StrategyName::Auto));
        });
    }
    group.finish();
}

criterion_group!(benches, overhead);
criterion_main!(benches);
