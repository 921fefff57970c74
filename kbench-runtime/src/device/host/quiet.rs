//! A quiet core for kernels of one thread, and whether it was quiet.
//!
//! A thread is pinned for the length of a sample only. What a kernel starts inherits the mask of the thread that starts it, so
//! that a team of threads would share one core: a kernel is watched in its untimed launches first, and one that uses several
//! threads is never pinned. Only cores that this process may use are chosen.
//!
//! Where the system is not Linux nothing is pinned and nothing is seen.

use std::cell::Cell;
use std::time::{Duration, Instant};

use crate::device::Watch;
#[cfg(target_os = "linux")]
use crate::protocol::Disturbance;

/// How long samples are taken between two looks at the machine. The kernel counts time in steps of 10 ms.
const WINDOW: Duration = Duration::from_millis(200);

/// Share of the time whose loss to the hypervisor disturbs.
#[cfg(target_os = "linux")]
const STOLEN: f64 = 0.02;

/// Share of a launch's time that other threads must use to count, and nanoseconds.
const OTHERS: f64 = 0.1;
const OTHERS_AT_LEAST: u64 = 2000;

/// From so many launches with other threads on, a kernel is not believed to be alone again.
const CERTAIN: u32 = 3;

/// What launches of one kernel were seen to do.
#[derive(Debug, Default)]
pub(super) struct Launches {
    seen: Cell<u32>,
    /// Whether other threads worked in the last one.
    several: Cell<bool>,
    with_others: Cell<u32>,
}

/// Context switches of all threads of a process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Switches {
    /// The system took the core.
    pub preemptions: u32,
    /// The thread gave up its core.
    pub waits: u32,
}

impl Switches {
    fn since(self, earlier: Self) -> Self {
        Self {
            preemptions: self.preemptions.saturating_sub(earlier.preemptions),
            waits: self.waits.saturating_sub(earlier.waits),
        }
    }
}

/// Processor time, in nanoseconds.
struct Times {
    thread: u64,
    process: u64,
}

/// The process is read within what the thread is: else the reading itself would look like another thread's work.
impl Times {
    fn before() -> Self {
        let thread = thread_time();
        Self { thread, process: process_time() }
    }

    fn after() -> Self {
        let process = process_time();
        Self { thread: thread_time(), process }
    }
}

impl Launches {
    /// An untimed launch.
    pub fn counted<R>(&self, launch: impl FnOnce() -> R) -> R {
        let (tasks, before) = (tasks(), Times::before());
        let result = launch();
        let after = Times::after();
        self.note(&before, &after, tasks.is_some() && self::tasks() > tasks);
        result
    }

    /// A timed launch, and the context switches of this process meanwhile.
    pub fn watched<R>(&self, launch: impl FnOnce() -> R) -> (R, Switches) {
        let (before, switches) = (Times::before(), switches());
        let result = launch();
        let during = self::switches().since(switches);
        self.note(&before, &Times::after(), false);
        (result, during)
    }

    fn note(&self, before: &Times, after: &Times, started_threads: bool) {
        let own = after.thread.saturating_sub(before.thread);
        let others = after.process.saturating_sub(before.process).saturating_sub(own);
        let several = started_threads || others > OTHERS_AT_LEAST && others as f64 > OTHERS * own as f64;
        self.seen.set(self.seen.get() + 1);
        self.several.set(several);
        self.with_others.set(self.with_others.get() + u32::from(several));
    }

    /// Whether it was seen to use one thread only. Others in the process may have worked during a launch by chance, but not in
    /// several.
    fn is_alone(&self) -> bool {
        self.seen.get() > 0 && !self.several.get() && self.with_others.get() < CERTAIN
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use std::collections::BTreeMap;

    use nix::libc;
    use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
    use nix::time::{ClockId, clock_gettime};
    use nix::unistd::Pid;

    /// The calling thread.
    const SELF: Pid = Pid::from_raw(0);

    pub fn thread_time() -> u64 {
        nanoseconds(ClockId::CLOCK_THREAD_CPUTIME_ID)
    }

    pub fn process_time() -> u64 {
        nanoseconds(ClockId::CLOCK_PROCESS_CPUTIME_ID)
    }

    fn nanoseconds(clock: ClockId) -> u64 {
        clock_gettime(clock).map_or(0, |time| time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64)
    }

    /// Context switches of all threads of this process so far.
    pub fn switches() -> super::Switches {
        use nix::sys::resource::{UsageWho, getrusage};
        let count = |count| u32::try_from(count).unwrap_or(u32::MAX);
        getrusage(UsageWho::RUSAGE_SELF).map_or_else(
            |_| super::Switches::default(),
            |usage| super::Switches {
                preemptions: count(usage.involuntary_context_switches()),
                waits: count(usage.voluntary_context_switches()),
            },
        )
    }

    pub fn tasks() -> Option<usize> {
        Some(std::fs::read_dir("/proc/self/task").ok()?.count())
    }

    /// The cores that this thread may use.
    pub fn allowed() -> Option<CpuSet> {
        sched_getaffinity(SELF).ok()
    }

    pub fn confine(cores: &CpuSet) -> bool {
        sched_setaffinity(SELF, cores).is_ok()
    }

    /// Gives every thread of this process these cores.
    pub fn free_all(cores: &CpuSet) {
        let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
        for task in tasks.filter_map(|task| task.file_name().to_str()?.parse().ok()) {
            // One that has ended meanwhile needs nothing.
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

    /// What a core did since the machine started, in hundredths of a second.
    #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
    pub struct Core {
        pub busy: u64,
        pub stolen: u64,
    }

    pub fn cores() -> BTreeMap<u32, Core> {
        parse(&std::fs::read_to_string("/proc/stat").unwrap_or_default())
    }

    /// `cpu3 user nice system idle iowait irq softirq steal guest guest_nice`
    pub fn parse(stat: &str) -> BTreeMap<u32, Core> {
        let core = |line: &str| {
            let mut words = line.strip_prefix("cpu")?.split_whitespace();
            let number = words.next()?.parse().ok()?;
            let ticks: Vec<u64> = words.map(|word| word.parse().unwrap_or(0)).collect();
            let at = |index: usize| ticks.get(index).copied().unwrap_or(0);
            let busy = [0, 1, 2, 5, 6, 7].map(at).iter().sum();
            Some((number, Core { busy, stolen: at(7) }))
        };
        // The first line is the sum of all, whose name has no number.
        stat.lines().filter(|line| !line.starts_with("cpu ")).filter_map(core).collect()
    }
}

#[cfg(target_os = "linux")]
pub(super) use linux::process_time;
#[cfg(target_os = "linux")]
use linux::{switches, tasks, thread_time};

#[cfg(not(target_os = "linux"))]
fn thread_time() -> u64 {
    0
}

#[cfg(not(target_os = "linux"))]
pub(super) fn process_time() -> u64 {
    0
}

#[cfg(not(target_os = "linux"))]
fn switches() -> Switches {
    Switches::default()
}

#[cfg(not(target_os = "linux"))]
fn tasks() -> Option<usize> {
    None
}

/// The machine around the samples.
#[derive(Debug)]
pub(super) struct Quiet {
    since: Instant,
    #[cfg(target_os = "linux")]
    cores: std::collections::BTreeMap<u32, linux::Core>,
    /// What this thread may use; none where that cannot be asked.
    #[cfg(target_os = "linux")]
    allowed: Option<nix::sched::CpuSet>,
    core: Cell<Option<u32>>,
    /// Threads of this process when it was last known that none of them was started from a pinned one.
    tasks: Option<usize>,
}

/// A thread pinned to one core until this is dropped.
pub(super) struct Pinned {
    #[cfg(target_os = "linux")]
    before: Option<nix::sched::CpuSet>,
}

impl Drop for Pinned {
    fn drop(&mut self) {
        #[cfg(target_os = "linux")]
        if let Some(before) = &self.before {
            linux::confine(before);
        }
    }
}

#[cfg(not(target_os = "linux"))]
impl Quiet {
    pub fn new() -> Self {
        Self { since: Instant::now(), core: Cell::new(None), tasks: None }
    }

    pub fn pin(&self, _launches: &Launches) -> Pinned {
        Pinned {}
    }

    pub fn core(&self, launches: &Launches) -> Option<u32> {
        self.core.get().filter(|_| launches.is_alone())
    }

    pub fn watch(&mut self, now: bool) -> Watch {
        if !now && self.since.elapsed() < WINDOW {
            return Watch::Later;
        }
        (self.since, self.tasks) = (Instant::now(), tasks());
        Watch::Calm
    }
}

#[cfg(target_os = "linux")]
impl Quiet {
    pub fn new() -> Self {
        Self {
            since: Instant::now(),
            cores: linux::cores(),
            allowed: linux::allowed(),
            core: Cell::new(None),
            tasks: tasks(),
        }
    }

    /// Pins this thread, if the kernel uses no other.
    pub fn pin(&self, launches: &Launches) -> Pinned {
        let not = Pinned { before: None };
        let Some(allowed) = self.allowed.filter(|_| launches.is_alone()) else { return not };
        if self.core.get().is_none() {
            self.core.set(self.least_busy(&allowed));
        }
        match self.core.get().and_then(linux::only) {
            Some(only) if linux::confine(&only) => Pinned { before: Some(allowed) },
            _ => not,
        }
    }

    /// The core of the fewest busy ticks since the last look; of equals the one that this thread runs on, whose caches it has.
    fn least_busy(&self, allowed: &nix::sched::CpuSet) -> Option<u32> {
        let current = linux::current();
        let busy = |core: u32, now: linux::Core| {
            now.busy.saturating_sub(self.cores.get(&core).map_or(now.busy, |before| before.busy))
        };
        linux::cores()
            .into_iter()
            .filter(|(core, _)| allowed.is_set(*core as usize).unwrap_or(false))
            .map(|(core, now)| (busy(core, now), Some(core) != current, core))
            .min()
            .map(|(.., core)| core)
            .or(current)
    }

    /// Where samples of the kernel are pinned to.
    pub fn core(&self, launches: &Launches) -> Option<u32> {
        self.core.get().filter(|_| launches.is_alone())
    }

    pub fn watch(&mut self, now: bool) -> Watch {
        let elapsed = self.since.elapsed();
        if !now && elapsed < WINDOW {
            return Watch::Later;
        }
        self.since = Instant::now();
        let threads = tasks();
        if let Some(allowed) = &self.allowed
            && self.core.get().is_some()
            && threads > self.tasks
        {
            // Started while pinned, perhaps: a kernel that uses threads only now and then.
            linux::free_all(allowed);
        }
        self.tasks = threads;
        let before = std::mem::replace(&mut self.cores, linux::cores());
        let stolen = |core: &u32| {
            let then = before.get(core).map_or(u64::MAX, |then| then.stolen);
            self.cores.get(core).map_or(0, |now| now.stolen.saturating_sub(then))
        };
        let of: Vec<u32> = match (self.core.get(), &self.allowed) {
            (Some(core), _) => vec![core],
            (None, Some(allowed)) => {
                self.cores.keys().copied().filter(|core| allowed.is_set(*core as usize).unwrap_or(false)).collect()
            }
            (None, None) => Vec::new(),
        };
        // Ticks of 10 ms. A single one may have been collected over a long time.
        let lost = of.iter().map(stolen).sum::<u64>();
        let share = lost as f64 * 0.01 / (elapsed.as_secs_f64().max(0.01) * of.len().max(1) as f64);
        if lost > 1 && share > STOLEN { Watch::Disturbed(Disturbance::Steal) } else { Watch::Calm }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn proc_stat_is_read_by_core() {
        let stat = "cpu  9 9 9 9 9 9 9 9 0 0\ncpu0 1 2 3 100 50 4 5 6 0 0\ncpu11 1 0 0 7 0 0 0 0\nintr 5 cpu\n";
        let cores = linux::parse(stat);
        assert_eq!(cores.keys().copied().collect::<Vec<_>>(), [0, 11]);
        assert_eq!(cores[&0], linux::Core { busy: 21, stolen: 6 });
        assert!(!linux::cores().is_empty());
    }

    #[test]
    fn a_kernel_of_one_thread_is_pinned_for_a_sample_and_no_longer() {
        let before = linux::allowed().unwrap();
        let quiet = Quiet::new();
        let launches = Launches::default();
        assert!(!launches.is_alone(), "never seen");
        launches.counted(|| std::hint::black_box((0..100_000u64).sum::<u64>()));
        // Other tests of this process run meanwhile.
        launches.several.set(false);
        launches.with_others.set(0);
        let pinned = quiet.pin(&launches);
        let core = quiet.core(&launches).unwrap();
        let during = linux::allowed().unwrap();
        assert!(before.is_set(core as usize).unwrap(), "only what this process may use");
        assert_eq!((0..CpuCount::COUNT).filter(|core| during.is_set(*core).unwrap()).count(), 1);
        drop(pinned);
        assert_eq!(linux::allowed().unwrap(), before);
    }

    struct CpuCount;
    impl CpuCount {
        const COUNT: usize = nix::sched::CpuSet::count();
    }

    #[test]
    fn a_kernel_that_starts_threads_is_not_pinned() {
        let quiet = Quiet::new();
        let launches = Launches::default();
        for _ in 0..CERTAIN {
            launches.counted(|| {
                let work = || std::hint::black_box((0..3_000_000u64).fold(0, |sum, i| sum ^ i.wrapping_mul(i)));
                std::thread::spawn(work).join().unwrap()
            });
            assert!(!launches.is_alone());
        }
        launches.several.set(false);
        assert!(!launches.is_alone(), "seen too often for chance");
        let before = linux::allowed().unwrap();
        let _pinned = quiet.pin(&launches);
        assert_eq!((linux::allowed().unwrap(), quiet.core(&launches)), (before, None));
    }

    #[test]
    fn looks_at_the_machine_are_seldom_unless_asked_for() {
        let mut quiet = Quiet::new();
        quiet.since = Instant::now() + Duration::from_secs(3600);
        assert_eq!(quiet.watch(false), Watch::Later);
        assert_ne!(quiet.watch(true), Watch::Later);
    }
}
