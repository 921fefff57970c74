//! Correctness: the outputs of the reference, the errors of a kernel against them, and checks of its memory.

pub mod check;
pub mod compare;
pub mod reference;
pub mod results;
pub mod seed;
pub mod session;
