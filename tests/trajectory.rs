//! One seed is one trajectory, whatever the number of cores.

use std::path::Path;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use serde_json::Value;

mod model;

/// What was tried and what came of it, in order, and the elite.
fn trajectory(folder: &Path) -> Vec<String> {
    let output = model::kbench(folder, &["autotune", "--iters", "10", "--message-format", "json"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // An earlier elite begins the next search.
    std::fs::remove_file(folder.join("elite.json")).unwrap();
    let messages = String::from_utf8(output.stdout).unwrap();
    let messages = messages.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let tried = messages.filter_map(|message| match message["reason"].as_str() {
        Some("evaluated") => {
            Some(format!("{} {} {}", message["variant"], message["code"], message["timing"]["summary"]))
        }
        Some("tuned") => Some(message["entry"]["elite"].to_string()),
        _ => None,
    });
    tried.collect()
}

/// Restricts this thread, and with it what it starts, to the first of its cores.
fn to_one_core() {
    let allowed = sched_getaffinity(Pid::from_raw(0)).unwrap();
    let first = (0..CpuSet::count()).find(|&core| allowed.is_set(core).unwrap()).unwrap();
    let mut one = CpuSet::new();
    one.set(first).unwrap();
    sched_setaffinity(Pid::from_raw(0), &one).unwrap();
}

#[test]
fn one_seed_is_one_trajectory_on_any_number_of_cores() {
    for strategy in ["auto", "evo", "genetic", "annealing", "random"] {
        // So many that `auto` has more pending than at first.
        let budget = if strategy == "auto" { 80 } else { 40 };
        let table = format!(
            "[package.metadata.kbench.kernels.model.search]\nstrategy = \"{strategy}\"\nseed = 3\nbudget.evaluations = {budget}\n"
        );
        let package = model::package_with(model::MODEL, &table);
        let all = trajectory(package.path());
        let path = package.path().to_owned();
        let one = std::thread::spawn(move || {
            to_one_core();
            trajectory(&path)
        });
        assert!(all.len() > 20, "{strategy}: {all:#?}");
        assert_eq!(one.join().unwrap(), all, "{strategy}");
    }
}
