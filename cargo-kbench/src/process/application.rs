//! A program of the user that launches exported kernels and prints one number: an objective of a search.

use std::io;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use kbench_runtime::protocol::{Failure, Stage};

use super::group::{Finish, GRACE, Output, ProcessGroup};
use super::program::Refusal;
use super::{failure, in_package};

/// The longest run of a program, its compilation included.
const LONGEST: Duration = Duration::from_secs(600);

/// Reason why a run printed no number.
#[derive(Debug, thiserror::Error)]
pub enum RunFailed {
    /// A file or a process of ours.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The program.
    #[error("the program printed no number")]
    Program(Refusal),
}

impl From<Refusal> for RunFailed {
    fn from(refusal: Refusal) -> Self {
        Self::Program(refusal)
    }
}

impl From<Failure> for RunFailed {
    fn from(failure: Failure) -> Self {
        Self::Program(Refusal::Failure(failure))
    }
}

/// Runs a program in the package's folder with a variable of its environment set, or unset where there is no value, and returns the
/// number in the last line that it prints.
pub fn run(command: &[String], package: &Path, variable: (&str, Option<&str>)) -> Result<f64, RunFailed> {
    let (mut stdout, mut stderr) = (Output::new()?, Output::new()?);
    let mut program = Command::new(in_package(&command[0], package));
    program.args(&command[1..]).env_remove(variable.0).current_dir(package);
    if let (name, Some(value)) = variable {
        program.env(name, value);
    }
    program.stdin(Stdio::null()).stdout(stdout.stream()?).stderr(stderr.stream()?);
    let started = ProcessGroup::spawn(&mut program, GRACE);
    let mut group =
        started.map_err(|error| Refusal::Unavailable(format!("could not start `{}`: {error}", command[0])))?;
    let status = match group.finish(LONGEST, || false)? {
        Finish::Exited(status) => status,
        Finish::Interrupted => return Err(Refusal::Interrupted.into()),
        Finish::TooLong => return Err(Failure::Hang { seconds: LONGEST.as_secs(), stage: Stage::Timing }.into()),
    };
    if !status.success() {
        return Err(failure(status, false, stderr.text()?).into());
    }
    number(&stdout.text()?).map_err(|message| Failure::Protocol { message }.into())
}

/// The number in the last line that is not empty: finite, and above 0.
fn number(printed: &str) -> Result<f64, String> {
    let last = printed.lines().rev().map(str::trim).find(|line| !line.is_empty());
    let Some(last) = last else {
        return Err("the program printed nothing; its last line is to be a number".to_owned());
    };
    match last.parse::<f64>() {
        Ok(number) if number.is_finite() && number > 0.0 => Ok(number),
        Ok(_) => Err(format!("the last line of the program is `{last}`; it must be a number above 0")),
        Err(_) => {
            let shown: String = last.chars().take(80).collect();
            Err(format!("the last line of the program is `{shown}`; it must be a number and nothing else"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str, value: Option<&str>) -> Result<f64, RunFailed> {
        let folder = tempfile::tempdir().unwrap();
        let command = ["sh", "-c", script].map(str::to_owned);
        run(&command, folder.path(), ("KBENCH_TEST_VARIANT", value))
    }

    #[test]
    fn the_last_line_is_the_number_and_the_variable_chooses() {
        let script = "echo warming up; echo ${KBENCH_TEST_VARIANT:-2.5}; echo";
        assert!(matches!(sh(script, None), Ok(number) if (number - 2.5).abs() < 1e-12));
        assert!(matches!(sh(script, Some("3e2")), Ok(number) if (number - 300.0).abs() < 1e-12));
    }

    #[test]
    fn a_program_without_a_number_is_refused_with_its_last_line() {
        for (printed, word) in [
            ("", "nothing"),
            ("12 tokens/s", "`12 tokens/s`"),
            ("-1", "above 0"),
            ("inf", "above 0"),
            ("nan", "above 0"),
        ] {
            let message = number(printed).unwrap_err();
            assert!(message.contains(word), "{message}");
        }
        assert!(
            matches!(sh("echo x >&2; exit 3", None), Err(RunFailed::Program(Refusal::Failure(Failure::Exited { code: 3, stderr }))) if stderr == "x\n")
        );
        assert!(matches!(
            sh("kill -SEGV $$", None),
            Err(RunFailed::Program(Refusal::Failure(Failure::Signal { signal: 11, .. })))
        ));
        let missing = run(&["./no-such-program".to_owned()], Path::new("/"), ("KBENCH_TEST_VARIANT", None));
        assert!(matches!(missing, Err(RunFailed::Program(Refusal::Unavailable(_)))));
    }
}
