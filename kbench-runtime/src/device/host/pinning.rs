//! Core pinning: an idle core for single-threaded kernels, and whether other programs disturbed it.
//!
//! A thread is pinned during a sample only. Threads inherit the mask of the thread that starts them, so that a team of
//! threads would share one core: a kernel is observed in its untimed launches first, and a kernel with several threads
//! is never pinned. Only allowed cores of this process are chosen.
//!
//! On systems other than Linux nothing is pinned and nothing is observed.

use std::cell::Cell;
use std::time::{Duration, Instant};

#[cfg(target_os = "linux")]
use super::threads;
use super::threads::Used;
use crate::device::DisturbanceCheck;
#[cfg(target_os = "linux")]
use crate::protocol::Disturbance;

/// Time between two checks of the machine. The system counts time in steps of 10 ms.
const WINDOW: Duration = Duration::from_millis(200);

/// Share of the time whose loss to the hypervisor counts as a disturbance.
#[cfg(target_os = "linux")]
const STOLEN: f64 = 0.02;

/// Share of a launch's time, and nanoseconds, that other threads must use to count.
const OTHERS: f64 = 0.1;
const OTHERS_AT_LEAST: u64 = 2000;

/// Number of launches with other threads from which on a kernel is never treated as single-threaded.
const CERTAIN: u32 = 3;

/// Observations on the launches of one kernel.
#[derive(Debug, Default)]
pub(super) struct Launches {
    seen: Cell<u32>,
    /// Whether other threads worked in the last launch.
    several: Cell<bool>,
    with_others: Cell<u32>,
}

impl Launches {
    /// Adds the usage of launches.
    pub fn note(&self, used: &Used) {
        let several =
            used.started_threads || used.others > OTHERS_AT_LEAST && used.others as f64 > OTHERS * used.own as f64;
        self.seen.set(self.seen.get() + 1);
        self.several.set(several);
        self.with_others.set(self.with_others.get() + u32::from(several));
    }

    /// Whether the kernel uses one thread. Others may work during a launch by chance, but not in several.
    fn is_alone(&self) -> bool {
        self.seen.get() > 0 && !self.several.get() && self.with_others.get() < CERTAIN
    }
}

#[cfg(target_os = "linux")]
mod stat {
    use std::collections::BTreeMap;

    /// Times of a core since the machine started, in hundredths of a second.
    #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
    pub struct Core {
        pub busy: u64,
        pub stolen: u64,
    }

    /// Number of threads of the whole system that run or are ready.
    pub fn running() -> Option<u32> {
        parse_running(&std::fs::read_to_string("/proc/stat").ok()?)
    }

    pub fn parse_running(stat: &str) -> Option<u32> {
        stat.lines().find_map(|line| line.strip_prefix("procs_running "))?.trim().parse().ok()
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
        // The first line is the sum of all cores; its name has no number.
        stat.lines().filter(|line| !line.starts_with("cpu ")).filter_map(core).collect()
    }
}

/// The machine around the samples.
#[derive(Debug)]
pub(super) struct CorePinning {
    since: Instant,
    #[cfg(target_os = "linux")]
    cores: std::collections::BTreeMap<u32, stat::Core>,
    /// Allowed cores of this thread; none if they cannot be read.
    #[cfg(target_os = "linux")]
    allowed: Option<nix::sched::CpuSet>,
    core: Cell<Option<u32>>,
    /// Number of other threads that ran or were ready at each check.
    #[cfg(target_os = "linux")]
    others: Vec<u32>,
}

#[cfg(not(target_os = "linux"))]
impl CorePinning {
    pub fn new() -> Self {
        Self { since: Instant::now(), core: Cell::new(None) }
    }

    pub fn choose(&self, _launches: &Launches) -> Option<u32> {
        None
    }

    pub fn core(&self, launches: &Launches) -> Option<u32> {
        self.core.get().filter(|_| launches.is_alone())
    }

    pub fn in_use(&mut self) -> Option<String> {
        None
    }

    pub fn is_in_use(&self) -> bool {
        false
    }

    pub fn check_disturbance(&mut self, now: bool) -> DisturbanceCheck {
        if !now && self.since.elapsed() < WINDOW {
            return DisturbanceCheck::NotDue;
        }
        self.since = Instant::now();
        DisturbanceCheck::Undisturbed
    }
}

#[cfg(target_os = "linux")]
impl CorePinning {
    pub fn new() -> Self {
        Self {
            since: Instant::now(),
            cores: stat::cores(),
            allowed: threads::allowed(threads::SELF),
            core: Cell::new(None),
            others: Vec::new(),
        }
    }

    /// Core for a sample, if the kernel uses one thread.
    pub fn choose(&self, launches: &Launches) -> Option<u32> {
        let allowed = self.allowed.filter(|_| launches.is_alone())?;
        if self.core.get().is_none() {
            self.core.set(self.least_busy(&allowed));
        }
        self.core.get()
    }

    /// The core with the fewest busy ticks since the last check; among equals the core of this thread, whose caches it
    /// has.
    fn least_busy(&self, allowed: &nix::sched::CpuSet) -> Option<u32> {
        let current = threads::current();
        let busy = |core: u32, now: stat::Core| {
            now.busy.saturating_sub(self.cores.get(&core).map_or(now.busy, |before| before.busy))
        };
        stat::cores()
            .into_iter()
            .filter(|(core, _)| allowed.is_set(*core as usize).unwrap_or(false))
            .map(|(core, now)| (busy(core, now), Some(core) != current, core))
            .min()
            .map(|(.., core)| core)
            .or(current)
    }

    /// Core of the kernel's samples.
    pub fn core(&self, launches: &Launches) -> Option<u32> {
        self.core.get().filter(|_| launches.is_alone())
    }

    /// Whether the number of other threads, at the checks since the last call, shows that some must have used the core
    /// of the samples.
    pub fn in_use(&mut self) -> Option<String> {
        let others = std::mem::take(&mut self.others);
        in_use(&others, self.cores.len())
    }

    /// Whether the number of other threads that are ready now is at least half the number of cores, so that one of them may run on a core
    /// that shares caches with the core of the samples: two hardware threads share the caches of one core.
    pub fn is_in_use(&self) -> bool {
        stat::running().is_some_and(|running| 2 * running.saturating_sub(1) as usize >= self.cores.len())
    }

    pub fn check_disturbance(&mut self, now: bool) -> DisturbanceCheck {
        let elapsed = self.since.elapsed();
        if !now && elapsed < WINDOW {
            return DisturbanceCheck::NotDue;
        }
        self.since = Instant::now();
        self.others.extend(stat::running().map(|running| running.saturating_sub(1)));
        let before = std::mem::replace(&mut self.cores, stat::cores());
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
        // Ticks of 10 ms. A single tick may have been collected over a long time.
        let lost = of.iter().map(stolen).sum::<u64>();
        let share = lost as f64 * 0.01 / (elapsed.as_secs_f64().max(0.01) * of.len().max(1) as f64);
        if lost > 1 && share > STOLEN {
            DisturbanceCheck::Disturbed(Disturbance::Steal)
        } else {
            DisturbanceCheck::Undisturbed
        }
    }
}

/// Description of the number of ready threads at each check, if their mean is at least the number of cores.
#[cfg(target_os = "linux")]
fn in_use(others: &[u32], cores: usize) -> Option<String> {
    let mean = f64::from(others.iter().sum::<u32>()) / others.len().max(1) as f64;
    (cores > 0 && mean >= cores as f64 - 0.5).then(|| format!("{mean:.1} other threads on {cores} cores"))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_in_use_where_others_want_every_core() {
        assert_eq!(stat::parse_running("cpu 1\nprocs_running 5\nprocs_blocked 0\n"), Some(5));
        assert!(stat::running().is_some_and(|running| running > 0));
        assert_eq!(in_use(&[1, 0, 1], 2), None, "there is a core for both");
        assert_eq!(in_use(&[], 2), None);
        assert_eq!(in_use(&[4, 4, 3], 2).as_deref(), Some("3.7 other threads on 2 cores"));
    }

    #[test]
    fn proc_stat_is_read_by_core() {
        let stat = "cpu  9 9 9 9 9 9 9 9 0 0\ncpu0 1 2 3 100 50 4 5 6 0 0\ncpu11 1 0 0 7 0 0 0 0\nintr 5 cpu\n";
        let cores = stat::parse(stat);
        assert_eq!(cores.keys().copied().collect::<Vec<_>>(), [0, 11]);
        assert_eq!(cores[&0], stat::Core { busy: 21, stolen: 6 });
        assert!(!stat::cores().is_empty());
    }

    #[test]
    fn a_kernel_of_one_thread_is_given_a_core_and_one_of_several_is_not() {
        let allowed = threads::allowed(threads::SELF).unwrap();
        let pinning = CorePinning::new();
        let launches = Launches::default();
        assert_eq!(pinning.choose(&launches), None, "never seen");
        let alone = Used { own: 100_000, others: 1000, ..Used::default() };
        launches.note(&alone);
        let core = pinning.choose(&launches).unwrap();
        assert!(allowed.is_set(core as usize).unwrap(), "only what this process may use");
        assert_eq!(pinning.core(&launches), Some(core));
        for several in [Used { others: 50_000, ..alone }, Used { started_threads: true, ..alone }] {
            launches.note(&several);
            assert_eq!(pinning.choose(&launches), None);
            launches.note(&alone);
            assert_eq!(pinning.choose(&launches), Some(core), "once may be chance");
        }
        launches.note(&Used { others: 50_000, ..alone });
        launches.note(&alone);
        assert_eq!((pinning.choose(&launches), pinning.core(&launches)), (None, None), "seen too often for chance");
    }

    #[test]
    fn the_machine_is_examined_at_intervals_or_on_request() {
        let mut pinning = CorePinning::new();
        pinning.since = Instant::now() + Duration::from_secs(3600);
        assert_eq!(pinning.check_disturbance(false), DisturbanceCheck::NotDue);
        assert_ne!(pinning.check_disturbance(true), DisturbanceCheck::NotDue);
    }
}
