//! The kernels of this package are in C, beside this file; `cargo kbench` builds and runs them.
