//! What `auto` takes from one outcome to the next variant in a long search of a large space, with as much pending as in a session.
//!
//! `cargo bench -p cargo-kbench --bench thinking`; the figures are in `README.md`.

use std::collections::VecDeque;
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use cargo_kbench::config::{Search, StrategyName};
use cargo_kbench::expr::Value;
use cargo_kbench::search::{self, Candidates, Failure, Outcome, Resources, Strategy};
use cargo_kbench::space::{Layer, Reach, Space, Toggle, Variant};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;

const CANDIDATES: usize = 100_000;
/// After so many evaluations the next hundred are timed.
const AT: [usize; 3] = [100, 900, 2900];
const TIMED: usize = 100;

/// Six sizes and six flags.
fn candidates() -> Candidates {
    let toggle = |name: &str, values: &[i64]| Toggle {
        name: name.to_owned(),
        values: values.iter().map(|&value| Value::Int(value)).collect(),
        layer: Layer::Macro,
        reach: Reach::Macro,
    };
    let mut toggles = vec![
        toggle("X", &[16, 32, 48, 64, 96, 128, 192, 256]),
        toggle("Y", &[1, 2, 4, 8, 16]),
        toggle("TX", &[1, 2, 3, 4]),
        toggle("TY", &[1, 2, 3, 4]),
        toggle("K", &[8, 16, 24, 32]),
        toggle("UNROLL", &[1, 2, 4]),
    ];
    toggles.extend(["A", "B", "C", "D", "E", "F"].map(|name| toggle(name, &[0, 1])));
    let default = Variant(vec![0; toggles.len()]);
    let space = Space { toggles, constraints: Vec::new(), default };
    let all = space.cartesian() as usize;
    // Spread evenly over the product.
    let chosen = |at: &usize| at * CANDIDATES / all != (at + 1) * CANDIDATES / all;
    let variants = space.variants().enumerate().filter(|(at, _)| chosen(at)).map(|(_, variant)| variant).collect();
    Candidates::recorded(space, variants)
}

/// A smooth time, and a tenth that the resource gate or a launch rejects.
fn outcome(variant: &Variant) -> (Resources, Outcome) {
    let at = |toggle: usize| f64::from(variant.0[toggle]);
    let registers = 24 + 12 * u64::from(variant.0[2]) * u64::from(variant.0[3]) + 4 * u64::from(variant.0[5]);
    let time: f64 = (0..variant.0.len()).map(|toggle| (at(toggle) - 1.0 - toggle as f64 / 7.0).powi(2)).sum();
    let outcome = match variant.0[..] {
        _ if registers > 128 => Outcome::Failed(Failure::Resources),
        [7, 4, ..] => Outcome::Failed(Failure::Launch),
        _ => Outcome::Measured(1.0 + time),
    };
    (Resources { registers: Some(registers), ..Resources::default() }, outcome)
}

/// Milliseconds of a processor that this thread has had.
fn processor() -> f64 {
    let usage = getrusage(UsageWho::RUSAGE_THREAD).expect("a thread can ask of itself");
    (usage.user_time() + usage.system_time()).num_microseconds() as f64 / 1e3
}

/// Milliseconds from each outcome to the next variant, for each of [`AT`]; by the wall clock, and of a processor.
fn run(candidates: &Candidates) -> Vec<Vec<[f64; 2]>> {
    let strategy = StrategyName::Auto;
    let search = Search {
        strategy,
        elite: 3,
        seed: 0,
        evaluations: None,
        seconds: Some(1),
        shape: 0,
        proposer: None,
        roofline: None,
        partition: None,
    };
    let mut strategy: Box<dyn Strategy> = search::strategy(candidates, &search);
    let mut pending: VecDeque<Variant> = strategy.ask(strategy.batch()).into();
    let mut took = vec![Vec::new(); AT.len()];
    for evaluated in 0..AT[AT.len() - 1] + TIMED {
        let variant = pending.pop_front().expect("more is pending");
        let (resources, outcome) = outcome(&variant);
        let (began, before) = (Instant::now(), processor());
        strategy.compiled(&variant, &resources);
        strategy.tell(&variant, outcome);
        pending.extend(strategy.ask(strategy.batch() - pending.len()));
        let passed = [began.elapsed().as_secs_f64() * 1e3, processor() - before];
        if let Some(at) = AT.iter().position(|&at| (at..at + TIMED).contains(&evaluated)) {
            took[at].push(passed);
        }
    }
    took
}

/// Runs `work` while every core walks through more memory than its cache holds, as compilers do, and stands back as they do.
fn loaded<R>(work: impl FnOnce() -> R) -> R {
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                let _ = rustix::process::setpriority_process(None, 10);
                let mut memory = vec![1u64; 4 << 20];
                while !ended.load(Ordering::Relaxed) {
                    for at in (0..memory.len()).step_by(8) {
                        memory[at] = memory[at].wrapping_mul(0x9e37_79b9).rotate_left(7);
                    }
                    black_box(&mut memory);
                }
            });
        }
        let result = work();
        ended.store(true, Ordering::Relaxed);
        result
    })
}

fn main() {
    let candidates = candidates();
    println!("{CANDIDATES} candidates; milliseconds an evaluation: mean, median, most; mean of a processor");
    for (name, took) in [("idle", run(&candidates)), ("loaded", loaded(|| run(&candidates)))] {
        for (at, mut took) in AT.into_iter().zip(took) {
            let mean = |which: usize| took.iter().map(|took| took[which]).sum::<f64>() / took.len() as f64;
            let (wall, processor) = (mean(0), mean(1));
            took.sort_by(|a, b| a[0].total_cmp(&b[0]));
            let (median, most) = (took[took.len() / 2][0], took[took.len() - 1][0]);
            println!("{name:>8} {:>5} to {:>4}: {wall:6.2} {median:6.2} {most:6.1} {processor:6.2}", at, at + TIMED);
        }
    }
}
