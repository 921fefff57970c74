//! `cargo kbench check`: the table and the space, without compiling.

use super::{Exit, load, selected};
use crate::cli::SelectArgs;
use crate::interrupt::is_interrupted;
use crate::report::{Finding, Output};

/// Runs the verb.
pub fn run(select: &SelectArgs, output: Output) -> anyhow::Result<Exit> {
    let project = load(select)?;
    for (_, kernel) in selected(&project, select) {
        output.show(&Finding::Space(kernel));
        if is_interrupted() {
            return Ok(Exit::Interrupted);
        }
    }
    Ok(Exit::Pass)
}
