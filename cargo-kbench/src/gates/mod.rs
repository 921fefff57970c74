//! The gates: pure functions from what was measured to a verdict. One file each.

use crate::config::Level;
use crate::record::evaluation::Rejection;

pub mod correctness;
pub mod counters;
pub mod fit;
pub mod impossible;
pub mod launchable;
pub mod performance;
pub mod resources;
pub mod sanitize;

/// What a finding means at a gate's level: a rejection, a warning, or nothing.
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
