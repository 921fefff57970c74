//! What users see.

pub mod check;
