//! Events while kernels are built and measured, for reporters.

use std::time::Duration;

use kbench_runtime::protocol::DeviceInfo;

use super::Doing;
use crate::config::Kernel;
use crate::profile::Profile;
use crate::record::evaluation::{Evaluation, Rejection, Sanitized};

/// Something that happens.
#[derive(Debug, Clone, Copy)]
pub enum Event<'a> {
    /// Work on a kernel begins.
    Started {
        /// The kernel.
        kernel: &'a Kernel,
        /// The device, once one is open.
        device: Option<&'a DeviceInfo>,
        /// Most variants that will be tried.
        total: u64,
        /// The current activity.
        doing: &'a Doing,
        /// Longest duration of the finals.
        finals: Duration,
    },
    /// Some of a batch have been compiled.
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
        /// Its record.
        evaluation: &'a Evaluation,
        /// Its label.
        label: &'a str,
        /// Variants tried so far.
        done: u64,
        /// Most that will be tried.
        total: u64,
        /// Label of the best so far, and its first objective.
        best: Option<(&'a str, f64)>,
    },
    /// A proposer handed in sources.
    Proposed {
        /// Which round, from 1.
        round: u64,
        /// Number of variants that will be tried.
        proposals: usize,
    },
    /// A variant ran under the sanitizers.
    Sanitized {
        /// Its label.
        label: &'a str,
        /// Findings of the sanitizers.
        sanitized: &'a Sanitized,
    },
    /// A variant was profiled for the counters gate.
    Profiled {
        /// Its label.
        label: &'a str,
        /// The finding.
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

/// Is told what happens.
pub trait Reporter: Send {
    /// Something happened.
    fn event(&mut self, event: Event<'_>);
}

/// Result of the counters gate for a variant.
#[derive(Debug, Clone, Default)]
pub struct CounterFindings {
    /// Why it is rejected.
    pub rejection: Option<Rejection>,
    /// Findings at level `warn`.
    pub warnings: Vec<String>,
    /// The profiles that it judged, one for each shape.
    pub profiles: Vec<Profile>,
}
