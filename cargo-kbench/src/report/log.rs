//! The log on stderr, for bug reports: each step of the tool.

use std::io::{self, Write};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::fmt::time::uptime;

use super::style;

/// The variable that sets the filter, such as `debug` or `cargo_kbench::build=debug`.
pub const VARIABLE: &str = "KBENCH_LOG";

/// A filter in [`VARIABLE`] with a mistake.
#[derive(Debug, thiserror::Error)]
#[error("{VARIABLE}: {0}; use a level such as `debug`, or `cargo_kbench::build=debug`")]
pub struct LogError(#[from] ParseError);

/// Starts the log of this process if [`VARIABLE`] or `-vv` (`is_verbose`) asks for one. The variable takes precedence.
pub fn start(is_verbose: bool) -> Result<(), LogError> {
    let filter = match std::env::var(VARIABLE).ok().filter(|filter| !filter.is_empty()) {
        Some(filter) => filter,
        None if is_verbose => "cargo_kbench=debug".to_owned(),
        None => return Ok(()),
    };
    let filter = EnvFilter::builder().parse(filter)?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_timer(uptime())
        .with_ansi(false)
        .with_writer(|| Lines)
        .init();
    Ok(())
}

/// Whether a log is written. A bar and a log cannot share a terminal.
pub(super) fn is_on() -> bool {
    tracing::level_filters::LevelFilter::current() != tracing::level_filters::LevelFilter::OFF
}

/// Stderr, with characters escaped that a terminal interprets: commands and keys come from tables.
struct Lines;

impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        super::to_stderr(&style::ansi(&String::from_utf8_lossy(line)));
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
