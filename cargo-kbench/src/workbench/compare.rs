//! Variants and baselines measured together, one sample of each in turn.

use std::collections::BTreeMap;

use kbench_runtime::protocol::TimedCase;
use kbench_runtime::stats::{FEWEST_ROUNDS, Speedup};

use super::evaluate::{check_job, failed, measured};
use super::{RunError, Workbench};
use crate::config::{Baseline, BaselineKind, Implementation, Kernel};
use crate::evaluation::{Gate, Reason, Rejection};
use crate::executor::ExecutorError;
use crate::journal::{Comparison, ComparisonEntry, Record};
use crate::space::Variant;

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
    /// What gates at level `warn` found.
    pub warnings: Vec<String>,
}

impl Compared {
    /// The entry of that name.
    pub fn entry(&self, name: &str) -> Option<&ComparisonEntry> {
        self.entries.iter().find(|entry| entry.name == name)
    }

    /// Whether two entries are the same machine code, launched alike.
    pub fn same_program(&self, name: &str, other: &str) -> bool {
        let program = |name| self.entry(name).map(|entry| &entry.program);
        program(name).is_some() && program(name) == program(other)
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

/// An entrant, ready to be measured.
struct Contender<'k> {
    name: String,
    kernel: &'k Kernel,
    case: TimedCase,
    /// Hash of the case with machine code in place of the binary.
    program: String,
}

impl<'a> Workbench<'a> {
    /// Measures entrants interleaved at one shape. An entrant that fails is left out and named; the rest is measured again, so that
    /// what is compared was always measured together.
    pub fn compare(&mut self, shape: usize, entrants: &[Entrant]) -> Result<Compared, RunError> {
        let mut compared = Compared::default();
        let mut contenders: Vec<Contender<'_>> = Vec::new();
        for entrant in entrants {
            let name = self.entrant_name(entrant);
            match self.contender(entrant, shape, &mut compared.warnings) {
                Ok(Ok(contender)) => contenders.push(contender),
                Ok(Err(rejection)) => {
                    compared.unavailable.insert(name, rejection);
                }
                // A baseline whose reference or compiler is missing is one baseline fewer, not the end of the run.
                Err(error @ (RunError::Reference { .. } | RunError::Tool(_)))
                    if matches!(entrant, Entrant::Baseline(_)) =>
                {
                    let shape = &self.kernel.shapes[shape].name;
                    let why = Rejection::new(Gate::Compile, Reason::Reference, error.to_string(), Some(shape));
                    compared.unavailable.insert(name, why);
                }
                Err(error) => return Err(error),
            }
        }
        while !contenders.is_empty() {
            let job = self.time_job(contenders.iter().map(|contender| contender.case.clone()).collect());
            let names: Vec<&String> = contenders.iter().map(|contender| &contender.name).collect();
            let limits = format!("{:?}", self.kernel.gates.correctness);
            let text = serde_json::to_string(&("comparison", self.circumstances(), &names, &job, limits));
            let key = blake3::hash(text.expect("plain data").as_bytes()).to_hex().to_string();
            if let Some(known) = self.known.comparisons.get(&key) {
                compared.entries.clone_from(&known.entries);
                return Ok(compared);
            }
            let shape_name = &self.kernel.shapes[shape].name;
            let (loser, rejection) = match self.executor.time(job, self.timeout()) {
                Ok(timings) => {
                    let records: Vec<_> = contenders
                        .iter()
                        .zip(&timings)
                        .map(|(contender, timing)| {
                            measured(contender.kernel, shape_name, timing, &mut compared.warnings)
                        })
                        .collect();
                    let bad =
                        records.iter().enumerate().find_map(|(index, record)| Some((index, record.clone().err()?)));
                    if let Some(bad) = bad {
                        bad
                    } else {
                        let parts = contenders.iter().zip(records.into_iter().flatten()).zip(timings);
                        compared.entries = parts
                            .map(|((contender, record), timing)| ComparisonEntry {
                                name: contender.name.clone(),
                                program: contender.program.clone(),
                                timing: record,
                                samples: timing.samples,
                            })
                            .collect();
                        let comparison = Comparison { key: key.clone(), entries: compared.entries.clone() };
                        self.record(&Record::Comparison(Box::new(comparison.clone())))?;
                        self.known.comparisons.insert(key, comparison);
                        return Ok(compared);
                    }
                }
                Err(ExecutorError::Job { case, failure }) => (case, failed(self.kernel, &failure, shape_name)?),
                Err(error) => return Err(error.into()),
            };
            let loser = contenders.remove(loser.min(contenders.len() - 1));
            compared.unavailable.insert(loser.name, rejection);
        }
        Ok(compared)
    }

    /// The name of an entrant in a comparison.
    pub fn entrant_name(&self, entrant: &Entrant) -> String {
        match entrant {
            Entrant::Variant(variant) => self.kernel.space.label(variant),
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
            // It passed gate 2 at this shape, or it would not be here.
            Entrant::Variant(variant) => return self.prepare(self.entrant_name(entrant), kernel, own, variant, shape),
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
            BaselineKind::Command(_) => {
                let message = format!("`{name}` is a command; this version runs only kernels as baselines");
                return Ok(Err(Rejection::new(Gate::Performance, Reason::Unsupported, message, Some(shape_name))));
            }
        };
        let contender = match self.prepare(name.clone(), kernel, implementation, variant, shape)? {
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
        name: String,
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
        let case = match self.builder.point(kernel, shape, variant).case(implementation, artifact, &self.files) {
            Ok(case) => case,
            Err(error) => {
                let shape = &kernel.shapes[shape].name;
                return Ok(Err(Rejection::new(Gate::Compile, Reason::Geometry, error.to_string(), Some(shape))));
            }
        };
        let reference = self.reference(kernel, shape)?;
        let text = serde_json::to_string(&case).expect("plain data").replace(&artifact.hash, &artifact.identity);
        let program = blake3::hash(text.as_bytes()).to_hex().to_string();
        Ok(Ok(Contender { name, kernel, case: TimedCase { case, reference }, program }))
    }
}
