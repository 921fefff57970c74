//! A process that speaks JSON lines, and its end.

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::{ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{self, Sender};
use std::time::{Duration, Instant};

use kbench_runtime::driver::awake::Awake;
use kbench_runtime::driver::threads;
use kbench_runtime::protocol::{Event, Failure, HEARTBEAT, Stage};
use nix::sys::signal::Signal;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::line::Lines;
use super::stderr::Tail;
use super::{ExecutorError, TICK};
use crate::interrupt::is_interrupted;
use crate::process::failure;
use crate::process::group::{Finish, GRACE, ProcessGroup};

/// Time that a runner has after the end of its input, before TERM.
const RUNNERS_GRACE: Duration = Duration::from_secs(3);

/// Time that a runner has between TERM and KILL. A killed `srun` leaves its allocation behind, without an end; `srun` gives it back at
/// TERM, which takes seconds on a machine that is busy.
const RUNNERS_LAST: Duration = Duration::from_secs(20);

/// Longest silence of a worker with a heartbeat. A longer silence is not caused by the kernel.
const SILENCE: Duration = Duration::from_secs(5);
const MISSED_BEATS: u32 = 4;

/// Number of bytes that a job of a small kernel takes at most.
pub(super) const USUAL: usize = 4 << 10;

/// A running process that speaks JSON lines, in a process group of its own. Dropping it ends the process and all that
/// it started.
pub(crate) struct Worker {
    group: ProcessGroup,
    requests: Requests,
    /// Read only during a wait: a worker that writes at other times has to stop once the pipe is full.
    stdout: ChildStdout,
    lines: Lines,
    stderr: Arc<Tail>,
    remote: bool,
    /// The last stage, and whether a kernel was in any stage.
    pub(super) stage: Option<Stage>,
    pub(super) ran_a_kernel: bool,
    /// Whether the worker sends a heartbeat.
    pub(super) beats: bool,
    /// The running case, as the worker reported it.
    pub(super) case: usize,
}

/// The way to the worker's stdin. A worker that does not read must not block the driver beyond its deadlines.
enum Requests {
    /// The pipe, which takes some lines at once and refuses more.
    Pipe(ChildStdin),
    /// A thread that writes what the pipe did not take at once, and everything after it.
    Thread(Sender<Vec<u8>>),
    Closed,
}

impl Requests {
    /// Requests that begin with an empty pipe.
    fn new(stdin: ChildStdin) -> io::Result<Self> {
        let flags = rustix::fs::fcntl_getfl(&stdin)?;
        rustix::fs::fcntl_setfl(&stdin, flags | OFlags::NONBLOCK)?;
        Ok(Self::Pipe(stdin))
    }

    /// Sends bytes. A worker that cannot be written to has ended; the wait for it finds the reason.
    fn send(&mut self, bytes: Vec<u8>) {
        *self = match std::mem::replace(self, Self::Closed) {
            Self::Pipe(mut pipe) => match pipe.write(&bytes) {
                Ok(written) if written == bytes.len() => Self::Pipe(pipe),
                Ok(written) => Self::on_thread(pipe, bytes[written..].to_vec()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Self::on_thread(pipe, bytes),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                    *self = Self::Pipe(pipe);
                    return self.send(bytes);
                }
                Err(_) => Self::Closed,
            },
            Self::Thread(lines) => {
                let _ = lines.send(bytes);
                Self::Thread(lines)
            }
            Self::Closed => Self::Closed,
        };
    }

    /// Writes `rest` and what follows on a thread that waits for the worker.
    fn on_thread(mut pipe: ChildStdin, rest: Vec<u8>) -> Self {
        let (sender, lines) = mpsc::channel::<Vec<u8>>();
        let _ = sender.send(rest);
        let started = threads::spawn(move || {
            let Ok(flags) = rustix::fs::fcntl_getfl(&pipe) else { return };
            if rustix::fs::fcntl_setfl(&pipe, flags - OFlags::NONBLOCK).is_ok() {
                let _ = lines.into_iter().try_for_each(|line| pipe.write_all(&line));
            }
        });
        started.map_or(Self::Closed, |_| Self::Thread(sender))
    }
}

/// Meaning of a line for the wait.
pub(crate) enum Heard {
    /// The worker entered this stage.
    Stage(Stage),
    /// A heartbeat.
    Beat,
    /// The answer.
    Answer,
}

/// A line of a process.
pub(crate) trait Message: DeserializeOwned {
    /// The message of a line.
    fn of_line(line: &[u8]) -> serde_json::Result<Self> {
        serde_json::from_slice(line)
    }
}

impl Message for Event {
    fn of_line(line: &[u8]) -> serde_json::Result<Self> {
        Self::of_line(line)
    }
}

/// Reason why there is no answer.
pub(crate) enum WaitError {
    Interrupted,
    Failure(Failure),
    /// Another process ended or stopped the worker, or it is broken or out of reach: its job is not necessarily the
    /// cause.
    Lost(Failure),
}

impl Worker {
    /// Starts `words`, in `directory` if there is one. `remote`: through a runner, which reports signals in its own
    /// way; `longest`: largest number of bytes of a line.
    pub(crate) fn spawn(words: &[OsString], directory: Option<&Path>, remote: bool, longest: u64) -> io::Result<Self> {
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        if let Some(directory) = directory {
            command.current_dir(directory);
        }
        let mut group = ProcessGroup::spawn(&mut command, if remote { RUNNERS_LAST } else { GRACE })?;
        tracing::debug!(pid = group.id(), ?command, "process started");
        let (stdin, stdout, stderr_pipe) = group.pipes();
        let requests = Requests::new(stdin)?;
        let stderr = Tail::of(stderr_pipe)?;
        Ok(Self {
            group,
            requests,
            stdout,
            lines: Lines::new(usize::try_from(longest).unwrap_or(usize::MAX)),
            stderr,
            remote,
            stage: None,
            ran_a_kernel: false,
            beats: false,
            case: 0,
        })
    }

    pub(crate) fn send(&mut self, request: &impl Serialize) {
        let mut lines = Vec::with_capacity(USUAL);
        add_line(request, &mut lines);
        self.send_bytes(lines);
    }

    /// Sends bytes: lines by [`add_line`], or no lines of the protocol.
    pub(super) fn send_bytes(&mut self, bytes: Vec<u8>) {
        self.requests.send(bytes);
    }

    /// Waits for the answer. `deadline` gives the longest silence in a stage (`None`: before any stage).
    pub(crate) fn wait<E: Message>(
        &mut self,
        heard_in: fn(&E) -> Heard,
        deadline: &mut dyn FnMut(Option<Stage>) -> Duration,
    ) -> Result<E, WaitError> {
        let asked = Instant::now();
        let answer = self.answer(heard_in, deadline);
        let (pid, seconds, stage) = (self.group.id(), asked.elapsed().as_secs_f64(), self.stage);
        match &answer {
            Ok(_) => tracing::debug!(pid, seconds, "process answered"),
            Err(WaitError::Interrupted) => tracing::debug!(pid, seconds, ?stage, "interrupted"),
            Err(WaitError::Lost(failure)) => {
                tracing::debug!(pid, seconds, ?stage, %failure, "process ended from outside");
            }
            Err(WaitError::Failure(failure)) => tracing::debug!(pid, seconds, ?stage, %failure, "process failed"),
        }
        answer
    }

    fn answer<E: Message>(
        &mut self,
        heard_in: fn(&E) -> Heard,
        deadline: &mut dyn FnMut(Option<Stage>) -> Duration,
    ) -> Result<E, WaitError> {
        self.stage = None;
        self.case = 0;
        // Times since the stage began and since the last line. Time in which this process is stopped does not count.
        let (mut since, mut silent) = (Awake::start(), Awake::start());
        let mut ended = None;
        let mut tick = TICK.min(deadline(None));
        loop {
            if is_interrupted() {
                return Err(WaitError::Interrupted);
            }
            match self.lines.next() {
                Some(Err(cut)) => {
                    let message = format!("a line of more than {} bytes", cut.len());
                    return Err(WaitError::Lost(Failure::Protocol { message }));
                }
                Some(Ok(line)) => match E::of_line(line) {
                    Ok(event) => {
                        silent = Awake::start();
                        match heard_in(&event) {
                            Heard::Answer => return Ok(event),
                            Heard::Beat => self.beats = true,
                            Heard::Stage(Stage::Case(case)) => self.case = case,
                            Heard::Stage(entered) => {
                                self.stage = Some(entered);
                                self.ran_a_kernel |= entered.runs_kernel();
                                since = Awake::start();
                            }
                        }
                    }
                    Err(error) => {
                        let line = String::from_utf8_lossy(line);
                        let message = format!("{error} in `{}`", line.chars().take(200).collect::<String>());
                        return Err(WaitError::Lost(Failure::Protocol { message }));
                    }
                },
                None => {
                    if self.lines.has_ended() {
                        return Err(self.post_mortem());
                    }
                    if self.read_within(tick) {
                        continue;
                    }
                    // A child of the worker may hold the other end of the pipe open. The output of the worker itself is
                    // read first.
                    if self.group.status().is_some() {
                        let ended = *ended.get_or_insert_with(Instant::now);
                        if ended.elapsed() > GRACE {
                            return Err(self.post_mortem());
                        }
                    }
                }
            }
            let (patience, spent, silence) = (deadline(self.stage), since.spent(), silent.spent());
            let is_frozen = self.beats && silence > SILENCE;
            if is_frozen || spent > patience {
                self.end();
                let stage = self.stage.unwrap_or(Stage::Inputs);
                let seconds = if is_frozen { SILENCE } else { patience }.as_secs();
                let hang = Failure::Hang { seconds, stage };
                let is_lost = is_frozen || self.beats && silence > HEARTBEAT * MISSED_BEATS;
                return Err(if is_lost { WaitError::Lost(hang) } else { WaitError::Failure(hang) });
            }
            tick = TICK.min(patience.saturating_sub(spent));
        }
    }

    /// Reads what the worker has written, or writes within `limit`; false if that is nothing.
    fn read_within(&mut self, limit: Duration) -> bool {
        let limit = Timespec::try_from(limit).expect("a tick");
        // A signal ends the wait too.
        let ready = poll(&mut [PollFd::new(&self.stdout, PollFlags::IN)], Some(&limit)).is_ok_and(|ready| ready > 0);
        if ready {
            self.lines.read(&mut self.stdout);
        }
        ready
    }

    /// Reason why the worker closed its stdout.
    fn post_mortem(&mut self) -> WaitError {
        let ended = self.group.wait_for(Duration::from_secs(5));
        self.end();
        let stderr = self.said(20);
        let Some(status) = ended else {
            let message = format!("the worker closed its output but went on: {stderr}");
            return WaitError::Lost(Failure::Protocol { message });
        };
        let failure = failure(status, self.remote, stderr);
        // A runner exits by itself if the network, the node or the allocation is gone.
        let is_lost = if matches!(failure, Failure::Signal { .. }) { is_from_outside(&failure) } else { self.remote };
        if is_lost { WaitError::Lost(failure) } else { WaitError::Failure(failure) }
    }

    /// Whether a runner starts the worker.
    pub(super) fn is_remote(&self) -> bool {
        self.remote
    }

    /// Whether the process has ended.
    pub(super) fn has_ended(&mut self) -> bool {
        self.group.status().is_some()
    }

    /// Ends the process group; a runner gets the end of its input first.
    fn end(&mut self) {
        end_all(&mut [self]);
    }

    /// Forgets the stderr so far.
    pub(super) fn forget_words(&self) {
        self.stderr.forget();
    }

    /// The last lines of stderr of a running worker, once they have come through the pipe.
    pub(super) fn says(&self, lines: usize) -> String {
        std::thread::sleep(Duration::from_millis(20));
        self.stderr.last(lines)
    }

    /// Waits for the end of the process, and ends it at the deadline.
    pub(super) fn ended(&mut self, timeout: Duration) -> Result<Option<ExitStatus>, ExecutorError> {
        let finish = self.group.finish(timeout, || false).map_err(|error| ExecutorError::Machine(error.to_string()))?;
        self.end();
        match finish {
            Finish::Exited(status) => Ok(Some(status)),
            Finish::TooLong => Ok(None),
            Finish::Interrupted => Err(ExecutorError::Interrupted),
        }
    }

    /// The last lines of stderr of an ended worker.
    pub(super) fn said(&self, lines: usize) -> String {
        self.stderr.wait_for_end(Duration::from_millis(500));
        self.stderr.last(lines)
    }
}

/// Adds a line of the protocol.
pub(super) fn add_line(request: &impl Serialize, lines: &mut Vec<u8>) {
    serde_json::to_writer(&mut *lines, request).expect("plain data");
    lines.push(b'\n');
}

/// Whether a signal from outside ended a process: by a user, or for lack of memory.
pub(super) fn is_from_outside(failure: &Failure) -> bool {
    matches!(failure, Failure::Signal { signal, .. } if [Signal::SIGKILL as i32, Signal::SIGTERM as i32].contains(signal))
}

/// Ends workers at the same time; those behind a runner have a moment at the end of their input.
pub(super) fn end_all(workers: &mut [&mut Worker]) {
    for worker in &mut *workers {
        worker.requests = Requests::Closed;
    }
    let remote = workers.iter_mut().filter(|worker| worker.remote).map(|worker| &mut worker.group);
    ProcessGroup::wait_for_all(&mut remote.collect::<Vec<_>>(), |_| RUNNERS_GRACE);
    ProcessGroup::end_all(&mut workers.iter_mut().map(|worker| &mut worker.group).collect::<Vec<_>>());
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.end();
        tracing::debug!(pid = self.group.id(), "process ended");
    }
}

#[cfg(test)]
mod tests;
