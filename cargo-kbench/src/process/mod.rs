//! The programs that kbench starts: the worker, programs that measure, and programs that write inputs. All, and compilers too, run in a
//! [`group::ProcessGroup`].

pub mod executor;
pub(crate) mod group;
pub mod inputs;
pub mod program;
