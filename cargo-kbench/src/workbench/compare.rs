//! Variants and baselines measured together, one sample of each in turn.

use std::collections::BTreeMap;

use kbench_runtime::protocol::{CheckJob, Reference, TimeJob, TimedCase, Timing};
use kbench_runtime::stats::{FEWEST_ROUNDS, Speedup, Summary};

use super::build::compile_rejection;
use super::programs::{Rival, turn};
use super::{RunError, Workbench, timing_record};
use crate::config::{Baseline, BaselineKind, Implementation, Kernel};
use crate::evaluation::{Gate, Reason, Rejection, TimingRecord};
use crate::executor::ExecutorError;
use crate::external::Inputs;
use crate::journal::{Comparison, ComparisonEntry, Record};
use crate::resolve::ResolveError;
use crate::space::Variant;

/// Untimed launches when kernels take over from a program; it prepares its turns alike.
const RESUMED_WARMUP: u32 = 3;

/// Who made a comparison fail: an index into its cases, or into its programs.
#[derive(Debug, Clone, Copy)]
enum Loser {
    Case(usize),
    Program(usize),
}

/// What is timed in a comparison.
#[derive(Debug, Clone)]
pub enum Entrant {
    /// A variant of the kernel.
    Variant(Variant),
    /// A baseline: an index into [`Kernel::baselines`].
    Baseline(usize),
}

/// A comparison's result: entries measured together, and those that could not be.
#[derive(Debug, Clone, Default)]
pub struct Compared {
    /// What was measured.
    pub entries: Vec<ComparisonEntry>,
    /// What could not be, by name, and why.
    pub unavailable: BTreeMap<String, Rejection>,
}

impl Compared {
    /// The entry of that name.
    pub fn entry(&self, name: &str) -> Option<&ComparisonEntry> {
        self.entries.iter().find(|entry| entry.name == name)
    }

    /// The speed-up of one entry over another: p50 of `over` over p50 of `name`, from paired rounds.
    pub fn speedup(&self, name: &str, over: &str) -> Result<Speedup, String> {
        let find = |name: &str| {
            self.entry(name).ok_or_else(|| match self.unavailable.get(name) {
                Some(why) => why.to_string(),
                None => format!("`{name}` was not measured"),
            })
        };
        Speedup::of(&find(over)?.samples, &find(name)?.samples)
            .ok_or_else(|| format!("fewer than {FEWEST_ROUNDS} samples"))
    }
}

impl Workbench<'_> {
    /// Measures entrants interleaved at one shape. An entrant that fails is left out and named; the rest is measured again, so that
    /// what is compared was always measured together.
    pub fn compare(&mut self, shape: usize, entrants: &[Entrant]) -> Result<Compared, RunError> {
        let kernel = self.kernel;
        let mut compared = Compared::default();
        let mut cases: Vec<(String, TimedCase)> = Vec::new();
        let mut rivals: Vec<Rival<'_>> = Vec::new();
        for entrant in entrants {
            if let Entrant::Baseline(index) = entrant
                && let Some(rival) = Rival::new(&kernel.baselines[*index])
            {
                rivals.push(rival);
                continue;
            }
            let name = self.entrant_name(entrant);
            match self.entrant(entrant, shape)? {
                Ok(case) => cases.push((name, case)),
                Err(rejection) => {
                    compared.unavailable.insert(name, rejection);
                }
            }
        }
        let mut inputs = None;
        while !cases.is_empty() {
            let key = self.comparison_key(&cases, &rivals);
            if let Some(known) = self.known.comparisons.get(&key) {
                compared.entries.clone_from(&known.entries);
                return Ok(compared);
            }
            let all = rivals.len();
            self.start_programs(&mut rivals, shape, &mut inputs, &mut compared.unavailable)?;
            if rivals.len() < all {
                // What is left may be known.
                continue;
            }
            match self.measure(shape, &cases, &mut rivals, inputs.as_ref())? {
                Ok(entries) => {
                    let comparison = Comparison { key: key.clone(), entries: entries.clone() };
                    self.record(&Record::Comparison(Box::new(comparison.clone())))?;
                    self.known.comparisons.insert(key, comparison);
                    compared.entries = entries;
                    return Ok(compared);
                }
                Err((Loser::Case(index), rejection)) => {
                    let (name, _) = cases.remove(index.min(cases.len() - 1));
                    compared.unavailable.insert(name, rejection);
                }
                Err((Loser::Program(index), rejection)) => {
                    let rival = rivals.remove(index);
                    compared.unavailable.insert(rival.name.to_owned(), rejection);
                }
            }
        }
        Ok(compared)
    }

    /// Everything that a comparison depends on.
    fn comparison_key(&self, cases: &[(String, TimedCase)], rivals: &[Rival<'_>]) -> String {
        let job = self.time_job(cases.iter().map(|(_, case)| case.clone()).collect());
        let names: Vec<&String> = cases.iter().map(|(name, _)| name).collect();
        let device = self.device.as_ref().map(|device| (&device.name, &device.driver));
        let programs: Vec<_> = rivals.iter().map(|rival| self.program_key(rival)).collect();
        let text = serde_json::to_string(&("comparison", device, &names, &job, programs)).expect("plain data");
        blake3::hash(text.as_bytes()).to_hex().to_string()
    }

    /// Measures kernels and programs together. Kernels share a worker, which takes one sample of each in turn. Programs cannot
    /// share it, so with any of them there are turns: some samples of the kernels, as many of each program, every other time
    /// in the opposite order, so that a drift meets all alike. Only one process has work at any time.
    fn measure(
        &mut self,
        shape: usize,
        cases: &[(String, TimedCase)],
        rivals: &mut [Rival<'_>],
        inputs: Option<&Inputs>,
    ) -> Result<Result<Vec<ComparisonEntry>, (Loser, Rejection)>, RunError> {
        let shape_name = self.kernel.shapes[shape].name.clone();
        let job = self.time_job(cases.iter().map(|(_, case)| case.clone()).collect());
        let turn = if rivals.is_empty() { job.iterations } else { turn(job.iterations) };
        for rival in &mut *rivals {
            rival.samples.clear();
        }
        let mut timings: Vec<Timing> = Vec::new();
        let mut taken = 0;
        for number in 0.. {
            let iterations = turn.min(job.iterations - taken);
            if iterations == 0 {
                break;
            }
            let kernels_first = number % 2 == 0;
            let turns: Vec<Loser> =
                std::iter::once(Loser::Case(0)).chain((0..rivals.len()).map(Loser::Program)).collect();
            let order: Vec<Loser> = if kernels_first { turns } else { turns.into_iter().rev().collect() };
            for whose in order {
                let failed = match whose {
                    Loser::Program(index) => rivals[index].time(iterations, &shape_name)?.map_err(|why| (whose, why)),
                    Loser::Case(_) => {
                        let warmup = if taken == 0 { job.warmup } else { job.warmup.min(RESUMED_WARMUP) };
                        let job = TimeJob { iterations, warmup, ..job.clone() };
                        self.time_cases(job, &shape_name, &mut timings)?
                    }
                };
                if let Err(failed) = failed {
                    return Ok(Err(failed));
                }
            }
            taken += iterations;
        }
        let kernels = cases.iter().zip(timings).map(|((name, _), timing)| ComparisonEntry {
            name: name.clone(),
            timing: timing_record(&shape_name, &timing).expect("usable"),
            samples: timing.samples,
            program: None,
        });
        let mut entries: Vec<ComparisonEntry> = kernels.collect();
        for (index, rival) in rivals.iter_mut().enumerate() {
            let program = match self.finish_program(rival, shape, inputs.expect("written for the programs"), turn)? {
                Ok(program) => program,
                Err(rejection) => return Ok(Err((Loser::Program(index), rejection))),
            };
            let (clock, batch) = rival.clock();
            let summary = Summary::of(&rival.samples).expect("finite, and at least one");
            entries.push(ComparisonEntry {
                name: rival.name.to_owned(),
                timing: TimingRecord { shape: shape_name.clone(), summary, batch, clock },
                samples: std::mem::take(&mut rival.samples),
                program: Some(program),
            });
        }
        Ok(Ok(entries))
    }

    /// The kernels' turn: adds to `timings`.
    fn time_cases(
        &mut self,
        job: TimeJob,
        shape: &str,
        timings: &mut Vec<Timing>,
    ) -> Result<Result<(), (Loser, Rejection)>, RunError> {
        let new = match self.executor.time(job, self.timeout()) {
            Ok(new) => new,
            Err(ExecutorError::Job { case, failure }) => {
                return Ok(Err((Loser::Case(case), self.failed(&failure, shape)?)));
            }
            Err(error) => return Err(error.into()),
        };
        let mut warnings = Vec::new();
        for (index, timing) in new.iter().enumerate() {
            if let Some(rejection) = self.unusable(shape, timing, &mut warnings) {
                return Ok(Err((Loser::Case(index), rejection)));
            }
        }
        if timings.is_empty() {
            *timings = new;
            return Ok(Ok(()));
        }
        for (timing, new) in timings.iter_mut().zip(new) {
            timing.samples.extend(new.samples);
            timing.batch = timing.batch.max(new.batch);
            timing.after = new.after;
        }
        Ok(Ok(()))
    }

    /// The name of an entrant in a comparison.
    pub fn entrant_name(&self, entrant: &Entrant) -> String {
        match entrant {
            Entrant::Variant(variant) => self.kernel.space.label(variant),
            Entrant::Baseline(index) => self.kernel.baselines[*index].name.clone(),
        }
    }

    fn entrant(&mut self, entrant: &Entrant, shape: usize) -> Result<Result<TimedCase, Rejection>, RunError> {
        let index = match entrant {
            Entrant::Variant(variant) => return self.variant_case(variant, shape),
            Entrant::Baseline(index) => *index,
        };
        let kernel = self.kernel;
        let Baseline { name, kind } = &kernel.baselines[index];
        let shape_name = &kernel.shapes[shape].name;
        match kind {
            BaselineKind::Variant(variant) => self.variant_case(variant, shape),
            BaselineKind::Implementation(implementation) => {
                let variant = &kernel.space.default;
                self.foreign_case(kernel, implementation, variant, shape)
            }
            BaselineKind::Kernel(other) => {
                let other =
                    self.builder.package.kernels.iter().find(|kernel| kernel.name == *other).expect("validated");
                let own = other.shapes.iter().position(|shape| shape.name == *shape_name).expect("validated");
                self.foreign_case(other, &other.implementation, &other.space.default, own)
            }
            BaselineKind::Command(_) => unreachable!("`{name}` is a program"),
        }
    }

    /// A variant of this kernel as an entrant; it has passed gate 2 or is on its way through it.
    fn variant_case(&mut self, variant: &Variant, shape: usize) -> Result<Result<TimedCase, Rejection>, RunError> {
        let built =
            match self.builder.build_implementation(self.kernel, &self.kernel.implementation, variant, &[shape])? {
                Ok(built) => built,
                Err(rejection) => return Ok(Err(rejection)),
            };
        let artifact = built.artifact(shape);
        self.executor.add_blob(&artifact.hash, &artifact.code);
        let shape_name = &self.kernel.shapes[shape].name;
        let case = self.case(variant, &built, shape).and_then(|case| Ok((case, self.reference(shape)?)));
        Ok(match case {
            Ok((case, reference)) => Ok(TimedCase { case, reference }),
            Err(error) => Err(Rejection::new(Gate::Compile, Reason::Geometry, error.to_string(), Some(shape_name))),
        })
    }

    /// Another function as a baseline: built, and checked against its reference, since beating a wrong one proves nothing.
    fn foreign_case(
        &mut self,
        kernel: &Kernel,
        implementation: &Implementation,
        variant: &Variant,
        shape: usize,
    ) -> Result<Result<TimedCase, Rejection>, RunError> {
        let shape_name = kernel.shapes[shape].name.clone();
        let geometry_error =
            |error: ResolveError| Rejection::new(Gate::Compile, Reason::Geometry, error.to_string(), Some(&shape_name));
        let built = match self.builder.build_implementation(kernel, implementation, variant, &[shape])? {
            Ok(built) => built,
            Err(rejection) => return Ok(Err(rejection)),
        };
        let artifact = built.artifact(shape);
        self.executor.add_blob(&artifact.hash, &artifact.code);
        let reference = &kernel.reference;
        let made = (|| {
            let point = self.builder.point(kernel, shape, variant);
            let case = point.case(implementation, artifact, &self.files)?;
            let unit = self.builder.unit(
                kernel,
                &reference.implementation,
                shape,
                &kernel.space.default,
                Some(reference.precision),
            )?;
            Ok((case, unit))
        })();
        let (case, unit) = match made {
            Ok(made) => made,
            Err(error) => return Ok(Err(geometry_error(error))),
        };
        let artifact = match self.builder.compiler.compile(&unit) {
            Ok(artifact) => artifact,
            Err(error) => return Ok(Err(compile_rejection(&error, &shape_name))),
        };
        self.executor.add_blob(&artifact.hash, &artifact.code);
        let launch =
            match self.builder.point(kernel, shape, &kernel.space.default).launch(&reference.implementation, &artifact)
            {
                Ok(launch) => launch,
                Err(error) => return Ok(Err(geometry_error(error))),
            };
        let reference = Reference { launch, precision: reference.precision };
        let job = CheckJob { seeds: vec![0], ..self.check_job(case.clone(), reference.clone()) };
        Ok(self.check(&shape_name, job)?.map(|_| TimedCase { case, reference }))
    }
}
