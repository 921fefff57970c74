//! Processes and their time: who descends from whom, and how long this process could run.

pub mod awake;
pub mod descendants;
