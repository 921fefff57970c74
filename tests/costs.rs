//! What the driver costs beside compiling and measuring: evaluations a second and memory, on the model device, whose kernels take no time.
//!
//! Ignored, since it measures: run it alone, built for release, on a machine with nothing else to do.

use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

mod model;

/// 10^7 variants.
const TABLE: &str = "
[package.metadata.kbench.kernels.model.search]
strategy = \"random\"
[package.metadata.kbench.kernels.model.timing]
warmup = 0
iterations = 1
max_seconds = 0.01
";

#[test]
#[ignore = "measures"]
fn evaluations_a_second_and_memory() {
    for workers in [1, 10, 100, 1000] {
        let package = model::package_with("time_ns = \"20000 - 1000 * A - 700 * B + C + D\"\nnoise = 0", TABLE);
        let manifest = package.path().join("Cargo.toml");
        let values =
            |count: usize| format!("[{}]", (0..count).map(|value| value.to_string()).collect::<Vec<_>>().join(", "));
        let table = fs::read_to_string(&manifest).unwrap();
        let table = table
            .replace("A = [0, 1, 2, 3], B = [0, 1, 2, 3]", &format!("A = {}, B = {}", values(100), values(100)))
            .replace("C = [0, 1], D = [0, 1]", &format!("C = {}, D = {}", values(100), values(10)))
            .replace("gates.correctness.seeds = 2", "gates.correctness = { seeds = 1, patterns = [] }");
        fs::write(&manifest, table).unwrap();
        let evaluations = 2000 + 10 * workers;
        let args = ["autotune", "-q", "--budget", &evaluations.to_string(), "--workers", &workers.to_string()];
        let mut command = model::kbench(package.path(), &args);
        let started = Instant::now();
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let mut most = 0;
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            let text = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
            let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
            let kilobytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
            most = most.max(kilobytes.unwrap_or(0u64));
            std::thread::sleep(Duration::from_millis(5));
        };
        let seconds = started.elapsed().as_secs_f64();
        assert!(status.success());
        let journal = fs::read_to_string(package.path().join("target/kbench/journal/model/model.jsonl")).unwrap();
        let lines = journal.lines().filter(|line| line.contains("\"record\":\"evaluation\""));
        let (count, bytes) = lines.fold((0, 0), |(count, bytes), line| (count + 1, bytes + line.len()));
        assert_eq!(count, evaluations);
        println!(
            "{workers} workers: {:.0} evaluations a second, {:.1} MB at most, {} bytes an evaluation in the journal",
            f64::from(count) / seconds,
            most as f64 / 1000.0,
            bytes / evaluations as usize
        );
    }
}
