//! `cargo kbench toolchain`: CUDA's compiler without a toolkit.

use super::Exit;
use crate::report::{self, Output, outln};
use crate::toolchain::{self, Installed, ToolchainError};

/// Arguments of `toolchain`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Clone, Copy, clap::Subcommand)]
enum Action {
    /// Install nvcc, ptxas, compute-sanitizer, cuobjdump and nvdisasm of CUDA 13.0 in the user's cache folder, by pip
    Install,
    /// Remove the installed tools
    Remove,
    /// Print the folder of the installed tools
    Path,
}

/// Runs the verb.
pub fn run(args: &Args, output: Output) -> anyhow::Result<Exit> {
    match act(args.action, output) {
        Ok(exit) => Ok(exit),
        Err(ToolchainError::Interrupted) => Ok(Exit::Interrupted),
        Err(ToolchainError::Io(error)) => Err(error.into()),
        Err(error) => {
            report::error(error);
            Ok(Exit::Missing)
        }
    }
}

fn act(action: Action, output: Output) -> Result<Exit, ToolchainError> {
    match action {
        Action::Install => {
            output.status("Installing", "CUDA 13.0: 110 MB to download, 320 MB on the disk");
            let (folder, installed) = toolchain::install()?;
            let word = if installed == Installed::Now { "Installed" } else { "Unchanged" };
            output.status(word, folder.display());
        }
        Action::Remove => match toolchain::uninstall()? {
            Some(folder) => output.status("Removed", folder.display()),
            None => output.status("Unchanged", "no toolchain was installed"),
        },
        Action::Path => {
            let folder = toolchain::folder().filter(|folder| toolchain::is_installed(folder));
            let Some(folder) = folder else {
                report::error("no toolchain is installed; `cargo kbench toolchain install` installs it");
                return Ok(Exit::Missing);
            };
            outln!("{}", folder.display());
        }
    }
    Ok(Exit::Pass)
}
