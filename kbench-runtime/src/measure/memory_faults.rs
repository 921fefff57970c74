//! Writes of kernels to memory that they must not write, with the case that made them.

use super::case::MeasuredCase;
use crate::device::Device;
use crate::protocol::{Failure, OutOfBounds, SeedReport};

/// Writes of launches to memory that they must not write.
#[derive(Default)]
pub(super) struct MemoryFaults {
    /// Names of inputs that changed.
    pub inputs: Vec<String>,
    pub out_of_bounds: Vec<OutOfBounds>,
}

impl MemoryFaults {
    /// Adds the faults that the guard bands and inputs of a case show, and repairs its memory.
    pub fn find<D: Device>(&mut self, device: &mut D, case: &MeasuredCase<D>) -> Result<(), Failure> {
        let digests = case.memory.digests(device)?;
        case.memory.out_of_bounds(device, &digests, &mut self.out_of_bounds)?;
        case.memory.inputs_changed(device, &digests, &case.sets[case.set()].inputs, &mut self.inputs)
    }

    /// Assigns each fault to the case that repeated it, or else to all cases that have the tensor.
    pub fn assign<D: Device>(self, cases: &mut [MeasuredCase<D>]) {
        for name in self.inputs {
            if !cases.iter().any(|case| case.memory_faults.inputs.contains(&name)) {
                for case in cases.iter_mut().filter(|case| case.memory.has(&name)) {
                    case.memory_faults.inputs.push(name.clone());
                }
            }
        }
        for write in self.out_of_bounds {
            let repeats = |other: &OutOfBounds| is_same_side(other, &write);
            if !cases.iter().any(|case| case.memory_faults.out_of_bounds.iter().any(repeats)) {
                for case in cases.iter_mut().filter(|case| case.memory.has(&write.tensor)) {
                    case.memory_faults.out_of_bounds.push(write.clone());
                }
            }
        }
    }

    /// Adds the faults of the measured launches to those that the check found.
    pub fn merge(self, report: &mut SeedReport) {
        for name in self.inputs {
            if !report.inputs_changed.contains(&name) {
                report.inputs_changed.push(name);
            }
        }
        for write in self.out_of_bounds {
            if !report.out_of_bounds.iter().any(|other| is_same_side(other, &write)) {
                report.out_of_bounds.push(write);
            }
        }
    }
}

fn is_same_side(one: &OutOfBounds, other: &OutOfBounds) -> bool {
    one.tensor == other.tensor && (one.offset >= 0) == (other.offset >= 0)
}

#[cfg(test)]
mod tests {
    use super::super::tests::fake_case::{job, sampled};
    use super::*;

    fn write(tensor: &str, offset: i64, bytes: u64) -> OutOfBounds {
        OutOfBounds { tensor: tensor.to_owned(), offset, bytes }
    }

    #[test]
    fn faults_of_the_measured_launches_join_those_of_the_check_once_for_each_input_and_side() {
        let mut report = SeedReport::new(1);
        report.inputs_changed = vec!["x".to_owned()];
        report.out_of_bounds = vec![write("y", 4000, 4), write("z", -8, 8)];
        let found = MemoryFaults {
            inputs: ["x", "w"].map(str::to_owned).into(),
            out_of_bounds: vec![write("y", 4096, 100), write("y", 0, 1), write("y", -4, 4), write("x", -8, 8)],
        };
        found.merge(&mut report);
        assert_eq!(report.inputs_changed, ["x", "w"]);
        let expected = [write("y", 4000, 4), write("z", -8, 8), write("y", -4, 4), write("x", -8, 8)];
        assert_eq!(report.out_of_bounds, expected);
    }

    #[test]
    fn a_fault_that_no_case_repeated_is_of_all_cases_with_the_tensor() {
        sampled(job(r#"{"time_ns":1000,"noise":0}"#), |case, _| {
            let found = || MemoryFaults {
                inputs: ["x", "of another case"].map(str::to_owned).into(),
                out_of_bounds: vec![write("o", 2000, 4), write("of another case", 0, 4)],
            };
            found().assign(std::slice::from_mut(case));
            assert_eq!(
                (&*case.memory_faults.inputs, &*case.memory_faults.out_of_bounds),
                (&["x".to_owned()][..], &[write("o", 2000, 4)][..])
            );
            // The case repeated both, of one further away.
            found().assign(std::slice::from_mut(case));
            assert_eq!((case.memory_faults.inputs.len(), case.memory_faults.out_of_bounds.len()), (1, 1));
        });
    }
}
