//! Profile of one candidate, with its measured time and the ceilings.

use kbench_runtime::protocol::RunJob;

use crate::build::profiler::{self, Profiled};
use crate::config::Backend;
use crate::config::counters::{Condition, full_name};
use crate::gates::performance::{Entrant, compare_uncounted};
use crate::harness::{Candidate, Halt, Harness, RunError, caught};
use crate::process::executor::ExecutorError;
use crate::profile::{Counted, METRICS, Profile, Roofline, diagnose, ncu};
use crate::record::elite::{DeviceRecord, TimingSettings};
use crate::record::evaluation::{Evaluation, TimingRecord};

/// Factor on the deadline: a profiler runs a kernel once for each few metrics, and saves and restores its memory in
/// between.
const REPLAYS: u32 = 20;

/// Profiles a candidate that passed the gates up to correctness, at one of its checked shapes.
pub fn profile(
    harness: &mut Harness<'_>,
    candidate: &Candidate,
    shape: usize,
    evaluation: &Evaluation,
) -> Result<Profile, Halt> {
    let kernel = harness.kernel();
    let timing = time_at(harness, candidate, shape, evaluation)?;
    let counters = match count(harness, candidate, shape) {
        Ok(counters) => Ok(counters),
        Err(Halt::Variant(why)) => Err(why),
        Err(Halt::Run(error @ RunError::Executor(ExecutorError::Interrupted))) => return Err(error.into()),
        Err(Halt::Run(error)) => Err(error.to_string()),
    };
    // Counters come first, so that a failure costs no timing.
    let (flops, bytes) = harness.context.point(shape, &candidate.variant).work();
    let roofline = if flops.is_none() && bytes.is_none() {
        Err("`work` is not in the table".to_owned())
    } else {
        caught(harness.ceilings())?.and_then(|ceilings| {
            Roofline::of(kernel, (flops, bytes), timing.summary.p50, &ceilings, counters.as_ref().ok())
        })
    };
    let place = &kernel.shapes[shape];
    Ok(Profile {
        package: kernel.package.clone(),
        kernel: kernel.name.clone(),
        device: DeviceRecord::from(&harness.context.device),
        shape: place.name.clone(),
        dims: place.dims.iter().cloned().collect(),
        toggles: kernel.space.settings(&candidate.variant),
        source: candidate.source_record(),
        timing,
        cache: TimingSettings::from(&kernel.timing).cache,
        diagnosis: diagnose(&counters, &roofline),
        counters,
        roofline,
    })
}

/// Time without a profiler: recorded, or measured now.
fn time_at(
    harness: &mut Harness<'_>,
    candidate: &Candidate,
    shape: usize,
    evaluation: &Evaluation,
) -> Result<TimingRecord, Halt> {
    let kernel = harness.kernel();
    if let Some(timing) = evaluation.timing.as_ref().filter(|_| shape == kernel.search.shape) {
        return Ok(timing.clone());
    }
    let entrant = Entrant::Candidate(candidate.clone());
    let mut compared = compare_uncounted(harness, shape, &[entrant])?;
    match compared.unavailable.pop() {
        Some((_, rejection)) => Err(rejection.into()),
        None => Ok(compared.entries.remove(0).entry.timing),
    }
}

/// The counters of one run under ncu, or the CPU's own; or why there are none.
fn count(harness: &Harness<'_>, candidate: &Candidate, shape: usize) -> Result<Counted, Halt<String>> {
    let context = &harness.context;
    let kernel = context.kernel;
    let implementation = candidate.implementation(kernel);
    let built = context.builder.build_implementation(kernel, implementation, &candidate.variant, &[shape]);
    let built = caught(built)?.map_err(Halt::because)?;
    let artifact = built.artifact(shape);
    let point = context.point(shape, &candidate.variant);
    let case = point.case(implementation, artifact, &context.files).map_err(Halt::because)?;
    let of_cpu = implementation.backend == Backend::C;
    let launches = point.geometries(implementation).map_err(Halt::because)?;
    let entries: Vec<String> = launches.into_iter().map(|(entry, _)| entry).collect();
    let symbols: Vec<&str> = artifact.functions.iter().map(|function| function.symbol.as_str()).collect();
    let (tool, metrics, log) = if of_cpu {
        (Vec::new(), Vec::new(), None)
    } else {
        let remote = !kernel.runner().is_empty();
        let ncu = context.setup.compiler.ncu(remote).map_err(Halt::because)?;
        let metrics = metrics(&kernel.gates.counters.conditions);
        // On another machine, the file would be there.
        let log = if remote { None } else { Some(tempfile::tempdir()?) };
        let path = log.as_ref().map_or_else(|| "stderr".into(), |folder| folder.path().join("ncu.csv"));
        let profiled = Profiled {
            metrics: &metrics,
            symbols: &symbols,
            launches: entries.len(),
            cache: kernel.timing.cache,
            log: &path.to_string_lossy(),
        };
        (profiler::command(&ncu, &profiled), metrics, log)
    };

    let mut executor = harness.worker.under(tool);
    executor.add_blob(&artifact.hash, &artifact.code);
    let job = RunJob { id: 0, cases: vec![case], seed: 0, count: of_cpu };
    let watched = match executor.run_to_end(job, context.timeout() * REPLAYS) {
        Ok(watched) => watched,
        Err(error @ ExecutorError::Interrupted) => return Err(error.into()),
        Err(error) => return Err(Halt::because(error)),
    };
    if of_cpu {
        let failed = || watched.failure.map_or_else(|| "the worker did not answer".to_owned(), |why| why.to_string());
        let counts = watched.counts.unwrap_or_else(|| Err(failed()));
        return counts.map(|counts| Counted::of_cpu(&counts)).map_err(Halt::Variant);
    }
    let parsed = match log.map(|folder| std::fs::read_to_string(folder.path().join("ncu.csv"))) {
        // The report has the words of the kernel too, so it counts only where ncu has no file of its own.
        None => ncu::parse(&watched.report, &metrics),
        Some(Ok(text)) => ncu::parse(&text, &metrics),
        Some(Err(_)) => Err(ncu::failure(&watched.report)),
    };
    match (parsed, watched.failure) {
        (Ok(metrics), None) => Ok(Counted::of_launches(&entries, metrics)),
        (Ok(_), Some(failure)) => Err(Halt::Variant(format!("under ncu the kernel did not end well: {failure}"))),
        (Err(why), _) => Err(Halt::Variant(why)),
    }
}

/// Full names of the metrics for the diagnosis and the gate, each once.
fn metrics(conditions: &[Condition]) -> Vec<String> {
    let own = METRICS.iter().map(|name| full_name(name));
    let conditions = conditions.iter().map(|condition| condition.metric.clone());
    let mut metrics: Vec<String> = Vec::new();
    for metric in own.chain(conditions.filter(|metric| !metric.starts_with("roofline__"))) {
        if !metrics.contains(&metric) {
            metrics.push(metric);
        }
    }
    metrics
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::counters::{ROOFLINE_COMPUTE, Relation};

    #[test]
    fn a_profiler_reads_what_the_diagnosis_and_the_conditions_need_once() {
        let condition = |name: &str| Condition {
            name: name.to_owned(),
            metric: full_name(name),
            relation: Relation::Above,
            limit: 1.0,
        };
        let own: Vec<String> = METRICS.iter().map(|name| full_name(name)).collect();
        assert_eq!(metrics(&[]), own);
        let stated = [METRICS[1], "sm__cycles_elapsed", ROOFLINE_COMPUTE, "sm__cycles_elapsed"].map(condition);
        assert_eq!(metrics(&stated), [&own[..], &[full_name("sm__cycles_elapsed")]].concat());
    }
}
