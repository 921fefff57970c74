//! The programs that kbench starts: the worker, programs that measure, programs that write inputs, and applications. All, and compilers too,
//! run in a [`group::ProcessGroup`].

use std::path::{Path, PathBuf};

pub mod application;
pub mod executor;
pub(crate) mod group;
pub mod inputs;
pub mod program;

/// The program that a word of the table names: a path with a slash is one in the package, as in a shell, another name is looked up on the PATH.
fn in_package(word: &str, package: &Path) -> PathBuf {
    let own = package.join(word);
    if word.contains('/') && own.is_file() { own } else { PathBuf::from(word) }
}
