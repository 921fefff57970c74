//! Time jobs, step by step: prepare, warm up, sample, examine, check again.

use std::time::Instant;

use super::adjusted;
use super::case::MeasuredCase;
use super::memory_faults::MemoryFaults;
use super::recheck;
use super::run::{CaseFailure, Run};
use super::sampling::{self, InputChoice, SamplingEnd};
use super::warmup::WarmUp;
use crate::device::Device;
use crate::protocol::{Sampling, Stage, TimeJob, TimedCase, Timing};
use crate::verify::session::{OnStage, Session};

/// Nanoseconds of launches that are timed by two clocks together, long against the steps and the overhead of the clocks.
const BY_TWO_CLOCKS: f64 = 2e6;

impl<D: Device> Session<D> {
    /// Times every case of a job.
    ///
    /// Every second round runs backwards, so that no case always follows the same other case and a steady drift cancels out. Tensors that
    /// several cases have in common lie in the same memory. Each sample starts from poisoned outputs and scratch, and from the inputs in
    /// tensors that are read and written; its batch is then one launch. New inputs are drawn in each round, the same for all cases, and
    /// parts of the outputs of samples are kept to be compared: a kernel can neither foresee its inputs nor know when it is examined. In
    /// [`CacheMode::Hot`](crate::protocol::CacheMode::Hot), one untimed launch warms the cache again if anything ran between the samples of
    /// a case.
    pub fn time(&mut self, job: &TimeJob, stage: OnStage<'_>) -> Result<Vec<Timing>, CaseFailure> {
        let timed = self.time_cases(job, stage);
        if timed.is_err() {
            // The contents of the buffers are unknown after a failure.
            self.resources.pool.clear();
        }
        timed
    }

    fn time_cases(&mut self, job: &TimeJob, stage: OnStage<'_>) -> Result<Vec<Timing>, CaseFailure> {
        let mut cases = Vec::with_capacity(job.cases.len());
        for (index, timed) in job.cases.iter().enumerate() {
            stage(Stage::Case(index));
            cases.push(self.prepare(timed, job, stage).map_err(CaseFailure::of(index))?);
        }
        self.resources.device.launch_as(job.launch);
        let mut run = Run::new(&mut self.resources, job, stage);
        run.warm_up(&mut cases)?;
        let end = run.sample(&mut cases)?;
        run.examine(&mut cases, &end)?;
        let cases = cases.into_iter().zip(&job.cases).enumerate();
        cases.map(|(index, (case, timed))| run.conclude(index, case, timed, &end)).collect()
    }
}

impl<D: Device> Run<'_, D> {
    /// Launches each case until its times are steady, then chooses the number of launches a sample.
    fn warm_up(&mut self, cases: &mut [MeasuredCase<D>]) -> Result<(), CaseFailure> {
        let mut warmups = vec![WarmUp::new(self.job.rank_only); cases.len()];
        for _ in 0..self.job.warmup {
            for (index, case) in cases.iter_mut().enumerate() {
                if warmups[index].is_over() {
                    continue;
                }
                self.heartbeat.enter(Stage::Warmup);
                self.heartbeat.announce(index);
                let device = &mut self.resources.device;
                device.write(&case.writes[case.set()]).map_err(CaseFailure::of(index))?;
                let started = Instant::now();
                device.run(&case.memory.bound).map_err(CaseFailure::of(index))?;
                let took = started.elapsed();
                warmups[index].add(took);
                case.untimed = took.as_nanos() as f64;
            }
        }
        for (index, case) in cases.iter_mut().enumerate() {
            self.heartbeat.enter(Stage::Warmup);
            self.heartbeat.announce(index);
            case.choose_batch(self).map_err(CaseFailure::of(index))?;
        }
        Ok(())
    }

    /// Measures energy if the job asks for it, then examines each case for cheating and memory faults.
    fn examine(&mut self, cases: &mut [MeasuredCase<D>], end: &SamplingEnd) -> Result<(), CaseFailure> {
        for (index, case) in cases.iter_mut().enumerate().filter(|_| self.job.energy && !end.cut_short) {
            self.heartbeat.announce(index);
            case.joules = case.energy(self).map_err(CaseFailure::of(index))?;
        }
        for (index, case) in cases.iter_mut().enumerate().filter(|_| self.job.second_clock && !end.cut_short) {
            self.heartbeat.enter(Stage::Timing);
            self.heartbeat.announce(index);
            let launches = (BY_TWO_CLOCKS / case.typical().max(1.0)).clamp(1.0, 1000.0) as u32;
            let device = &mut self.resources.device;
            case.two_clocks = device.two_clocks(&case.memory.bound, launches).map_err(CaseFailure::of(index))?;
        }
        let ended_on_new = cases.iter().any(|case| matches!(case.inputs, InputChoice::New(_)));
        for (index, case) in cases.iter_mut().enumerate().filter(|_| ended_on_new) {
            case.memory.select_set(&mut self.resources.device, 0).map_err(CaseFailure::of(index))?;
            case.inputs = InputChoice::Set(0);
        }
        // Faults found now may be of any of the cases. Faults found after one more launch of a case are its own.
        let mut shared_faults = MemoryFaults::default();
        for (index, case) in cases.iter().enumerate() {
            self.heartbeat.enter(Stage::Compare);
            shared_faults.find(&mut self.resources.device, case).map_err(CaseFailure::of(index))?;
        }
        let alone = cases.len() == 1;
        for (index, case) in cases.iter_mut().enumerate() {
            self.heartbeat.enter(Stage::Timing);
            self.heartbeat.announce(index);
            if end.cut_short {
                // No other case ran since its last sample.
                case.last_outputs = case.outputs(self.resources).map_err(CaseFailure::of(index))?;
                continue;
            }
            // Energy is measured over launches back to back, without poison before each.
            if !alone || self.job.energy || self.job.second_clock || ended_on_new {
                let set = sampling::draw(case.sets.len(), &mut self.rng);
                let device = &mut self.resources.device;
                let sampled = case.take(device, self.job.cache, alone, InputChoice::Set(set));
                sampled.map_err(CaseFailure::of(index))?;
            }
            // A case that is there twice, to measure noise, was examined already.
            let examined_before = self.job.cases[..index].iter().any(|other| other.case == self.job.cases[index].case);
            case.examine(self, examined_before, self.job.slow.contains(&index)).map_err(CaseFailure::of(index))?;
        }
        shared_faults.assign(cases);
        Ok(())
    }

    /// Checks a case again after its samples, and reports the result.
    fn conclude(
        &mut self,
        index: usize,
        mut case: MeasuredCase<D>,
        timed: &TimedCase,
        end: &SamplingEnd,
    ) -> Result<Timing, CaseFailure> {
        let job = self.job;
        (self.heartbeat.every())(Stage::Case(index));
        let after = if end.cut_short || case.is_left_to_finals(job) || job.slow.contains(&index) {
            recheck::last_outputs(&mut self.resources.results, &mut case, &timed.case.tensors, job.bad_above)
        } else {
            recheck::recheck(self, &mut case, timed).map_err(CaseFailure::of(index))?
        };
        let device = &mut self.resources.device;
        let resolution = device.resolution().map_err(CaseFailure::of(index))?;
        let samples = adjusted::times(&case.samples);
        let sampling = Sampling {
            cache: job.cache,
            resolution_ns: Some(resolution.step),
            overhead_ns: Some(resolution.overhead),
            converged: (end.compared || end.stopping.is_converged(&samples))
                && adjusted::is_precise(&case.samples, job.until),
            cut_short: end.cut_short,
            input_sets: case.sets.len() as u32,
            new_inputs: case.new_inputs(job),
            exposed_samples: case.samples.iter().filter(|sample| sample.exposed).count() as u64,
            disturbed: adjusted::disturbed(&case.samples),
            corrected: case.samples.iter().filter(|sample| sample.corrected).count() as u64,
            discarded: std::mem::take(&mut case.counts.discarded),
            core: device.core(&case.memory.bound),
            sm_clock: end.sm_clock.clone(),
            in_use: end.in_use.clone(),
        };
        let timing = Timing {
            samples,
            slack: adjusted::slack(&case.samples),
            batch: case.batch,
            clock: device.clock(&case.memory.bound, case.batch).to_owned(),
            after,
            sampling,
            skips_work: case.skips_work,
            memoises: case.memoises,
            back_to_back: case.back_to_back,
            energy: std::mem::take(&mut case.joules),
            second_clock: case.two_clocks.take(),
        };
        // Unloading runs the kernel's destructors.
        (self.heartbeat.every())(Stage::Launch);
        drop(case);
        Ok(timing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::fake::FakeDevice;
    use crate::testing::{self, FakeCase};

    #[test]
    fn a_case_that_is_far_slower_is_compared_and_not_examined() {
        let timed = |fault: &str, slow: Vec<usize>| {
            let mut session = Session::new(FakeDevice::open(0), None);
            let far = FakeCase { time_ns: 9000.0, fault, ..FakeCase::default() };
            let cases = [FakeCase::default(), far].map(|case| {
                let job = case.check(&mut session);
                TimedCase { case: job.case, reference: job.reference }
            });
            let mut launches = 0;
            let count = &mut |stage| launches += u32::from(matches!(stage, Stage::Launch | Stage::Timing));
            let timings = session.time(&TimeJob { slow, ..testing::time_job(cases.into()) }, count).unwrap();
            testing::assert_clean(&timings[0].after);
            (timings[1].clone(), launches)
        };
        let (examined, of_all) = timed("\"memoises\"", Vec::new());
        let (slow, of_one) = timed("\"memoises\"", vec![1]);
        assert!(examined.memoises.is_some() && slow.memoises.is_none() && of_one < of_all, "{of_one} {of_all}");
        assert_eq!((slow.samples.len(), slow.sampling.cut_short), (20, false));
        testing::assert_clean(&slow.after);
        assert_eq!(timed("\"wrong\"", vec![1]).0.after.outputs[0].bad, 1000);
        assert_eq!(timed("\"out-of-bounds\"", vec![1]).0.after.out_of_bounds.len(), 1);
    }
}
