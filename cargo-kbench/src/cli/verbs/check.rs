//! `cargo kbench check`: the table and the space, without compiling.

use anyhow::anyhow;

use super::{Exit, load_for, selected};
use crate::cli::SelectArgs;
use crate::config::DeviceModel;
use crate::interrupt::is_interrupted;
use crate::report::{Finding, Output};
use crate::text::list;

/// Arguments of `check`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Selection of kernels.
    #[command(flatten)]
    pub select: SelectArgs,
    /// Architecture whose published limits give `SM_COUNT` and `MAX_SHARED` their values, such as `sm_90`; by default
    /// the first of the table
    #[arg(long, value_name = "ARCH")]
    pub device_model: Option<String>,
}

/// Runs the verb.
pub fn run(args: &Args, output: Output) -> anyhow::Result<Exit> {
    let select = &args.select;
    let model = |arch: &String| {
        let unknown =
            || anyhow!("--device-model: no limits of `{arch}` are known; those of {} are", list(&DeviceModel::archs()));
        DeviceModel::of_arch(arch).ok_or_else(unknown)
    };
    let project = load_for(select, args.device_model.as_ref().map(model).transpose()?, output)?;
    for (_, kernel) in selected(&project, select) {
        output.show(&Finding::Space(kernel));
        if is_interrupted() {
            return Ok(Exit::Interrupted);
        }
    }
    Ok(Exit::Pass)
}
