//! Sends this program to a worker's machine that does not have it: `sh` there reads a script, which keeps the program in the user's cache
//! folder by its hash. A later worker on the machine finds the program.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use kbench_runtime::fingerprint;
use kbench_runtime::protocol::Failure;
use serde::Deserialize;

use super::{Executor, Heard, Message, PATIENCE, WaitError, Worker};

const SCRIPT: &str = include_str!("ship.sh");

/// Exit status of the script after it wrote on standard error why the machine cannot have the program.
pub(super) const REFUSED: i32 = 97;

/// Answers of the script.
#[derive(Debug, Deserialize)]
#[serde(tag = "ship", rename_all = "kebab-case")]
enum Answer {
    /// The machine does not have the program.
    Send,
    /// The worker starts.
    There,
}

impl Message for Answer {}

/// This program.
struct Program {
    hash: String,
    bytes: Vec<u8>,
}

impl Program {
    /// The running program, read once.
    fn own() -> std::io::Result<Arc<Self>> {
        static OWN: Mutex<Option<Arc<Program>>> = Mutex::new(None);
        let mut own = OWN.lock().expect("no panic while held");
        if let Some(own) = &*own {
            return Ok(Arc::clone(own));
        }
        // The file of this path may have been replaced since; the link names the running one.
        let link = if cfg!(target_os = "linux") { "/proc/self/exe".into() } else { std::env::current_exe()? };
        let bytes = std::fs::read(link)?;
        let program = Self { hash: fingerprint::of_bytes(&bytes), bytes };
        Ok(Arc::clone(own.insert(Arc::new(program))))
    }

    /// One compound command: a shell reads it to its end before it runs any of it, before the program is sent.
    fn script(&self, tool: &[String]) -> Result<String, shlex::QuoteError> {
        let tool = shlex::try_join(tool.iter().map(String::as_str))?;
        let Self { hash, bytes } = self;
        let (size, nonce, arch) = (bytes.len(), Executor::id(), std::env::consts::ARCH);
        Ok(format!(
            "{{\nhash={hash} size={size} machine='Linux {arch}' nonce=part-{nonce:016x} failed={REFUSED}\nset -- {tool}\n{SCRIPT}}}\n"
        ))
    }
}

/// Has `sh`, which `worker` is so far, become a worker under a tool. `queue` is the longest wait for the first answer.
pub(super) fn ship(worker: &mut Worker, tool: &[String], queue: &mut dyn FnMut() -> Duration) -> Result<(), WaitError> {
    let refused = |message: String| WaitError::Failure(Failure::Machine { message });
    let program = Program::own().map_err(|error| refused(format!("could not read cargo-kbench itself: {error}")))?;
    let script = program.script(tool).map_err(|error| refused(format!("{tool:?} cannot be quoted: {error}")))?;
    worker.send_bytes(script.into_bytes());
    let heard_in = |_: &Answer| Heard::Answer;
    match worker.wait(heard_in, &mut |_| queue())? {
        Answer::There => return Ok(()),
        Answer::Send => worker.send_bytes(program.bytes.clone()),
    }
    match worker.wait(heard_in, &mut |_| PATIENCE)? {
        Answer::There => Ok(()),
        Answer::Send => {
            let message = "the machine asked for cargo-kbench twice".to_owned();
            Err(WaitError::Lost(Failure::Protocol { message }))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_a_tool_reach_the_shell_as_they_are() {
        let program = Program { hash: "abc".to_owned(), bytes: vec![0] };
        let words = ["a b".to_owned(), "it's".to_owned(), "$HOME;`x`".to_owned()];
        let script = program.script(&words).unwrap();
        let set = script.lines().nth(2).unwrap();
        let command = format!("{set}; printf '%s\\n' \"$@\"");
        let output = std::process::Command::new("sh").args(["-c", &command]).output().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap().lines().collect::<Vec<_>>(), words);
        assert!(script.starts_with("{\n") && script.ends_with("\n}\n"));
        assert!(script.len() < 8192, "a shell that reads blocks has all of it before the first answer");
    }
}
