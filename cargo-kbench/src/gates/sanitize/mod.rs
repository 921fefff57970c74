//! The gate `sanitize`: a tool observes one launch on memory of the tensors' exact sizes.

use super::{Gate, Trial};
use crate::config::{Kernel, Level};
use crate::harness::{DeviceTimes, Event, Halt, Harness, Reporter};
use crate::record::evaluation::GateName;

mod ahead;
mod judge;
mod run;

pub use ahead::run_ahead;
pub use run::run_tools;

/// The gate `sanitize`.
pub struct Sanitize;

impl Gate for Sanitize {
    fn name(&self) -> GateName {
        GateName::Sanitize
    }

    fn is_asked(&self, kernel: &Kernel) -> bool {
        kernel.gates.sanitize.level != Level::Allow
    }

    fn limits(&self, kernel: &Kernel) -> Option<(Level, Vec<String>)> {
        let table = &kernel.gates.sanitize;
        let tools = table.tools.iter().map(|tool| tool.name()).collect::<Vec<_>>().join(", ");
        Some((table.level, vec![format!("{tools} at {}", kernel.shape_names(&table.shapes).join(", "))]))
    }

    fn unjudged(&self, _kernel: &Kernel, trial: &Trial) -> Option<String> {
        trial.sanitized.is_empty().then(|| "no tool was run".to_owned())
    }

    fn run(&self, harness: &mut Harness<'_>, trial: &mut Trial, reporter: &mut dyn Reporter) -> Result<(), Halt> {
        let sanitized = harness
            .counted_as(|times: &mut DeviceTimes| &mut times.tools, |harness| run_tools(harness, &trial.candidate))?;
        let label = trial.candidate.label(harness.kernel());
        reporter.event(Event::Sanitized { label: &label, sanitized: &sanitized });
        trial.evaluation.warnings.extend(sanitized.warnings);
        trial.sanitized = sanitized.runs;
        sanitized.rejection.map_or(Ok(()), |rejection| Err(rejection.into()))
    }
}
