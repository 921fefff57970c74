//! The programs that kbench starts: the worker, programs that measure, programs that write inputs, and applications. All, and compilers too,
//! run in a [`group::ProcessGroup`].

use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use kbench_runtime::protocol::Failure;
use nix::sys::signal::Signal;

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

/// The failure of a program that a signal ended, or that exited by itself. `shell`: a status above 128 is the number of a signal plus 128,
/// as ssh, srun and shells report one.
fn failure(status: ExitStatus, shell: bool, stderr: String) -> Failure {
    let reported = || status.code().filter(|&code| shell && code > 128).map(|code| code - 128);
    match status.signal().or_else(reported) {
        Some(signal) => {
            let name =
                Signal::try_from(signal).map_or_else(|_| format!("signal {signal}"), |signal| signal.to_string());
            Failure::Signal { signal, name }
        }
        None => Failure::Exited { code: status.code().unwrap_or(-1), stderr },
    }
}
