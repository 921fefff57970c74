//! Events while kernels are built and measured, for reporters.

use std::time::Duration;

use kbench_runtime::protocol::DeviceInfo;

use super::Doing;
use crate::config::Kernel;
use crate::profile::Profile;
use crate::record::evaluation::{Evaluation, Rejection, Sanitized};

/// An event.
#[derive(Debug, Clone, Copy)]
pub enum Event<'a> {
    /// Work on a kernel begins.
    Started {
        /// The kernel.
        kernel: &'a Kernel,
        /// The device, once one is open.
        device: Option<&'a DeviceInfo>,
        /// Largest number of variants that will be tried.
        total: u64,
        /// The current activity.
        doing: &'a Doing,
        /// Longest duration of the finals.
        finals: Duration,
    },
    /// Some variants of a batch have been compiled.
    Built {
        /// Number of variants built.
        done: u64,
        /// Number of variants to build.
        total: u64,
    },
    /// The state of several workers has changed.
    Workers {
        /// Number of workers that measure a variant.
        busy: usize,
        /// Number of workers that are open.
        open: usize,
        /// Number of workers.
        total: usize,
    },
    /// A variant was tried.
    Evaluated {
        /// Record of the evaluation.
        evaluation: &'a Evaluation,
        /// Label of the variant.
        label: &'a str,
        /// Number of variants tried so far.
        done: u64,
        /// Largest number of variants that will be tried.
        total: u64,
        /// Label of the best variant so far, and the value of its first objective.
        best: Option<(&'a str, f64)>,
    },
    /// A proposer handed in sources.
    Proposed {
        /// Number of the round, from 1.
        round: u64,
        /// Number of variants that will be tried.
        proposals: usize,
    },
    /// A variant ran under the sanitizers.
    Sanitized {
        /// Label of the variant.
        label: &'a str,
        /// Findings of the sanitizers.
        sanitized: &'a Sanitized,
    },
    /// A variant was profiled for the counters gate.
    Profiled {
        /// Label of the variant.
        label: &'a str,
        /// Findings of the gate.
        judged: &'a CounterFindings,
    },
    /// The finalists are measured together.
    Finals {
        /// Number of entrants, baselines included.
        entrants: usize,
        /// Number of programs among them.
        programs: usize,
        /// Longest duration.
        at_most: Duration,
    },
}

/// Receives events.
pub trait Reporter: Send {
    /// Receives an event.
    fn event(&mut self, event: Event<'_>);
}

/// Result of the counters gate for a variant.
#[derive(Debug, Clone, Default)]
pub struct CounterFindings {
    /// The rejection, if there is one.
    pub rejection: Option<Rejection>,
    /// Findings at level `warn`.
    pub warnings: Vec<String>,
    /// The judged profiles, one for each shape.
    pub profiles: Vec<Profile>,
}
