//! Recorded results: of this run, of the run that it resumes, and of earlier runs.

use std::collections::HashMap;
use std::sync::Arc;

use super::RunError;
use crate::record::evaluation::{Evaluation, Rejection, ShapeErrors, SourceRecord};
use crate::record::journal::{Comparison, Journal, Record, Round, RunCache, SanitizedRun};
use crate::space::Settings;

/// The results of a run by the keys of their evaluations, and the journal.
#[derive(Default)]
pub struct Results {
    cache: RunCache,
    /// The evaluation of the first candidate of this run with a key.
    first: HashMap<String, Arc<Evaluation>>,
    journal: Option<Journal>,
}

impl Results {
    /// Results with a journal and the records that were read from it.
    pub fn new(journal: Journal, cache: RunCache) -> Self {
        Self { cache, first: HashMap::new(), journal: Some(journal) }
    }

    /// Appends a record to the journal, if there is one.
    pub fn record(&mut self, record: &Record) -> Result<(), RunError> {
        if let Some(journal) = &mut self.journal {
            journal.append(record)?;
        }
        Ok(())
    }

    /// Appends an evaluation to the journal, if there is one.
    pub fn record_evaluation(&mut self, evaluation: &Evaluation) -> Result<(), RunError> {
        if let Some(journal) = &mut self.journal {
            journal.append_evaluation(evaluation)?;
        }
        Ok(())
    }

    /// The evaluation with this key, and whether an earlier run measured it.
    pub fn evaluation(&self, key: &str) -> Option<(&Arc<Evaluation>, bool)> {
        let found = self.cache.evaluation(key);
        tracing::debug!(key, "run cache {}", if found.is_some() { "hit" } else { "miss" });
        found
    }

    /// Adds an evaluation that this run measured or recalled.
    pub fn add(&mut self, evaluation: Arc<Evaluation>, is_default: bool) {
        self.cache.add(evaluation, is_default);
    }

    /// Records that the variant with this key passed the whole check.
    pub fn checked(&mut self, key: &str, errors: &[ShapeErrors], warnings: &[String]) {
        self.cache.checked(key, errors, warnings);
    }

    /// The rejection of the variant with this key by the rest of its check, in the run that is resumed.
    pub fn failed_check(&self, key: &str) -> Option<&Rejection> {
        self.cache.failed_check(key)
    }

    /// Whether the variant with this key passed and was rejected later, in the run that is resumed.
    pub fn is_revoked(&self, key: &str) -> bool {
        self.cache.is_revoked(key)
    }

    /// Whether a candidate of this run had this key.
    pub fn is_tried(&self, key: &str) -> bool {
        self.first.contains_key(key)
    }

    /// The toggles of the first candidate of this run with this key, if that is another candidate.
    pub fn identical_code(&self, key: &str, toggles: &Settings, source: Option<&SourceRecord>) -> Option<Settings> {
        let first = self.first.get(key)?;
        ((&first.toggles, first.source.as_ref()) != (toggles, source)).then(|| first.toggles.clone())
    }

    /// Records the evaluation of a candidate of this run.
    pub fn tried(&mut self, evaluation: &Arc<Evaluation>) {
        self.first.insert(evaluation.key.clone(), Arc::clone(evaluation));
    }

    /// The comparison with this key.
    pub fn comparison(&self, key: &str) -> Option<&Comparison> {
        self.cache.comparisons.get(key)
    }

    /// Records a comparison.
    pub fn keep_comparison(&mut self, comparison: Comparison) -> Result<(), RunError> {
        self.record(&Record::Comparison(Box::new(comparison.clone())))?;
        self.cache.comparisons.insert(comparison.key.clone(), comparison);
        Ok(())
    }

    /// The run under a sanitizer with this key.
    pub fn sanitized(&self, key: &str) -> Option<&SanitizedRun> {
        self.cache.sanitized.get(key)
    }

    /// Records a run under a sanitizer.
    pub fn keep_sanitized(&mut self, run: SanitizedRun) -> Result<(), RunError> {
        self.record(&Record::Sanitized(Box::new(run.clone())))?;
        self.cache.sanitized.insert(run.key.clone(), run);
        Ok(())
    }

    /// Reason why results of earlier runs are discarded, if they are.
    pub fn discarded(&self) -> Option<&str> {
        self.cache.machine_changed.as_deref()
    }

    /// Proposals of the run that is resumed.
    pub fn rounds(&self) -> &[Round] {
        &self.cache.rounds
    }
}
