//! The ordinary worker under a tool: one launch on allocations of exactly the tensors' sizes.

use std::time::Duration;

use kbench_runtime::fingerprint;
use kbench_runtime::protocol::{Case, RunJob};

use super::ahead::run_ahead;
use super::judge::{self, Judgement};
use crate::build::resolve::ResolveError;
use crate::build::sanitizer::{Sanitizer, same_code};
use crate::build::{Artifact, CompileError};
use crate::config::{Backend, Level, SanitizeTool};
use crate::gates::at_level;
use crate::harness::{Candidate, Context, Halt, Harness, RunError, caught, compile_rejection};
use crate::process::executor::{Executor, ExecutorError};
use crate::record::evaluation::{GateName, Reason, Rejection, Sanitized};
use crate::record::journal::SanitizedRun;

/// Runs a candidate under each tool at each shape, until one rejects it.
pub fn run_tools(harness: &mut Harness<'_>, candidate: &Candidate) -> Result<Sanitized, RunError> {
    let gate = &harness.kernel().gates.sanitize;
    for run in run_ahead(&harness.results, &[&*harness], &[candidate])? {
        harness.results.keep_sanitized(run)?;
    }
    let tools = harness.sanitizers.clone();
    let mut sanitized = Sanitized { warnings: tools.missing, ..Sanitized::default() };
    for (tool, sanitizer) in tools.found {
        for &shape in &gate.shapes {
            let run = Run { tool, sanitizer: &sanitizer, candidate, shape };
            let finding = match caught(run.recorded(harness)) {
                Ok(ran) => {
                    sanitized.runs.push(format!("{} at {}", tool.name(), harness.context.shape_name(shape)));
                    let SanitizedRun { finding, warnings, .. } = ran.unwrap_or_else(SanitizedRun::rejected);
                    sanitized.warnings.extend(warnings);
                    finding
                }
                Err(error @ RunError::Executor(ExecutorError::Interrupted)) => return Err(error),
                Err(error) if gate.level == Level::Deny => return Err(error),
                Err(error) => {
                    sanitized.warnings.push(format!("{} was not run: {error}", tool.name()));
                    continue;
                }
            };
            sanitized.rejection = at_level(gate.level, finding, &mut sanitized.warnings);
            if sanitized.rejection.is_some() {
                return Ok(sanitized);
            }
        }
    }
    Ok(sanitized)
}

/// Everything that a verdict depends on. A run that found no end in time may find one in more seconds.
fn key(device: (&str, &str), seconds: u64, command: &[String], case: &Case) -> String {
    fingerprint::of("sanitized 2", &(env!("CARGO_PKG_VERSION"), device, seconds, command, case))
}

/// One run of a candidate under a tool.
#[derive(Clone, Copy)]
pub(super) struct Run<'r> {
    pub tool: SanitizeTool,
    pub sanitizer: &'r Sanitizer,
    pub candidate: &'r Candidate,
    pub shape: usize,
}

/// A run that can start.
pub(super) struct Prepared {
    /// Key of its result.
    pub key: String,
    artifact: Artifact,
    case: Case,
}

impl Prepared {
    /// Bytes of its tensors.
    pub fn bytes(&self) -> u64 {
        self.case.tensors.iter().map(|tensor| tensor.bytes() as u64).sum()
    }
}

impl Run<'_> {
    /// The result on record, or that of a run; a rejection here means that the candidate failed before the launch.
    fn recorded(self, harness: &mut Harness<'_>) -> Result<SanitizedRun, Halt> {
        let prepared = self.prepared(&harness.context)?;
        if let Some(known) = harness.results.sanitized(&prepared.key) {
            return Ok(known.clone());
        }
        let judged = self.watch(&[&prepared], &harness.context, &harness.worker)?;
        let run = SanitizedRun { key: prepared.key, finding: judged.rejection, warnings: judged.warnings };
        harness.results.keep_sanitized(run.clone())?;
        Ok(run)
    }

    /// Builds the candidate for the tool.
    pub fn prepared(self, context: &Context<'_>) -> Result<Prepared, Halt> {
        let (artifact, case) = self.case(context)?;
        let device = (context.device.name.as_str(), context.device.driver.as_str());
        let seconds = context.kernel.gates.sanitize.timeout_seconds;
        Ok(Prepared { key: key(device, seconds, &self.sanitizer.command, &case), artifact, case })
    }

    /// Runs this one, or several under the same tool one after the other, in a process of their own on the device of `worker`.
    pub fn watch(self, prepared: &[&Prepared], context: &Context<'_>, worker: &Executor) -> Result<Judgement, Halt> {
        let (command, mark) = self.sanitizer.marked();
        let mut executor = worker.under(command);
        for Prepared { artifact, .. } in prepared {
            executor.add_blob(&artifact.hash, &artifact.code);
        }
        let cases = prepared.iter().map(|prepared| prepared.case.clone()).collect();
        let job = RunJob { id: 0, cases, seed: 0, count: false };
        let failed = |message| RunError::Sanitizer { tool: self.tool.name(), message };
        let timeout = Duration::from_secs(context.kernel.gates.sanitize.timeout_seconds);
        let mut watched = match executor.run_to_end(job, timeout) {
            Ok(watched) => watched,
            Err(error @ ExecutorError::Interrupted) => return Err(error.into()),
            // The message has the tool without its options, which are long and not the cause.
            Err(ExecutorError::Start { message, .. }) => {
                let tool = self.sanitizer.command.first().map_or(self.tool.name(), String::as_str);
                return Err(
                    failed(format!("`{tool}` ended before the kernel ran, or started no worker: {message}")).into()
                );
            }
            Err(error) => return Err(failed(error.to_string()).into()),
        };
        // Relative paths are shorter, and the same for any folder of the package.
        let folder = format!("{}/", context.builder.package.directory.display());
        watched.report = watched.report.replace(&folder, "");
        Ok(judge::judge(self.tool, context.shape_name(self.shape), &watched, &mark).map_err(failed)?)
    }

    /// The candidate as it is built for the tool.
    fn case(self, context: &Context<'_>) -> Result<(Artifact, Case), Halt> {
        let (kernel, builder, compiler) = (context.kernel, &context.builder, context.setup.compiler);
        let (shape, variant) = (self.shape, &self.candidate.variant);
        let implementation = self.candidate.implementation(kernel);
        let name = Some(context.shape_name(shape));
        let no_launch =
            |error: ResolveError| Rejection::new(GateName::Sanitize, Reason::Geometry, error.to_string(), name);
        let refused = |error: CompileError| {
            if error.is_variants_own() {
                let rejection = compile_rejection(&error, implementation, context.shape_name(shape));
                Halt::from(Rejection { gate: GateName::Sanitize, ..rejection })
            } else {
                RunError::Tool(error).into()
            }
        };
        let mut unit = builder.unit(kernel, implementation, shape, variant, None).map_err(no_launch)?;
        let plain = unit.clone();
        unit.flags.extend(self.sanitizer.flags.iter().cloned());
        let mut artifact = compiler.compile(&unit).map_err(refused)?;
        if implementation.backend == Backend::Cuda {
            // Source lines are added only if they do not change the code: the judged code is the measured code.
            let measured = compiler.compile(&plain).map_err(refused)?;
            if !same_code(&measured, &artifact) {
                artifact = measured;
            }
        }
        let case = context.point(shape, variant).case(implementation, &artifact, &context.files).map_err(no_launch)?;
        Ok((artifact, case))
    }
}

#[cfg(test)]
mod tests {
    use kbench_runtime::protocol::{DeviceKind, Sequence};

    use super::*;

    #[test]
    fn a_verdict_is_bound_to_its_deadline_tool_device_and_code() {
        let case = |blob: &str| {
            let sequence = Sequence { device: DeviceKind::Cuda, blob: blob.into(), launches: Vec::new() };
            Case { tensors: Vec::new(), sequence }
        };
        let of = |driver, seconds, tool: &str, blob| key(("gpu", driver), seconds, &[tool.to_owned()], &case(blob));
        let first = of("13.0", 120, "memcheck", "a");
        assert_eq!(first, of("13.0", 120, "memcheck", "a"));
        for other in [
            of("13.1", 120, "memcheck", "a"),
            of("13.0", 600, "memcheck", "a"),
            of("13.0", 120, "racecheck", "a"),
            of("13.0", 120, "memcheck", "b"),
        ] {
            assert_ne!(first, other);
        }
    }
}
