//! Compiling ahead of the device: what is asked for, and what is likely to be, on every core that measuring leaves free.

use std::any::Any;
use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock};
use std::thread::{self, Scope};
use std::time::{Duration, Instant};

use super::{MATTERS, search};
use crate::config::{Backend, Kernel};
use crate::evaluate::{BuildOutcome, try_build};
use crate::harness::{Builder, RunError};
use crate::interrupt::is_interrupted;
use crate::process::executor::ExecutorError;
use crate::search::Candidates;
use crate::space::Variant;

/// What the compilers do while something is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meanwhile {
    /// They go on, on all cores but the one that drives the device.
    Compile,
    /// They rest: these cores are the device.
    Rest,
}

/// Where the compilers' time went.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct CompileTimes {
    /// Threads that compile.
    pub threads: usize,
    /// Time that the device waited for a compiler.
    pub waited: Duration,
    /// Time spent compiling meanwhile, all threads together.
    pub busy_while_waited: Duration,
}

/// How far compilers stand back where others want their cores.
const NICE: i32 = 10;

/// A build, or the panic that it ended in.
type Done = Result<Result<BuildOutcome, RunError>, Box<dyn Any + Send>>;

struct State {
    wanted: VecDeque<Variant>,
    likely: VecDeque<Variant>,
    building: Vec<Variant>,
    built: HashMap<Variant, Done>,
    /// How long compiling took, whenever it was compiled.
    took: Vec<(Variant, Duration)>,
    /// Whether any build took a compiler: where all come from its cache there is nobody to wait for.
    compiles: bool,
    /// Whether the session waits for a build.
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

/// What builds a variant, on many threads.
pub type Build<'a> = dyn Fn(&Variant) -> Result<BuildOutcome, RunError> + Sync + 'a;

/// Compilers at work.
pub struct Pipeline<'a> {
    build: &'a Build<'a>,
    meanwhile: Meanwhile,
    ended: &'a AtomicBool,
    state: Mutex<State>,
    changed: Condvar,
}

/// Does `work` beside compilers, one a core; gives also where their time went. `took` is how long they took for it before. `ended` is true
/// once the work has ended, and what is still compiled then is for nothing.
pub fn run<R>(
    build: &Build<'_>,
    meanwhile: Meanwhile,
    took: Duration,
    ended: &AtomicBool,
    work: impl FnOnce(&Pipeline<'_>) -> R,
) -> (R, CompileTimes) {
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let state = State {
        wanted: VecDeque::new(),
        likely: VecDeque::new(),
        building: Vec::new(),
        built: HashMap::new(),
        took: Vec::new(),
        compiles: took.as_secs_f64() > MATTERS,
        awaited: false,
        closed: false,
        times: CompileTimes { threads, ..CompileTimes::default() },
        last: Instant::now(),
    };
    let pipeline = Pipeline { build, meanwhile, ended, state: Mutex::new(state), changed: Condvar::new() };
    let result = thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| pipeline.serve());
        }
        let _closing = Closing(&pipeline);
        work(&pipeline)
    });
    let times = pipeline.lock().times;
    (result, times)
}

/// What a search begins with while its device opens, and who is to end with it.
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
        self.candidates.get_or_init(|| Candidates::new(&kernel.space)).clone()
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
        scope.spawn(move || {
            let first = search::first(self.candidates(kernel), kernel, cores + 1);
            for variant in first.into_iter().filter(|variant| *variant != kernel.space.default).take(cores) {
                let builder = builder.clone();
                scope.spawn(move || {
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
    if kernel.implementation.backend == Backend::C { Meanwhile::Rest } else { Meanwhile::Compile }
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
    /// What the compilers do while something is measured.
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
            // Where the cores are to be quiet afterwards, all that is wanted is built first.
            let quiet = self.meanwhile == Meanwhile::Compile || state.building.is_empty() && state.wanted.is_empty();
            if quiet && let Some(done) = state.built.remove(variant) {
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
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;
    use crate::build::{Compiler, CompilerOptions};
    use crate::config::{LoadOptions, load};
    use crate::harness::Built;

    fn variants(n: u16) -> Vec<Variant> {
        (0..n).map(|index| Variant(vec![index])).collect()
    }

    fn outcome(variant: &Variant) -> BuildOutcome {
        BuildOutcome { result: Ok(Built { builds: Vec::new() }), warnings: vec![format!("{:?}", variant.0)] }
    }

    #[test]
    fn everything_wanted_is_built_once_and_given_to_who_wanted_it() {
        for meanwhile in [Meanwhile::Compile, Meanwhile::Rest] {
            let builds = AtomicUsize::new(0);
            let build = |variant: &Variant| {
                builds.fetch_add(1, Ordering::Relaxed);
                Ok(outcome(variant))
            };
            let (taken, times) = run(&build, meanwhile, Duration::ZERO, &AtomicBool::new(false), |pipeline| {
                let variants = variants(20);
                for variant in variants.iter().chain(&variants) {
                    pipeline.want(variant);
                }
                let take = |variant: &Variant| pipeline.take(variant, None, |_, _| ()).unwrap().unwrap().warnings;
                variants.iter().rev().map(take).collect::<Vec<_>>()
            });
            let expected: Vec<_> = variants(20).iter().rev().map(|variant| outcome(variant).warnings).collect();
            assert_eq!((taken, builds.into_inner()), (expected, 20));
            assert!(times.busy_while_waited <= times.waited * times.threads as u32, "{times:?}");
        }
    }

    #[test]
    fn what_a_search_asks_for_first_is_compiled_ahead() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        let table = r#"
            backend = "fake"
            source = "model.toml"
            entry = "model"
            args = ["y"]
            shapes.only = { N = 8 }
            toggles.macro = { A = [0, 1, 2, 3, 4] }
            toggles.micro = { B = [0, 1] }
            search.strategy = "evo"
            tensors = { y = { dtype = "f32", dims = ["N"], role = "out" } }
            reference = { backend = "fake", source = "model.toml", entry = "model" }"#;
        write("Cargo.toml", &format!("[package]\nname = \"p\"\n[package.metadata.kbench.kernels.k]{table}"));
        write("model.toml", "time_ns = \"1000 + A + B\"");
        let options = LoadOptions {
            directory: Some(folder.path().to_owned()),
            cargo: Some("no-cargo-here".into()),
            target_dir: Some("target".into()),
            ..LoadOptions::default()
        };
        let (project, _) = load(&options).unwrap();
        let (package, kernel) = (&project.packages[0], &project.packages[0].kernels[0]);
        let compiler = Compiler::new(folder.path(), CompilerOptions::default());
        let builder = Builder::new(package, kernel, &compiler);
        let begun = Ahead::default();
        thread::scope(|scope| begun.compile_on(scope, &builder, 3));
        let is_compiled = |variant: &[u16]| {
            try_build(&builder, &(&Variant(variant.to_vec())).into()).unwrap().result.unwrap().builds[0].artifact.cached
        };
        // The default is left to others, and there are no more cores; the second layer follows the first.
        let ahead = [[0, 0], [1, 0], [2, 0], [3, 0], [4, 0], [1, 1]].map(|variant| is_compiled(&variant));
        assert_eq!(ahead, [false, true, true, true, false, false]);
    }

    #[test]
    fn nothing_compiles_beside_a_measurement_on_the_same_cores() {
        let active = AtomicUsize::new(0);
        let build = |variant: &Variant| {
            active.fetch_add(1, Ordering::SeqCst);
            thread::sleep(Duration::from_millis(1));
            active.fetch_sub(1, Ordering::SeqCst);
            Ok(outcome(variant))
        };
        run(&build, Meanwhile::Rest, Duration::ZERO, &AtomicBool::new(false), |pipeline| {
            for round in variants(10).chunks(5) {
                for variant in round {
                    pipeline.want(variant);
                }
                pipeline.speculate(variants(30));
                for variant in round {
                    assert_eq!(active.load(Ordering::SeqCst), 0);
                    pipeline.take(variant, None, |_, _| ()).unwrap().unwrap();
                    for _ in 0..3 {
                        thread::sleep(Duration::from_millis(1));
                        assert_eq!(active.load(Ordering::SeqCst), 0, "measuring {variant:?}");
                    }
                }
            }
        });
    }

    #[test]
    fn what_is_likely_is_built_when_nothing_is_wanted() {
        let (built, changed) = (Mutex::new(Vec::new()), Condvar::new());
        let slow = Variant(vec![9]);
        let build = |variant: &Variant| {
            if *variant == slow {
                thread::sleep(Duration::from_secs_f64(1.1 * MATTERS));
            }
            built.lock().unwrap().push(variant.clone());
            changed.notify_all();
            Ok(outcome(variant))
        };
        run(&build, Meanwhile::Compile, Duration::ZERO, &AtomicBool::new(false), |pipeline| {
            let take = |variant: &Variant| {
                pipeline.want(variant);
                pipeline.take(variant, None, |_, _| ()).unwrap().unwrap();
            };
            take(&variants(1)[0]);
            pipeline.speculate(variants(4));
            assert!(!pipeline.lock().compiles, "as long as nobody has to wait");
            take(&slow);
            // Ends only if they are built without being wanted.
            drop(changed.wait_while(built.lock().unwrap(), |built| built.len() < 6).unwrap());
            variants(4).iter().for_each(take);
        });
        // The first was taken before it was likely.
        assert_eq!(built.into_inner().unwrap().len(), 6);
    }

    #[test]
    fn what_takes_long_is_started_first() {
        let (gate, opened) = (Mutex::new(false), Condvar::new());
        let build = |variant: &Variant| {
            if *variant == Variant(vec![2, 0]) {
                drop(opened.wait_while(gate.lock().unwrap(), |is_open| !*is_open).unwrap());
            }
            Ok(outcome(variant))
        };
        run(&build, Meanwhile::Compile, Duration::ZERO, &AtomicBool::new(false), |pipeline| {
            let of = |indices: &[[u16; 2]]| indices.iter().map(|indices| Variant(indices.to_vec())).collect::<Vec<_>>();
            for variant in of(&[[0, 0], [1, 0], [2, 0]]) {
                pipeline.want(&variant);
            }
            for variant in of(&[[0, 0], [1, 0]]) {
                pipeline.take(&variant, None, |_, _| ()).unwrap().unwrap();
            }
            while pipeline.lock().building.is_empty() {
                thread::yield_now();
            }
            let mut state = pipeline.lock();
            state.took = of(&[[0, 0], [1, 0]]).into_iter().zip([1, 9].map(Duration::from_secs)).collect();
            state.likely = of(&[[0, 1], [1, 1], [1, 2], [2, 1]]).into();
            let order: Vec<Variant> = std::iter::from_fn(|| state.longest_likely()).collect();
            drop(state);
            *gate.lock().unwrap() = true;
            opened.notify_all();
            // Near what took long or still compiles, the likelier first.
            assert_eq!(order, of(&[[1, 1], [1, 2], [2, 1], [0, 1]]));
        });
    }

    #[test]
    fn nobody_waits_for_a_build_beyond_the_deadline() {
        let ended = AtomicBool::new(false);
        let build = |variant: &Variant| {
            // As a compiler does that is ended with the search.
            while !ended.load(Ordering::Relaxed) {
                thread::sleep(Duration::from_millis(1));
            }
            Ok(outcome(variant))
        };
        run(&build, Meanwhile::Compile, Duration::ZERO, &ended, |pipeline| {
            let variants = variants(3);
            for variant in &variants {
                pipeline.want(variant);
            }
            let deadline = Instant::now() + Duration::from_millis(20);
            assert!(pipeline.take(&variants[0], Some(deadline), |_, _| ()).is_none());
            assert!(Instant::now() >= deadline);
        });
    }

    #[test]
    #[should_panic(expected = "a bug in the compiler's driver")]
    fn a_panic_reaches_who_waits() {
        let build = |_: &Variant| -> Result<BuildOutcome, RunError> { panic!("a bug in the compiler's driver") };
        let _ = run(&build, Meanwhile::Compile, Duration::ZERO, &AtomicBool::new(false), |pipeline| {
            pipeline.want(&Variant(vec![1]));
            pipeline.take(&Variant(vec![1]), None, |_, _| ()).unwrap().map(drop)
        });
    }
}
