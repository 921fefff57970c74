//! The gate `counters`: conditions on hardware counters, or on the roofline if there are none.

use super::{Gate, Trial, at_level};
use crate::config::counters::{Counters as Conditions, Quantifier};
use crate::config::{Kernel, Level};
use crate::harness::{CounterFindings, DeviceTimes, Event, Halt, Harness, Reporter, RunError, caught};
use crate::profile::{Profile, Source};
use crate::record::evaluation::{GateName, Reason, Rejection};

mod profile;

pub use profile::profile;

/// The gate `counters`.
pub struct Counters;

impl Gate for Counters {
    fn name(&self) -> GateName {
        GateName::Counters
    }

    fn is_asked(&self, kernel: &Kernel) -> bool {
        kernel.gates.counters.level != Level::Allow
    }

    fn limits(&self, kernel: &Kernel) -> Option<(Level, Vec<String>)> {
        let table = &kernel.gates.counters;
        let word = if table.quantifier == Quantifier::Any { " or " } else { " and " };
        let conditions = table.conditions.iter().map(ToString::to_string).collect::<Vec<_>>().join(word);
        Some((table.level, vec![format!("{conditions} at {}", kernel.shape_names(&table.shapes).join(", "))]))
    }

    fn unjudged(&self, _kernel: &Kernel, trial: &Trial) -> Option<String> {
        trial.profiles.is_empty().then(|| "no counter was read".to_owned())
    }

    fn run(&self, harness: &mut Harness<'_>, trial: &mut Trial, reporter: &mut dyn Reporter) -> Result<(), Halt> {
        let judged =
            harness.counted_as(|times: &mut DeviceTimes| &mut times.tools, |harness| judge_all(harness, trial))?;
        let label = trial.candidate.label(harness.kernel());
        reporter.event(Event::Profiled { label: &label, judged: &judged });
        trial.evaluation.warnings.extend(judged.warnings);
        trial.profiles = judged.profiles;
        judged.rejection.map_or(Ok(()), |rejection| Err(rejection.into()))
    }
}

/// Profiles and judges a candidate at each shape of the table, until one rejects it.
fn judge_all(harness: &mut Harness<'_>, trial: &Trial) -> Result<CounterFindings, RunError> {
    let gate = &harness.kernel().gates.counters;
    let mut judged = CounterFindings::default();
    for &shape in &gate.shapes {
        let finding = match caught(profile(harness, &trial.candidate, shape, &trial.evaluation))? {
            Ok(profile) => {
                let finding = judge(gate, &profile);
                judged.profiles.push(profile);
                finding
            }
            Err(rejection) => Some(rejection),
        };
        judged.rejection = at_level(gate.level, finding, &mut judged.warnings);
        if judged.rejection.is_some() {
            break;
        }
    }
    Ok(judged)
}

/// Judges a profile. A condition without a number is neither true nor false; if the verdict depends on it, the verdict
/// is undecided.
pub fn judge(gate: &Conditions, profile: &Profile) -> Option<Rejection> {
    let mut shown = Vec::new();
    let (mut holding, mut unknown) = (0, 0);
    for condition in &gate.conditions {
        match profile.value(condition) {
            Ok((value, source)) => {
                let holds = condition.relation.holds(value, condition.limit);
                holding += usize::from(holds);
                let estimated = source == Source::Roofline && !condition.name.starts_with("roofline__");
                let by = if estimated { " by the roofline" } else { "" };
                if !holds {
                    shown.push(format!("`{condition}` does not hold: it is {value:.1}{by}"));
                }
            }
            Err(why) => {
                unknown += 1;
                shown.push(format!("`{condition}` has no number: {why}"));
            }
        }
    }
    let (passes, decided) = match gate.quantifier {
        Quantifier::Any => (holding > 0, unknown == 0),
        Quantifier::All => (holding == gate.conditions.len(), holding + unknown < gate.conditions.len()),
    };
    if passes {
        return None;
    }
    let (code, message) = if decided {
        let diagnosis = &profile.diagnosis;
        (Reason::Unmet, format!("{}; {}: {}", shown.join("; "), diagnosis.limiter, diagnosis.next))
    } else {
        (Reason::Undecided, shown.join("; "))
    };
    Some(Rejection::new(GateName::Counters, code, message, Some(&profile.shape)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Backend;
    use crate::config::counters::default_conditions;
    use crate::profile::tests::profile;

    const TENSOR: &str = "sm__pipe_tensor_cycles_active";
    const DRAM: &str = "dram__throughput";

    fn judged(quantifier: Quantifier, profile: &Profile) -> Result<(), (Reason, String)> {
        let gate = Conditions { quantifier, conditions: default_conditions(Backend::Cuda), ..Conditions::default() };
        judge(&gate, profile).map_or(Ok(()), |rejection| Err((rejection.code, rejection.message)))
    }

    #[test]
    fn any_and_all_of_the_counters() {
        let counted = |tensor, dram| profile(&[(TENSOR, tensor), (DRAM, dram)], None);
        let (any, all) = (Quantifier::Any, Quantifier::All);
        assert_eq!(judged(any, &counted(50.0, 90.0)), Ok(()));
        assert_eq!(judged(any, &counted(10.0, 49.9)), Ok(()));
        let (code, message) = judged(any, &counted(49.9, 71.0)).unwrap_err();
        assert_eq!(code, Reason::Unmet);
        insta::assert_snapshot!(message, @"`sm__pipe_tensor_cycles_active >= 50` does not hold: it is 49.9; `dram__throughput < 50` does not hold: it is 71.0; memory-bound: revisit the copies: fewer bytes (smaller types, reuse through tiles), coalesced 16-byte accesses, cp.async or TMA with more stages");
        assert_eq!(judged(all, &counted(50.0, 10.0)), Ok(()));
        assert_eq!(judged(all, &counted(50.0, 60.0)).unwrap_err().0, Reason::Unmet);
    }

    #[test]
    fn a_missing_counter_is_inconclusive_only_where_the_verdict_depends_on_it() {
        let (any, all) = (Quantifier::Any, Quantifier::All);
        let only = |name, value| profile(&[(name, value)], None);
        assert_eq!(judged(any, &only(DRAM, 10.0)), Ok(()));
        assert_eq!(judged(any, &only(DRAM, 60.0)).unwrap_err().0, Reason::Undecided);
        assert_eq!(judged(all, &only(DRAM, 60.0)).unwrap_err().0, Reason::Unmet);
        let (code, message) = judged(all, &only(DRAM, 10.0)).unwrap_err();
        assert_eq!(code, Reason::Undecided);
        assert!(message.contains("ncu does not know it on this device"), "{message}");
    }

    #[test]
    fn without_counters_the_roofline_judges_with_a_note() {
        assert_eq!(judged(Quantifier::All, &profile(&[], Some((60.0, 20.0)))), Ok(()));
        let (code, message) = judged(Quantifier::Any, &profile(&[], Some((10.0, 80.0)))).unwrap_err();
        assert_eq!(code, Reason::Unmet);
        assert!(message.contains("it is 10.0 by the roofline"), "{message}");
        let (code, message) = judged(Quantifier::Any, &profile(&[], None)).unwrap_err();
        assert_eq!(code, Reason::Undecided);
        assert!(message.contains("no ncu; `work` is not in the table"), "{message}");
    }
}
