//! `cargo kbench import FILE`: a tuning problem of another tuner becomes a package.

use std::path::PathBuf;

use anyhow::Context as _;

use super::Exit;
use super::new::{create, folder, membership, name_of};
use crate::import;
use crate::report::{Finding, Output};

/// Arguments of `import`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Kernel Tuner's script (*.py), or a tuning problem in the T1 format of Kernel Tuner, KTT and BAT (*.json)
    pub file: PathBuf,
    /// Folder of the package, new or empty; by default a folder with the kernel's name in the current one
    pub path: Option<PathBuf>,
}

/// Runs the verb.
pub fn run(args: &Args, output: Output) -> anyhow::Result<Exit> {
    let here = std::env::current_dir()?;
    let name = args.path.as_ref().map(|path| name_of(&folder(&here, path)));
    let imported = import::import(&args.file, name.as_deref());
    let imported = imported.with_context(|| format!("cannot import `{}`", args.file.display()))?;
    let path = args.path.clone().unwrap_or_else(|| PathBuf::from(&imported.name));
    let target = folder(&here, &path);
    let written = create(&target, &imported.files)?;
    let joined = membership::join(&target)?;
    output.show(&Finding::Imported(&written, joined.as_deref(), &imported.notes));
    output.status("Created", format_args!("package `{}`", target.display()));
    if let Some(manifest) = joined {
        output.status("Added", format_args!("it to the members of {}", manifest.display()));
    }
    let manifest = path.join("Cargo.toml");
    let check = crate::report::command(["cargo", "kbench", "check", "--manifest-path", &*manifest.to_string_lossy()]);
    output.status("Next", format_args!("write src/reference.c, then {check}"));
    Ok(Exit::Pass)
}
