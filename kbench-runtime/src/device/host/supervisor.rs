//! Control of a kernel process: it runs from a command to its answer, and is stopped otherwise.
//!
//! So remains of a kernel, such as a pool of spinning threads, do not disturb another kernel, and no thread continues
//! with work that should have been done when the kernel returned.

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io;
use std::os::fd::RawFd;
use std::os::unix::process::CommandExt as _;
use std::process::{Command as Program, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::channel::{Answer, Answered, Channel, Command};
use super::process::MARK;
use super::threads::Pinned;
use crate::process::awake::Awake;
use crate::process::descendants;
use crate::protocol::{Failure, Stage};

/// Interval of checks while waiting for an answer.
const TICK: Duration = Duration::from_millis(50);

/// Shorter waits for a core are not examined.
const SHORT_WAIT: Duration = Duration::from_micros(20);

/// Time for a process to end once its channel is closed.
const GRACE: Duration = Duration::from_secs(2);

/// A running kernel process; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct Process {
    pid: Pid,
    channel: Channel,
    number: Cell<u64>,
    is_stopped: Cell<bool>,
    /// Deadline of a command; `None` for none.
    limit: Option<Duration>,
    /// During samples, the core of the first thread.
    pinned: RefCell<Option<Pinned>>,
    /// Reason why the process ended.
    ended: RefCell<Option<Failure>>,
    /// Folder of its threads, and children of the first thread.
    threads: Option<File>,
    children: Option<File>,
    /// File with the usage of the first thread, which calls the kernel.
    schedstat: Option<File>,
}

impl Process {
    /// Starts a process.
    pub fn start(limit: Option<Duration>) -> io::Result<Self> {
        let (channel, other) = Channel::pair()?;
        channel.set_tick(TICK)?;
        // The same program, also if its file was replaced since.
        let mut program = if cfg!(target_os = "linux") {
            Program::new("/proc/self/exe")
        } else {
            Program::new(std::env::current_exe()?)
        };
        program.arg0("kbench-kernel-process").env(MARK, std::process::id().to_string());
        #[cfg(test)]
        program.args([
            "--exact",
            "device::host::process::tests::kernel_process",
            "--nocapture",
            "--test-threads=1",
            "-q",
        ]);
        // Output of kernels goes to standard error, as that of the worker.
        let stdout = io::stderr();
        program.stdin(other).stdout(std::os::fd::AsFd::as_fd(&stdout).try_clone_to_owned()?).stderr(Stdio::inherit());
        let pid = Pid::from_raw(program.spawn()?.id() as i32);
        descendants::own(pid);
        Ok(Self {
            pid,
            channel,
            number: Cell::new(0),
            is_stopped: Cell::new(false),
            limit,
            pinned: RefCell::default(),
            ended: RefCell::default(),
            threads: File::open(format!("/proc/{pid}/task")).ok(),
            children: File::open(format!("/proc/{pid}/task/{pid}/children")).ok(),
            schedstat: File::open(format!("/proc/{pid}/task/{pid}/schedstat")).ok(),
        })
    }

    /// Lets the process run for the duration of `turn`.
    pub fn turn<R>(&self, turn: impl FnOnce(&Turn<'_>) -> Result<R, Failure>) -> Result<R, Failure> {
        let result = turn(&Turn { process: self });
        self.stop();
        result
    }

    /// Keeps the first thread, which calls the kernel, on one core until a command other than a sample. The worker does
    /// this while the process is stopped: otherwise the process could compute ahead.
    pub fn pin(&self, core: Option<u32>) {
        let threads = self.threads();
        let mut pinned = self.pinned.borrow_mut();
        let stays = |pinned: &Pinned| Some(pinned.core) == core && pinned.threads >= threads;
        if self.ended.borrow().is_some() || pinned.as_ref().is_some_and(stays) {
            return;
        }
        if let Some(pinned) = pinned.take() {
            pinned.free(self.pid, threads);
        }
        *pinned = core.map(|core| Pinned::to(core, self.pid, threads));
    }

    /// One command.
    pub fn ask(&self, command: &Command, bytes: &[u8], descriptors: &[RawFd]) -> Answered {
        self.turn(|turn| turn.ask_with(command, bytes, descriptors).map(|(answer, _)| answer))
    }

    /// Stops the process, and ends processes that it started.
    fn stop(&self) {
        if self.ended.borrow().is_some() || self.is_stopped.get() {
            return;
        }
        let _ = kill(self.pid, Signal::SIGSTOP);
        match wait(self.pid, WaitPidFlag::WUNTRACED) {
            Ok(WaitStatus::Stopped(..)) => self.is_stopped.set(true),
            // The process ended after its answer: the next command gets the error.
            status => *self.ended.borrow_mut() = Some(status.map_or_else(|_| closed(), failure)),
        }
        if self.may_have_children() {
            descendants::end_below(self.pid);
        }
        descendants::end_orphans();
    }

    /// Number of threads.
    fn threads(&self) -> usize {
        use std::os::unix::fs::MetadataExt as _;
        // Links of the folder are itself, its parent and one for each thread.
        let links = self.threads.as_ref().and_then(|threads| Some(threads.metadata().ok()?.nlink()));
        links.map_or(1, |links| (links as usize).saturating_sub(2)).max(1)
    }

    /// Faster than a search for them.
    fn may_have_children(&self) -> bool {
        self.threads() > 1 || self.first_has_children()
    }

    /// Whether the thread that calls the kernel has started a process that still exists.
    fn first_has_children(&self) -> bool {
        use std::os::unix::fs::FileExt as _;
        let has_children = |children: &File| children.read_at(&mut [0; 8], 0).is_ok_and(|read| read > 0);
        self.children.as_ref().is_some_and(has_children)
    }

    /// Usage of the process so far, as the system counts it.
    fn used(&self) -> Used {
        use std::os::unix::fs::FileExt as _;
        // `384612 1043 12`: nanoseconds on a core, nanoseconds of waiting for one, and turns.
        let mut text = [0; 64];
        let read = self.schedstat.as_ref().and_then(|file| file.read_at(&mut text, 0).ok());
        let words = std::str::from_utf8(&text[..read.unwrap_or(0)]).unwrap_or_default();
        let mut words = words.split(' ').map(|word| Duration::from_nanos(word.parse().unwrap_or(0)));
        let (processor, waited) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        Used { processor, waited, of_all: processor_time_of_all(self.pid).unwrap_or_default() }
    }

    fn receive(&self, number: u64) -> Answered {
        let mut awake = Awake::start();
        let mut is_late = false;
        let frame = self.channel.receive::<Answered>(&mut || {
            is_late = self.limit.is_some_and(|limit| awake.spent() > limit);
            if is_late { Err(io::ErrorKind::TimedOut.into()) } else { Ok(()) }
        });
        let failure = match frame {
            Ok(frame) if frame.number == number => match frame.value {
                // The last words of the handler.
                Err(failure @ Failure::IllegalAccess { .. }) => failure,
                answer => return answer,
            },
            _ if is_late => Failure::Hang { seconds: self.limit.unwrap_or_default().as_secs(), stage: Stage::Launch },
            Err(error) if error.kind() != io::ErrorKind::InvalidData => self.post_mortem(),
            Ok(_) | Err(_) => {
                Failure::Protocol { message: "the kernel wrote to the channel of its own process".to_owned() }
            }
        };
        self.end();
        *self.ended.borrow_mut() = Some(failure.clone());
        Err(failure)
    }

    /// Reason why the process closed its channel.
    fn post_mortem(&self) -> Failure {
        let until = Instant::now() + GRACE;
        while Instant::now() < until {
            match waitpid(self.pid, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) | Err(Errno::EINTR) => std::thread::sleep(Duration::from_millis(1)),
                Ok(status) => return failure(status),
                Err(_) => break,
            }
        }
        closed()
    }

    /// Ends the process, and processes that it started.
    fn end(&self) {
        let _ = kill(self.pid, Signal::SIGSTOP);
        descendants::end_below(self.pid);
        let _ = kill(self.pid, Signal::SIGKILL);
        let _ = wait(self.pid, WaitPidFlag::empty());
        descendants::disown(self.pid);
        descendants::end_orphans();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

/// Usage of a command.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Took {
    /// Time from the command to the answer.
    pub clock: Duration,
    /// Processor time of the thread that calls the kernel, a lower bound on its time on any machine.
    pub processor: Duration,
    /// Time in which that thread was ready and had no core.
    pub waited: Duration,
    /// Processor time of all threads of the process.
    pub of_all: Duration,
}

/// Usage of a kernel process since its start.
struct Used {
    processor: Duration,
    waited: Duration,
    of_all: Duration,
}

/// A period in which a kernel process runs.
pub(super) struct Turn<'a> {
    process: &'a Process,
}

impl Turn<'_> {
    /// One command.
    pub fn ask(&self, command: &Command) -> Answered {
        self.ask_with(command, &[], &[]).map(|(answer, _)| answer)
    }

    /// One command, with its usage by this process's own clocks, from the command to the answer.
    pub fn measured(&self, command: &Command) -> Result<(Answer, Took), Failure> {
        let before = self.process.used();
        let (answer, clock) = self.ask_with(command, &[], &[])?;
        let after = self.process.used();
        let mut waited = after.waited.saturating_sub(before.waited);
        // A child of the process may have had the core, and done its work.
        if waited >= SHORT_WAIT && (self.process.first_has_children() || descendants::has_orphans()) {
            waited = Duration::ZERO;
        }
        let took = Took {
            clock,
            processor: after.processor.saturating_sub(before.processor),
            waited,
            of_all: after.of_all.saturating_sub(before.of_all),
        };
        Ok((answer, took))
    }

    fn ask_with(&self, command: &Command, bytes: &[u8], descriptors: &[RawFd]) -> Result<(Answer, Duration), Failure> {
        let process = self.process;
        if let Some(failure) = &*process.ended.borrow() {
            return Err(failure.clone());
        }
        if !command.is_for_a_sample() {
            // Only now: removing its threads is not part of a sample.
            process.pin(None);
        }
        let number = process.number.get() + 1;
        process.number.set(number);
        let start = Instant::now();
        // A process that has ended is noticed by its missing answer.
        let _ = process.channel.send(number, command, bytes, descriptors);
        if process.is_stopped.replace(false) {
            let _ = kill(process.pid, Signal::SIGCONT);
        }
        let answer = process.receive(number)?;
        Ok((answer, start.elapsed()))
    }
}

/// Processor time of all threads of a process so far.
fn processor_time_of_all(pid: Pid) -> Option<Duration> {
    #[cfg(target_os = "linux")]
    {
        let clock = nix::time::clock_getcpuclockid(pid).ok()?;
        nix::time::clock_gettime(clock).ok().map(Duration::from)
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = pid;
        None
    }
}

/// The failure if no process could be started.
pub(super) fn not_started(error: &io::Error) -> Failure {
    Failure::Machine { message: format!("could not start a process for a kernel: {error}") }
}

/// The failure for the end of a process.
fn failure(status: WaitStatus) -> Failure {
    match status {
        WaitStatus::Signaled(_, signal, _) => Failure::Signal { signal: signal as i32, name: signal.to_string() },
        // The driver has its standard error.
        WaitStatus::Exited(_, code) => Failure::Exited { code, stderr: String::new() },
        _ => closed(),
    }
}

fn closed() -> Failure {
    Failure::Protocol { message: "the kernel closed the channel of its own process".to_owned() }
}

fn wait(pid: Pid, flags: WaitPidFlag) -> nix::Result<WaitStatus> {
    loop {
        match waitpid(pid, Some(flags)) {
            Err(Errno::EINTR) => {}
            waited => return waited,
        }
    }
}
