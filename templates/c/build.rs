//! Compiles what `cargo kbench export` wrote.
#[path = "src/kbench/build.rs"]
mod kernels;

fn main() {
    kernels::compile();
}
