//! The sanitizers that a kernel's table asks for.

use super::RunError;
use crate::build::Compiler;
use crate::build::sanitizer::Sanitizer;
use crate::config::{Kernel, Level, SanitizeTool};

/// The sanitizers of a kernel's table.
#[derive(Debug, Clone, Default)]
pub struct Sanitizers {
    /// Sanitizers that were found.
    pub found: Vec<(SanitizeTool, Sanitizer)>,
    /// Reason for each missing sanitizer.
    pub missing: Vec<String>,
}

impl Sanitizers {
    /// Finds the sanitizers. At level `deny` a missing one is an error, so that the run ends before any measurement.
    pub(super) fn find(kernel: &Kernel, compiler: &Compiler) -> Result<Self, RunError> {
        let gate = &kernel.gates.sanitize;
        let mut tools = Self::default();
        if gate.level == Level::Allow {
            return Ok(tools);
        }
        for &tool in &gate.tools {
            match compiler.sanitizer(tool, !kernel.runner().is_empty()) {
                Ok(sanitizer) => tools.found.push((tool, sanitizer)),
                Err(error) if gate.level == Level::Deny => return Err(RunError::Tool(error)),
                Err(error) => tools.missing.push(format!("{} was not run: {error}", tool.name())),
            }
        }
        Ok(tools)
    }
}
