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
    use crate::config::fixture;
    use crate::record::evaluation::Reason;

    #[test]
    fn the_order_of_the_gates_is_that_of_their_names() {
        let names: Vec<GateName> = GATES.iter().map(|gate| gate.name()).collect();
        assert!(names.is_sorted(), "{names:?}");
        assert_eq!(names.len(), GateName::ALL.len());
        let joint: Vec<GateName> = GATES.iter().filter(|gate| gate.is_joint()).map(|gate| gate.name()).collect();
        assert_eq!(joint, [GateName::Performance]);
    }

    fn finding(gate: GateName) -> Rejection {
        Rejection::new(gate, Reason::Wrong, "it is wrong", Some("s"))
    }

    #[test]
    fn a_finding_rejects_warns_or_is_ignored_by_its_level() {
        let at = |level| {
            let mut warnings = Vec::new();
            let rejection = at_level(level, Some(finding(GateName::Correctness)), &mut warnings);
            (rejection.is_some(), warnings.len())
        };
        assert_eq!([at(Level::Deny), at(Level::Warn), at(Level::Allow)], [(true, 0), (false, 1), (false, 0)]);
        let mut warnings = Vec::new();
        assert!(at_level(Level::Warn, None, &mut warnings).is_none() && warnings.is_empty());
        assert!(at_level(Level::Deny, None, &mut warnings).is_none());
    }

    #[test]
    fn only_gates_before_the_rejection_can_have_judged_nothing() {
        let unjudged = |more: &str, end: Option<GateName>| {
            let project = fixture::project(more);
            let kernel = &project.packages[0].kernels[0];
            let settings = kernel.space.settings(&kernel.space.default);
            let mut evaluation = Evaluation::new(settings, Vec::new());
            if let Some(gate) = end {
                evaluation.reject(finding(gate));
            }
            let candidate = (&kernel.space.default).into();
            Trial::new(candidate, evaluation).unjudged(kernel).into_iter().collect::<Vec<_>>()
        };
        let (resources, correctness) = (GateName::Resources, GateName::Correctness);
        let none = |gate| (gate, "no limits".to_owned());
        assert_eq!(unjudged("", None), [none(resources), none(GateName::Performance)]);
        assert_eq!(unjudged("", Some(GateName::Performance)), [none(resources)], "the last gate judged");
        assert_eq!(unjudged("", Some(resources)), []);
        let allowed = (correctness, "at level `allow`".to_owned());
        assert_eq!(
            unjudged("gates.correctness.level = \"allow\"", Some(GateName::Sanitize)),
            [none(resources), allowed]
        );
        let (sanitize, counters) = (GateName::Sanitize, GateName::Counters);
        let asked_for = unjudged("gates.sanitize = \"warn\"\ngates.counters = \"warn\"", None);
        assert_eq!(
            asked_for.iter().map(|(gate, _)| *gate).collect::<Vec<_>>(),
            [resources, sanitize, GateName::Performance, counters]
        );
    }

    #[test]
    fn a_gate_judged_once_a_tool_ran_or_a_counter_was_read() {
        let project = fixture::project("gates.sanitize = \"warn\"\ngates.counters = \"warn\"");
        let kernel = &project.packages[0].kernels[0];
        let settings = kernel.space.settings(&kernel.space.default);
        let mut trial = Trial::new((&kernel.space.default).into(), Evaluation::new(settings, Vec::new()));
        let unjudged = |trial: &Trial| {
            [GateName::Sanitize, GateName::Counters].map(|gate| trial.unjudged(kernel).get(&gate).cloned())
        };
        let (no_tool, no_counter) = (Some("no tool was run".to_owned()), Some("no counter was read".to_owned()));
        assert_eq!(unjudged(&trial), [no_tool, no_counter.clone()]);
        trial.sanitized = vec!["address at s".to_owned()];
        assert_eq!(unjudged(&trial), [None, no_counter]);
        trial.profiles = vec![crate::profile::tests::profile(&[], None)];
        assert_eq!(unjudged(&trial), [None, None]);
    }

    #[test]
    fn limits_are_said_in_words() {
        let words = |gate: &dyn Gate, more: &str| {
            let project = fixture::project(more);
            gate.limits(&project.packages[0].kernels[0]).unwrap()
        };
        let project = fixture::project("");
        let unlimited = |gate: &dyn Gate| gate.limits(&project.packages[0].kernels[0]);
        assert_eq!([unlimited(&compile::Compile), unlimited(&launch::Launch)], [None, None]);
        let (level, of_resources) = words(
            &resources::Resources,
            "gates.resources = { level = \"warn\", max_stack_bytes = 64, min_occupancy = 0.5 }",
        );
        assert_eq!(
            (level, of_resources),
            (Level::Warn, vec!["stack bytes <= 64".to_owned(), "occupancy >= 0.5".to_owned()])
        );
        let (_, usual) = words(&correctness::Correctness, "");
        assert_eq!(usual, ["errors usual for each output's type", "5 seeds", "13 patterns"]);
        let (_, stated) = words(
            &correctness::Correctness,
            "gates.correctness = { max_mean_err = 0.5, seeds = 1, patterns = [], shapes = [\"t\"], deterministic = false }",
        );
        assert_eq!(stated, ["mean err <= 0.5", "1 seed", "at t", "need not be deterministic"]);
        let naive = "baselines.naive = { source = \"k.c\", entry = \"k\" }";
        let (_, beside) = words(
            &correctness::Correctness,
            &format!("{naive}\ngates.correctness = {{ naive = \"naive\", max_abs_err = 1, max_bad_fraction = 0.25 }}"),
        );
        let errors = ["bad fraction <= 0.25", "max abs err <= 1", "errors <= 2 x those of naive"];
        assert_eq!(beside[..3], errors, "{beside:?}");
        let (level, of_performance) = words(
            &performance::Performance,
            &format!(
                "{naive}\ngates.performance = [{{ shape = \"t\", max_p50_us = 2.5 }}, {{ shape = \"s\", min_speedup = 1.5, over = \"naive\" }}]"
            ),
        );
        assert_eq!(
            (level, &*of_performance),
            (Level::Deny, &["p50 <= 2.5 µs at t", "1.5 x naive at s"].map(str::to_owned)[..])
        );
        let (level, of_sanitize) = words(&sanitize::Sanitize, "gates.sanitize = \"warn\"");
        assert_eq!((level, &*of_sanitize), (Level::Warn, &["address, undefined at s".to_owned()][..]));
        let counters =
            "gates.counters = { level = \"deny\", any = [\"perf__cycles < 9\", \"perf__branch_misses <= 2\"] }";
        let (level, of_counters) = words(&counters::Counters, counters);
        assert_eq!(
            (level, &*of_counters),
            (Level::Deny, &["perf__cycles < 9 or perf__branch_misses <= 2 at s".to_owned()][..])
        );
        let (_, all) = words(&counters::Counters, &counters.replace("any", "all"));
        assert_eq!(all, ["perf__cycles < 9 and perf__branch_misses <= 2 at s"]);
    }
}
