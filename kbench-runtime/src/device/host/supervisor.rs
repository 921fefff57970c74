//! The judge's hold on a kernel process: it runs from a command to its answer, and is stopped otherwise.
//!
//! So nothing that a kernel left behind, a spinning pool of threads for one, disturbs another kernel, and no thread of it goes on with
//! work that should have been done when the kernel returned.

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

/// How often a wait for an answer looks at the clock.
const TICK: Duration = Duration::from_millis(50);

/// A shorter wait for a core is below all that is judged, and not worth a look at processes.
const SHORT_WAIT: Duration = Duration::from_micros(20);

/// How long a process may take to be gone once its channel is closed.
const GRACE: Duration = Duration::from_secs(2);

/// A running kernel process; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct Process {
    pid: Pid,
    channel: Channel,
    number: Cell<u64>,
    is_stopped: Cell<bool>,
    /// What a command may take; `None`: as long as it likes.
    limit: Option<Duration>,
    /// While it takes samples, where its first thread is to stay on one core.
    pinned: RefCell<Option<Pinned>>,
    /// Why there is no process any more.
    ended: RefCell<Option<Failure>>,
    /// Lists its threads, and what the first of them has started.
    threads: Option<File>,
    children: Option<File>,
    /// Says what its first thread, which calls the kernel, has used.
    schedstat: Option<File>,
}

impl Process {
    /// Starts one.
    pub fn start(limit: Option<Duration>) -> io::Result<Self> {
        let (channel, other) = Channel::pair()?;
        channel.set_tick(TICK)?;
        // The same program even where its file has been replaced since.
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
        // What kernels print goes to standard error, as the worker's own.
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

    /// Lets it run for as long as `turn` takes.
    pub fn turn<R>(&self, turn: impl FnOnce(&Turn<'_>) -> Result<R, Failure>) -> Result<R, Failure> {
        let result = turn(&Turn { process: self });
        self.stop();
        result
    }

    /// Keeps its first thread, which calls the kernel, on one core until another command than for a sample. Done from here, while it is
    /// stopped: it could work ahead meanwhile.
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

    /// Stops it, and ends what it has started.
    fn stop(&self) {
        if self.ended.borrow().is_some() || self.is_stopped.get() {
            return;
        }
        let _ = kill(self.pid, Signal::SIGSTOP);
        match wait(self.pid, WaitPidFlag::WUNTRACED) {
            Ok(WaitStatus::Stopped(..)) => self.is_stopped.set(true),
            // It ended after its answer: the next command meets that.
            status => *self.ended.borrow_mut() = Some(status.map_or_else(|_| closed(), failure)),
        }
        if self.may_have_children() {
            descendants::end_below(self.pid);
        }
        descendants::end_orphans();
    }

    /// How many threads it has.
    fn threads(&self) -> usize {
        use std::os::unix::fs::MetadataExt as _;
        // Links of the folder are itself, its parent and one for each thread.
        let links = self.threads.as_ref().and_then(|threads| Some(threads.metadata().ok()?.nlink()));
        links.map_or(1, |links| (links as usize).saturating_sub(2)).max(1)
    }

    /// Quicker than to look for them.
    fn may_have_children(&self) -> bool {
        self.threads() > 1 || self.first_has_children()
    }

    /// Whether the thread that calls the kernel has started a process that still is.
    fn first_has_children(&self) -> bool {
        use std::os::unix::fs::FileExt as _;
        let has_children = |children: &File| children.read_at(&mut [0; 8], 0).is_ok_and(|read| read > 0);
        self.children.as_ref().is_some_and(has_children)
    }

    /// What the system, not the process, says that it has used so far.
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
                // The handler's last words.
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

    /// Why it closed its channel.
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

    /// Ends it, with all that it has started.
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

/// What a command took.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Took {
    /// From the command to the answer.
    pub clock: Duration,
    /// Processor time of the thread that calls the kernel: no less passed, however busy the machine.
    pub processor: Duration,
    /// How long that thread could have run and had no core.
    pub waited: Duration,
    /// Processor time of all threads of the process.
    pub of_all: Duration,
}

/// What a kernel process has used since it started.
struct Used {
    processor: Duration,
    waited: Duration,
    of_all: Duration,
}

/// A stretch of time in which a kernel process runs.
pub(super) struct Turn<'a> {
    process: &'a Process,
}

impl Turn<'_> {
    /// One command.
    pub fn ask(&self, command: &Command) -> Answered {
        self.ask_with(command, &[], &[]).map(|(answer, _)| answer)
    }

    /// One command, and what it took by this process's own clocks, from the command to the answer.
    pub fn measured(&self, command: &Command) -> Result<(Answer, Took), Failure> {
        let before = self.process.used();
        let (answer, clock) = self.ask_with(command, &[], &[])?;
        let after = self.process.used();
        let mut waited = after.waited.saturating_sub(before.waited);
        // A process that it has started may have had the core, and done its work.
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
            // Only now: to free its threads is no part of a sample.
            process.pin(None);
        }
        let number = process.number.get() + 1;
        process.number.set(number);
        let start = Instant::now();
        // One that has gone is found out by what it does not answer.
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

/// What it means that no process could be started.
pub(super) fn not_started(error: &io::Error) -> Failure {
    Failure::Machine { message: format!("could not start a process for a kernel: {error}") }
}

/// What the end of a process means.
fn failure(status: WaitStatus) -> Failure {
    match status {
        WaitStatus::Signaled(_, signal, _) => Failure::Signal { signal: signal as i32, name: signal.to_string() },
        // What it wrote to standard error is known to the driver.
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
