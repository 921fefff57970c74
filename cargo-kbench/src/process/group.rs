//! A program in a process group of its own: start, deadline, interrupt, TERM and KILL.
//!
//! Every program that may run for long is started here: the worker, programs that measure, propose or write inputs, and compilers. A
//! short question, such as `nvcc --version`, stays in the group of the terminal, where Ctrl-C ends it.

use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use kbench_runtime::driver::awake::Awake;
use kbench_runtime::driver::descendants;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::interrupt::is_interrupted;

/// Time between TERM and KILL.
pub(crate) const GRACE: Duration = Duration::from_millis(200);
/// Interval between two checks of a process.
const TICK: Duration = Duration::from_millis(2);
/// Variable in the environment of each program and of all that it starts, with a value for each program.
const MARK: &str = "KBENCH_PROCESS";

/// A running program. Dropping it ends the program and all that it started, unless [`finish`](Self::finish) saw its
/// exit.
#[derive(Debug)]
pub(crate) struct ProcessGroup {
    leader: Child,
    /// Value of [`MARK`] for this program.
    mark: String,
    /// Time between TERM and KILL.
    grace: Duration,
    is_over: bool,
    /// Whether it was ended, with all that it started.
    is_ended: bool,
}

/// End of a wait for the exit of a program.
#[derive(Debug)]
pub(crate) enum Finish {
    /// The program exited by itself.
    Exited(ExitStatus),
    /// The program was ended: the user pressed Ctrl-C, or its result is no longer wanted.
    Interrupted,
    /// The program was ended at the deadline.
    TooLong,
}

impl ProcessGroup {
    /// Starts a program that has `grace` between TERM and KILL.
    pub(crate) fn spawn(command: &mut Command, grace: Duration) -> io::Result<Self> {
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let mark = format!("{}-{}", std::process::id(), STARTED.fetch_add(1, Ordering::Relaxed));
        let leader = command.env(MARK, &mark).process_group(0).spawn()?;
        Ok(Self { leader, mark, grace, is_over: false, is_ended: false })
    }

    /// Number of the first process, which is also the number of the group.
    pub(crate) fn id(&self) -> u32 {
        self.leader.id()
    }

    /// The other ends of stdin, stdout and stderr. Once only, for a program that was started with three pipes.
    pub(crate) fn pipes(&mut self) -> (ChildStdin, ChildStdout, ChildStderr) {
        let Child { stdin, stdout, stderr, .. } = &mut self.leader;
        (stdin.take().expect("piped"), stdout.take().expect("piped"), stderr.take().expect("piped"))
    }

    /// Exit status, if the program has exited.
    pub(crate) fn status(&mut self) -> Option<ExitStatus> {
        self.leader.try_wait().ok().flatten()
    }

    /// Exit status, if the program exits within `limit`; otherwise the program continues.
    pub(crate) fn wait_for(&mut self, limit: Duration) -> Option<ExitStatus> {
        let until = Instant::now() + limit;
        loop {
            let status = self.status();
            if status.is_some() || Instant::now() >= until {
                return status;
            }
            thread::sleep(TICK);
        }
    }

    /// Waits for the exit of the program. At the deadline, after an interrupt, and once `is_unwanted` is true, it is ended with all that it
    /// started.
    pub(crate) fn finish(&mut self, limit: Duration, is_unwanted: impl Fn() -> bool) -> io::Result<Finish> {
        // Time during which this process is stopped does not count.
        let mut waited = Awake::start();
        let finish = loop {
            if let Some(status) = self.leader.try_wait()? {
                // Processes that the program leaves running on purpose, such as the server of a compiler cache, may
                // stay.
                self.is_over = true;
                return Ok(Finish::Exited(status));
            }
            if is_interrupted() || is_unwanted() {
                break Finish::Interrupted;
            }
            if waited.spent() >= limit {
                break Finish::TooLong;
            }
            thread::sleep(TICK);
        };
        self.end();
        Ok(finish)
    }

    /// Ends the group with TERM, the grace period and KILL; then ends processes that left the group.
    pub(crate) fn end(&mut self) {
        Self::end_all(&mut [self]);
    }

    /// Ends groups at the same time. A group that was ended before is left alone.
    pub(crate) fn end_all(groups: &mut [&mut Self]) {
        let mut groups: Vec<&mut Self> =
            groups.iter_mut().map(|group| &mut **group).filter(|group| !group.is_ended).collect();
        for group in &mut groups {
            (group.is_over, group.is_ended) = (true, true);
            if group.status().is_none() {
                let _ = killpg(group.pid(), Signal::SIGTERM);
            }
        }
        Self::wait_for_all(&mut groups, |group| group.grace);
        for group in &mut groups {
            // The leader may be gone while others of its group live.
            let _ = killpg(group.pid(), Signal::SIGKILL);
            let _ = group.leader.wait();
        }
        let marks: Vec<&str> = groups.iter().map(|group| &*group.mark).collect();
        if !marks.is_empty() {
            descendants::end_marked(MARK, &marks);
        }
    }

    /// Waits until all have exited, for each as long as `limit` says.
    pub(crate) fn wait_for_all(groups: &mut [&mut Self], limit: fn(&Self) -> Duration) {
        let began = Instant::now();
        while groups.iter_mut().any(|group| began.elapsed() < limit(group) && group.status().is_none()) {
            thread::sleep(TICK);
        }
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.leader.id() as i32)
    }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        if !self.is_over {
            self.end();
        }
    }
}

/// A file for both output streams of a program. On Linux it is in memory: a full disk must not suppress the message
/// about it.
#[derive(Debug)]
pub(crate) struct Output(File);

impl Output {
    /// An empty file.
    pub(crate) fn new() -> io::Result<Self> {
        #[cfg(target_os = "linux")]
        {
            Ok(Self(rustix::fs::memfd_create("kbench-output", rustix::fs::MemfdFlags::CLOEXEC)?.into()))
        }
        #[cfg(not(target_os = "linux"))]
        {
            tempfile::tempfile().map(Self)
        }
    }

    /// Connects both streams of a program to the file.
    pub(crate) fn capture(&self, command: &mut Command) -> io::Result<()> {
        command.stdin(Stdio::null()).stdout(self.stream()?).stderr(self.stream()?);
        Ok(())
    }

    /// One stream of a program.
    pub(crate) fn stream(&self) -> io::Result<Stdio> {
        self.0.try_clone().map(Stdio::from)
    }

    /// The text that was written.
    pub(crate) fn text(&mut self) -> io::Result<String> {
        let mut bytes = Vec::new();
        self.0.rewind()?;
        self.0.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn shell(script: &str) -> ProcessGroup {
        ProcessGroup::spawn(Command::new("sh").args(["-c", script]).stdin(Stdio::null()), GRACE).unwrap()
    }

    /// A shell that ignores TERM and waits for a process that left the group; the file gets the number of that process.
    fn stubborn(file: &Path) -> ProcessGroup {
        let group = shell(&format!(
            "trap '' TERM; setsid sleep 1000 & echo $! > {0}.new; mv {0}.new {0}; while :; do wait; done",
            file.display()
        ));
        while !file.exists() {
            thread::sleep(TICK);
        }
        group
    }

    fn assert_gone(file: &Path) {
        let pid: i32 = std::fs::read_to_string(file).unwrap().trim().parse().unwrap();
        let until = Instant::now() + Duration::from_secs(60);
        // A process without a waiting parent may remain as a zombie.
        while std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z")) {
            assert!(Instant::now() < until, "process {pid} goes on");
            thread::sleep(TICK);
        }
    }

    #[test]
    fn a_program_that_exits_gives_its_status() {
        let mut group = shell("exit 3");
        let finish = group.finish(Duration::MAX, || false).unwrap();
        assert!(matches!(finish, Finish::Exited(status) if status.code() == Some(3)), "{finish:?}");
    }

    #[test]
    fn a_program_at_its_deadline_gets_term_first() {
        let mut output = Output::new().unwrap();
        let mut command = Command::new("sh");
        output
            .capture(command.args(["-c", "trap 'echo asked; exit' TERM; echo ready; while :; do sleep 0.01; done"]))
            .unwrap();
        let mut group = ProcessGroup::spawn(&mut command, Duration::from_secs(60)).unwrap();
        while output.text().unwrap().is_empty() {
            thread::sleep(TICK);
        }
        assert!(matches!(group.finish(Duration::ZERO, || false).unwrap(), Finish::TooLong));
        // Some shells also report the end of `sleep`.
        let text = output.text().unwrap();
        assert!(text.lines().any(|line| line == "asked"), "{text}");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_program_that_ignores_term_is_killed_with_all_that_it_started() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("at-deadline");
        assert!(matches!(stubborn(&file).finish(Duration::ZERO, || false).unwrap(), Finish::TooLong));
        assert_gone(&file);
        let file = folder.path().join("unwanted");
        assert!(matches!(stubborn(&file).finish(Duration::MAX, || true).unwrap(), Finish::Interrupted));
        assert_gone(&file);
        let file = folder.path().join("dropped");
        drop(stubborn(&file));
        assert_gone(&file);
    }
}
