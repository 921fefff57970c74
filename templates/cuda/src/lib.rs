//! The kernels of this package are in CUDA, beside this file; `cargo kbench` builds and runs them.
