//! The kernels beside this file are the package.
