//! The programs that kbench starts: the worker, programs that measure, and programs that write inputs.

pub mod executor;
pub mod inputs;
pub mod program;
