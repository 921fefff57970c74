//! Work on the likely finalists before the finals, for all of them together.

use std::sync::Arc;

use crate::evaluate::complete;
use crate::gates::Gate as _;
use crate::gates::sanitize::{Sanitize, run_ahead};
use crate::harness::{Harness, RunError};
use crate::tune::search::{Search, Tried};

impl Search<'_> {
    /// Checks the likely finalists in full and runs the sanitizers on them, if the table asks for sanitizers.
    pub(super) fn prepare_finalists(&mut self, harness: &mut Harness<'_>) -> Result<(), RunError> {
        if !Sanitize.is_asked(harness.kernel()) {
            return Ok(());
        }
        for place in self.to_examine(&harness.results) {
            let Tried { candidate, evaluation } = &mut self.tried[place];
            complete(harness, candidate, Arc::make_mut(evaluation))?;
        }
        self.sanitize_ahead(harness, None)
    }

    /// Runs the sanitizers on the likely finalists that have passed so far, on the device of each of `others`, or on the harness's own.
    pub(super) fn sanitize_ahead<'h>(
        &self,
        harness: &mut Harness<'h>,
        others: Option<&[&Harness<'h>]>,
    ) -> Result<(), RunError> {
        if !Sanitize.is_asked(harness.kernel()) {
            return Ok(());
        }
        let likely = self.best_distinct().into_iter().filter(|tried| tried.evaluation.rejection().is_none());
        let likely: Vec<_> = likely.map(|tried| &tried.candidate).collect();
        let runs = harness.counted_as(
            |times| &mut times.tools,
            |harness| run_ahead(&harness.results, others.unwrap_or(&[&*harness]), &likely),
        )?;
        runs.into_iter().try_for_each(|run| harness.results.keep_sanitized(run))
    }
}
