//! Records of a run: evaluations, the journal and `elite.json`.

pub mod conclusion;
pub mod elite;
pub mod evaluation;
pub mod journal;
pub mod objective;
pub mod run;
pub mod sealed;
mod told;
pub mod verdict;
