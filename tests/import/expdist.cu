// Two kernels.
