//! Rejections for a proposer: some for each reason, with shortened output of tools.

use std::collections::BTreeMap;

use super::proposer::protocol;
use super::search::Tried;
use crate::record::evaluation::Rejection;

/// Largest number of rejections in a round, and with one reason.
const REJECTS: usize = 16;

const REJECTS_ALIKE: usize = 3;

/// Largest number of bytes of a tool's output.
const OUTPUT: usize = 8192;

/// Some rejections for each reason.
pub(super) fn rejects(tried: &[Tried]) -> Vec<protocol::Reject> {
    let mut alike = BTreeMap::new();
    let rejects = tried.iter().filter_map(|tried| {
        let rejection = tried.evaluation.rejection()?;
        let number = alike.entry((rejection.gate, rejection.code)).or_insert(0);
        *number += 1;
        (*number <= REJECTS_ALIKE).then(|| protocol::Reject {
            toggles: tried.evaluation.toggles.clone(),
            source: tried.evaluation.source.clone(),
            rejection: short(rejection.clone()),
        })
    });
    rejects.take(REJECTS).collect()
}

/// A rejection with shortened output of the tool.
pub(super) fn short(mut rejection: Rejection) -> Rejection {
    if let Some(output) = &mut rejection.output
        && output.len() > OUTPUT
    {
        let end = (0..=OUTPUT).rev().find(|&end| output.is_char_boundary(end)).unwrap_or(0);
        output.truncate(end);
    }
    rejection
}
