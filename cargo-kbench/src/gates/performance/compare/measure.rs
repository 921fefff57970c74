//! The measurement of a comparison: turns of the kernels and of the programs, until all times are known.

use kbench_runtime::driver::stopping::{Look, Stopping};
use kbench_runtime::protocol::{DeviceKind, Failure, Sampling, TimeJob, Timing};
use kbench_runtime::stats::Summary;

use super::super::impossible::Demand;
use super::super::timing::{impossible, measured};
use super::contender::Contender;
use super::rival::{Rival, turn};
use crate::config::Kernel;
use crate::gates::correctness::judge;
use crate::gates::launch::failed;
use crate::harness::{Halt, Harness, RunError, caught};
use crate::process::executor::ExecutorError;
use crate::process::program::Inputs;
use crate::record::evaluation::{Rejection, TimingRecord};
use crate::record::journal::{Comparison, ComparisonEntry, EntryRole};

/// Number of untimed launches before a turn of the kernels; a program prepares its turns in the same way.
const RESUMED_WARMUP: u32 = 3;

/// The entrant that made a comparison fail: an index into its contenders or its programs.
#[derive(Debug, Clone, Copy)]
pub(super) enum Loser {
    Kernel(usize),
    Program(usize),
}

/// Reason why a comparison failed: an entrant is rejected, or the run ends.
type Lost = Halt<(Loser, Rejection)>;

impl Halt {
    /// The error with the entrant that caused it.
    fn of(self, loser: Loser) -> Lost {
        match self {
            Halt::Variant(rejection) => Halt::Variant((loser, rejection)),
            Halt::Run(error) => Halt::Run(error),
        }
    }
}

/// A comparison to measure.
pub(super) struct Measurement<'m, 'k> {
    pub shape: usize,
    pub job: TimeJob,
    pub contenders: &'m [Contender<'k>],
    /// Input files, for comparisons with programs.
    pub inputs: Option<&'m Inputs>,
}

impl Measurement<'_, '_> {
    /// The record of the measurement: its entries, or the entrant that is rejected.
    pub fn record(
        &self,
        harness: &mut Harness<'_>,
        rivals: &mut [Rival<'_>],
        key: String,
    ) -> Result<Comparison, RunError> {
        let mut comparison = Comparison { key, ..Comparison::default() };
        match caught(self.run(harness, rivals, &mut comparison.warnings))? {
            Ok(entries) => comparison.entries = entries,
            Err((loser, rejection)) => comparison.rejected = Some((self.place(loser), rejection)),
        }
        Ok(comparison)
    }

    /// Place of an entrant: kernels come before programs. A worker may name a kernel that does not exist.
    pub fn place(&self, loser: Loser) -> usize {
        match loser {
            Loser::Kernel(index) => index.min(self.contenders.len() - 1),
            Loser::Program(index) => self.contenders.len() + index,
        }
    }

    /// Places of the kernels that run the same program as the first one.
    pub fn controls(&self) -> Vec<usize> {
        let programs = self.contenders.iter().map(|contender| &contender.program).enumerate();
        programs.skip(1).filter(|(_, program)| **program == self.contenders[0].program).map(|(at, _)| at).collect()
    }

    /// Measures kernels and programs together. Kernels share a worker, which takes one sample of each in turn. Programs
    /// cannot share it, so they get turns: some samples of the kernels, and the same number of each program, in the
    /// opposite order every other time, so that a slow change of the clock affects all equally. Only one process works
    /// at any time. Turns are short until the requested number of samples is reached, and grow until the p50 of all is
    /// known or the time is up.
    fn run(
        &self,
        harness: &mut Harness<'_>,
        rivals: &mut [Rival<'_>],
        warnings: &mut Vec<String>,
    ) -> Result<Vec<ComparisonEntry>, Lost> {
        let (timings, stopping) = self.sample(harness, rivals)?;
        // Of kernels alone the worker says it.
        let known = if rivals.is_empty() { Vec::new() } else { are_known(&stopping, &all_samples(&timings, rivals)) };
        let (of_kernels, of_programs) = known.split_at(timings.len().min(known.len()));
        let mut entries = self.kernel_entries(harness, timings, warnings, of_kernels)?;
        for (index, (rival, &is_known)) in rivals.iter_mut().zip(of_programs).enumerate() {
            // A program decides by itself how it takes a sample, so no warning is added here.
            let entry = self.program_entry(harness, rival, is_known);
            entries.push(entry.map_err(|halt| halt.of(Loser::Program(index)))?);
        }
        Ok(entries)
    }

    /// Takes samples of kernels and programs in turn, until there are enough.
    fn sample(&self, harness: &mut Harness<'_>, rivals: &mut [Rival<'_>]) -> Result<(Vec<Timing>, Stopping), Lost> {
        let shape_name = &harness.kernel().shapes[self.shape].name;
        let job = &self.job;
        let fewest = job.iterations;
        let cases = self.contenders.len() + rivals.len();
        let mut stopping = Stopping::new(fewest, job.until, cases).with_controls(self.controls());
        for rival in &mut *rivals {
            rival.samples.clear();
        }
        let mut timings: Vec<Timing> = Vec::new();
        let mut taken = 0;
        let mut order: Vec<Loser> =
            std::iter::once(Loser::Kernel(0)).chain((0..rivals.len()).map(Loser::Program)).collect();
        loop {
            // Kernels alone need no turns: the worker knows when there are enough samples.
            let (iterations, until) = if rivals.is_empty() {
                (fewest, job.until)
            } else {
                (turn(fewest, taken, stopping.next() as u32), None)
            };
            for &whose in &order {
                match whose {
                    Loser::Program(index) => {
                        rivals[index].time(iterations, shape_name).map_err(|halt| halt.of(whose))?;
                    }
                    Loser::Kernel(_) => {
                        let job = TimeJob { iterations, until, ..of_turn(job, taken) };
                        self.time_kernels(harness, job, shape_name, &mut timings)?;
                    }
                }
            }
            order.reverse();
            taken += iterations;
            if rivals.is_empty() {
                break;
            }
            if taken as usize >= stopping.next() && stopping.look(&all_samples(&timings, rivals)) != Look::Continue {
                break;
            }
        }
        Ok((timings, stopping))
    }

    /// The records of the kernels. `known` states for each whether its samples are enough, if they were taken in turn with programs.
    fn kernel_entries(
        &self,
        harness: &mut Harness<'_>,
        timings: Vec<Timing>,
        warnings: &mut Vec<String>,
        known: &[bool],
    ) -> Result<Vec<ComparisonEntry>, Lost> {
        let shape_name = &harness.kernel().shapes[self.shape].name;
        let mut entries = Vec::new();
        for (index, (contender, mut timing)) in self.contenders.iter().zip(timings).enumerate() {
            if let Some(&known) = known.get(index) {
                timing.sampling.converged = known;
            }
            let lost = |rejection| Halt::Variant((Loser::Kernel(index), rejection));
            let record = measured(contender.kernel, shape_name, &timing, warnings).map_err(lost)?;
            if let Some(rejection) = impossible(harness, &contender.demand, &record)? {
                return Err(lost(rejection));
            }
            entries.push(ComparisonEntry {
                name: contender.name.clone(),
                role: contender.role,
                program: contender.program.clone(),
                timing: record,
                samples: timing.samples,
                slack: timing.slack,
                external: None,
            });
        }
        Ok(entries)
    }

    /// The record of a program, after a check of its outputs.
    fn program_entry(
        &self,
        harness: &mut Harness<'_>,
        rival: &mut Rival<'_>,
        converged: bool,
    ) -> Result<ComparisonEntry, Halt> {
        let (job, fewest) = (&self.job, self.job.iterations);
        let kernel = harness.kernel();
        let shape = kernel.shapes[self.shape].name.clone();
        let inputs = self.inputs.expect("written for the programs");
        let external = rival.finish(harness, self.shape, inputs, turn(fewest, 0, fewest))?;
        let (clock, batch) = rival.clock();
        let summary = Summary::of(&rival.samples).expect("finite, and at least one");
        let sampling = Some(of_program(job, converged));
        let timing = TimingRecord { shape, summary, batch, clock, sampling };
        // A program gets the inputs of the default, and needs no toggles to compute them.
        let work = harness.context.point(self.shape, &kernel.space.default).work_of_any_variant();
        if let Some(rejection) = impossible(harness, &Demand::new(inputs.specs(), work), &timing)? {
            return Err(rejection.into());
        }
        Ok(ComparisonEntry {
            name: rival.name.to_owned(),
            role: EntryRole::Baseline,
            program: rival.key(&harness.context),
            timing,
            samples: std::mem::take(&mut rival.samples),
            slack: 0.0,
            external: Some(external),
        })
    }

    /// Takes the kernels' turn and adds it to `timings`.
    fn time_kernels(
        &self,
        harness: &mut Harness<'_>,
        job: TimeJob,
        shape: &str,
        timings: &mut Vec<Timing>,
    ) -> Result<(), Lost> {
        for contender in self.contenders {
            harness.refer_timed(contender.kernel, shape, &contender.case, &job)?;
        }
        let new = time_together(harness, job).map_err(|error| match error {
            ExecutorError::Job { case, failure } => failed(harness.kernel(), &failure, shape).of(Loser::Kernel(case)),
            error => error.into(),
        })?;
        for (index, (contender, timing)) in self.contenders.iter().zip(&new).enumerate() {
            // Warnings are derived from all turns together.
            measured(contender.kernel, shape, timing, &mut Vec::new())
                .map_err(|rejection| Halt::Variant((Loser::Kernel(index), rejection)))?;
        }
        if timings.is_empty() {
            *timings = new;
            return Ok(());
        }
        for ((contender, timing), new) in self.contenders.iter().zip(timings).zip(new) {
            add(contender.kernel, shape, timing, new);
        }
        Ok(())
    }
}

/// The job of a turn of the kernels after `taken` samples.
fn of_turn(job: &TimeJob, taken: u32) -> TimeJob {
    if taken == 0 {
        return job.clone();
    }
    // The first turn has the tests for skipped work.
    TimeJob { warmup: job.warmup.min(RESUMED_WARMUP), new_inputs: false, ..job.clone() }
}

/// Adds a later turn of a kernel to the earlier ones. Neither shows that it skips work: that would have ended the comparison.
fn add(kernel: &Kernel, shape: &str, timing: &mut Timing, later: Timing) {
    let slack = timing.slack * timing.samples.len() as f64 + later.slack * later.samples.len() as f64;
    timing.samples.extend(later.samples);
    timing.slack = slack / timing.samples.len() as f64;
    timing.batch = timing.batch.max(later.batch);
    timing.sampling.add(later.sampling);
    // A finding after one turn stays when the outputs after the next turn are right.
    let found = judge(&kernel.gates.correctness, &kernel.tensors, shape, std::slice::from_ref(&timing.after));
    if found.is_none() {
        timing.after = later.after;
    }
}

/// The sampling of a program, which has one set of inputs.
fn of_program(job: &TimeJob, converged: bool) -> Sampling {
    Sampling { cache: job.cache, input_sets: 1, converged, ..Sampling::default() }
}

/// Whether the samples of each entrant are enough: its p50 is known, or the ratios of all are.
fn are_known(stopping: &Stopping, all: &[&[f64]]) -> Vec<bool> {
    let are_compared = stopping.are_compared(all);
    all.iter().map(|samples| are_compared || stopping.is_converged(samples)).collect()
}

/// The samples of kernels and programs, in that order.
fn all_samples<'s>(timings: &'s [Timing], rivals: &'s [Rival<'_>]) -> Vec<&'s [f64]> {
    let kernels = timings.iter().map(|timing| &*timing.samples);
    kernels.chain(rivals.iter().map(|rival| &*rival.samples)).collect()
}

/// Runs a job of several cases. If one of them ends the worker that is also its process, the job runs again with an
/// announcement before each launch, to find the case.
fn time_together(harness: &mut Harness<'_>, job: TimeJob) -> Result<Vec<Timing>, ExecutorError> {
    let several = job.cases.len() > 1;
    let timeout = harness.context.timeout();
    match harness.worker.time(job.clone(), timeout) {
        Err(ExecutorError::Job {
            failure: Failure::Signal { .. } | Failure::Exited { .. } | Failure::Hang { .. },
            ..
        }) if several && harness.context.device.kind != DeviceKind::Host => {
            harness.worker.time(TimeJob { announce: true, ..job }, timeout)
        }
        timed => timed,
    }
}

#[cfg(test)]
mod tests {
    use kbench_runtime::protocol::{CacheMode, Convergence, Disturbance, OutOfBounds, SeedReport};

    use super::super::super::timing::time_job;
    use super::*;
    use crate::config::{ProgramBaseline, fixture};

    fn turn(times: &[f64], slack: f64, batch: u32) -> Timing {
        Timing { slack, batch, ..Timing::new(times.to_vec(), "fake", SeedReport::new(0)) }
    }

    #[test]
    fn only_the_first_turn_warms_up_in_full_and_tests_for_skipped_work() {
        let project = fixture::project("timing.warmup = 20");
        let job = TimeJob { new_inputs: true, ..time_job(&project.packages[0].kernels[0], Vec::new()) };
        let of = |taken| {
            let TimeJob { warmup, new_inputs, .. } = of_turn(&job, taken);
            (warmup, new_inputs)
        };
        assert_eq!([of(0), of(1), of(100)], [(20, true), (3, false), (3, false)]);
        let short = TimeJob { warmup: 1, ..job.clone() };
        assert_eq!(of_turn(&short, 10).warmup, 1);
    }

    #[test]
    fn the_samples_of_an_entrant_are_enough_if_its_p50_or_all_ratios_are_known() {
        let until = Convergence { precision: 0.01, max_seconds: 1.0, max_samples: 1000, decides: false };
        let stopping = Stopping::new(20, Some(until), 2);
        let steady = vec![1000.0; 100];
        // A drift by half: the p50 of its halves differ.
        let drifting: Vec<f64> = (0..100).map(|at| 1000.0 + 5.0 * f64::from(at)).collect();
        let half: Vec<f64> = drifting.iter().map(|time| time / 2.0).collect();
        assert_eq!(are_known(&stopping, &[&steady, &drifting]), [true, false]);
        assert_eq!(are_known(&stopping, &[&drifting, &half]), [true; 2], "beside each other the drift does not matter");
        assert_eq!(are_known(&stopping, &[&steady, &steady[..5]]), [true, false]);
    }

    #[test]
    fn a_program_is_sampled_on_one_set_of_inputs_with_the_cache_of_the_job() {
        let project = fixture::project("timing.cache = \"hot\"");
        let job = time_job(&project.packages[0].kernels[0], Vec::new());
        for converged in [false, true] {
            let Sampling { cache, input_sets, converged: known, .. } = of_program(&job, converged);
            assert_eq!((cache, input_sets, known), (CacheMode::Hot, 1, converged));
        }
    }

    #[test]
    fn samples_of_kernels_come_before_those_of_programs() {
        let config = ProgramBaseline { command: Vec::new(), correctness: None };
        let mut rival = Rival::new(0, "p", &config);
        rival.samples = vec![4.0];
        let timings = [turn(&[1.0, 2.0], 0.0, 1), turn(&[3.0], 0.0, 1)];
        assert_eq!(all_samples(&timings, &[rival]), [&[1.0, 2.0][..], &[3.0], &[4.0]]);
    }

    #[test]
    fn turns_add_up_to_one_timing() {
        let project = fixture::project("");
        let kernel = &project.packages[0].kernels[0];
        let mut timing = turn(&[1.0, 2.0, 3.0], 0.4, 2);
        let mut later = turn(&[4.0, 5.0], 0.9, 5);
        later.sampling.disturbed = [(Disturbance::InvoluntaryContextSwitch, 3)].into();
        later.after.seed = 7;
        add(kernel, "s", &mut timing, later);
        assert_eq!((&*timing.samples, timing.batch), (&[1.0, 2.0, 3.0, 4.0, 5.0][..], 5));
        assert!((timing.slack - 0.6).abs() < 1e-12, "of each sample: {}", timing.slack);
        assert_eq!(timing.sampling.disturbed[&Disturbance::InvoluntaryContextSwitch], 3);
        assert_eq!(timing.after.seed, 7);
        add(kernel, "s", &mut timing, turn(&[6.0], 0.0, 1));
        assert_eq!((timing.samples.len(), timing.batch), (6, 5));
    }

    #[test]
    fn a_finding_after_one_turn_stays_when_the_next_is_right() {
        let project = fixture::project("gates.correctness.level = \"warn\"");
        let kernel = &project.packages[0].kernels[0];
        let wrong = |offset| SeedReport {
            out_of_bounds: vec![OutOfBounds { tensor: "y".into(), offset, bytes: 4 }],
            ..SeedReport::new(0)
        };
        let mut timing = turn(&[1.0], 0.0, 1);
        for after in [wrong(64), SeedReport::new(0), wrong(128)] {
            add(kernel, "s", &mut timing, Timing { after, ..turn(&[1.0], 0.0, 1) });
        }
        let mut warnings = Vec::new();
        measured(kernel, "s", &timing, &mut warnings).unwrap();
        assert!(matches!(&warnings[..], [only] if only.contains("at byte 64 ")), "{warnings:?}");
    }
}
