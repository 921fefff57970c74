//! `cargo kbench check`: the table and the space, without compiling.

use super::{Exit, load, selected};
use crate::cli::{OutputArgs, SelectArgs};
use crate::interrupt::is_interrupted;
use crate::report::{self, out};

/// Runs the verb.
pub fn run(select: &SelectArgs, output: &OutputArgs) -> anyhow::Result<Exit> {
    let project = match load(select)? {
        Ok(project) => project,
        Err(exit) => return Ok(exit),
    };
    for (_, kernel) in selected(&project, select) {
        if output.json() {
            report::json::space(kernel);
        } else {
            let summary = report::check::summary(kernel);
            // What was not counted any more is not too much to count.
            if is_interrupted() {
                return Ok(Exit::Interrupted);
            }
            out!("{summary}");
        }
    }
    Ok(Exit::Pass)
}
