//! `cargo kbench compare OLD NEW`: what became faster or slower between two files.

use std::path::Path;

use anyhow::anyhow;

use super::Exit;
use crate::cli::CompareArgs;
use crate::compare;
use crate::record::journal;
use crate::report::{self, Finding, Output};

/// Runs the verb.
pub fn run(old: &Path, new: &Path, args: &CompareArgs, output: Output) -> anyhow::Result<Exit> {
    let read = |path: &Path| -> anyhow::Result<Vec<compare::Measured>> {
        let (measured, damaged) = compare::read(path)?;
        if damaged > 0 {
            report::status("Warning", format_args!("{}: {}", path.display(), journal::damage(damaged)));
        }
        Ok(measured)
    };
    let (before, after) = (read(old)?, read(new)?);
    let compared = match compare::compare(&before, &after, &args.allow, args.threshold) {
        Ok(compared) => compared,
        Err(refused) => {
            for refusal in refused {
                report::error(format_args!("not compared: {refusal} compares them all the same"));
            }
            return Ok(Exit::Usage);
        }
    };
    if compared.rows.is_empty() {
        let (old, new) = (old.display(), new.display());
        return Err(anyhow!("{old} and {new} have no kernel, shape and variant in common"));
    }
    output.show(&Finding::FileDiff(&compared, args.threshold));
    Ok(if compared.regressions() > 0 { Exit::Failed } else { Exit::Pass })
}
