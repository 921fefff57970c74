//! Timing: the worker's samples, and their faults.

use std::time::Instant;

use kbench_runtime::protocol::{Convergence, SkipsWork, TimeJob, TimedCase, Timing};
use kbench_runtime::stats::{Samples, Summary};

use crate::config::Kernel;
use crate::gates::correctness::{bad_above, judge_at_level};
use crate::gates::launch::job_failed;
use crate::harness::{Halt, Harness, RunError, Step, caught};
use crate::record::evaluation::{GateName, Reason, Rejection, TimingRecord};

use super::impossible::{self, Asked, Demand};

/// Largest number of samples of a kernel: with more, p50 would still not be known to within 0.5 % on this machine.
pub(super) const MOST_SAMPLES: u32 = 10_000;

/// Times one kernel at a shape; returns joules a launch too, if the job asks for them.
pub fn time(
    harness: &mut Harness<'_>,
    shape: &str,
    job: TimeJob,
    warnings: &mut Vec<String>,
) -> Result<(TimingRecord, Option<Summary>), Halt> {
    let kernel = harness.kernel();
    for timed in &job.cases {
        harness.refer_timed(kernel, shape, timed, &job)?;
    }
    let started = Instant::now();
    harness.doing.set(Step::Timing);
    let timed = harness.worker.time(job, harness.context.timeout());
    harness.times.time += started.elapsed();
    let timing = timed.map_err(|error| job_failed(kernel, error, shape))?.into_iter().next().ok_or_else(|| {
        Rejection::new(GateName::Performance, Reason::Protocol, "the worker timed nothing", Some(shape))
    })?;
    let record = measured(kernel, shape, &timing, warnings)?;
    Ok((record, Summary::of(&timing.energy)))
}

/// The job that times these cases by the table's settings.
pub fn time_job(kernel: &Kernel, cases: Vec<TimedCase>) -> TimeJob {
    let timing = &kernel.timing;
    TimeJob {
        id: 0,
        cases,
        seed: 0,
        // The reference's outputs for seeds of gate 2 are known.
        other_seed: (kernel.gates.correctness.seeds > 1).then_some(1),
        warmup: timing.warmup,
        iterations: timing.iterations,
        until: Some(Convergence {
            precision: timing.precision,
            max_seconds: timing.max_seconds,
            max_samples: MOST_SAMPLES,
            decides: false,
        }),
        cutoff_ns: None,
        cache: timing.cache,
        launch: timing.launch,
        bad_above: bad_above(&kernel.gates.correctness),
        rank_only: false,
        new_inputs: false,
        slow: Vec::new(),
        announce: false,
        energy: false,
        second_clock: false,
    }
}

/// A timing as a record, unless the outputs were wrong after it or it has no valid numbers.
pub fn measured(
    kernel: &Kernel,
    shape: &str,
    timing: &Timing,
    warnings: &mut Vec<String>,
) -> Result<TimingRecord, Rejection> {
    let Some(summary) = Summary::of(Samples { times: &timing.samples, slack: timing.slack }) else {
        let message = "the worker's samples are not numbers";
        return Err(Rejection::new(GateName::Performance, Reason::Protocol, message, Some(shape)));
    };
    if let Some(mut rejection) = judge_at_level(kernel, shape, std::slice::from_ref(&timing.after), warnings) {
        rejection.message = format!("after timing: {}", rejection.message);
        return Err(rejection);
    }
    if let Some(SkipsWork { ratio, left_alone }) = timing.skips_work {
        let message = format!(
            "it does less where its outputs are right already: {left_alone} elements left alone, {ratio:.1}x the time from poison"
        );
        return Err(Rejection::new(GateName::Performance, Reason::SkipsWork, message, Some(shape)));
    }
    if let Some(ratio) = timing.memoises {
        let message = format!("memoises: {ratio:.1}x slower on inputs it has not seen");
        return Err(Rejection::new(GateName::Performance, Reason::SkipsWork, message, Some(shape)));
    }
    if let Some(ratio) = timing.back_to_back {
        let message = format!("it does less in a batch of launches: {ratio:.1}x slower 0.2 ms after the launch before");
        return Err(Rejection::new(GateName::Performance, Reason::SkipsWork, message, Some(shape)));
    }
    let (clock, sampling) = (timing.clock.clone(), Some(timing.sampling.clone()));
    Ok(TimingRecord { shape: shape.to_owned(), summary, batch: timing.batch, clock, sampling })
}

/// Reason why a time is impossible; none if it is possible.
pub fn impossible(
    harness: &mut Harness<'_>,
    demand: &Demand,
    timing: &TimingRecord,
) -> Result<Option<Rejection>, RunError> {
    let device = harness.context.device.clone();
    impossible::judge(&device, demand, timing, |asked| {
        let ceilings = match asked {
            Asked::Known => harness.ceilings(),
            Asked::Confirmed => harness.confirmed_ceilings(),
        };
        Ok(caught(ceilings)?.ok())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::fixture;
    use kbench_runtime::protocol::{OutOfBounds, SeedReport};

    fn timing() -> Timing {
        Timing::new(vec![1000.0; 20], "fake", SeedReport::new(0))
    }

    #[test]
    fn a_timing_counts_only_if_nothing_was_found_beside_it() {
        let project = fixture::project("");
        let kernel = &project.packages[0].kernels[0];
        let code = |timing: Timing| {
            let measured = measured(kernel, "s", &timing, &mut Vec::new());
            measured.map(|record| record.summary.p50).map_err(|rejection| rejection.code)
        };
        assert_eq!(code(timing()), Ok(1000.0));
        for samples in [vec![], vec![1000.0, f64::NAN]] {
            assert_eq!(code(Timing { samples, ..timing() }), Err(Reason::Protocol));
        }
        let outside = vec![OutOfBounds { tensor: "y".into(), offset: 64, bytes: 4 }];
        let after = SeedReport { out_of_bounds: outside, ..SeedReport::new(0) };
        let rejection = measured(kernel, "s", &Timing { after, ..timing() }, &mut Vec::new()).unwrap_err();
        assert!(
            rejection.code == Reason::OutOfBounds && rejection.message.starts_with("after timing: "),
            "{rejection}"
        );
        for found in [
            Timing { skips_work: Some(SkipsWork { ratio: 2.0, left_alone: 3 }), ..timing() },
            Timing { memoises: Some(2.0), ..timing() },
            Timing { back_to_back: Some(2.0), ..timing() },
        ] {
            assert_eq!(code(found), Err(Reason::SkipsWork));
        }
    }

    #[test]
    fn a_second_seed_is_timed_only_if_its_reference_is_known() {
        let other = |seeds: u32| {
            let project = fixture::project(&format!("gates.correctness.seeds = {seeds}"));
            time_job(&project.packages[0].kernels[0], Vec::new()).other_seed
        };
        assert_eq!([other(1), other(2)], [None, Some(1)]);
    }
}
