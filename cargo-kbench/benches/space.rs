//! What solving, listing and sampling a space takes: `cargo bench --bench space`. The figures are in README.md here.

use std::hint::black_box;

use cargo_kbench::expr::{Expr, Value};
use cargo_kbench::space::{Layer, Reach, Space, Toggle, Variant};
use criterion::{Criterion, criterion_group, criterion_main};
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;

mod published;

fn space(toggles: &[(&str, Vec<i64>)], constraints: &[&str]) -> Space {
    let toggle = |(name, values): &(&str, Vec<i64>)| Toggle {
        name: (*name).to_owned(),
        values: values.iter().copied().map(Value::Int).collect(),
        layer: Layer::Macro,
        reach: Reach::Macro,
    };
    Space {
        toggles: toggles.iter().map(toggle).collect(),
        constraints: constraints.iter().map(|text| Expr::parse(text).unwrap()).collect(),
        default: Variant(vec![0; toggles.len()]),
    }
}

/// The published spaces: to count them, and to build the list of all their valid variants, which is what Kernel Tuner's time
/// is of. Parsing the constraints is part of both.
fn small(criterion: &mut Criterion) {
    for published in published::all() {
        let build = || space(&published.toggles, &published.constraints);
        assert_eq!(build().cartesian(), published.cartesian);
        assert_eq!(build().solve().list().len() as u128, published.valid);
        let (name, tuner) = (published.name, published.kernel_tuner_ms);
        let mut group = criterion.benchmark_group(format!("{name} (Kernel Tuner: {tuner} ms)"));
        group.bench_function("count", |bencher| bencher.iter(|| black_box(build()).solve().count()));
        group.bench_function("list", |bencher| bencher.iter_with_large_drop(|| black_box(build()).solve().list()));
        group.finish();
    }
}

/// 1.07 x 10^9 points, some million of them valid, in one component; and 1.15 x 10^15 points.
fn large(criterion: &mut Criterion) {
    let names = ["A", "B", "C", "D", "E", "F", "G", "H", "I", "J"];
    let toggles = |count: usize, last: i64| -> Vec<(&str, Vec<i64>)> {
        names[..count].iter().map(|name| (*name, (1..=last).collect())).collect()
    };
    let billion =
        space(&toggles(6, 32), &["A * B * C <= 512", "(A + D) * (B + E) * F <= 1024", "D % A == 0", "E % B == 0"]);
    let quadrillion = space(
        &toggles(10, 32),
        &[
            "32 <= A * B * C <= 1024",
            "(A * D + 2 * E) * (B * D + 2 * E) * 4 <= 49152",
            "D % F == 0",
            "G * H <= A * B",
            "I % J == 0 or J == 1",
        ],
    );
    for (name, space) in [("10^9 points", billion), ("10^15 points", quadrillion)] {
        let mut group = criterion.benchmark_group(name);
        group.sample_size(10);
        let solutions = space.solve();
        println!("{name}: {} of {} are valid", solutions.count().unwrap(), space.cartesian());
        group.bench_function("count", |bencher| bencher.iter(|| black_box(&space).solve().count()));
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        group.bench_function("sample", |bencher| bencher.iter(|| solutions.sample(&mut rng)));
        let some = solutions.sample(&mut rng).unwrap();
        group.bench_function("neighbours", |bencher| bencher.iter(|| solutions.neighbours(black_box(&some))));
        group.finish();
    }
}

criterion_group!(benches, small, large);
criterion_main!(benches);
