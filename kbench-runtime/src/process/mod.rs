//! Processes: deadlines that count running time only, the end of descendants, and isolation.

pub mod awake;
pub mod descendants;
mod isolation;
pub mod threads;

pub use self::isolation::isolate;
