//! `cargo kbench`: compile, gate and autotune the kernels declared in Cargo.toml.
//!
//! One way through: [`config`] reads the table, [`space`] holds the toggles, [`search`] asks for variants, [`compile`] builds
//! them, [`executor`] runs them in a worker process, [`gates`] judge, [`journal`] and [`elite`] keep, [`report`] tells.
//! [`workbench`] does this for one variant, [`session`] for a search. [`mod@bench`] measures side by side, [`compare`] and
//! [`drift`] look at two states of a kernel. [`profile`] says what limits one, below the [`ceilings`] of its device; [`audit`]
//! looks for faults that the gates do not see. [`warm`] begins a search with what earlier ones found, [`cover`] says how few variants
//! serve all shapes. A [`proposer`] is a program that hands in sources.

pub mod audit;
pub mod bench;
pub mod ceilings;
pub mod cli;
pub mod compare;
pub mod compile;
pub mod config;
pub mod cover;
pub mod drift;
pub mod elite;
pub mod evaluation;
pub mod executor;
pub mod external;
pub mod file;
pub mod fit;
pub mod gates;
pub mod journal;
pub mod objective;
pub mod profile;
pub mod proposer;
pub mod replay;
pub mod report;
pub mod resolve;
pub mod search;
pub mod session;
pub mod space;
pub mod text;
pub mod verbs;
pub mod warm;
pub mod workbench;
