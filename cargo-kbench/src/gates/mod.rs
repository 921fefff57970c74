//! The gates, one folder for each: limits, run, verdict and messages. [`GATES`] has their order.

use std::collections::BTreeMap;

use crate::config::{Kernel, Level};
use crate::harness::{Candidate, Halt, Harness, Reporter, RunError, caught};
use crate::profile::Profile;
use crate::record::evaluation::{Evaluation, GateName, Rejection};
use performance::Compared;

pub mod compile;
pub mod correctness;
pub mod counters;
pub mod launch;
pub mod performance;
pub mod resources;
pub mod sanitize;

/// All gates, in the order in which they run.
pub const GATES: [&dyn Gate; 7] = [
    &compile::Compile,
    &resources::Resources,
    &launch::Launch,
    &correctness::Correctness,
    &sanitize::Sanitize,
    &performance::Performance,
    &counters::Counters,
];

/// A gate. To add one, write a folder with an implementation of this trait, its name in [`GateName`], and a line in
/// [`GATES`].
pub trait Gate: Sync {
    /// Name in records.
    fn name(&self) -> GateName;

    /// Whether the table asks for the gate.
    fn is_asked(&self, _kernel: &Kernel) -> bool {
        true
    }

    /// Level and limits in words, for `check`; none if the table cannot limit the gate.
    fn limits(&self, _kernel: &Kernel) -> Option<(Level, Vec<String>)> {
        None
    }

    /// Reason why the gate ran and judged nothing; none if it judged.
    fn unjudged(&self, _kernel: &Kernel, _trial: &Trial) -> Option<String> {
        None
    }

    /// Whether the gate judges a candidate only in a comparison with others.
    fn is_joint(&self) -> bool {
        false
    }

    /// Judges a candidate whose evaluation passed. The gates up to correctness judge within the evaluation, which is
    /// recalled as a whole, and do nothing here.
    fn run(&self, _harness: &mut Harness<'_>, _trial: &mut Trial, _reporter: &mut dyn Reporter) -> Result<(), Halt> {
        Ok(())
    }
}

/// A candidate during the gates, with all findings so far.
#[derive(Debug, Clone)]
pub struct Trial {
    /// The candidate.
    pub candidate: Candidate,
    /// Record of the candidate, with the verdicts of the gates so far.
    pub evaluation: Evaluation,
    /// Runs under sanitizers, such as `memcheck at small`.
    pub sanitized: Vec<String>,
    /// Profiles of the counters gate.
    pub profiles: Vec<Profile>,
    /// Comparisons of the performance gate, with the indices of their shapes; empty if an earlier gate rejected the
    /// candidate.
    pub compared: Vec<(usize, Compared)>,
}

impl Trial {
    /// A candidate with its evaluation.
    pub fn new(candidate: Candidate, evaluation: Evaluation) -> Self {
        Self { candidate, evaluation, sanitized: Vec::new(), profiles: Vec::new(), compared: Vec::new() }
    }

    /// Runs gates in order, until one rejects the candidate.
    pub fn run<'g>(
        &mut self,
        gates: impl IntoIterator<Item = &'g dyn Gate>,
        harness: &mut Harness<'_>,
        reporter: &mut dyn Reporter,
    ) -> Result<(), RunError> {
        let kernel = harness.kernel();
        for gate in gates.into_iter().filter(|gate| gate.is_asked(kernel)) {
            if self.evaluation.rejection().is_some() {
                break;
            }
            if let Err(rejection) = caught(gate.run(harness, self, reporter))? {
                self.evaluation.reject(rejection);
            }
        }
        Ok(())
    }

    /// The gates that ran and judged nothing, each with the reason.
    pub fn unjudged(&self, kernel: &Kernel) -> BTreeMap<GateName, String> {
        let end = self.evaluation.rejection().map(|rejection| rejection.gate);
        let run = asked(kernel).filter(|gate| end.is_none_or(|end| gate.name() < end));
        run.filter_map(|gate| Some((gate.name(), gate.unjudged(kernel, self)?))).collect()
    }
}

/// The gates that a kernel's table asks for, in the order in which they run.
pub fn asked(kernel: &Kernel) -> impl Iterator<Item = &'static dyn Gate> {
    GATES.into_iter().filter(|gate| gate.is_asked(kernel))
}

/// The consequence of a finding at a gate's level: a rejection, a warning, or nothing.
pub fn at_level(level: Level, finding: Option<Rejection>, warnings: &mut Vec<String>) -> Option<Rejection> {
    match level {
        Level::Deny => finding,
        Level::Warn => {
            warnings.extend(finding.map(|finding| finding.to_string()));
            None
        }
        Level::Allow => None,
    }
}

/// Reason for a gate at level `allow`.
fn allowed(level: Level) -> Option<String> {
    (level == Level::Allow).then(|| "at level `allow`".to_owned())
}

/// Limits of one gate in words, such as `registers <= 120`.
#[derive(Default)]
struct Limits(Vec<String>);

impl Limits {
    fn at_most<T: std::fmt::Display>(&mut self, what: &str, limit: Option<T>) {
        if let Some(limit) = limit {
            self.0.push(format!("{what} <= {limit}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_the_gates_is_that_of_their_names() {
        let names: Vec<GateName> = GATES.iter().map(|gate| gate.name()).collect();
        assert!(names.is_sorted(), "{names:?}");
        assert_eq!(names.len(), GateName::ALL.len());
    }
}
