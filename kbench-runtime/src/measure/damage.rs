//! What launches did to memory that is not theirs to write, and whose doing it was.

use super::Measured;
use crate::device::Device;
use crate::protocol::{Failure, OutOfBounds, SeedReport};

/// What launches did to memory that is not theirs to write.
#[derive(Default)]
pub(super) struct Damage {
    pub inputs: Vec<String>,
    pub out_of_bounds: Vec<OutOfBounds>,
}

impl Damage {
    /// Adds what the guard bands and inputs of a case show, and repairs them.
    pub fn look<D: Device>(&mut self, device: &mut D, case: &Measured<D>) -> Result<(), Failure> {
        let survey = case.rig.survey(device)?;
        case.rig.out_of_bounds(device, &survey, &mut self.out_of_bounds)?;
        case.rig.inputs_changed(device, &survey, &case.sets[case.set()].inputs, &mut self.inputs)
    }

    /// Gives each finding to the case that was seen to do the same again, else to all that could have done it.
    pub fn assign<D: Device>(self, measured: &mut [Measured<D>]) {
        for name in self.inputs {
            if !measured.iter().any(|case| case.damage.inputs.contains(&name)) {
                for case in measured.iter_mut().filter(|case| case.rig.has(&name)) {
                    case.damage.inputs.push(name.clone());
                }
            }
        }
        for write in self.out_of_bounds {
            if !measured.iter().any(|case| case.damage.out_of_bounds.iter().any(|other| is_same_side(other, &write))) {
                for case in measured.iter_mut().filter(|case| case.rig.has(&write.tensor)) {
                    case.damage.out_of_bounds.push(write.clone());
                }
            }
        }
    }

    /// Adds what the measured launches did to what the check found.
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
