//! The sanitizer gate on the bench: the ordinary worker under a tool, one launch on memory that hides nothing.

use kbench_runtime::fingerprint;
use kbench_runtime::protocol::{Case, RunJob};

use super::build::compile_rejection;
use super::{RunError, Workbench};
use crate::build::sanitizer::{Sanitizer, same_code};
use crate::build::{Artifact, CompileError};
use crate::config::{Backend, Level, SanitizeTool};
use crate::gates::{self, at_level};
use crate::process::executor::{Executor, ExecutorError, WorkerOptions};
use crate::record::evaluation::{Gate, Reason, Rejection, Sanitized};
use crate::record::journal::{Record, SanitizedRun};
use crate::space::Variant;

use std::time::Duration;

/// The tools that a kernel asks for.
#[derive(Debug, Default)]
pub(super) struct Tools {
    there: Vec<(SanitizeTool, Sanitizer)>,
    /// Why others are not.
    missing: Vec<String>,
}

impl Workbench<'_> {
    /// Finds the tools before anything is measured: at `deny` a missing one ends the run.
    pub(super) fn find_sanitizers(&mut self) -> Result<(), RunError> {
        let gate = &self.kernel.gates.sanitize;
        self.tools = Tools::default();
        if gate.level == Level::Allow {
            return Ok(());
        }
        for &tool in &gate.tools {
            match self.builder.compiler.sanitizer(tool, !self.kernel.runner.is_empty()) {
                Ok(sanitizer) => self.tools.there.push((tool, sanitizer)),
                Err(error) if gate.level == Level::Deny => return Err(RunError::Tool(error)),
                Err(error) => self.tools.missing.push(format!("{} was not run: {error}", tool.name())),
            }
        }
        Ok(())
    }

    /// Runs a variant that passed so far under each tool, until one rejects it. `None` where the table asks for none.
    pub fn sanitize(&mut self, variant: &Variant) -> Result<Option<Sanitized>, RunError> {
        let gate = &self.kernel.gates.sanitize;
        if gate.level == Level::Allow {
            return Ok(None);
        }
        let mut sanitized = Sanitized { warnings: self.tools.missing.clone(), ..Sanitized::default() };
        for (tool, sanitizer) in self.tools.there.clone() {
            for &shape in &gate.shapes {
                let name = &self.kernel.shapes[shape].name;
                let finding = match self.sanitize_with(tool, &sanitizer, variant, shape) {
                    Ok(run) => {
                        sanitized.runs.push(format!("{} at {name}", tool.name()));
                        sanitized.warnings.extend(run.warnings);
                        run.finding
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
                    return Ok(Some(sanitized));
                }
            }
        }
        Ok(Some(sanitized))
    }

    fn sanitize_with(
        &mut self,
        tool: SanitizeTool,
        sanitizer: &Sanitizer,
        variant: &Variant,
        shape: usize,
    ) -> Result<SanitizedRun, RunError> {
        let name = self.kernel.shapes[shape].name.clone();
        let rejected = |rejection: Rejection| {
            let finding = Some(Rejection { gate: Gate::Sanitize, ..rejection });
            Ok(SanitizedRun { key: String::new(), finding, warnings: Vec::new() })
        };
        let made = match self.sanitized_case(sanitizer, variant, shape) {
            Ok(made) => made,
            Err(error) if error.is_variants_own() => {
                return rejected(compile_rejection(&error, self.builder.implementation(), &name));
            }
            Err(error) => return Err(RunError::Tool(error)),
        };
        let (artifact, case) = match made {
            Ok(made) => made,
            Err(why) => return rejected(Rejection::new(Gate::Sanitize, Reason::Geometry, why, Some(&name))),
        };
        let job = RunJob { id: 0, case, seed: 0, count: false };
        let device = self.device.as_ref().map(|device| (&device.name, &device.driver));
        let key = fingerprint::of("sanitized", &(device, &sanitizer.command, &job));
        if let Some(known) = self.known.sanitized.get(&key) {
            return Ok(known.clone());
        }

        let mut executor =
            Executor::new(WorkerOptions { tool: sanitizer.command.clone(), ..self.worker_options.clone() });
        executor.add_blob(&artifact.hash, &artifact.code);
        for (path, hash) in &self.files {
            executor.add_blob(hash, path);
        }
        let failed = |message| RunError::Sanitizer { tool: tool.name(), message };
        let timeout = Duration::from_secs(self.kernel.gates.sanitize.timeout_seconds);
        let mut watched = match executor.run_to_end(job, timeout) {
            Ok(watched) => watched,
            Err(error @ ExecutorError::Interrupted) => return Err(error.into()),
            Err(error) => return Err(failed(error.to_string())),
        };
        // Places are shorter, and the same wherever the package lies.
        let folder = format!("{}/", self.builder.package.directory.display());
        watched.report = watched.report.replace(&folder, "");
        let judged = gates::sanitize::judge(tool, &name, &watched).map_err(failed)?;
        let run = SanitizedRun { key: key.clone(), finding: judged.rejection, warnings: judged.warnings };
        self.record(&Record::Sanitized(Box::new(run.clone())))?;
        self.known.sanitized.insert(key, run.clone());
        Ok(run)
    }

    /// The variant as a tool gets it, at one shape; the inner error is why there is no launch.
    fn sanitized_case(
        &self,
        sanitizer: &Sanitizer,
        variant: &Variant,
        shape: usize,
    ) -> Result<Result<(Artifact, Case), String>, CompileError> {
        let implementation = self.builder.implementation();
        let mut unit = match self.builder.unit(self.kernel, implementation, shape, variant, None) {
            Ok(unit) => unit,
            Err(error) => return Ok(Err(error.to_string())),
        };
        let plain = unit.clone();
        unit.flags.extend(sanitizer.flags.iter().cloned());
        let mut artifact = self.builder.compiler.compile(&unit)?;
        if implementation.backend == Backend::Cuda {
            // Source lines are welcome where they change nothing; what is judged is what is measured.
            let measured = self.builder.compiler.compile(&plain)?;
            if !same_code(&measured, &artifact) {
                artifact = measured;
            }
        }
        let point = self.builder.point(self.kernel, shape, variant);
        let case = point.case(implementation, &artifact, &self.files).map_err(|error| error.to_string());
        Ok(case.map(|case| (artifact, case)))
    }
}
