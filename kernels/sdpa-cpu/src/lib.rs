//! Carries the C kernels in this folder as a cargo package: `cargo kbench autotune -p sdpa-cpu` builds and tunes them.
//! There is no Rust code here; the table in Cargo.toml says everything.
