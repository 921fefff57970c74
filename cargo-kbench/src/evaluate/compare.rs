//! Variants and baselines measured together, one sample of each in turn.

use std::collections::BTreeMap;
use std::sync::Arc;

use kbench_runtime::fingerprint;
use kbench_runtime::protocol::{DeviceKind, Failure, Sampling, TimeJob, TimedCase, Timing};
use kbench_runtime::stats::{FEWEST_ROUNDS, Speedup, Summary};
use kbench_runtime::stopping::{Look, Stopping};

use super::check::check_job;
use super::circumstances::Named;
use super::one::{failed, measured};
use super::programs::{Rival, turn};
use super::{Proposed, RunError, Workbench};
use crate::build::CompileError;
use crate::config::{Baseline, BaselineKind, Implementation, Kernel};
use crate::gates::impossible::{self, Demand};
use crate::process::executor::ExecutorError;
use crate::process::program::Inputs;
use crate::record::evaluation::{Gate, Reason, Rejection, SourceRecord, TimingRecord};
use crate::record::journal::{Comparison, ComparisonEntry, EntryRole, Record};
use crate::space::Variant;

/// Untimed launches when kernels take over from a program; it prepares its turns alike.
const RESUMED_WARMUP: u32 = 3;

/// Who made a comparison fail: an index into its contenders, or into its programs.
#[derive(Debug, Clone, Copy)]
enum Loser {
    Kernel(usize),
    Program(usize),
}

/// What is timed in a comparison.
#[derive(Debug, Clone)]
pub enum Entrant {
    /// A variant of the kernel.
    Variant(Variant),
    /// A variant of a source that a proposer handed in.
    Proposed(Arc<Proposed>, Variant),
    /// A variant that is an entrant already, measured once more as if it were another: what is found between the two is noise.
    Again(Box<Entrant>),
    /// A baseline: an index into [`Kernel::baselines`].
    Baseline(usize),
}

impl Entrant {
    fn role(&self) -> EntryRole {
        match self {
            Entrant::Variant(_) | Entrant::Proposed(..) => EntryRole::Variant,
            Entrant::Again(_) => EntryRole::Again,
            Entrant::Baseline(_) => EntryRole::Baseline,
        }
    }
}

/// A comparison's result: entries measured together, and those that could not be.
#[derive(Debug, Clone, Default)]
pub struct Compared {
    /// What was measured.
    pub entries: Vec<ComparisonEntry>,
    /// What could not be, by name, and why.
    pub unavailable: BTreeMap<String, Rejection>,
    /// What gates at level `warn` found.
    pub warnings: Vec<String>,
    /// Whether this was measured by the run that is resumed.
    pub resumed: bool,
}

impl Compared {
    /// The entry of that name, but for the one that is there for the noise floor.
    pub fn entry(&self, name: &str) -> Option<&ComparisonEntry> {
        self.entries().find(|entry| entry.name == name)
    }

    /// All entries but the one that is there for the noise floor.
    pub fn entries(&self) -> impl Iterator<Item = &ComparisonEntry> {
        self.entries.iter().filter(|entry| entry.role != EntryRole::Again)
    }

    /// Whether two entries are the same machine code, launched alike.
    pub fn same_program(&self, name: &str, other: &str) -> bool {
        let program = |name| self.entry(name).map(|entry| &entry.program);
        program(name).is_some() && program(name) == program(other)
    }

    /// By how much entries with the same machine code differed: the farthest end of any interval between two of them, 0.004 for
    /// 0.4 %. `None` where no two are the same. Less than this between two others means nothing.
    pub fn noise_floor(&self) -> Option<f64> {
        let pairs = self.entries.iter().enumerate().flat_map(|(at, one)| {
            let twins = self.entries[at + 1..].iter().filter(|other| other.program == one.program);
            twins.filter_map(|other| Speedup::of(one.taken(), other.taken()))
        });
        pairs.map(|speedup| (speedup.high - 1.0).max(1.0 - speedup.low)).reduce(f64::max)
    }

    /// The speed-up of one entry over another: the time of `over` over that of `name`, from paired rounds.
    pub fn speedup(&self, name: &str, over: &str) -> Result<Speedup, String> {
        let find = |name: &str| {
            self.entry(name).ok_or_else(|| match self.unavailable.get(name) {
                Some(why) => why.to_string(),
                None => format!("`{name}` was not measured"),
            })
        };
        Speedup::of(find(over)?.taken(), find(name)?.taken())
            .ok_or_else(|| format!("fewer than {FEWEST_ROUNDS} samples"))
    }

    /// Whether the time of an entry is known: see [`TimingRecord::is_known`].
    pub fn is_known(&self, name: &str) -> bool {
        self.entry(name).is_some_and(|entry| entry.timing.is_known())
    }

    /// The time of an entry over another's: from paired rounds, of too few by p50. `None` where one was not measured.
    pub fn relative_time(&self, name: &str, other: &str) -> Option<f64> {
        let (one, other) = (self.entry(name)?, self.entry(other)?);
        let by_p50 = one.timing.summary.p50 / other.timing.summary.p50;
        Some(Speedup::ratio_of(&one.samples, &other.samples).unwrap_or(by_p50))
    }

    /// The fastest entry, by its time over that of the one with the least p50.
    pub fn fastest(&self) -> Option<String> {
        self.fastest_of(self.entries().map(|entry| entry.name.clone()))
    }

    /// The fastest of some entries.
    pub fn fastest_of(&self, names: impl Iterator<Item = String>) -> Option<String> {
        let names: Vec<String> = names.filter(|name| self.entry(name).is_some()).collect();
        let p50 = |name: &str| self.entry(name).map_or(f64::INFINITY, |entry| entry.timing.summary.p50);
        let first = names.iter().min_by(|a, b| p50(a).total_cmp(&p50(b)))?;
        let time = |name: &str| self.relative_time(name, first).unwrap_or(f64::INFINITY);
        names.iter().min_by(|a, b| time(a).total_cmp(&time(b))).cloned()
    }
}

/// An entrant, ready to be measured.
struct Contender<'k> {
    name: String,
    role: EntryRole,
    kernel: &'k Kernel,
    case: TimedCase,
    /// Hash of the case with machine code in place of the binary.
    program: String,
    /// What a launch has to do.
    demand: Demand,
}

impl Contender<'_> {
    fn is_same_variant(&self, other: &Self) -> bool {
        let is_variant = |of: &Self| of.role != EntryRole::Baseline;
        self.name == other.name && is_variant(self) && is_variant(other)
    }
}

impl<'a> Workbench<'a> {
    /// Measures entrants interleaved at one shape. An entrant that fails is left out and named; the rest is measured again, so that
    /// what is compared was always measured together.
    pub fn compare(&mut self, shape: usize, entrants: &[Entrant]) -> Result<Compared, RunError> {
        let mut compared = Compared::default();
        let mut contenders: Vec<Contender<'_>> = Vec::new();
        let mut rivals: Vec<Rival<'_>> = Vec::new();
        for entrant in entrants {
            if let Entrant::Baseline(index) = entrant
                && let Some(rival) = Rival::new(&self.kernel.baselines[*index])
            {
                rivals.push(rival);
                continue;
            }
            let name = self.entrant_name(entrant);
            match self.contender(entrant, shape, &mut compared.warnings) {
                Ok(Ok(contender)) => contenders.push(contender),
                Ok(Err(rejection)) => {
                    compared.unavailable.insert(name, rejection);
                }
                // A baseline whose reference or compiler is missing is one baseline fewer, not the end of the run. A full disk is.
                Err(
                    error @ (RunError::Reference { .. }
                    | RunError::Unavailable { .. }
                    | RunError::Tool(CompileError::NoCompiler { .. } | CompileError::Unsupported { .. })),
                ) if matches!(entrant, Entrant::Baseline(_)) => {
                    let shape = &self.kernel.shapes[shape].name;
                    let why = Rejection::new(Gate::Compile, Reason::Reference, error.to_string(), Some(shape));
                    compared.unavailable.insert(name, why);
                }
                Err(error) => return Err(error),
            }
        }
        let mut inputs = None;
        while !contenders.is_empty() {
            let key = self.comparison_key(&contenders, &rivals, shape)?;
            if let Some(known) = self.known.comparisons.get(&key) {
                compared.entries.clone_from(&known.entries);
                compared.resumed = true;
                return Ok(compared);
            }
            let all = rivals.len();
            self.start_programs(&mut rivals, shape, &mut inputs, &mut compared.unavailable)?;
            if rivals.len() < all {
                // What is left may be known.
                continue;
            }
            match self.measure(shape, &contenders, &mut rivals, inputs.as_ref(), &mut compared.warnings)? {
                Ok(entries) => {
                    let comparison = Comparison { key: key.clone(), entries: entries.clone() };
                    self.record(&Record::Comparison(Box::new(comparison.clone())))?;
                    self.known.comparisons.insert(key, comparison);
                    compared.entries = entries;
                    return Ok(compared);
                }
                Err((Loser::Kernel(index), rejection)) => {
                    let loser = contenders.remove(index.min(contenders.len() - 1));
                    // Whatever it was measured as, it is the same variant that failed.
                    contenders.retain(|other| !other.is_same_variant(&loser));
                    compared.unavailable.insert(loser.name, rejection);
                }
                Err((Loser::Program(index), rejection)) => {
                    let loser = rivals.remove(index);
                    compared.unavailable.insert(loser.name.to_owned(), rejection);
                }
            }
        }
        Ok(compared)
    }

    /// Runs a job of several cases. Where one of them ends a worker that is also its process, it is run once more with each launch announced, to
    /// know which.
    fn time_together(&mut self, job: TimeJob) -> Result<Vec<Timing>, ExecutorError> {
        let several = job.cases.len() > 1;
        match self.executor.time(job.clone(), self.timeout()) {
            Err(ExecutorError::Job {
                failure: Failure::Signal { .. } | Failure::Exited { .. } | Failure::Hang { .. },
                ..
            }) if several && self.worker_options.device != DeviceKind::Host => {
                self.executor.time(TimeJob { announce: true, ..job }, self.timeout())
            }
            timed => timed,
        }
    }

    /// What is compared is in the record, so it is looked at in every way.
    fn comparison_job(&self, contenders: &[Contender<'_>]) -> TimeJob {
        let cases = contenders.iter().map(|contender| contender.case.clone()).collect();
        TimeJob { renew: true, ..self.time_job(cases) }
    }

    /// Everything that a comparison depends on.
    fn comparison_key(
        &mut self,
        contenders: &[Contender<'_>],
        rivals: &[Rival<'_>],
        shape: usize,
    ) -> Result<String, RunError> {
        let job = self.comparison_job(contenders);
        let shape = &self.kernel.shapes[shape].name;
        let mut answers = Vec::new();
        for contender in contenders {
            answers.extend(self.refer_timed(contender.kernel, shape, &contender.case, &job)?);
        }
        let job = Named { built: &[] }.time(&job);
        let names: Vec<(&String, EntryRole)> =
            contenders.iter().map(|contender| (&contender.name, contender.role)).collect();
        let programs: Vec<(&str, String)> = rivals.iter().map(|rival| (rival.name, self.program_key(rival))).collect();
        let limits = &self.kernel.gates.correctness;
        Ok(fingerprint::of("comparison", &(self.circumstances(), &names, &job, answers, limits, programs)))
    }

    /// Measures kernels and programs together. Kernels share a worker, which takes one sample of each in turn. Programs cannot
    /// share it, so with any of them there are turns: some samples of the kernels, as many of each program, every other time
    /// in the opposite order, so that a drift meets all alike. Only one process has work at any time. The turns are short until
    /// there are as many samples as are asked for at least, and grow until the p50 of all is known or the time is up.
    fn measure(
        &mut self,
        shape: usize,
        contenders: &[Contender<'_>],
        rivals: &mut [Rival<'_>],
        inputs: Option<&Inputs>,
        warnings: &mut Vec<String>,
    ) -> Result<Result<Vec<ComparisonEntry>, (Loser, Rejection)>, RunError> {
        let shape_name = &self.kernel.shapes[shape].name;
        let job = self.comparison_job(contenders);
        let fewest = job.iterations;
        let mut stopping = Stopping::new(fewest, job.until, contenders.len() + rivals.len());
        for rival in &mut *rivals {
            rival.samples.clear();
        }
        let mut timings: Vec<Timing> = Vec::new();
        let mut taken = 0;
        let mut order: Vec<Loser> =
            std::iter::once(Loser::Kernel(0)).chain((0..rivals.len()).map(Loser::Program)).collect();
        loop {
            // Alone, the kernels need no turns: the worker knows itself when there are enough samples.
            let (iterations, until) = if rivals.is_empty() {
                (fewest, job.until)
            } else {
                (turn(fewest, taken, stopping.next() as u32), None)
            };
            for &whose in &order {
                let ended = match whose {
                    Loser::Program(index) => rivals[index].time(iterations, shape_name)?.map_err(|why| (whose, why)),
                    Loser::Kernel(_) => {
                        let warmup = if taken == 0 { job.warmup } else { job.warmup.min(RESUMED_WARMUP) };
                        // One turn looks at what else they do.
                        let job = TimeJob { iterations, warmup, until, renew: taken == 0, ..job.clone() };
                        self.time_kernels(contenders, job, shape_name, &mut timings)?
                    }
                };
                if let Err(failed) = ended {
                    return Ok(Err(failed));
                }
            }
            order.reverse();
            taken += iterations;
            if rivals.is_empty() {
                break;
            }
            if taken as usize >= stopping.next() {
                let kernels = timings.iter().map(|timing| &*timing.samples);
                let samples: Vec<&[f64]> = kernels.chain(rivals.iter().map(|rival| &*rival.samples)).collect();
                if stopping.look(&samples) != Look::Continue {
                    break;
                }
            }
        }
        let mut compared = false;
        if !rivals.is_empty() {
            let samples = timings.iter().map(|timing| &*timing.samples);
            let samples: Vec<&[f64]> = samples.chain(rivals.iter().map(|rival| &*rival.samples)).collect();
            compared = stopping.are_compared(&samples);
            for timing in &mut timings {
                timing.sampling.converged = compared || stopping.is_converged(&timing.samples);
            }
        }
        let mut entries = Vec::new();
        for (index, (contender, timing)) in contenders.iter().zip(timings).enumerate() {
            let record = match measured(contender.kernel, shape_name, &timing, warnings) {
                Ok(record) => record,
                Err(rejection) => return Ok(Err((Loser::Kernel(index), rejection))),
            };
            if let Some(rejection) = self.impossible(&contender.demand, &record)? {
                return Ok(Err((Loser::Kernel(index), rejection)));
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
        for (index, rival) in rivals.iter_mut().enumerate() {
            let external = match self.finish_program(
                rival,
                shape,
                inputs.expect("written for the programs"),
                turn(fewest, 0, fewest),
            )? {
                Ok(external) => external,
                Err(rejection) => return Ok(Err((Loser::Program(index), rejection))),
            };
            let (clock, batch) = rival.clock();
            let summary = Summary::of(&rival.samples).expect("finite, and at least one");
            // How it took them is its own affair.
            let converged = compared || stopping.is_converged(&rival.samples);
            let sampling = Some(Sampling { cache: job.cache, input_sets: 1, converged, ..Sampling::default() });
            let timing = TimingRecord { shape: shape_name.clone(), summary, batch, clock, sampling };
            entries.push(ComparisonEntry {
                name: rival.name.to_owned(),
                role: EntryRole::Baseline,
                program: self.program_key(rival),
                timing,
                samples: std::mem::take(&mut rival.samples),
                slack: 0.0,
                external: Some(external),
            });
        }
        Ok(Ok(entries))
    }

    /// Why a time cannot be, where it cannot.
    pub(super) fn impossible(&mut self, demand: &Demand, timing: &TimingRecord) -> Result<Option<Rejection>, RunError> {
        let info = self.executor.device()?;
        impossible::judge(&info, demand, timing, || Ok(self.ceilings()?.ok()))
    }

    /// The kernels' turn: adds to `timings`.
    fn time_kernels(
        &mut self,
        contenders: &[Contender<'_>],
        job: TimeJob,
        shape: &str,
        timings: &mut Vec<Timing>,
    ) -> Result<Result<(), (Loser, Rejection)>, RunError> {
        for contender in contenders {
            self.refer_timed(contender.kernel, shape, &contender.case, &job)?;
        }
        let new = match self.time_together(job) {
            Ok(new) => new,
            Err(ExecutorError::Job { case, failure }) => {
                return Ok(Err((Loser::Kernel(case), failed(self.kernel, &failure, shape)?)));
            }
            Err(error) => return Err(error.into()),
        };
        for (index, (contender, timing)) in contenders.iter().zip(&new).enumerate() {
            // Warnings are taken from all turns together.
            if let Err(rejection) = measured(contender.kernel, shape, timing, &mut Vec::new()) {
                return Ok(Err((Loser::Kernel(index), rejection)));
            }
        }
        if timings.is_empty() {
            *timings = new;
            return Ok(Ok(()));
        }
        for (timing, new) in timings.iter_mut().zip(new) {
            let slack = timing.slack * timing.samples.len() as f64 + new.slack * new.samples.len() as f64;
            timing.samples.extend(new.samples);
            timing.slack = slack / timing.samples.len() as f64;
            timing.batch = timing.batch.max(new.batch);
            timing.sampling.add(new.sampling);
            timing.keeps_results = timing.keeps_results.or(new.keeps_results);
            timing.skips_work = timing.skips_work.take().or(new.skips_work);
            timing.after = new.after;
        }
        Ok(Ok(()))
    }

    /// The name of an entrant in a comparison.
    pub fn entrant_name(&self, entrant: &Entrant) -> String {
        match entrant {
            Entrant::Variant(variant) => self.kernel.space.label(variant),
            Entrant::Proposed(source, variant) => {
                SourceRecord::label(Some(&source.record), &self.kernel.space.label(variant))
            }
            Entrant::Again(entrant) => self.entrant_name(entrant),
            Entrant::Baseline(index) => self.kernel.baselines[*index].name.clone(),
        }
    }

    fn contender(
        &mut self,
        entrant: &Entrant,
        shape: usize,
        warnings: &mut Vec<String>,
    ) -> Result<Result<Contender<'a>, Rejection>, RunError> {
        let kernel = self.kernel;
        let own = &kernel.implementation;
        let index = match entrant {
            Entrant::Again(entrant) => {
                let contender = self.contender(entrant, shape, warnings)?;
                return Ok(contender.map(|contender| Contender { role: EntryRole::Again, ..contender }));
            }
            // It passed gate 2 at this shape, or it would not be here.
            Entrant::Variant(variant) => {
                return self.prepare((self.entrant_name(entrant), entrant.role()), kernel, own, variant, shape);
            }
            Entrant::Proposed(source, variant) => {
                let named = (self.entrant_name(entrant), entrant.role());
                return self.prepare(named, kernel, &source.implementation, variant, shape);
            }
            Entrant::Baseline(index) => *index,
        };
        let Baseline { name, kind } = &kernel.baselines[index];
        let shape_name = &kernel.shapes[shape].name;
        let (kernel, implementation, variant, shape) = match kind {
            BaselineKind::Variant(variant) => (kernel, own, variant, shape),
            BaselineKind::Implementation(implementation) => (kernel, &**implementation, &kernel.space.default, shape),
            BaselineKind::Kernel(other) => {
                let other =
                    self.builder.package.kernels.iter().find(|kernel| kernel.name == *other).expect("validated");
                let shape = other.shapes.iter().position(|shape| shape.name == *shape_name).expect("validated");
                (other, &other.implementation, &other.space.default, shape)
            }
            BaselineKind::Command(_) => unreachable!("`{name}` is a program"),
        };
        let contender = match self.prepare((name.clone(), entrant.role()), kernel, implementation, variant, shape)? {
            Ok(contender) => contender,
            Err(rejection) => return Ok(Err(rejection)),
        };
        // Beating a wrong function proves nothing.
        let TimedCase { case, reference } = contender.case.clone();
        let checked = self.check(kernel, shape_name, check_job(kernel, case, reference), warnings)?;
        Ok(checked.map(|_| contender))
    }

    /// Builds any function over the tensors of a kernel, with its reference.
    fn prepare<'k>(
        &mut self,
        (name, role): (String, EntryRole),
        kernel: &'k Kernel,
        implementation: &Implementation,
        variant: &Variant,
        shape: usize,
    ) -> Result<Result<Contender<'k>, Rejection>, RunError> {
        self.add_files(kernel)?;
        let built = match self.builder.build_implementation(kernel, implementation, variant, &[shape])? {
            Ok(built) => built,
            Err(rejection) => return Ok(Err(rejection)),
        };
        let artifact = built.artifact(shape);
        self.executor.add_blob(&artifact.hash, &artifact.code);
        let point = self.builder.point(kernel, shape, variant);
        let case = match point.case(implementation, artifact, &self.files) {
            Ok(case) => case,
            Err(error) => {
                let shape = &kernel.shapes[shape].name;
                return Ok(Err(Rejection::new(Gate::Compile, Reason::Geometry, error.to_string(), Some(shape))));
            }
        };
        let demand = Demand::new(&case.tensors, point.work());
        let reference = self.reference(kernel, shape, variant)?;
        let program = fingerprint::of("program", &Named { built: &built.builds }.case(&case));
        Ok(Ok(Contender { name, role, kernel, case: TimedCase { case, reference }, program, demand }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl ComparisonEntry {
        /// Launches that take one of two times, `late` of 100 the later one, and `added` nanoseconds more.
        pub(crate) fn of_two_modes(name: &str, late: usize, added: f64, rounds: usize) -> Self {
            let samples: Vec<f64> =
                (0..rounds).map(|i| if i * 37 % 100 < late { 9184.0 } else { 8992.0 } + added).collect();
            let summary = Summary::of(&samples).unwrap();
            let (shape, clock) = ("mission".to_owned(), "fake".to_owned());
            let timing = TimingRecord { shape, summary, batch: 1, clock, sampling: None };
            Self {
                name: name.to_owned(),
                role: EntryRole::Variant,
                program: name.to_owned(),
                timing,
                samples,
                slack: 0.0,
                external: None,
            }
        }
    }

    #[test]
    fn rounds_say_who_is_fastest_where_a_median_falls_between_two_modes() {
        let entry = ComparisonEntry::of_two_modes;
        let of = |rounds: usize| Compared {
            entries: vec![entry("slower", 48, 162.0, rounds), entry("faster", 52, 0.0, rounds)],
            ..Compared::default()
        };
        let compared = of(100);
        let p50 = |name: &str| compared.entry(name).unwrap().timing.summary.p50;
        assert!(p50("slower") < p50("faster"));
        assert_eq!(compared.fastest().as_deref(), Some("faster"));
        assert!(compared.relative_time("slower", "faster").unwrap() > 1.01);
        assert_eq!(compared.relative_time("slower", "unknown"), None);
        // Of too few rounds the medians are all there is.
        let few = of(FEWEST_ROUNDS - 1);
        let ratio = few.entries[0].timing.summary.p50 / few.entries[1].timing.summary.p50;
        assert_eq!(few.relative_time("slower", "faster"), Some(ratio));
    }
}
