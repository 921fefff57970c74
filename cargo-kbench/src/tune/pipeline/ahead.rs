//! Builds that start while the device opens.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::{self, Scope};
use std::time::Instant;

use kbench_runtime::driver::threads;

use super::queue::Queue;
use super::{Done, LIKELY, Meanwhile, NO_PANIC, meanwhile, stand_back, times};
use crate::config::Kernel;
use crate::evaluate::try_build;
use crate::harness::Builder;
use crate::search::Candidates;
use crate::space::Variant;
use crate::tune::strategy;

/// Builds that start while the device opens, on threads that end with the search.
#[derive(Debug, Default)]
pub struct Ahead {
    /// The variants of the search: the space is solved once.
    candidates: OnceLock<Candidates>,
    /// Whether the search has begun, which compiles its variants itself.
    begun: AtomicBool,
    /// Whether the search has ended, which ends running compilers too.
    pub(in crate::tune) ended: AtomicBool,
}

impl Ahead {
    /// The variants of the kernel's space.
    pub fn candidates(&self, kernel: &Kernel) -> Candidates {
        self.candidates.get_or_init(|| Candidates::of_part(&kernel.space, kernel.search.partition)).clone()
    }

    /// Begins no more compilations: the search has begun.
    pub(in crate::tune) fn begin(&self) {
        self.begun.store(true, Ordering::Relaxed);
    }

    /// Ends the compilations ahead.
    pub fn end(&self) {
        self.begin();
        self.ended.store(true, Ordering::Relaxed);
    }

    /// Compiles the first variants of a search and likely ones until the search begins; results are in the compiler's cache. Returns
    /// whether the default is among them.
    pub fn compile<'s>(&'s self, scope: &'s Scope<'s, '_>, builder: &Builder<'s>) -> bool {
        // One core drives the device, and two compile the default and the reference.
        self.compile_on(scope, builder, thread::available_parallelism().map_or(1, usize::from).saturating_sub(3))
    }

    pub(super) fn compile_on<'s>(&'s self, scope: &'s Scope<'s, '_>, builder: &Builder<'s>, cores: usize) -> bool {
        let kernel = builder.kernel;
        if cores == 0 || meanwhile(kernel) == Meanwhile::Rest || !builder.is_settled() {
            return false;
        }
        let builder = builder.until(&self.ended);
        // Variants that are not compiled here are compiled when they are asked for.
        let of_default = builder.clone();
        let _ = threads::spawn_scoped(scope, move || build(&of_default, &kernel.space.default));
        let _ = threads::spawn_scoped(scope, move || {
            let queue = Arc::new(Mutex::new(self.first_builds(kernel, cores)));
            for _ in 0..cores {
                let (queue, builder) = (Arc::clone(&queue), builder.clone());
                let _ = threads::spawn_scoped(scope, move || {
                    stand_back();
                    self.serve(&queue, &builder, cores);
                });
            }
        });
        true
    }

    pub(super) fn first_builds(&self, kernel: &Kernel, cores: usize) -> Queue {
        let mut queue = Queue::default();
        let [asked, likely] = strategy::first(self.candidates(kernel), kernel, LIKELY * cores);
        let is_other = |variant: &Variant| *variant != kernel.space.default;
        asked.into_iter().filter(is_other).for_each(|variant| queue.want(variant));
        queue.speculate(likely.into_iter().filter(is_other));
        queue
    }

    /// Builds, as one of `cores` threads, until the search begins or nothing is left.
    pub(super) fn serve(&self, queue: &Mutex<Queue>, builder: &Builder<'_>, cores: usize) {
        while !self.begun.load(Ordering::Relaxed) {
            let mut state = queue.lock().expect(NO_PANIC);
            let speculates = state.begun < cores || state.compiles;
            let next = state.next(cores, speculates);
            drop(state);
            let Some(variant) = next else { return };
            let started = Instant::now();
            let (elapsed, took) = times(&build(builder, &variant), started);
            queue.lock().expect(NO_PANIC).ended(&variant, elapsed, took);
        }
    }
}

/// Builds a variant. An error appears again when the variant is asked for.
fn build(builder: &Builder<'_>, variant: &Variant) -> Done {
    catch_unwind(AssertUnwindSafe(|| try_build(builder, &variant.into())))
}
