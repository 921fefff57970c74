//! Measurement: cases are sampled in turn until their medians are known precisely enough. After the samples each case is examined for
//! cheating and for memory faults, and checked again.

mod adjusted;
mod back_to_back;
mod case;
mod cheating;
mod decided;
mod energy;
mod job;
mod memory_faults;
mod pairs;
mod recheck;
mod run;
mod sampling;
pub mod statistics;
pub mod stopping;
mod warmup;

pub use self::run::CaseFailure;

#[cfg(test)]
mod tests;
