//! FP8 scaled dot-product attention in CUDA: `src/sdpa.cu`, described to cargo kbench by this package's Cargo.toml.
//! There is no Rust code here; `cargo kbench autotune -p sdpa` compiles, checks and tunes the kernel.
