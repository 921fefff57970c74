//! Nothing: the kernels are the package.
