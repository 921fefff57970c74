//! Checks that an answer belongs to its question: a worker with a wrong answer is broken, and its results are
//! discarded.

use kbench_runtime::protocol::{CheckJob, Event, InspectJob, Pattern, Role, SeedReport, TensorSpec, TimeJob, Timing};

/// The job of an event; `None` for an event without a job.
pub(super) fn job_of(event: &Event) -> Option<u64> {
    match event {
        Event::Stage { id, .. }
        | Event::Checked { id, .. }
        | Event::Timed { id, .. }
        | Event::Ran { id, .. }
        | Event::Metered { id, .. }
        | Event::Failed { id, .. } => Some(*id),
        Event::Hello { .. } | Event::NoDevice { .. } | Event::Heartbeat => None,
    }
}

/// Checks that there is a report on all inputs and all outputs of a check.
pub(super) fn check(job: &CheckJob, reports: &[SeedReport]) -> Result<(), String> {
    let asked: Vec<_> = job.asked().collect();
    if reports.len() != asked.len() {
        return Err(format!("{} reports where {} inputs were to be checked", reports.len(), asked.len()));
    }
    let outputs = outputs(&job.case.tensors);
    asked.into_iter().zip(reports).try_for_each(|(asked, given)| report(asked, &outputs, given))
}

/// Checks the reports on outputs of another program.
pub(super) fn inspect(job: &InspectJob, reports: &[SeedReport]) -> Result<(), String> {
    let [given] = reports else {
        return Err(format!("{} reports where one set of outputs was to be checked", reports.len()));
    };
    let outputs: Vec<&TensorSpec> = job.outputs.iter().filter_map(|(index, _)| job.tensors.get(*index)).collect();
    report((job.seed, job.pattern), &outputs, given)
}

/// Checks that there is a timing of each case with the requested number of samples, and a report after it.
pub(super) fn time(job: &TimeJob, timings: &[Timing]) -> Result<(), String> {
    if timings.len() != job.cases.len() {
        return Err(format!("{} timings where {} kernels were to be timed", timings.len(), job.cases.len()));
    }
    for (timed, timing) in job.cases.iter().zip(timings) {
        let taken = timing.samples.len();
        let fewest = if job.rank_only || job.until.is_some() { 1 } else { job.iterations as usize };
        let most = job.until.map_or(0, |until| until.max_samples).max(job.iterations) as usize;
        if !timing.sampling.cut_short && !(fewest..=most.max(1)).contains(&taken) {
            return Err(format!("{taken} samples where {fewest} to {most} were asked for"));
        }
        if timing.batch == 0 || !timing.samples.iter().all(|sample| sample.is_finite() && *sample > 0.0) {
            return Err("samples that are no times".to_owned());
        }
        // If inputs alternate, the last sample may have used the other inputs.
        let is_other = job.other_seed == Some(timing.after.seed);
        let seed = if is_other { timing.after.seed } else { job.seed };
        report((seed, None), &outputs(&timed.case.tensors), &timing.after)?;
    }
    Ok(())
}

fn outputs(tensors: &[TensorSpec]) -> Vec<&TensorSpec> {
    tensors.iter().filter(|spec| matches!(spec.role, Role::Out | Role::Inout)).collect()
}

fn report(asked: (u64, Option<Pattern>), outputs: &[&TensorSpec], given: &SeedReport) -> Result<(), String> {
    if (given.seed, given.pattern) != asked {
        return Err(format!(
            "a report on seed {}, pattern {:?}, where {asked:?} was asked for",
            given.seed, given.pattern
        ));
    }
    let expected = outputs.iter().map(|spec| (spec.name.as_str(), spec.elements() as u64));
    let names = given.outputs.iter().map(|output| (output.tensor.as_str(), output.elements));
    if expected.eq(names) {
        Ok(())
    } else {
        Err(format!("seed {}: a report on other outputs than were asked for", asked.0))
    }
}

#[cfg(test)]
mod tests {
    use kbench_runtime::dtype::DType;
    use kbench_runtime::protocol::{
        CacheMode, Case, CheckOptions, DeviceKind, ErrorSizes, LaunchMode, OutputReport, Reference, Sequence, Source,
        TimedCase,
    };

    use super::*;

    fn job() -> CheckJob {
        let sequence = Sequence { device: DeviceKind::Fake, blob: String::new(), launches: Vec::new() };
        let tensor = |name: &str, role, source| TensorSpec {
            name: name.into(),
            dtype: DType::F32,
            dims: vec![2, 3],
            role,
            source,
        };
        let tensors =
            vec![tensor("x", Role::In, Source::Normal { mean: 0.0, std: 1.0 }), tensor("y", Role::Out, Source::None)];
        CheckJob {
            id: 1,
            case: Case { tensors, sequence: sequence.clone() },
            reference: Reference { sequence, precision: DType::F64, program: false, identity: String::new() },
            seeds: vec![4, 5],
            bad_above: 0.1,
            options: CheckOptions { patterns: Pattern::ALL.to_vec(), ..CheckOptions::default() },
        }
    }

    fn right(job: &CheckJob) -> Vec<SeedReport> {
        let ErrorSizes { max_abs_err, mean_abs_err, rms_err, rms_ref } =
            ErrorSizes { max_abs_err: 0.0, mean_abs_err: 0.0, rms_err: 0.0, rms_ref: 1.0 };
        let output = OutputReport {
            tensor: "y".into(),
            elements: 6,
            unwritten: 0,
            first_unwritten: None,
            nonfinite: 0,
            max_abs_err,
            max_abs_err_at: 0,
            output_at: 0.0,
            reference_at: 0.0,
            mean_abs_err,
            bias: 0.0,
            rms_err,
            rms_ref,
            bad: 0,
            related: kbench_runtime::protocol::RelatedErrors::default(),
        };
        let report = |(seed, pattern)| SeedReport { pattern, outputs: vec![output.clone()], ..SeedReport::new(seed) };
        job.asked().map(report).collect()
    }

    #[test]
    fn an_answer_must_match_the_whole_request() {
        let job = job();
        let good = right(&job);
        assert!(good.len() > 2 && check(&job, &good).is_ok());
        let wrong: [fn(&mut Vec<SeedReport>); 6] = [
            Vec::clear,
            |reports| reports.truncate(1),
            |reports| reports[0].seed = 9,
            |reports| reports[2].pattern = None,
            |reports| reports[1].outputs.clear(),
            |reports| reports[1].outputs[0].elements = 5,
        ];
        for (index, spoil) in wrong.into_iter().enumerate() {
            let mut reports = good.clone();
            spoil(&mut reports);
            assert!(check(&job, &reports).is_err(), "{index}");
        }
    }

    #[test]
    fn the_last_sample_may_be_on_either_of_the_inputs_that_take_turns() {
        let checked = job();
        let report = right(&checked).remove(0);
        let job = TimeJob {
            id: 1,
            cases: vec![TimedCase { case: checked.case, reference: checked.reference }],
            seed: 0,
            other_seed: Some(1),
            warmup: 0,
            iterations: 2,
            until: None,
            rank_only: false,
            cutoff_ns: None,
            cache: CacheMode::Hot,
            launch: LaunchMode::Graph,
            bad_above: 0.1,
            announce: false,
            energy: false,
            second_clock: false,
            new_inputs: false,
            slow: Vec::new(),
        };
        let timing = |seed| Timing::new(vec![1.0, 2.0], "fake", SeedReport { seed, ..report.clone() });
        for (seed, is_right) in [(0, true), (1, true), (2, false)] {
            assert_eq!(time(&job, &[timing(seed)]).is_ok(), is_right, "{seed}");
        }
        assert!(time(&TimeJob { other_seed: None, ..job }, &[timing(1)]).is_err());
    }
}
