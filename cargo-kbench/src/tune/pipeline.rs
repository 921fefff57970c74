//! Compilation ahead of the device: pending and likely variants, on every core that measurements leave idle.
//!
//! Longer than 400 lines: the builds, their state under one lock, and all that changes it.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock};
use std::thread::{self, Scope};
use std::time::{Duration, Instant};

use kbench_runtime::driver::threads;

use super::{MATTERS, strategy};
use crate::config::{Backend, Kernel, Objective};
use crate::evaluate::{BuildOutcome, try_build};
use crate::harness::{Builder, RunError};
use crate::interrupt::is_interrupted;
use crate::process::executor::ExecutorError;
use crate::search::Candidates;
use crate::space::Variant;

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

/// Niceness of compilers.
const NICE: i32 = 10;

/// A build, or the panic that ended it.
type Done = thread::Result<Result<BuildOutcome, RunError>>;

struct State {
    wanted: VecDeque<Variant>,
    /// Serial number of each variant that is wanted and was not taken, and those of them that are built, by that number.
    serials: HashMap<Variant, u64>,
    ready: BTreeMap<u64, Variant>,
    next_serial: u64,
    likely: VecDeque<Variant>,
    building: Vec<Variant>,
    built: HashMap<Variant, Done>,
    /// Duration of the compilation, also of a cached one.
    took: Vec<(Variant, Duration)>,
    /// Whether any build ran a compiler: with cached builds only, there is no wait.
    compiles: bool,
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
        let worked = passed * self.building.len() as u32;
        if self.awaited {
            self.times.waited += passed;
            self.times.busy_while_waited += worked;
        }
        self.last = now;
    }

    /// Index of the likely variant with the longest expected compilation, since the device waits for the variant that
    /// starts last. A running compilation may take as long as the longest one so far.
    fn longest_likely(&mut self) -> Option<Variant> {
        let longest = self.took.iter().map(|(_, took)| *took).max().unwrap_or_default();
        let expected = |variant: &Variant| {
            let shared = |other: &Variant| variant.0.iter().zip(&other.0).filter(|(one, other)| one == other).count();
            let took = self.took.iter().map(|(other, took)| (shared(other), *took));
            took.chain(self.building.iter().map(|other| (shared(other), longest))).max().map(|(_, took)| took)
        };
        // Of equal variants, the likeliest.
        let longest = (0..self.likely.len()).rev().max_by_key(|&at| expected(&self.likely[at]))?;
        self.likely.remove(longest)
    }

    fn knows(&self, variant: &Variant) -> bool {
        self.serials.contains_key(variant) || self.building.contains(variant) || self.built.contains_key(variant)
    }

    /// Marks a variant as wanted, and queues its build unless it runs or has ended.
    fn want(&mut self, variant: &Variant) {
        if self.serials.contains_key(variant) {
            return;
        }
        self.serials.insert(variant.clone(), self.next_serial);
        if self.built.contains_key(variant) {
            self.ready.insert(self.next_serial, variant.clone());
        } else if !self.building.contains(variant) {
            self.wanted.push_back(variant.clone());
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
        wanted: VecDeque::new(),
        serials: HashMap::new(),
        ready: BTreeMap::new(),
        next_serial: 0,
        likely: VecDeque::new(),
        building: Vec::new(),
        built: HashMap::new(),
        took: Vec::new(),
        compiles: took.as_secs_f64() > MATTERS,
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

/// Builds that start while the device opens, on a thread that ends with the search.
#[derive(Debug, Default)]
pub struct Ahead {
    /// The variants of the search: the space is solved once.
    candidates: OnceLock<Candidates>,
    /// Whether the search has ended, which ends running compilers too.
    pub(super) ended: AtomicBool,
}

impl Ahead {
    /// The variants of the kernel's space.
    pub fn candidates(&self, kernel: &Kernel) -> Candidates {
        self.candidates.get_or_init(|| Candidates::of_part(&kernel.space, kernel.search.partition)).clone()
    }

    /// Ends the compilations ahead.
    pub fn end(&self) {
        self.ended.store(true, Ordering::Relaxed);
    }

    /// Compiles the first variants of a search, then likely ones; results are in the compiler's cache. The caller that
    /// opens the device compiles the default.
    pub fn compile<'s>(&'s self, scope: &'s Scope<'s, '_>, builder: &Builder<'s>) {
        // One core drives the device, and two compile the default and the reference.
        self.compile_on(scope, builder, thread::available_parallelism().map_or(1, usize::from).saturating_sub(3));
    }

    fn compile_on<'s>(&'s self, scope: &'s Scope<'s, '_>, builder: &Builder<'s>, cores: usize) {
        let kernel = builder.kernel;
        if cores == 0 || meanwhile(kernel) == Meanwhile::Rest || !builder.is_settled() {
            return;
        }
        let builder = builder.until(&self.ended);
        // Other variants are compiled when they are asked for.
        let _ = threads::spawn_scoped(scope, move || {
            let first = strategy::first(self.candidates(kernel), kernel, cores + 1);
            for variant in first.into_iter().filter(|variant| *variant != kernel.space.default).take(cores) {
                let builder = builder.clone();
                let _ = threads::spawn_scoped(scope, move || {
                    stand_back();
                    // An error appears again when the variant is asked for.
                    let _ = catch_unwind(AssertUnwindSafe(|| try_build(&builder, &(&variant).into())));
                });
            }
        });
    }
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
        state.likely.retain(|likely| !variants.contains(likely));
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
        state.likely = variants.into_iter().filter(|variant| !state.knows(variant)).collect();
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
            let built = state.built.len() as u64;
            progress(built, built + (state.building.len() + state.wanted.len()) as u64);
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

    /// Sets a function that is called when a build has ended.
    pub fn listen(&self, listener: impl Fn() + Send + Sync + 'static) {
        let _ = self.listener.set(Box::new(listener));
    }

    /// The first wanted variant that is built and that `is_asked` accepts, with its build; does not wait.
    pub fn take_first(&self, is_asked: impl Fn(&Variant) -> bool) -> Option<(Variant, Result<BuildOutcome, RunError>)> {
        let mut state = self.lock();
        if !self.may_measure(&state) {
            return None;
        }
        let first = state.ready.values().find(|variant| is_asked(variant))?.clone();
        let done = state.take(&first).expect("it is built");
        drop(state);
        Some((first, done.unwrap_or_else(|panic| resume_unwind(panic))))
    }

    /// Sets whether a worker waits for a build; then all cores compile. Returns the numbers of finished and of wanted
    /// builds.
    pub fn is_awaited(&self, awaited: bool) -> (u64, u64) {
        let mut state = self.lock();
        state.tick();
        let began = awaited && !state.awaited;
        state.awaited = awaited;
        let built = state.built.len() as u64;
        let progress = (built, built + (state.building.len() + state.wanted.len()) as u64);
        drop(state);
        if began {
            self.to_build.notify_all();
        }
        progress
    }

    /// If the cores have to be idle during measurements, all wanted variants are built first.
    fn may_measure(&self, state: &State) -> bool {
        self.meanwhile == Meanwhile::Compile || state.building.is_empty() && state.wanted.is_empty()
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
            let (building, limit) = (state.building.len(), self.limit(&state));
            let mut next = if building < limit { state.wanted.pop_front() } else { None };
            // A speculative build leaves room for a wanted one, since a running compiler is not ended for it.
            if next.is_none() && building < limit - (limit / 8).max((limit > 3).into()) && state.compiles {
                next = state.longest_likely();
            }
            let Some(variant) = next else {
                state = self.to_build.wait(state).expect(NO_PANIC);
                continue;
            };
            state.tick();
            state.building.push(variant.clone());
            drop(state);
            let started = Instant::now();
            let done = catch_unwind(AssertUnwindSafe(|| self.build(&variant)));
            state = self.lock();
            state.tick();
            state.building.retain(|building| *building != variant);
            if started.elapsed().as_secs_f64() > MATTERS && !state.compiles {
                // From now on likely variants are built too.
                state.compiles = true;
                self.to_build.notify_all();
            }
            let outcome = done.as_ref().ok().and_then(|done| done.as_ref().ok());
            state
                .took
                .push((variant.clone(), outcome.and_then(BuildOutcome::compile_time).unwrap_or(started.elapsed())));
            state.keep(variant, done);
            drop(state);
            self.built.notify_all();
            if let Some(listener) = self.listener.get() {
                listener();
            }
            state = self.lock();
        }
    }

    fn build(&self, variant: &Variant) -> Result<BuildOutcome, RunError> {
        let interrupted = || is_interrupted();
        if interrupted() {
            return Err(ExecutorError::Interrupted.into());
        }
        let outcome = (self.build)(variant);
        // A compiler that died of Ctrl-C is not a verdict on the variant.
        if interrupted() { Err(ExecutorError::Interrupted.into()) } else { outcome }
    }
}

const NO_PANIC: &str = "no panic while the state is held";

#[cfg(test)]
mod tests;
