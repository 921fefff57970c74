//! `cargo kbench compare OLD NEW`: lists the kernels that became faster or slower between two files.

use std::path::{Path, PathBuf};

use anyhow::anyhow;

use super::Exit;
use crate::compare::{self, Condition};
use crate::record::journal;
use crate::report::{self, Finding, Output};

/// Arguments of `compare`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// File with the earlier measurements
    pub old: PathBuf,
    /// File with the later measurements
    pub new: PathBuf,
    /// Conditions that may differ between the two files
    #[arg(long, value_name = "WHAT", value_delimiter = ',')]
    pub allow: Vec<Condition>,
    /// Smallest slow-down that counts as a regression, such as 1%
    #[arg(long, value_name = "PERCENT", default_value = "1", value_parser = percent)]
    pub threshold: f64,
}

/// Runs the verb.
pub fn run(args: &Args, output: Output) -> anyhow::Result<Exit> {
    let Args { old, new, allow, threshold } = args;
    let threshold = *threshold;
    let read = |path: &Path| -> anyhow::Result<Vec<compare::Measured>> {
        let (measured, damaged) = compare::read(path)?;
        if damaged > 0 {
            report::status("Warning", format_args!("{}: {}", path.display(), journal::damaged_lines(damaged)));
        }
        Ok(measured)
    };
    let (before, after) = (read(old)?, read(new)?);
    let compared = match compare::compare(&before, &after, allow, threshold) {
        Ok(compared) => compared,
        Err(refused) => {
            for refusal in refused {
                report::error(format_args!("not compared: {refusal} compares them anyway"));
            }
            return Ok(Exit::Usage);
        }
    };
    if compared.rows.is_empty() {
        let (old, new) = (old.display(), new.display());
        return Err(anyhow!("{old} and {new} have no kernel, shape and variant in common"));
    }
    output.show(&Finding::FileDiff(&compared, threshold));
    Ok(if compared.regressions() > 0 { Exit::Failed } else { Exit::Pass })
}

/// A percentage as a fraction.
fn percent(text: &str) -> Result<f64, String> {
    let number: Option<f64> = text.trim().trim_end_matches('%').trim_end().parse().ok();
    let number = number.filter(|number| (0.0..100.0).contains(number));
    number.map(|number| number / 100.0).ok_or_else(|| "expected a percentage below 100, such as 2.5".to_owned())
}
