//! The place of an implementation in a table.

use super::super::diagnostics::Report;
use super::super::tree::Entry;
use super::env::Env;
use super::tensors::Tensors;

/// The use of an implementation: kernel, reference or baseline.
#[derive(Clone, Copy)]
pub(super) struct Slot<'s> {
    /// "kernel", "reference" or "baseline".
    pub(super) noun: &'static str,
    /// The table's entry, which is the place of errors about missing keys.
    pub(super) entry: &'s Entry,
    pub(super) env: &'s Env<'s>,
    pub(super) tensors: &'s Tensors,
    pub(super) report: &'s Report,
}
