//! Correctness: the reference's results, errors against them, and the check of one kernel.

pub mod check;
pub mod compare;
pub mod reference;
pub mod results;
