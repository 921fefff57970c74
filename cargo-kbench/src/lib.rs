//! `cargo kbench`: compile, gate and autotune the kernels declared in Cargo.toml.
//!
//! A run passes the rooms in one direction: [`config`] reads the table, [`space`] holds the toggles, [`search`] chooses
//! variants, `build` compiles them, `harness` runs them in a worker process, `gates` judge them in a fixed order,
//! `evaluate` takes one candidate through these rooms, `tune` searches, `record` keeps the journal and elite.json, and
//! `report` prints. `export` writes code that launches winners, `profile` finds the bottleneck of a variant, `audit`
//! looks for faults that the gates miss, `compare` measures side by side and compares two states of a kernel, and
//! `replay` runs strategies on recorded spaces. No room names one above it: `tests/rooms.rs` holds the order.
//!
//! The executable calls [`cli::main`]. A program can use the strategies without it:
//!
//! ```
//! use cargo_kbench::config::{LoadOptions, load};
//! use cargo_kbench::search::{self, Candidates, Outcome};
//!
//! let manifest_path = Some(concat!(env!("CARGO_MANIFEST_DIR"), "/../kernels/matmul/Cargo.toml").into());
//! let (project, _warnings) = load(&LoadOptions { manifest_path, ..LoadOptions::default() })?;
//! let kernel = &project.packages[0].kernels[0];
//! let mut strategy = search::strategy(&Candidates::new(&kernel.space), &kernel.search);
//! for variant in strategy.ask(4) {
//!     assert!(kernel.space.is_valid(&variant));
//!     strategy.tell(&variant, Outcome::Measured(1.0));
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod audit;
mod build;
mod bundle;
pub mod cli;
mod compare;
pub mod config;
mod docs;
mod doctor;
mod evaluate;
mod export;
pub mod expr;
mod file;
mod gates;
mod harness;
mod import;
mod interrupt;
mod page;
mod process;
mod profile;
mod record;
mod replay;
mod report;
pub mod search;
pub mod space;
mod text;
mod toolchain;
mod tune;
