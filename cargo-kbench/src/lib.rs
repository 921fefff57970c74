//! `cargo kbench`: compile, gate and autotune the kernels declared in Cargo.toml.
//!
//! A run goes one way: [`config`] reads the table, [`space`] holds the toggles, [`search`] asks for variants, [`mod@build`] compiles
//! them, [`evaluate`] runs them in a worker [`process`], [`gates`] judge them, [`record`] keeps the journal and `elite.json`, and
//! [`report`] prints. [`tune`] is the loop that knows every stage. [`profile`] tells the limiting factor of a variant,
//! [`audit`] looks for faults that the gates miss, [`compare`] measures side by side and compares two states of a kernel,
//! [`replay`] runs strategies on a recorded search space.

pub mod audit;
pub mod build;
pub mod cli;
pub mod compare;
pub mod config;
pub mod evaluate;
pub mod expr;
pub mod file;
pub mod gates;
pub mod harness;
pub mod interrupt;
pub mod process;
pub mod profile;
pub mod record;
pub mod replay;
pub mod report;
pub mod search;
pub mod space;
pub mod text;
pub mod tune;
