//! Runs under tools at the same time. Most of a run is the start of a process and of its tool, on one core, and no time is measured
//! meanwhile.

use std::collections::BTreeMap;
use std::io;
use std::panic::resume_unwind;
use std::sync::Mutex;
use std::thread;

use kbench_runtime::driver::threads;
use kbench_runtime::protocol::{DeviceInfo, DeviceKind};

use super::judge::Judgement;
use super::run::{Prepared, Run};
use crate::harness::{Candidate, Context, Harness, Results, RunError};
use crate::process::executor::Executor;
use crate::record::journal::SanitizedRun;

/// Largest number of runs on a device at the same time.
const BESIDE: usize = 4;

/// Memory of a run besides its tensors, in bytes: a process with its tool.
const PROCESS: u64 = 1 << 30;

/// Memory of a run over that of its tensors: tools note a state for each byte.
const SHADOW: u64 = 8;

/// Makes the runs of candidates that are not on record, several at the same time on the device of each harness. Of a CUDA kernel, all runs under one tool share a
/// process. Only clean runs are returned: a process that failed or found something may have lacked memory or time beside others, and does not say which run it was.
/// `run_tools` makes such runs again, alone.
pub fn run_ahead(
    known: &Results,
    devices: &[&Harness<'_>],
    candidates: &[&Candidate],
) -> Result<Vec<SanitizedRun>, RunError> {
    let Some(first) = devices.first() else { return Ok(Vec::new()) };
    let (context, shapes) = (&first.context, &first.kernel().gates.sanitize.shapes);
    let mut runs = Vec::new();
    for (tool, sanitizer) in &first.sanitizers.found {
        for &candidate in candidates {
            runs.extend(shapes.iter().map(|&shape| Run { tool: *tool, sanitizer, candidate, shape }));
        }
    }
    if runs.len() < 2 {
        return Ok(Vec::new());
    }
    let cores = thread::available_parallelism().map_or(1, usize::from);
    // `run_tools` rejects a candidate that cannot be built.
    let prepared = share(vec![(); cores], runs, |(), run| run.prepared(context).ok().map(|prepared| (run, prepared)))?;
    let unknown = prepared.into_iter().flatten().filter(|(_, prepared)| known.sanitized(&prepared.key).is_none());
    let mut batches: Vec<Vec<(Run<'_>, Prepared)>> = Vec::new();
    for (run, prepared) in unknown {
        let of_tool = batches.last_mut().filter(|batch| batch[0].0.tool == run.tool);
        match of_tool.filter(|_| context.device.kind == DeviceKind::Cuda) {
            Some(batch) => batch.push((run, prepared)),
            None => batches.push(vec![(run, prepared)]),
        }
    }
    let largest = batches.iter().flatten().map(|(_, prepared)| prepared.bytes()).max().unwrap_or(0);
    let mut hands: Vec<(&Context<'_>, &Executor)> = Vec::new();
    for turn in 0..BESIDE {
        for device in devices {
            let count = beside(&device.context.device, largest, !device.worker.options().runner.is_empty());
            hands.extend((turn < count).then_some((&device.context, &device.worker)));
        }
    }
    if hands.len().min(batches.len()) < 2 && batches.iter().all(|batch| batch.len() < 2) {
        return Ok(Vec::new());
    }
    let clean = share(hands, batches, |(context, worker), batch| {
        let prepared: Vec<&Prepared> = batch.iter().map(|(_, prepared)| prepared).collect();
        let judged = batch[0].0.watch(&prepared, context, worker);
        let is_clean = judged.is_ok_and(|judged| judged == Judgement::default());
        batch
            .into_iter()
            .filter(|_| is_clean)
            .map(|(_, prepared)| SanitizedRun::clean(prepared.key))
            .collect::<Vec<_>>()
    })?;
    Ok(clean.into_iter().flatten().collect())
}

/// Does tasks, one at a time for each of `hands`. The results have the order of the tasks.
fn share<H: Copy + Send, T: Send, R: Send>(
    hands: Vec<H>,
    tasks: Vec<T>,
    work: impl Fn(H, T) -> R + Sync,
) -> io::Result<Vec<R>> {
    let count = tasks.len();
    let (queue, work) = (Mutex::new(tasks.into_iter().enumerate()), &work);
    let next = &|| queue.lock().expect("no panic while held").next();
    let done = thread::scope(|scope| {
        let mut working = Vec::new();
        for hand in hands.into_iter().take(count) {
            let each = move || std::iter::from_fn(next).map(|(at, task)| (at, work(hand, task))).collect::<Vec<_>>();
            working.push(threads::spawn_scoped(scope, each)?);
        }
        let joined = working.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic)));
        io::Result::Ok(joined.flatten().collect::<BTreeMap<usize, R>>())
    })?;
    Ok(done.into_values().collect())
}

/// Number of runs on a device at the same time. A `runner` starts one process at a time: it may have been given a share of a machine.
fn beside(device: &DeviceInfo, bytes: u64, has_runner: bool) -> usize {
    if has_runner {
        return 1;
    }
    let cores = match device.kind {
        DeviceKind::Host => device.multiprocessors as usize,
        _ => BESIDE,
    };
    let fit = device.memory_bytes / (PROCESS + SHADOW * bytes);
    (fit as usize).clamp(1, BESIDE.min(cores.max(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_shared_tasks_have_their_order() {
        let wait = |hand: u64, task: u64| {
            thread::sleep(std::time::Duration::from_millis(3 * (task % 2)));
            (hand, 10 * task)
        };
        let done = share(vec![1, 2, 3], (0..8).collect(), wait).unwrap();
        assert_eq!(done.iter().map(|(_, result)| *result).collect::<Vec<_>>(), [0, 10, 20, 30, 40, 50, 60, 70]);
        assert!(share(vec![0; 4], Vec::new(), wait).unwrap().is_empty());
    }

    #[test]
    fn runs_share_a_device_as_far_as_its_memory_and_cores_allow() {
        let device = |kind, cores, memory: u64| DeviceInfo {
            kind,
            multiprocessors: cores,
            memory_bytes: memory << 30,
            ..DeviceInfo::fake(0)
        };
        let (gpu, host) = (device(DeviceKind::Cuda, 132, 80), device(DeviceKind::Host, 2, 8));
        assert_eq!(beside(&gpu, 1 << 20, false), BESIDE);
        assert_eq!(beside(&gpu, 4 << 30, false), 2, "33 GiB each");
        assert_eq!(beside(&gpu, 60 << 30, false), 1);
        assert_eq!(beside(&host, 1 << 20, false), 2, "a core each");
        assert_eq!(beside(&host, 1 << 30, false), 1);
        assert_eq!(beside(&gpu, 0, true), 1);
    }
}
