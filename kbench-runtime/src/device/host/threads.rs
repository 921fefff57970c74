//! Threads: processor time of the threads of this process, number of times that they lost a core, and allowed cores of
//! a thread.
//!
//! On systems other than Linux nothing is measured and nothing is pinned.

use serde::{Deserialize, Serialize};

/// Usage of launches.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Used {
    /// Processor time of the thread that called the kernel, in nanoseconds.
    pub own: u64,
    /// Processor time of the other threads.
    pub others: u64,
    /// Whether there are more threads than before.
    pub started_threads: bool,
    /// Number of times that the system took the core from a thread.
    pub preemptions: u32,
    /// Number of times that a thread gave up its core.
    pub waits: u32,
}

/// Usage of launches while `launch` ran. Threads are counted if that takes only some microseconds.
pub(super) fn used<R>(count_threads: bool, launch: impl FnOnce() -> R) -> (R, Used) {
    let threads = || if count_threads { tasks() } else { None };
    let (tasks, switches) = (threads(), switches());
    // The process is read inside the readings of the thread: otherwise the reading itself would look like another
    // thread's work.
    let thread = thread_time();
    let process = process_time();
    let result = launch();
    let process = process_time().saturating_sub(process);
    let own = thread_time().saturating_sub(thread);
    let now = self::switches();
    let used = Used {
        own,
        others: process.saturating_sub(own),
        started_threads: tasks.is_some() && threads() > tasks,
        preemptions: now.0.saturating_sub(switches.0),
        waits: now.1.saturating_sub(switches.1),
    };
    (result, used)
}

/// The first thread of a process on one core.
#[derive(Debug)]
pub(super) struct Pinned {
    /// The core.
    pub core: u32,
    /// Number of threads of the process.
    pub threads: usize,
    /// The cores that the thread may use otherwise.
    #[cfg(target_os = "linux")]
    before: Option<nix::sched::CpuSet>,
}

#[cfg(target_os = "linux")]
impl Pinned {
    pub fn to(core: u32, process: nix::unistd::Pid, threads: usize) -> Self {
        let before = allowed(process).filter(|_| only(core).is_some_and(|only| confine(process, &only)));
        Self { core, threads, before }
    }

    /// Ends the pinning, now that the process has `threads` threads.
    pub fn free(self, process: nix::unistd::Pid, threads: usize) {
        let Some(before) = &self.before else { return };
        confine(process, before);
        if threads > self.threads {
            // A kernel that uses threads only sometimes: new threads share the core.
            free_all(process, before);
        }
    }
}

#[cfg(not(target_os = "linux"))]
impl Pinned {
    pub fn to(core: u32, _process: nix::unistd::Pid, threads: usize) -> Self {
        Self { core, threads }
    }

    pub fn free(self, _process: nix::unistd::Pid, _threads: usize) {}
}

#[cfg(target_os = "linux")]
pub(super) use linux::*;

#[cfg(target_os = "linux")]
mod linux {
    use nix::libc;
    use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
    use nix::sys::resource::{UsageWho, getrusage};
    use nix::time::{ClockId, clock_gettime};
    use nix::unistd::Pid;

    /// The calling thread.
    pub const SELF: Pid = Pid::from_raw(0);

    pub fn thread_time() -> u64 {
        nanoseconds(ClockId::CLOCK_THREAD_CPUTIME_ID)
    }

    pub fn process_time() -> u64 {
        nanoseconds(ClockId::CLOCK_PROCESS_CPUTIME_ID)
    }

    fn nanoseconds(clock: ClockId) -> u64 {
        clock_gettime(clock).map_or(0, |time| time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64)
    }

    /// Involuntary and voluntary context switches of all threads so far.
    pub fn switches() -> (u32, u32) {
        let count = |count| u32::try_from(count).unwrap_or(u32::MAX);
        let counts = |usage: nix::sys::resource::Usage| {
            (count(usage.involuntary_context_switches()), count(usage.voluntary_context_switches()))
        };
        getrusage(UsageWho::RUSAGE_SELF).map_or((0, 0), counts)
    }

    pub fn tasks() -> Option<usize> {
        Some(std::fs::read_dir("/proc/self/task").ok()?.count())
    }

    /// The cores that a thread may use.
    pub fn allowed(thread: Pid) -> Option<CpuSet> {
        sched_getaffinity(thread).ok()
    }

    pub fn confine(thread: Pid, cores: &CpuSet) -> bool {
        sched_setaffinity(thread, cores).is_ok()
    }

    /// Gives every thread of a process these cores.
    pub fn free_all(process: Pid, cores: &CpuSet) {
        let tasks = std::fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
        for task in tasks.filter_map(|task| task.file_name().to_str()?.parse().ok()) {
            // A thread that has ended needs nothing.
            let _ = sched_setaffinity(Pid::from_raw(task), cores);
        }
    }

    pub fn only(core: u32) -> Option<CpuSet> {
        let mut cores = CpuSet::new();
        cores.set(core as usize).ok()?;
        Some(cores)
    }

    /// The core this thread runs on.
    pub fn current() -> Option<u32> {
        // SAFETY: no preconditions.
        u32::try_from(unsafe { libc::sched_getcpu() }).ok()
    }
}

#[cfg(not(target_os = "linux"))]
fn thread_time() -> u64 {
    0
}

#[cfg(not(target_os = "linux"))]
pub(super) fn process_time() -> u64 {
    0
}

#[cfg(not(target_os = "linux"))]
fn switches() -> (u32, u32) {
    (0, 0)
}

#[cfg(not(target_os = "linux"))]
fn tasks() -> Option<usize> {
    None
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    fn work() -> u64 {
        std::hint::black_box((0..3_000_000u64).fold(0, |sum, i| sum ^ i.wrapping_mul(i)))
    }

    #[test]
    fn a_thread_is_pinned_no_longer_than_asked_and_what_it_starts_is_freed() {
        let before = allowed(SELF).unwrap();
        let core = current().unwrap();
        let pinned = Pinned::to(core, nix::unistd::gettid(), 1);
        let cores = |set: nix::sched::CpuSet| (0..CORES).filter(|core| set.is_set(*core).unwrap()).collect::<Vec<_>>();
        assert_eq!(cores(allowed(SELF).unwrap()), [core as usize]);
        let (tell, end) = std::sync::mpsc::channel::<()>();
        let (say, said) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            end.recv().unwrap();
            say.send(allowed(SELF).unwrap()).unwrap();
        });
        pinned.free(nix::unistd::gettid(), 2);
        assert_eq!(allowed(SELF).unwrap(), before);
        tell.send(()).unwrap();
        assert_eq!(said.recv().unwrap(), before);
        thread.join().unwrap();
    }

    const CORES: usize = nix::sched::CpuSet::count();

    #[test]
    fn processor_time_of_other_threads_is_separate() {
        let (_, used) = used(true, || std::thread::spawn(work).join().unwrap());
        assert!(used.others > used.own, "{used:?}");
        let (_, used) = self::used(true, work);
        // Other tests of this process run meanwhile.
        assert!(used.own > 100_000, "{used:?}");
    }
}
