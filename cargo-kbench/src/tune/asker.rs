//! The strategy on a thread of its own, so that it computes while the device measures.
//!
//! The strategy gets each outcome and is asked for variants after it. With one worker, outcomes arrive in the order in
//! which variants were asked for. So the variants depend on outcomes alone: the search tries the same variants in the
//! same order as if it waited for the strategy each time.

use std::cell::RefCell;
use std::sync::mpsc::{Receiver, TryRecvError};

use super::pipeline::{LIKELY, Meanwhile, Pipeline};
use crate::config::{self, BaselineKind, Kernel};
use crate::record::conclusion::Stopped;
use crate::search::{Outcome, Resources, Strategy};
use crate::space::Variant;

/// Number of variants that each core compiles before they are measured, if the cores are the device.
const CHUNK: usize = 4;

/// Variants to try, which the pipeline builds.
pub(super) struct Asked {
    pub(super) variants: Vec<Variant>,
    /// Largest number of variants that will be tried, as known at that time.
    pub(super) total: u64,
}

/// Outcome of a variant.
pub(super) struct Learned {
    pub(super) variant: Variant,
    pub(super) resources: Option<Resources>,
    /// Both objectives, for a search with two.
    pub(super) objectives: Option<[f64; 2]>,
    pub(super) outcome: Outcome,
}

/// The thread of the strategy.
pub(super) struct Asker<'a, 'p> {
    pub(super) kernel: &'a Kernel,
    pub(super) limits: &'a config::Search,
    pub(super) strategy: Box<dyn Strategy>,
    pub(super) pipeline: &'a Pipeline<'p>,
    /// Number of workers.
    pub(super) workers: usize,
    /// Number of variants without an outcome.
    pub(super) pending: u64,
    /// Number of outcomes.
    pub(super) evaluated: u64,
    /// Reason why the search ended early.
    pub(super) stopped: Option<Stopped>,
}

/// Largest number of variants that will be tried.
pub(super) fn total(limits: &config::Search, strategy: &dyn Strategy, known: u64) -> u64 {
    (known + strategy.remaining()).min(budget(limits))
}

fn budget(limits: &config::Search) -> u64 {
    limits.evaluations.unwrap_or(u64::MAX)
}

impl Asker<'_, '_> {
    /// Asks until the strategy or the search ends; returns the reason why the search ended early. `asked` gets the
    /// variants and returns whether the search continues.
    pub(super) fn run(mut self, learned: &Receiver<Learned>, asked: &dyn Fn(Asked) -> bool) -> Option<Stopped> {
        // Outcomes that arrived while the strategy looked for likely variants.
        let early = RefCell::new(None);
        while self.ask(asked) {
            self.speculate(&|| {
                let mut early = early.borrow_mut();
                if early.is_none() {
                    *early = match learned.try_recv() {
                        Ok(learned) => Some(Some(learned)),
                        Err(TryRecvError::Disconnected) => Some(None),
                        Err(TryRecvError::Empty) => None,
                    };
                }
                early.is_some()
            });
            let Some(first) = early.take().unwrap_or_else(|| learned.recv().ok()) else { break };
            self.learn(&first);
            // Several workers have no fixed order: the next variants depend on all outcomes so far.
            if self.workers > 1 {
                for more in learned.try_iter() {
                    self.learn(&more);
                }
            }
        }
        self.stopped
    }

    /// Gives the compilers the next variants; returns false once no variant is pending.
    fn ask(&mut self, asked: &dyn Fn(Asked) -> bool) -> bool {
        // With several workers, each measures one variant while another is compiled for it.
        let most = self.strategy.batch().max(if self.workers > 1 { 2 * self.workers } else { 0 });
        let room = match self.pipeline.meanwhile() {
            // Each outcome brings a new variant, so that there is always one to compile.
            Meanwhile::Compile => most.saturating_sub(self.pending as usize),
            // All variants at once, since the compilers rest until the last one is measured; but variants that a budget
            // of seconds may not reach are not compiled first.
            Meanwhile::Rest if self.pending == 0 && self.limits.seconds.is_some() => {
                most.min(CHUNK * self.pipeline.threads())
            }
            Meanwhile::Rest if self.pending == 0 => most,
            Meanwhile::Rest => 0,
        };
        let left = self.left();
        if left == 0 && self.strategy.remaining() > 0 {
            self.stopped = Some(Stopped::Evaluations);
        } else if room > 0 {
            let variants = self.strategy.ask(room.min(left as usize));
            self.pending += variants.len() as u64;
            let total = total(self.limits, &*self.strategy, self.evaluated + self.pending);
            for variant in &variants {
                tracing::debug!(variant = %self.kernel.space.settings(variant), "strategy asks for a variant");
            }
            self.pipeline.want(&variants);
            if !asked(Asked { variants, total }) {
                return false;
            }
        }
        self.pending > 0
    }

    /// The pending variants are built soon; until the next update there have to be likely variants for all cores.
    fn speculate(&mut self, enough: &dyn Fn() -> bool) {
        let threads = self.pipeline.threads();
        let left = self.left();
        if self.pipeline.meanwhile() == Meanwhile::Rest || self.pending >= threads as u64 || left == 0 {
            return;
        }
        let likely = self.strategy.likely((LIKELY * threads).min(left as usize), enough);
        if likely.is_empty() && enough() {
            // Without time for an update, the previous likely variants are the best known.
            return;
        }
        // The finals measure the baselines in any case.
        let baselines = self.kernel.baselines.iter().filter_map(|baseline| match &baseline.kind {
            BaselineKind::Variant(variant) => Some(variant.clone()),
            _ => None,
        });
        self.pipeline.speculate(likely.into_iter().chain(baselines));
    }

    fn left(&self) -> u64 {
        budget(self.limits).saturating_sub(self.evaluated + self.pending)
    }

    fn learn(&mut self, learned: &Learned) {
        let variant = &learned.variant;
        if let Some(resources) = &learned.resources {
            self.strategy.compiled(variant, resources);
        }
        if let Some(objectives) = learned.objectives {
            self.strategy.measured(variant, objectives);
        }
        tracing::debug!(variant = %self.kernel.space.settings(variant), outcome = ?learned.outcome, "strategy is told");
        self.strategy.tell(variant, learned.outcome);
        self.pending -= 1;
        self.evaluated += 1;
    }
}
