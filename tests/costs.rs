//! Costs of the driver without compilation and measurement: evaluations a second and memory, with workers whose kernels take no time.
//!
//! It does this only with `--ignored`, since it measures: run it alone, built for release, on a machine with nothing else to do.

use std::collections::HashMap;
use std::fs;
use std::io::{self, BufRead as _, Write};
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use kbench_runtime::protocol::{
    DeviceInfo, Event, OutputReport, RelatedErrors, Request, Role, SeedReport, Stage, Timing, VERSION,
};
use serde::Deserialize;

mod model;

const TABLE: &str = "
[package.metadata.kbench.kernels.model.search]
strategy = \"random\"
[package.metadata.kbench.kernels.model.timing]
warmup = 0
iterations = 1
max_seconds = 0.01
";

/// 10^7 variants, all of which are different programs.
const MODEL: &str = "time_ns = \"11000000 - 100000 * A - 1000 * B - 10 * C - D\"\nnoise = 0";

/// First argument of a process that is a worker.
const WORKER: &str = "answers-at-once";

/// This program has no test harness: a worker prints only lines of the protocol.
fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.first().is_some_and(|first| first == WORKER) {
        answer_at_once();
    } else if args.iter().any(|arg| arg == "--ignored") {
        evaluations_a_second_and_memory();
    }
}

fn evaluations_a_second_and_memory() {
    let runner = format!("runner = ['{}', '{WORKER}']", std::env::current_exe().unwrap().display());
    println!(
        "| workers | evaluations | evaluations a second | after a fifth of them | processor time an evaluation | driver's memory at most |"
    );
    for (workers, evaluations, runner) in [
        (1, 2000, ""),
        (10, 4000, ""),
        (100, 8000, ""),
        (1, 10_000, &runner),
        (10, 20_000, &runner),
        (100, 30_000, &runner),
        (1000, 50_000, &runner),
    ] {
        measure(workers, evaluations, runner);
    }
}

fn measure(workers: usize, evaluations: usize, runner: &str) {
    let package = model::package_with(MODEL, TABLE);
    let manifest = package.path().join("Cargo.toml");
    let values =
        |count: usize| format!("[{}]", (0..count).map(|value| value.to_string()).collect::<Vec<_>>().join(", "));
    let table = fs::read_to_string(&manifest).unwrap();
    let table = table
        .replace("A = [0, 1, 2, 3], B = [0, 1, 2, 3]", &format!("A = {}, B = {}", values(100), values(100)))
        .replace("C = [0, 1], D = [0, 1]", &format!("C = {}, D = {}", values(100), values(10)))
        .replace("gates.correctness.seeds = 2", "gates.correctness = { seeds = 1, patterns = [] }")
        .replace("shapes.only", &format!("{runner}\nshapes.only"));
    fs::write(&manifest, table).unwrap();
    let journal = package.path().join("target/kbench/journal/model/model.jsonl");
    // All variants are compiled before: compiling is no cost of the driver.
    let (status, _, _) = run(package.path(), evaluations, 4, &journal);
    assert!(status.success());
    fs::remove_file(&journal).unwrap();
    fs::remove_file(package.path().join("elite.json")).unwrap();

    let before = children_seconds();
    let (status, most, lengths) = run(package.path(), evaluations, workers, &journal);
    assert!(status.success());
    let seconds = children_seconds() - before;
    let text = fs::read_to_string(&journal).unwrap();
    let mut ends = Vec::new();
    let mut place = 0;
    for line in text.split_inclusive('\n') {
        place += line.len();
        if line.contains("\"record\":\"evaluation\"") {
            ends.push(place);
        }
    }
    assert_eq!(ends.len(), evaluations);
    // From the first look at which there was an evaluation on record to the first at which all were.
    let done = |length: usize| ends.partition_point(|end| *end <= length);
    let counts: Vec<(Duration, usize)> = lengths.iter().map(|(at, length)| (*at, done(*length))).collect();
    let reached = |least: usize| counts.iter().find(|(_, done)| *done >= least).copied().unwrap_or_default();
    let rate_from = |least: usize| {
        let ((began, first), (ended, _)) = (reached(least), reached(evaluations));
        (evaluations - first) as f64 / ended.saturating_sub(began).as_secs_f64()
    };
    // The workers start while the first evaluations go on.
    let (rate, later) = (rate_from(1), rate_from(evaluations / 5));
    let kind = if runner.is_empty() { "model device" } else { "answers at once" };
    println!(
        "| {workers} ({kind}) | {evaluations} | {rate:.0} | {later:.0} | {:.2} ms | {:.1} MB | {} bytes an evaluation in the journal; whole run {:.1} s",
        1e3 * seconds / evaluations as f64,
        most as f64 / 1000.0,
        text.len() / evaluations,
        lengths.last().map_or(0.0, |(at, _)| at.as_secs_f64()),
    );
}

/// Runs a search: its status, kilobytes of the driver at most, and the length of the journal at many moments since the start.
fn run(folder: &Path, evaluations: usize, workers: usize, journal: &Path) -> (ExitStatus, u64, Vec<(Duration, usize)>) {
    let args = ["autotune", "-q", "--budget", &evaluations.to_string(), "--workers", &workers.to_string()];
    let mut command = model::kbench(folder, &args);
    let started = Instant::now();
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let (mut most, mut lengths) = (0, Vec::new());
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        let text = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kilobytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
        most = most.max(kilobytes.unwrap_or(0u64));
        let length = fs::metadata(journal).map_or(0, |metadata| metadata.len() as usize);
        lengths.push((started.elapsed(), length));
        std::thread::sleep(Duration::from_millis(5));
    };
    (status, most, lengths)
}

/// Processor time of all children that have ended, and of theirs.
fn children_seconds() -> f64 {
    let usage = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_CHILDREN).unwrap();
    let seconds = |time: nix::sys::time::TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    seconds(usage.user_time()) + seconds(usage.system_time())
}

/// The parts of jobs on which the answers depend; all else is passed over, so that the processor is left to the driver.
#[derive(Deserialize)]
struct Check<'l> {
    id: u64,
    seeds: Vec<u64>,
    #[serde(borrow)]
    case: Case<'l>,
}

#[derive(Deserialize)]
struct Time<'l> {
    id: u64,
    seed: u64,
    iterations: u32,
    #[serde(borrow)]
    cases: Vec<Timed<'l>>,
}

#[derive(Deserialize)]
struct Timed<'l> {
    #[serde(borrow)]
    case: Case<'l>,
}

#[derive(Deserialize)]
struct Case<'l> {
    #[serde(borrow)]
    tensors: Vec<Tensor<'l>>,
    sequence: Code<'l>,
}

#[derive(Deserialize)]
struct Tensor<'l> {
    name: &'l str,
    dims: Vec<u64>,
    role: Role,
}

#[derive(Deserialize)]
struct Code<'l> {
    blob: &'l str,
}

/// A worker that runs nothing: it answers each job at once, a check without findings and times as the model says.
fn answer_at_once() {
    let (mut requests, mut events) = (io::stdin().lock(), io::stdout().lock());
    let mut times: HashMap<String, f64> = HashMap::new();
    let mut line = Vec::new();
    while requests.read_until(b'\n', &mut line).unwrap() > 0 {
        if line.starts_with(br#"{"type":"check","#) {
            let Check { id, seeds, case } = serde_json::from_slice(&line).unwrap();
            say(&mut events, &Event::Stage { id, stage: Stage::Launch });
            let seeds = seeds.into_iter().map(|seed| report(seed, &case.tensors)).collect();
            say(&mut events, &Event::Checked { id, seeds });
        } else if line.starts_with(br#"{"type":"time","#) {
            let Time { id, seed, iterations, cases } = serde_json::from_slice(&line).unwrap();
            say(&mut events, &Event::Stage { id, stage: Stage::Timing });
            let timing = |Timed { case }: &Timed<'_>| {
                let samples = vec![times[case.sequence.blob]; iterations.max(1) as usize];
                Timing::new(samples, "model", report(seed, &case.tensors))
            };
            say(&mut events, &Event::Timed { id, timings: cases.iter().map(timing).collect() });
        } else {
            match Request::of_line(&line).unwrap() {
                Request::Hello { .. } => {
                    let device = DeviceInfo::fake(0);
                    say(&mut events, &Event::Hello { protocol: VERSION, device, visible: Vec::new() });
                }
                Request::Blob { hash, data } => {
                    let code: serde_json::Value = serde_json::from_slice(&data.into_bytes().unwrap()).unwrap();
                    times.insert(hash, code["time_ns"].as_f64().unwrap());
                }
                other => panic!("{other:?}"),
            }
        }
        line.clear();
    }
}

fn say(events: &mut impl Write, event: &Event) {
    let mut line = serde_json::to_vec(event).unwrap();
    line.push(b'\n');
    events.write_all(&line).unwrap();
}

/// No findings, on any output.
fn report(seed: u64, tensors: &[Tensor<'_>]) -> SeedReport {
    let outputs = tensors.iter().filter(|tensor| tensor.role.is_output());
    let output = |tensor: &Tensor<'_>| OutputReport {
        tensor: tensor.name.to_owned(),
        elements: tensor.dims.iter().product(),
        unwritten: 0,
        first_unwritten: None,
        nonfinite: 0,
        max_abs_err: 0.0,
        max_abs_err_at: 0,
        output_at: 0.0,
        reference_at: 0.0,
        mean_abs_err: 0.0,
        bias: 0.0,
        rms_err: 0.0,
        rms_ref: 1.0,
        bad: 0,
        related: RelatedErrors::default(),
    };
    SeedReport { outputs: outputs.map(output).collect(), ..SeedReport::new(seed) }
}
