//! Compiling ahead of the device: what is asked for, and what is likely to be, on every core that measuring leaves free.

use std::any::Any;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock};
use std::thread::{self, Scope};
use std::time::{Duration, Instant};

use kbench_runtime::threads;

use super::{MATTERS, search};
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
    /// They go on, on all cores but the one that drives the device.
    Compile,
    /// They rest: these cores are the device.
    Rest,
}

/// Parts of the compilers' time.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct CompileTimes {
    /// Threads that compile.
    pub threads: usize,
    /// Time that the device waited for a compiler.
    pub waited: Duration,
    /// Time spent compiling meanwhile, all threads together.
    pub busy_while_waited: Duration,
}

/// Niceness of compilers.
const NICE: i32 = 10;

/// A build, or the panic that it ended in.
type Done = Result<Result<BuildOutcome, RunError>, Box<dyn Any + Send>>;

struct State {
    wanted: VecDeque<Variant>,
    likely: VecDeque<Variant>,
    building: Vec<Variant>,
    built: HashMap<Variant, Done>,
    /// Duration of the compilation, whether in this run or before.
    took: Vec<(Variant, Duration)>,
    /// Whether any build took a compiler: where all come from its cache there is nobody to wait for.
    compiles: bool,
    /// Whether the search waits for a build.
    awaited: bool,
    closed: bool,
    times: CompileTimes,
    last: Instant,
}

impl State {
    /// Accounts for the time since the last change.
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

    /// Of what is likely, what is expected to take longest: who is started last is waited for. What still compiles may be what takes as long
    /// as anything did.
    fn longest_likely(&mut self) -> Option<Variant> {
        let longest = self.took.iter().map(|(_, took)| *took).max().unwrap_or_default();
        let expected = |variant: &Variant| {
            let shared = |other: &Variant| variant.0.iter().zip(&other.0).filter(|(one, other)| one == other).count();
            let took = self.took.iter().map(|(other, took)| (shared(other), *took));
            took.chain(self.building.iter().map(|other| (shared(other), longest))).max().map(|(_, took)| took)
        };
        // Of equals the likeliest.
        let longest = (0..self.likely.len()).rev().max_by_key(|&at| expected(&self.likely[at]))?;
        self.likely.remove(longest)
    }

    fn knows(&self, variant: &Variant) -> bool {
        self.building.contains(variant) || self.built.contains_key(variant) || self.wanted.contains(variant)
    }
}

/// Builds variants on many threads.
pub type Build<'a> = dyn Fn(&Variant) -> Result<BuildOutcome, RunError> + Sync + 'a;

/// Compilers at work.
pub struct Pipeline<'a> {
    build: &'a Build<'a>,
    meanwhile: Meanwhile,
    ended: &'a AtomicBool,
    state: Mutex<State>,
    changed: Condvar,
    /// Is called when a build has ended.
    listener: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

/// Does `work` beside compilers, one a core; gives also where their time went. `took` is how long they took for it before. `ended` is true
/// once the work has ended, and what is still compiled then is for nothing.
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
    let (state, changed, listener) = (Mutex::new(state), Condvar::new(), OnceLock::new());
    let pipeline = Pipeline { build, meanwhile, ended, state, changed, listener };
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

/// Builds that begin while the device opens, and the thread that ends with the search.
#[derive(Debug, Default)]
pub struct Ahead {
    /// The variants to choose from: the space is solved once.
    candidates: OnceLock<Candidates>,
    /// Whether the search has ended: compilers that are still at work for it are ended, too.
    pub(super) ended: AtomicBool,
}

impl Ahead {
    /// The variants of the kernel's space.
    pub fn candidates(&self, kernel: &Kernel) -> Candidates {
        self.candidates.get_or_init(|| Candidates::of_part(&kernel.space, kernel.search.partition)).clone()
    }

    /// Ends what is compiled ahead.
    pub fn end(&self) {
        self.ended.store(true, Ordering::Relaxed);
    }

    /// Compiles what a search asks for first, then what is likely; what is made lies in the compiler's cache. The default is left to who
    /// opens the device.
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
        // What is not compiled ahead is compiled when it is asked for.
        let _ = threads::spawn_scoped(scope, move || {
            let first = search::first(self.candidates(kernel), kernel, cores + 1);
            for variant in first.into_iter().filter(|variant| *variant != kernel.space.default).take(cores) {
                let builder = builder.clone();
                let _ = threads::spawn_scoped(scope, move || {
                    stand_back();
                    // What goes wrong goes wrong again where it is asked for.
                    let _ = catch_unwind(AssertUnwindSafe(|| try_build(&builder, &(&variant).into())));
                });
            }
        });
    }
}

/// What compilers do while a kernel is measured.
pub fn meanwhile(kernel: &Kernel) -> Meanwhile {
    let is_application = |objective: &Objective| matches!(objective, Objective::Application(_));
    let uses_cores = kernel.implementation.backend == Backend::C || kernel.objectives.iter().any(is_application);
    if uses_cores { Meanwhile::Rest } else { Meanwhile::Compile }
}

/// Of this thread and the compilers that it starts. The worker, which the device waits for, goes first.
fn stand_back() {
    let _ = rustix::process::setpriority_process(None, NICE);
}

/// Ends the compilers, however the work ends.
struct Closing<'p, 'a>(&'p Pipeline<'a>);

impl Drop for Closing<'_, '_> {
    fn drop(&mut self) {
        self.0.ended.store(true, Ordering::Relaxed);
        self.0.lock().closed = true;
        self.0.changed.notify_all();
    }
}

impl Pipeline<'_> {
    /// Use of the compilers during measurements.
    pub fn meanwhile(&self) -> Meanwhile {
        self.meanwhile
    }

    /// Threads that compile.
    pub fn threads(&self) -> usize {
        self.lock().times.threads
    }

    /// A build of this variant will be taken.
    pub fn want(&self, variant: &Variant) {
        let mut state = self.lock();
        state.likely.retain(|likely| likely != variant);
        if !state.knows(variant) {
            state.wanted.push_back(variant.clone());
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Variants to compile where a core would be idle, likeliest first, in place of those named before.
    pub fn speculate(&self, variants: impl IntoIterator<Item = Variant>) {
        if self.meanwhile == Meanwhile::Rest {
            return;
        }
        let mut state = self.lock();
        state.likely = variants.into_iter().filter(|variant| !state.knows(variant)).collect();
        drop(state);
        self.changed.notify_all();
    }

    /// The build of a wanted variant, once there is one; `None` if there is none at the deadline. `progress` is told how many of those
    /// wanted are built, and of how many.
    pub fn take(
        &self,
        variant: &Variant,
        deadline: Option<Instant>,
        mut progress: impl FnMut(u64, u64),
    ) -> Option<Result<BuildOutcome, RunError>> {
        let mut state = self.lock();
        state.tick();
        state.awaited = true;
        self.changed.notify_all();
        let done = loop {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                break None;
            }
            if self.may_measure(&state)
                && let Some(done) = state.built.remove(variant)
            {
                break Some(done);
            }
            let built = state.built.len() as u64;
            progress(built, built + (state.building.len() + state.wanted.len()) as u64);
            state = match left {
                Some(left) => self.changed.wait_timeout(state, left).expect(NO_PANIC).0,
                None => self.changed.wait(state).expect(NO_PANIC),
            };
        };
        state.tick();
        state.awaited = false;
        drop(state);
        Some(done?.unwrap_or_else(|panic| resume_unwind(panic)))
    }

    /// Has `listener` called when a build has ended.
    pub fn listen(&self, listener: impl Fn() + Send + Sync + 'static) {
        let _ = self.listener.set(Box::new(listener));
    }

    /// The place of the first of these wanted variants that is built, and its build; nothing is waited for.
    pub fn take_first<'v>(
        &self,
        variants: impl IntoIterator<Item = &'v Variant>,
    ) -> Option<(usize, Result<BuildOutcome, RunError>)> {
        let mut state = self.lock();
        if !self.may_measure(&state) {
            return None;
        }
        let found = variants.into_iter().enumerate().find_map(|(at, variant)| Some((at, state.built.remove(variant)?)));
        drop(state);
        found.map(|(at, done)| (at, done.unwrap_or_else(|panic| resume_unwind(panic))))
    }

    /// Says whether a worker waits for a build; then all cores compile. Gives how many of those wanted are built, and of how many.
    pub fn is_awaited(&self, awaited: bool) -> (u64, u64) {
        let mut state = self.lock();
        state.tick();
        let began = awaited && !state.awaited;
        state.awaited = awaited;
        let built = state.built.len() as u64;
        let progress = (built, built + (state.building.len() + state.wanted.len()) as u64);
        drop(state);
        if began {
            self.changed.notify_all();
        }
        progress
    }

    /// Where the cores are to be quiet while something is measured, all that is wanted is built first.
    fn may_measure(&self, state: &State) -> bool {
        self.meanwhile == Meanwhile::Compile || state.building.is_empty() && state.wanted.is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect(NO_PANIC)
    }

    /// Most compilers at work at this moment.
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
            // What may be for nothing leaves room for what is not: a compiler, once started, is waited for.
            if next.is_none() && building < limit - (limit / 8).max((limit > 3).into()) && state.compiles {
                next = state.longest_likely();
            }
            let Some(variant) = next else {
                state = self.changed.wait(state).expect(NO_PANIC);
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
            state.compiles |= started.elapsed().as_secs_f64() > MATTERS;
            let outcome = done.as_ref().ok().and_then(|done| done.as_ref().ok());
            state
                .took
                .push((variant.clone(), outcome.and_then(BuildOutcome::compile_time).unwrap_or(started.elapsed())));
            state.built.insert(variant, done);
            self.changed.notify_all();
            if let Some(listener) = self.listener.get() {
                listener();
            }
        }
    }

    fn build(&self, variant: &Variant) -> Result<BuildOutcome, RunError> {
        let interrupted = || is_interrupted();
        if interrupted() {
            return Err(ExecutorError::Interrupted.into());
        }
        let outcome = (self.build)(variant);
        // A compiler that died of Ctrl-C is no verdict on the variant.
        if interrupted() { Err(ExecutorError::Interrupted.into()) } else { outcome }
    }
}

const NO_PANIC: &str = "no panic while the state is held";

#[cfg(test)]
mod tests;
