//! Variants and baselines measured together, one sample of each in turn.

use std::collections::BTreeMap;

use kbench_runtime::protocol::{CheckJob, Reference, TimedCase, Timing};
use kbench_runtime::stats::{FEWEST_ROUNDS, Speedup};

use super::build::compile_rejection;
use super::{RunError, Workbench, timing_record};
use crate::config::{Baseline, BaselineKind, Implementation, Kernel};
use crate::evaluation::{Gate, Reason, Rejection};
use crate::executor::ExecutorError;
use crate::journal::{Comparison, ComparisonEntry, Record};
use crate::resolve::ResolveError;
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
        let mut compared = Compared::default();
        let mut cases: Vec<(String, TimedCase)> = Vec::new();
        for entrant in entrants {
            let name = self.entrant_name(entrant);
            match self.entrant(entrant, shape)? {
                Ok(case) => cases.push((name, case)),
                Err(rejection) => {
                    compared.unavailable.insert(name, rejection);
                }
            }
        }
        while !cases.is_empty() {
            let job = self.time_job(cases.iter().map(|(_, case)| case.clone()).collect());
            let names: Vec<&String> = cases.iter().map(|(name, _)| name).collect();
            let device = self.device.as_ref().map(|device| (&device.name, &device.driver));
            let text = serde_json::to_string(&("comparison", device, &names, &job)).expect("plain data");
            let key = blake3::hash(text.as_bytes()).to_hex().to_string();
            if let Some(known) = self.known.comparisons.get(&key) {
                compared.entries.clone_from(&known.entries);
                return Ok(compared);
            }
            let shape_name = self.kernel.shapes[shape].name.clone();
            let (loser, rejection) = match self.executor.time(job, self.timeout()) {
                Ok(timings) => {
                    let mut warnings = Vec::new();
                    let bad = timings.iter().enumerate().find_map(|(index, timing)| {
                        let bad = self.unusable(&shape_name, timing, &mut warnings)?;
                        Some((index, bad))
                    });
                    if let Some(bad) = bad {
                        bad
                    } else {
                        let entry = |((name, _), timing): (&(String, TimedCase), Timing)| ComparisonEntry {
                            name: name.clone(),
                            timing: timing_record(&shape_name, &timing).expect("usable"),
                            samples: timing.samples,
                        };
                        compared.entries = cases.iter().zip(timings).map(entry).collect();
                        let comparison = Comparison { key: key.clone(), entries: compared.entries.clone() };
                        self.record(&Record::Comparison(Box::new(comparison.clone())))?;
                        self.known.comparisons.insert(key, comparison);
                        return Ok(compared);
                    }
                }
                Err(ExecutorError::Job { case, failure }) => (case, self.failed(&failure, &shape_name)?),
                Err(error) => return Err(error.into()),
            };
            let (name, _) = cases.remove(loser.min(cases.len() - 1));
            compared.unavailable.insert(name, rejection);
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
            BaselineKind::Command(_) => {
                let message = format!("`{name}` is a command; this version runs only kernels as baselines");
                Ok(Err(Rejection::new(Gate::Performance, Reason::Unsupported, message, Some(shape_name))))
            }
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
