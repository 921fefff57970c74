//! The rest of the check of a candidate that may win: a search checks one seed of each shape before it times a variant.

use std::sync::Arc;

use super::jobs::Jobs;
use crate::gates::correctness::{Check, more_seeds};
use crate::harness::{Candidate, Halt, Harness, RunError, caught};
use crate::record::evaluation::{Checked, Evaluation, Rejection, ShapeErrors};
use crate::record::journal::Record;

/// Runs the checks that the search left out. A candidate that fails is rejected.
pub fn complete(harness: &mut Harness<'_>, candidate: &Candidate, evaluation: &mut Evaluation) -> Result<(), RunError> {
    if is_checked(harness, evaluation) {
        return Ok(());
    }
    // The check of a candidate with the same machine code counts for this one.
    let cached = harness.results.evaluation(&evaluation.key).map(|(cached, _)| Arc::clone(cached));
    if let Some(cached) = cached.filter(|cached| cached.checked == Checked::InFull) {
        evaluation.check_is(cached.errors.clone(), cached.warnings.clone());
        return Ok(());
    }
    let examined = examine(harness, candidate, evaluation)?;
    keep_examined(harness, evaluation, examined)
}

/// Whether the check is done. A kernel that is wrong at times may pass a second one, so a failed check of the run that is resumed counts.
fn is_checked(harness: &Harness<'_>, evaluation: &mut Evaluation) -> bool {
    if evaluation.checked == Checked::InFull || evaluation.rejection().is_some() {
        return true;
    }
    let failed = harness.results.failed_check(&evaluation.key).cloned();
    failed.map(|rejection| evaluation.reject(rejection)).is_some()
}

/// Records the failed check of this program again. In the run that is resumed, its record comes before that of the last candidate.
pub(super) fn record_failed_check(harness: &mut Harness<'_>, key: &str) -> Result<(), RunError> {
    match harness.results.failed_check(key).cloned() {
        Some(rejection) => harness.record(&Record::Revoked { key: key.to_owned(), rejection, by_check: true }),
        None => Ok(()),
    }
}

/// Records the result of the gates that judge a candidate alone, where the journal has another one.
pub(super) fn record_alone(harness: &mut Harness<'_>, evaluation: &Evaluation) -> Result<(), RunError> {
    match evaluation.rejection().cloned() {
        Some(rejection) => harness.record(&Record::Revoked { key: evaluation.key.clone(), rejection, by_check: false }),
        // The run that is resumed rejected this variant, and the journal's last record about the variant says so.
        None if harness.results.is_revoked(&evaluation.key) => harness.record_evaluation(evaluation),
        None => Ok(()),
    }
}

/// Runs the checks of a baseline on a candidate that cannot win, and that others are compared with: all seeds, no patterns. A candidate
/// that fails is rejected. One launch on each seed is enough, since the candidate passed two on the first.
pub fn complete_as_baseline(
    harness: &mut Harness<'_>,
    candidate: &Candidate,
    evaluation: &mut Evaluation,
) -> Result<(), RunError> {
    if is_checked(harness, evaluation) {
        return Ok(());
    }
    match caught(check_more_seeds(harness, candidate))? {
        Ok(()) => Ok(()),
        Err(rejection) => keep_examined(harness, evaluation, Err(rejection)),
    }
}

/// Result of the rest of a check: errors and warnings of the whole check, or the rejection.
pub type Examined = Result<(Vec<ShapeErrors>, Vec<String>), Rejection>;

/// Runs the rest of a check. The result does not depend on the journal or on other candidates: any harness of the same
/// kernel can run it.
pub fn examine(
    harness: &mut Harness<'_>,
    candidate: &Candidate,
    evaluation: &Evaluation,
) -> Result<Examined, RunError> {
    let mut warnings = evaluation.warnings.clone();
    let errors = caught(check_in_full(harness, candidate, &mut warnings))?;
    Ok(errors.map(|errors| (errors, warnings)))
}

/// Records the result of the rest of a check.
pub fn keep_examined(
    harness: &mut Harness<'_>,
    evaluation: &mut Evaluation,
    examined: Examined,
) -> Result<(), RunError> {
    match examined {
        Ok((errors, warnings)) => {
            harness.results.checked(&evaluation.key, &errors, &warnings);
            let (key, errors_of, warnings_of) = (evaluation.key.clone(), errors.clone(), warnings.clone());
            harness.record(&Record::Checked { key, errors: errors_of, warnings: warnings_of })?;
            evaluation.check_is(errors, warnings);
        }
        Err(rejection) => {
            let (key, rejection_of) = (evaluation.key.clone(), rejection.clone());
            harness.record(&Record::Revoked { key, rejection: rejection_of, by_check: true })?;
            evaluation.reject(rejection);
        }
    }
    Ok(())
}

/// Checks a candidate on the seeds that the first look left out.
fn check_more_seeds(harness: &mut Harness<'_>, candidate: &Candidate) -> Result<(), Halt> {
    let kernel = harness.kernel();
    let jobs = Jobs::of(harness, candidate)?;
    for (shape, job) in jobs.checks {
        let job = more_seeds(job);
        if !job.seeds.is_empty() {
            Check { kernel, shape: &kernel.shapes[shape].name }.run(harness, job, &mut Vec::new())?;
        }
    }
    Ok(())
}

fn check_in_full(
    harness: &mut Harness<'_>,
    candidate: &Candidate,
    warnings: &mut Vec<String>,
) -> Result<Vec<ShapeErrors>, Halt> {
    let kernel = harness.kernel();
    let jobs = Jobs::of(harness, candidate)?;
    let check = |shape: usize| Check { kernel, shape: &kernel.shapes[shape].name };
    let mut errors = Vec::new();
    for (shape, job) in &jobs.checks {
        errors.push(check(*shape).run(harness, job.clone(), warnings)?);
    }
    for (shape, _) in &jobs.times {
        check(*shape).run_after(harness, jobs.after(*shape, &kernel.gates.correctness))?;
    }
    warnings.sort();
    warnings.dedup();
    Ok(errors)
}
