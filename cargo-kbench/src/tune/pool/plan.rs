//! The workers of a search.

use kbench_runtime::protocol::DeviceKind;

use crate::config::{Objective, Workers};
use crate::harness::{Harness, RunError};
use crate::process::executor::WorkerOptions;

/// Settings of the workers of a search; the first is that of the harness. `asked` is the number on the command line,
/// `only` says whether the command line names the device. With one entry, the harness's own worker does all work.
pub fn plan(harness: &Harness<'_>, asked: Option<usize>, only: bool) -> Result<Vec<WorkerOptions>, RunError> {
    let kernel = harness.kernel();
    let first = harness.worker.options();
    let refused = |message: String| Err(RunError::Workers { kernel: kernel.name.clone(), message });
    if kernel.objectives.iter().any(|objective| matches!(objective, Objective::Application(_))) {
        return match asked {
            Some(2..) => {
                refused("the program of `objective` runs once at a time, so only one worker measures".to_owned())
            }
            _ => Ok(vec![first.clone()]),
        };
    }
    let mut entries = kernel.workers.clone();
    if entries.is_empty() {
        entries.push(Workers { runner: kernel.runner.clone(), ..Workers::default() });
    }
    if let Some(asked) = asked {
        let [entry] = &mut entries[..] else {
            return refused(format!(
                "--workers {asked} needs one entry of `workers`, and the table has {}; set the `count` of each entry",
                entries.len()
            ));
        };
        entry.count = Some(asked);
    }
    // The first devices of this machine are used, each by one worker.
    let visible = harness.worker.visible().len().max(1);
    let mut next = first.index as usize;
    let mut workers = Vec::new();
    for Workers { runner, count, path } in entries {
        let options = WorkerOptions { runner, path, ..first.clone() };
        let by_device = options.runner.is_empty() && options.device != DeviceKind::Fake;
        let count = match count {
            Some(count) => count,
            None if by_device && options.device == DeviceKind::Cuda && !only => visible.saturating_sub(next).max(1),
            None => 1,
        };
        for _ in 0..count {
            if by_device && next >= visible && !workers.is_empty() {
                return refused(match options.device {
                    DeviceKind::Cuda => format!("there is no GPU {next} here; two workers on one GPU disturb each other's times"),
                    _ => "C kernels that run side by side on one machine disturb each other's times; keep one worker, or give \
                          a `runner` that separates them"
                        .to_owned(),
                });
            }
            let index = if by_device { next as u32 } else { first.index };
            next += usize::from(by_device);
            workers.push(WorkerOptions { index, ..options.clone() });
        }
    }
    // The first of the table may be one that does not open.
    if let Some(at) = workers.iter().position(|worker| worker == first) {
        workers[..=at].rotate_right(1);
    }
    Ok(workers)
}
