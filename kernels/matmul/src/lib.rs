//! A tiled fp32 matrix product in CUDA: `src/matmul.cu`, described to cargo kbench by this package's Cargo.toml.
//! There is no Rust code here; `cargo kbench autotune -p matmul` compiles, checks and tunes the kernel.
