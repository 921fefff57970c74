//! The exit codes of the process.

use std::io;
use std::process::ExitCode;

use super::RunError;
use crate::build::CompileError;
use crate::process::executor::ExecutorError;

/// Exit status of the process. A run of several kernels returns the largest: a failed gate takes precedence over a
/// missing device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Exit {
    /// 0: all gates passed.
    Pass,
    /// 3: a tool or device is missing, or the disk is full.
    Missing,
    /// 1: a gate failed, no variant survived, or the winner misses a performance limit of level `deny`.
    Failed,
    /// 2: bad usage, a mistake in the table, or a damaged file.
    Usage,
    /// 130: the user ended the run.
    Interrupted,
}

impl Exit {
    /// The exit code.
    pub const fn code(self) -> u8 {
        match self {
            Exit::Pass => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::Missing => 3,
            Exit::Interrupted => 130,
        }
    }

    /// After clap printed help (a success) or an error.
    pub fn from_usage(is_error: bool) -> Self {
        if is_error { Exit::Usage } else { Exit::Pass }
    }

    /// After an error of a file: one that is damaged, no file or not there is for the user to mend, one that cannot be read or written may
    /// be the machine's.
    pub fn of_file(error: &io::Error) -> Self {
        use io::ErrorKind::{InvalidData, InvalidInput, IsADirectory, NotADirectory, NotFound};
        match error.kind() {
            InvalidData | InvalidInput | IsADirectory | NotADirectory | NotFound => Exit::Usage,
            _ => Exit::Missing,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        exit.code().into()
    }
}

impl RunError {
    /// The exit code of a run that ended with this error.
    pub fn exit(&self) -> Exit {
        match self {
            RunError::Executor(ExecutorError::Interrupted) => Exit::Interrupted,
            RunError::Tool(CompileError::Io { error, .. }) | RunError::Io(error) => Exit::of_file(error),
            RunError::Executor(_)
            | RunError::Tool(_)
            | RunError::Unavailable { .. }
            | RunError::NoWorkers { .. }
            | RunError::Sanitizer { .. }
            | RunError::Energy { .. } => Exit::Missing,
            RunError::Inputs { .. }
            | RunError::Reference { .. }
            | RunError::Application { .. }
            | RunError::Workers { .. }
            | RunError::NoArch(_) => Exit::Usage,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_file_exits_with_2_and_a_full_disk_with_3() {
        let exit = |kind: io::ErrorKind| RunError::from(io::Error::from(kind)).exit();
        assert_eq!(exit(io::ErrorKind::InvalidData), Exit::Usage);
        assert_eq!(exit(io::ErrorKind::NotFound), Exit::Usage);
        assert_eq!(exit(io::ErrorKind::IsADirectory), Exit::Usage);
        assert_eq!(exit(io::ErrorKind::NotADirectory), Exit::Usage);
        assert_eq!(exit(io::ErrorKind::StorageFull), Exit::Missing);
        assert_eq!(exit(io::ErrorKind::PermissionDenied), Exit::Missing);
        assert_eq!(RunError::from(ExecutorError::Interrupted).exit().code(), 130);
    }
}
