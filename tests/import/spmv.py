#!/usr/bin/env python
# After the shape of Kernel Tuner's example of a sparse matrix: a divisor of the grid that is a quotient.
import numpy
import kernel_tuner
from collections import OrderedDict

def tune():
    with open("spmv.cu", "r") as f:
        kernel_string = f.read()
    nrows = numpy.int32(128*1024)
    ncols = 64*1024
    nnz = int(nrows*ncols*0.001)
    problem_size = nrows

    rows = numpy.asarray([0]+sorted(numpy.random.rand(nrows-1)*nnz)+[nnz]).astype(numpy.int32)
    cols = (numpy.random.rand(nnz)*ncols).astype(numpy.int32)
    vals = numpy.random.randn(nnz).astype(numpy.float32)
    x = numpy.random.randn(ncols).astype(numpy.float32)
    y = numpy.zeros(nrows).astype(numpy.float32)
    args = [y, rows, cols, vals, x, nrows]

    tune_params = OrderedDict()
    tune_params["block_size_x"] = [32*i for i in range(1,33)]
    tune_params["threads_per_row"] = [1, 32]
    tune_params["read_only"] = [0, 1]
    grid_div_x = ["block_size_x/threads_per_row"]

    return kernel_tuner.tune_kernel("spmv_kernel", kernel_string, problem_size, args, tune_params,
        grid_div_x=grid_div_x, verbose=True, atol=1e-4)
