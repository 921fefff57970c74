//! The programs that kbench starts: the worker, programs that measure.

pub mod executor;
pub mod program;
