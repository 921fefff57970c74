//! Compilation ahead of the device: pending and likely variants, on every core that measurements leave idle.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use kbench_runtime::driver::threads;

pub use self::ahead::Ahead;
use self::queue::Queue;
use super::MATTERS;
use crate::config::{Backend, Kernel, Objective};
use crate::evaluate::BuildOutcome;
use crate::harness::RunError;
use crate::interrupt::is_interrupted;
use crate::process::executor::ExecutorError;
use crate::space::Variant;

mod ahead;
mod queue;

/// Use of the compilers during measurements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meanwhile {
    /// Compilers run on all cores but the one that drives the device.
    Compile,
    /// Compilers rest: these cores are the device.
    Rest,
}

/// Time of the compilers by activity.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct CompileTimes {
    /// Number of compiling threads.
    pub threads: usize,
    /// Time in which the device waited for a compiler.
    pub waited: Duration,
    /// Time of compilations during these waits, summed over all threads.
    pub busy_while_waited: Duration,
}

/// Number of variants that each core may compile between two updates of the likely variants.
pub(super) const LIKELY: usize = 4;

/// Niceness of compilers.
const NICE: i32 = 10;

/// A build, or the panic that ended it.
type Done = thread::Result<Result<BuildOutcome, RunError>>;

struct State {
    queue: Queue,
    /// Serial number of each variant that is wanted and was not taken, and those of them that are built, by that number.
    serials: HashMap<Variant, u64>,
    ready: BTreeMap<u64, Variant>,
    next_serial: u64,
    built: HashMap<Variant, Done>,
    /// The only variant that is still wanted, since the time is up.
    only: Option<Variant>,
    /// Whether the search waits for a build.
    awaited: bool,
    closed: bool,
    times: CompileTimes,
    last: Instant,
}

impl State {
    /// Adds the time since the last change.
    fn tick(&mut self) {
        let now = Instant::now();
        let passed = now - self.last;
        let worked = passed * self.queue.building() as u32;
        if self.awaited {
            self.times.waited += passed;
            self.times.busy_while_waited += worked;
        }
        self.last = now;
    }

    /// The numbers of finished and of wanted builds.
    fn progress(&self) -> (u64, u64) {
        let built = self.built.len();
        (built as u64, (built + self.queue.building() + self.queue.wanted()) as u64)
    }

    fn knows(&self, variant: &Variant) -> bool {
        self.serials.contains_key(variant) || self.queue.is_building(variant) || self.built.contains_key(variant)
    }

    /// Marks a variant as wanted, and queues its build unless it runs or has ended.
    fn want(&mut self, variant: &Variant) {
        if self.serials.contains_key(variant) {
            return;
        }
        self.serials.insert(variant.clone(), self.next_serial);
        if self.built.contains_key(variant) {
            self.ready.insert(self.next_serial, variant.clone());
        } else if !self.queue.is_building(variant) {
            self.queue.want(variant.clone());
        }
        self.next_serial += 1;
    }

    /// Records the end of a build.
    fn keep(&mut self, variant: Variant, done: Done) {
        if let Some(serial) = self.serials.get(&variant) {
            self.ready.insert(*serial, variant.clone());
        }
        self.built.insert(variant, done);
    }

    /// The build of a variant, if it has ended; the variant is then no longer wanted.
    fn take(&mut self, variant: &Variant) -> Option<Done> {
        let done = self.built.remove(variant)?;
        if let Some(serial) = self.serials.remove(variant) {
            self.ready.remove(&serial);
        }
        Some(done)
    }
}

/// Builds variants on many threads.
pub type Build<'a> = dyn Fn(&Variant) -> Result<BuildOutcome, RunError> + Sync + 'a;

/// Number of running compilers.
pub struct Pipeline<'a> {
    build: &'a Build<'a>,
    meanwhile: Meanwhile,
    ended: &'a AtomicBool,
    state: Mutex<State>,
    /// Notified when there may be a build to start.
    to_build: Condvar,
    /// Notified when a build has ended.
    built: Condvar,
    /// Called when a build has ended.
    listener: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

/// Runs `work` beside compilers, one for each core; returns the time of the compilers too. `took` is their earlier time
/// for this search. `ended` becomes true once the work has ended; compilations that still run are then unwanted.
pub fn run<R>(
    build: &Build<'_>,
    meanwhile: Meanwhile,
    took: Duration,
    ended: &AtomicBool,
    work: impl FnOnce(&Pipeline<'_>) -> R,
) -> io::Result<(R, CompileTimes)> {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let state = State {
        queue: Queue::new(took.as_secs_f64() > MATTERS),
        serials: HashMap::new(),
        ready: BTreeMap::new(),
        next_serial: 0,
        built: HashMap::new(),
        only: None,
        awaited: false,
        closed: false,
        times: CompileTimes { threads: cores, ..CompileTimes::default() },
        last: Instant::now(),
    };
    let (state, to_build, built, listener) = (Mutex::new(state), Condvar::new(), Condvar::new(), OnceLock::new());
    let pipeline = Pipeline { build, meanwhile, ended, state, to_build, built, listener };
    let result = thread::scope(|scope| {
        let _closing = Closing(&pipeline);
        for _ in 0..cores {
            threads::spawn_scoped(scope, || pipeline.serve())?;
        }
        io::Result::Ok(work(&pipeline))
    })?;
    let times = pipeline.lock().times;
    Ok((result, times))
}

/// The time of a build since `started`, none if no compiler ran, and that of its compilation, which may be a cached one.
fn times(done: &Done, started: Instant) -> (Duration, Duration) {
    let outcome = done.as_ref().ok().and_then(|done| done.as_ref().ok());
    // A cached build that takes long waits for a core: many workers may use them all.
    let elapsed = if outcome.is_some_and(BuildOutcome::is_cached) { Duration::ZERO } else { started.elapsed() };
    (elapsed, outcome.and_then(BuildOutcome::compile_time).unwrap_or(elapsed))
}

/// Use of the compilers while a kernel is measured.
pub fn meanwhile(kernel: &Kernel) -> Meanwhile {
    let is_application = |objective: &Objective| matches!(objective, Objective::Application(_));
    let uses_cores = kernel.implementation.backend == Backend::C || kernel.objectives.iter().any(is_application);
    if uses_cores { Meanwhile::Rest } else { Meanwhile::Compile }
}

/// Niceness of this thread and its compilers: the device waits for the worker, which has priority.
fn stand_back() {
    let _ = rustix::process::setpriority_process(None, NICE);
}

/// Ends the compilers, also after a panic of the work.
struct Closing<'p, 'a>(&'p Pipeline<'a>);

impl Drop for Closing<'_, '_> {
    fn drop(&mut self) {
        self.0.ended.store(true, Ordering::Relaxed);
        self.0.lock().closed = true;
        self.0.to_build.notify_all();
    }
}

impl Pipeline<'_> {
    /// Use of the compilers during measurements.
    pub fn meanwhile(&self) -> Meanwhile {
        self.meanwhile
    }

    /// Number of compiling threads.
    pub fn threads(&self) -> usize {
        self.lock().times.threads
    }

    /// Marks the builds of these variants as wanted.
    pub fn want(&self, variants: &[Variant]) {
        let mut state = self.lock();
        for variant in variants {
            state.want(variant);
        }
        drop(state);
        self.to_build.notify_all();
    }

    /// Sets the variants for idle cores, likeliest first, in place of the previous ones.
    pub fn speculate(&self, variants: impl IntoIterator<Item = Variant>) {
        if self.meanwhile == Meanwhile::Rest {
            return;
        }
        let mut state = self.lock();
        let likely: Vec<Variant> = variants.into_iter().filter(|variant| !state.knows(variant)).collect();
        state.queue.speculate(likely);
        drop(state);
        self.to_build.notify_all();
    }

    /// The build of a wanted variant, once it has ended; `None` at the deadline. `progress` gets the numbers of
    /// finished and of wanted builds.
    pub fn take(
        &self,
        variant: &Variant,
        deadline: Option<Instant>,
        mut progress: impl FnMut(u64, u64),
    ) -> Option<Result<BuildOutcome, RunError>> {
        let mut state = self.lock();
        state.tick();
        state.awaited = true;
        self.to_build.notify_all();
        let done = loop {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                break None;
            }
            if self.may_measure(&state)
                && let Some(done) = state.take(variant)
            {
                break Some(done);
            }
            let (built, wanted) = state.progress();
            progress(built, wanted);
            state = match left {
                Some(left) => self.built.wait_timeout(state, left).expect(NO_PANIC).0,
                None => self.built.wait(state).expect(NO_PANIC),
            };
        };
        state.tick();
        state.awaited = false;
        drop(state);
        Some(done?.unwrap_or_else(|panic| resume_unwind(panic)))
    }

    /// No other variant is wanted any more: once this one is built, the compilers of all others are ended.
    pub fn want_only(&self, variant: &Variant) {
        let mut state = self.lock();
        state.only = Some(variant.clone());
        self.end_others(&state);
    }

    fn end_others(&self, state: &State) {
        let is_built = state.only.as_ref().is_some_and(|only| state.built.contains_key(only));
        self.ended.fetch_or(is_built, Ordering::Relaxed);
    }

    /// Whether the build of a variant has ended.
    pub fn is_built(&self, variant: &Variant) -> bool {
        self.lock().built.contains_key(variant)
    }

    /// Sets a function that is called when a build has ended.
    pub fn listen(&self, listener: impl Fn() + Send + Sync + 'static) {
        let _ = self.listener.set(Box::new(listener));
    }

    /// The first wanted variant that is built, with its build; does not wait.
    pub fn take_first(&self) -> Option<(Variant, Result<BuildOutcome, RunError>)> {
        let mut state = self.lock();
        if !self.may_measure(&state) {
            return None;
        }
        let is_wanted = |ready: &&Variant| state.only.as_ref().is_none_or(|only| only == *ready);
        let first = state.ready.values().find(is_wanted)?.clone();
        let done = state.take(&first).expect("it is built");
        drop(state);
        Some((first, done.unwrap_or_else(|panic| resume_unwind(panic))))
    }

    /// Sets whether a worker waits for a wanted build, if there is one; then all cores compile. Returns the numbers of finished and of wanted
    /// builds if so.
    pub fn is_awaited(&self, waits: bool) -> Option<(u64, u64)> {
        let mut state = self.lock();
        state.tick();
        let awaited = waits && !state.serials.is_empty();
        let began = awaited && !state.awaited;
        state.awaited = awaited;
        let progress = state.progress();
        drop(state);
        if began {
            self.to_build.notify_all();
        }
        awaited.then_some(progress)
    }

    /// Whether all wanted variants were taken.
    pub fn is_done(&self) -> bool {
        self.lock().serials.is_empty()
    }

    /// If the cores have to be idle during measurements, all wanted variants are built first.
    fn may_measure(&self, state: &State) -> bool {
        self.meanwhile == Meanwhile::Compile || state.queue.building() == 0 && state.queue.wanted() == 0
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect(NO_PANIC)
    }

    /// Largest number of compilers at this moment.
    fn limit(&self, state: &State) -> usize {
        let threads = state.times.threads;
        match self.meanwhile {
            _ if state.awaited => threads,
            Meanwhile::Compile => (threads - 1).max(1),
            Meanwhile::Rest => 0,
        }
    }

    fn serve(&self) {
        if self.meanwhile == Meanwhile::Compile {
            stand_back();
        }
        let mut state = self.lock();
        while !state.closed {
            let (building, limit) = (state.queue.building(), self.limit(&state));
            // Speculative builds leave room for wanted ones, since a running compiler is not ended for them.
            let speculates = building < limit - (limit / 8).max((limit > 3).into()) && state.queue.compiles;
            state.tick();
            let next = if building < limit { state.queue.next(limit, speculates) } else { None };
            let Some(variant) = next else {
                state = self.to_build.wait(state).expect(NO_PANIC);
                continue;
            };
            drop(state);
            let started = Instant::now();
            let done = catch_unwind(AssertUnwindSafe(|| self.build(&variant)));
            state = self.lock();
            state.tick();
            let (elapsed, took) = times(&done, started);
            let compiled = state.queue.compiles;
            state.queue.ended(&variant, elapsed, took);
            if state.queue.compiles && !compiled {
                // From now on likely variants are built too.
                self.to_build.notify_all();
            }
            state.keep(variant, done);
            self.end_others(&state);
            drop(state);
            self.built.notify_all();
            if let Some(listener) = self.listener.get() {
                listener();
            }
            state = self.lock();
        }
    }

    fn build(&self, variant: &Variant) -> Result<BuildOutcome, RunError> {
        let outcome = (!is_interrupted()).then(|| (self.build)(variant));
        // A compiler that died of Ctrl-C is not a verdict on the variant.
        outcome.filter(|_| !is_interrupted()).unwrap_or_else(|| Err(ExecutorError::Interrupted.into()))
    }
}

const NO_PANIC: &str = "no panic while the state is held";

#[cfg(test)]
mod tests;
