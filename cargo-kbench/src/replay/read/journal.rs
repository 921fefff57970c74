//! Journals of cargo-kbench: the last run and the runs that it resumed, with the last record of each variant. Journals
//! have no costs of evaluations.

use super::sound;
use crate::record::evaluation::{Evaluation, Judgement};
use crate::record::journal::Record;
use crate::replay::problem::Problem;
use crate::replay::recorded::Entry;
use crate::search::Outcome;
use crate::space::Settings;

/// Whether the first line is that of a journal.
pub(super) fn is(bytes: &[u8]) -> bool {
    let first = bytes.split(|&byte| byte == b'\n').next().unwrap_or_default();
    serde_json::from_slice::<Record>(first).is_ok()
}

pub(super) fn parse(bytes: &[u8]) -> Result<Vec<(Settings, Entry)>, Problem> {
    let mut rows: Vec<(Settings, Entry)> = Vec::new();
    for line in bytes.split(|&byte| byte == b'\n') {
        // A damaged or incomplete line is skipped, as in a resumed run.
        match serde_json::from_slice(line) {
            Ok(Record::Start(start)) if !start.goes_on() => rows.clear(),
            // A proposed source is not a point of the space.
            Ok(Record::Evaluation(evaluation)) if evaluation.source.is_none() => {
                let entry = entry(&evaluation)
                    .ok_or_else(|| Problem::Outcome { row: rows.len(), settings: evaluation.toggles.clone() })?;
                match rows.iter_mut().find(|(settings, _)| settings.same(&evaluation.toggles)) {
                    Some((_, earlier)) => *earlier = entry,
                    None => rows.push((evaluation.toggles, entry)),
                }
            }
            _ => {}
        }
    }
    Ok(rows)
}

fn entry(evaluation: &Evaluation) -> Option<Entry> {
    let outcome = match &evaluation.outcome {
        Judgement::Rejected(rejection) => Outcome::Failed(rejection.gate.into()),
        Judgement::Passed => {
            let objective = evaluation.objective().and_then(sound)?;
            if evaluation.identical_code.is_some() {
                Outcome::Identical(objective)
            } else {
                Outcome::Measured(objective)
            }
        }
    };
    Some(Entry { outcome, cost: None })
}
