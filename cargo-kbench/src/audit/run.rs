//! Runs each mutant through the gates.

use std::path::PathBuf;
use std::time::Instant;

use kbench_runtime::protocol::Pattern;
use kbench_runtime::protocol::{DeviceInfo, Mutation};
use rayon::prelude::*;

use super::advice::advice;
use super::plan::{self, Make, Mutant, Plan};
use super::source::Lack;
use super::{AuditOutcome, Audited, Fate, Report};
use crate::config::{Backend, Kernel, Level, Package, SanitizeTool};
use crate::evaluate::{BuildOutcome, evaluate, try_build};
use crate::gates::sanitize::run_tools;
use crate::harness::{Builder, Built, Candidate, Harness, Opening, RunError, Setup};
use crate::interrupt::is_interrupted;
use crate::process::executor::ExecutorError;
use crate::record::evaluation::{Evaluation, GateName, ShapeErrors};
use crate::space::Variant;
use crate::text::count;

/// Largest number of samples, and of warm-up launches, of a mutant: enough for the checks after timing.
const ITERATIONS: u32 = 20;
const WARMUP: u32 = 5;

/// Largest number of source mutants of a kind.
const MOST: usize = 8;

/// Shortest deadline, in seconds.
const SHORTEST: u64 = 2;

/// Receives mutants as they end.
pub trait Observer {
    /// Called once with all mutants, before any is built. Some source mutants will turn out to change nothing.
    fn planned(&mut self, device: &DeviceInfo, mutants: &[Mutant]);
    /// Called for each mutant, with the number of finished mutants and the number of all.
    fn audited(&mut self, audited: &Audited, done: usize, total: usize);
}

/// An audit: the kernel, the variant and the machine.
#[derive(Clone, Copy)]
pub struct Audit<'a> {
    /// The kernel's package.
    pub package: &'a Package,
    /// The kernel.
    pub kernel: &'a Kernel,
    /// Device, compilers and folders of the run.
    pub setup: Setup<'a>,
    /// The variant that is mutated.
    pub variant: &'a Variant,
}

/// The unchanged kernel, which passed the gates.
struct Own<'a> {
    kernel: Kernel,
    built: Built,
    evaluation: Evaluation,
    /// Builder that knows the limits of the device.
    builder: Builder<'a>,
}

/// Build of a mutant; none if the kernel's own build serves.
type Build = Option<Result<(Kernel, BuildOutcome), String>>;

impl Audit<'_> {
    /// Runs the kernel, then its mutants one by one.
    pub fn run(&self, observer: &mut dyn Observer) -> Result<AuditOutcome, RunError> {
        let mut kernel = self.kernel.clone();
        kernel.gates.resources.level = Level::Allow;
        kernel.gates.performance.clear();
        kernel.gates.sanitize.level = Level::Allow;
        kernel.timing.iterations = kernel.timing.iterations.min(ITERATIONS);
        kernel.timing.warmup = kernel.timing.warmup.min(WARMUP);

        let mut harness = self.open(&kernel, None)?;
        let device = harness.context.device.clone();
        let candidate = Candidate::from(self.variant);
        let outcome = try_build(&harness.context.builder, &candidate)?;
        let built = outcome.result.as_ref().ok().cloned();
        let began = Instant::now();
        let evaluation = evaluate(&mut harness, &candidate, outcome, None)?;
        // Deadline of a mutant: twice the time of the kernel's own checks and samples.
        let deadline = (2 * began.elapsed().as_secs() + 1).clamp(SHORTEST, kernel.timing.timeout_seconds.max(SHORTEST));
        let Some(built) = built.filter(|_| evaluation.rejection().is_none()) else {
            return Ok(AuditOutcome::Unfit(Box::new(evaluation)));
        };
        let mut plan = plan::plan(&kernel, self.variant, &evaluation.errors)?;
        observer.planned(&device, &plan.mutants);
        let builder = harness.context.builder.clone();
        let mut of_mutants = kernel.clone();
        of_mutants.timing.timeout_seconds = deadline;
        let own = Own { kernel: of_mutants, built, evaluation, builder };
        let mutants = self.all(&own, &mut plan, observer)?;
        Ok(AuditOutcome::Done(Report {
            package: kernel.package.clone(),
            kernel: kernel.name.clone(),
            device: device.name,
            variant: kernel.space.settings(self.variant),
            errors: own.evaluation.errors.clone(),
            mutants,
            absent: plan.absent,
            deadline,
        }))
    }

    /// Opens the device for a kernel. With a mutation, the worker spoils the results of each launch.
    fn open<'b>(&'b self, kernel: &'b Kernel, mutation: Option<Mutation>) -> Result<Harness<'b>, RunError> {
        Harness::open(self.setup, self.package, kernel, Opening { mutation, ..Opening::default() })
    }

    fn all(&self, own: &Own<'_>, plan: &mut Plan, observer: &mut dyn Observer) -> Result<Vec<Audited>, RunError> {
        let builds: Vec<(Option<PathBuf>, Build)> =
            plan.mutants.par_iter().map(|mutant| self.build(own, mutant)).collect::<Result<_, RunError>>()?;
        let mut chosen = Vec::new();
        let (mut unchanged, mut beyond) = (0, 0);
        let mut of_kind = [0; Lack::ALL.len()];
        let mut codes = vec![own.built.clone()];
        for (mutant, (source, build)) in plan.mutants.drain(..).zip(builds) {
            if let (Make::Source(changed), Some(Ok((_, outcome)))) = (&mutant.make, &build) {
                let number = &mut of_kind[changed.lack as usize];
                if let Ok(built) = &outcome.result {
                    // A change to code that is not compiled in has no effect, and two changes may give the same
                    // program.
                    if codes.iter().any(|code| built.same_code(code)) {
                        unchanged += 1;
                        continue;
                    }
                    codes.push(built.clone());
                }
                if *number == MOST {
                    beyond += 1;
                    continue;
                }
                *number += 1;
            }
            chosen.push((mutant, source, build));
        }
        if unchanged > 0 {
            let changes = count(unchanged, "change");
            plan.absent.push(format!(
                "{changes} of the source left the machine code as it was, or as another did: not compiled in, or without effect"
            ));
        }
        if beyond > 0 {
            plan.absent.push(format!(
                "{} of the source beyond the first {MOST} of a kind were not run",
                count(beyond, "change")
            ));
        }
        let total = chosen.len();
        let mut audited = Vec::new();
        for (mutant, source, build) in chosen {
            let fate = self.fate(own, &mutant, build)?;
            let Mutant { name, what, .. } = mutant;
            audited.push(Audited { name, what, fate, source });
            observer.audited(&audited[audited.len() - 1], audited.len(), total);
        }
        Ok(audited)
    }

    /// Builds a mutant that has code of its own. Returns the changed source too, for a source mutant.
    fn build(&self, own: &Own<'_>, mutant: &Mutant) -> Result<(Option<PathBuf>, Build), RunError> {
        if is_interrupted() {
            return Err(ExecutorError::Interrupted.into());
        }
        let (kernel, variant, source) = match &mutant.make {
            Make::Wrapper { .. } => return Ok((None, None)),
            Make::Toggles(other) => (own.kernel.clone(), other, None),
            Make::Source(changed) => {
                let path =
                    plan::source_file(&self.setup.work_directory.join("audit"), &own.kernel, mutant, &changed.text);
                // An existing file is not written again: the compile cache looks at its age.
                if std::fs::read(&path).ok().as_deref() != Some(changed.text.as_bytes()) {
                    std::fs::create_dir_all(path.parent().expect("it is in a folder"))?;
                    std::fs::write(&path, &changed.text)?;
                }
                let mut kernel = own.kernel.clone();
                kernel.implementation = kernel.implementation.in_source(path.clone());
                (kernel, self.variant, Some(path))
            }
        };
        let outcome = try_build(&own.builder.of(&kernel), &variant.into())?;
        if is_interrupted() {
            return Err(ExecutorError::Interrupted.into());
        }
        let build = match &outcome.result {
            // A change that does not compile gives no mutant.
            Err(failure) if source.is_some() && failure.rejection.gate == GateName::Compile => {
                Err(format!("it does not compile: {}", failure.rejection.message))
            }
            _ => Ok((kernel, outcome)),
        };
        Ok((source, Some(build)))
    }

    fn fate(&self, own: &Own<'_>, mutant: &Mutant, build: Build) -> Result<Fate, RunError> {
        let own_build = || BuildOutcome { result: Ok(own.built.clone()), warnings: Vec::new() };
        let (kernel, outcome) = match build {
            None => {
                // The kernel's own code, which does not hang: a short deadline would end it on a busy machine.
                let mut kernel = own.kernel.clone();
                kernel.timing.timeout_seconds = self.kernel.timing.timeout_seconds;
                (kernel, own_build())
            }
            Some(Ok(made)) => made,
            Some(Err(why)) => return Ok(Fate::Stillborn { why }),
        };
        if matches!(mutant.make, Make::Toggles(_))
            && outcome.result.as_ref().is_ok_and(|built| built.same_code(&own.built))
        {
            return Ok(Fate::Equivalent { why: "the machine code is the same".to_owned() });
        }
        let mutation = match &mutant.make {
            Make::Wrapper { fault, outputs, input } => {
                let blobs = own.evaluation.builds.iter().map(|build| build.binary_hash.clone()).collect();
                Some(Mutation { blobs, fault: *fault, outputs: outputs.clone(), input: *input })
            }
            Make::Toggles(_) | Make::Source(_) => None,
        };
        let evaluation = evaluate(&mut self.open(&kernel, mutation)?, &self.variant.into(), outcome, None)?;
        if let Some(rejection) = evaluation.rejection() {
            return Ok(Fate::Killed { rejection: rejection.clone(), in_force: true });
        }
        let mut advice = advice(&kernel, mutant, &own.evaluation.errors, &evaluation);
        let same = evaluation.errors == own.evaluation.errors;
        match &mutant.make {
            Make::Source(changed) => {
                let is_barrier = changed.lack == Lack::Barrier;
                match self.sanitize(&kernel, is_barrier)? {
                    Watched::Killed(fate) => return Ok(fate),
                    Watched::Passed(said) if is_barrier => {
                        advice = vec![format!("the results are right nevertheless, and {said}")];
                    }
                    Watched::Passed(_) if same && changed.lack == Lack::Neutral && has_both_signs(&kernel) => {
                        advice = vec![
                            "no result depends on it with these inputs: `patterns` has `negative` and `opposite-signs`"
                                .to_owned(),
                        ];
                    }
                    Watched::Passed(_) if same => {
                        let why = "its outputs equal the kernel's at every shape: the change has no effect, or no shape reaches it";
                        return Ok(Fate::Equivalent { why: why.to_owned() });
                    }
                    Watched::Passed(_) => {}
                }
            }
            Make::Toggles(other) if self.errors_of(own, other)? == evaluation.errors => {
                let why = "its outputs are that variant's own, under this launch too".to_owned();
                return Ok(Fate::Equivalent { why });
            }
            Make::Toggles(_) | Make::Wrapper { .. } => {}
        }
        Ok(Fate::Survived { advice, errors: evaluation.errors })
    }

    /// Errors of another variant with its own launch.
    fn errors_of(&self, own: &Own<'_>, variant: &Variant) -> Result<Vec<ShapeErrors>, RunError> {
        let mut harness = self.open(&own.kernel, None)?;
        let candidate = Candidate::from(variant);
        let outcome = try_build(&harness.context.builder, &candidate)?;
        Ok(evaluate(&mut harness, &candidate, outcome, None)?.errors)
    }

    /// Runs a changed source under the sanitizers that the table denies. A source without a barrier runs under
    /// racecheck in any case, since its results may be right by chance.
    fn sanitize(&self, kernel: &Kernel, lacks_barrier: bool) -> Result<Watched, RunError> {
        let table = &self.kernel.gates.sanitize;
        let denied = if table.level == Level::Deny { &*table.tools } else { &[] };
        let mut kernel = kernel.clone();
        let sanitize = &mut kernel.gates.sanitize;
        sanitize.level = Level::Deny;
        sanitize.tools = denied.to_vec();
        if lacks_barrier && kernel.implementation.backend == Backend::Cuda {
            sanitize.tools.retain(|tool| *tool != SanitizeTool::Racecheck);
            sanitize.tools.insert(0, SanitizeTool::Racecheck);
        }
        if sanitize.shapes.is_empty() {
            sanitize.shapes = vec![smallest(self.kernel)];
        }
        if sanitize.tools.is_empty() {
            return Ok(Watched::Passed("no sanitizer here sees races".to_owned()));
        }
        let names: Vec<&str> = sanitize.tools.iter().map(|tool| tool.name()).collect();
        let names = names.join(", ");
        let opened = self.open(&kernel, None);
        match opened.and_then(|mut harness| run_tools(&mut harness, &self.variant.into())) {
            Ok(sanitized) => Ok(match sanitized.rejection {
                Some(rejection) => {
                    let code = rejection.code.to_string();
                    let in_force = denied.iter().any(|tool| tool.name() == code);
                    Watched::Killed(Fate::Killed { rejection, in_force })
                }
                None => Watched::Passed(format!(
                    "{names} found no race: the barrier has no effect, or one that these tools do not detect"
                )),
            }),
            Err(error @ RunError::Executor(ExecutorError::Interrupted)) => Err(error),
            Err(error) => Ok(Watched::Passed(format!("{names} did not run: {error}"))),
        }
    }
}

/// Result of the sanitizers.
enum Watched {
    /// A sanitizer found an error.
    Killed(Fate),
    /// No sanitizer found an error; a description of the runs.
    Passed(String),
}

/// Whether inputs of both signs occur, so that a reduction must not start from 0.
fn has_both_signs(kernel: &Kernel) -> bool {
    kernel.tensors.iter().any(|tensor| {
        let source = tensor.init.source(&std::collections::HashMap::new());
        Pattern::Negative.applies_to(tensor.dtype, &source)
    })
}

/// The checked shape with the smallest product of sizes, which is the cheapest under a sanitizer.
fn smallest(kernel: &Kernel) -> usize {
    let size = |shape: &&usize| kernel.shapes[**shape].dims.iter().map(|&(_, size)| size as f64).product::<f64>();
    let shapes = &kernel.gates.correctness.shapes;
    shapes.iter().min_by(|a, b| size(a).total_cmp(&size(b))).copied().unwrap_or(kernel.search.shape)
}
