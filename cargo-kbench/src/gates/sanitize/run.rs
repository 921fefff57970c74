//! The ordinary worker under a tool: one launch on allocations of exactly the tensors' sizes.

use std::time::Duration;

use kbench_runtime::fingerprint;
use kbench_runtime::protocol::{Case, RunJob};

use super::judge;
use crate::build::resolve::ResolveError;
use crate::build::sanitizer::{Sanitizer, same_code};
use crate::build::{Artifact, CompileError};
use crate::config::{Backend, Level, SanitizeTool};
use crate::gates::at_level;
use crate::harness::{Candidate, Context, Halt, Harness, RunError, caught, compile_rejection};
use crate::process::executor::ExecutorError;
use crate::record::evaluation::{GateName, Reason, Rejection, Sanitized};
use crate::record::journal::SanitizedRun;

/// Runs a candidate under each tool at each shape, until one rejects it.
pub fn run_tools(harness: &mut Harness<'_>, candidate: &Candidate) -> Result<Sanitized, RunError> {
    let gate = &harness.kernel().gates.sanitize;
    let tools = harness.sanitizers.clone();
    let mut sanitized = Sanitized { warnings: tools.missing, ..Sanitized::default() };
    for (tool, sanitizer) in tools.found {
        for &shape in &gate.shapes {
            let run = Run { tool, sanitizer: &sanitizer, candidate, shape };
            let finding = match caught(run.run(harness)) {
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

/// One run of a candidate under a tool.
#[derive(Clone, Copy)]
struct Run<'r> {
    tool: SanitizeTool,
    sanitizer: &'r Sanitizer,
    candidate: &'r Candidate,
    shape: usize,
}

impl Run<'_> {
    /// Runs the candidate, unless the result is recorded; a rejection here means that the candidate failed before the
    /// launch.
    fn run(self, harness: &mut Harness<'_>) -> Result<SanitizedRun, Halt> {
        let context = &harness.context;
        let kernel = context.kernel;
        let name = context.shape_name(self.shape).to_owned();
        let (artifact, case) = self.case(context)?;
        let job = RunJob { id: 0, case, seed: 0, count: false };
        let device = Some((&context.device.name, &context.device.driver));
        let key = fingerprint::of("sanitized", &(device, &self.sanitizer.command, &job));
        if let Some(known) = harness.results.sanitized(&key) {
            return Ok(known.clone());
        }

        let mut executor = harness.worker.under(self.sanitizer.command.clone());
        executor.add_blob(&artifact.hash, &artifact.code);
        let failed = |message| RunError::Sanitizer { tool: self.tool.name(), message };
        let timeout = Duration::from_secs(kernel.gates.sanitize.timeout_seconds);
        let mut watched = match executor.run_to_end(job, timeout) {
            Ok(watched) => watched,
            Err(error @ ExecutorError::Interrupted) => return Err(error.into()),
            Err(error) => return Err(failed(error.to_string()).into()),
        };
        // Relative paths are shorter, and the same for any folder of the package.
        let folder = format!("{}/", context.builder.package.directory.display());
        watched.report = watched.report.replace(&folder, "");
        let judged = judge::judge(self.tool, &name, &watched).map_err(failed)?;
        let run = SanitizedRun { key, finding: judged.rejection, warnings: judged.warnings };
        harness.results.keep_sanitized(run.clone())?;
        Ok(run)
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
