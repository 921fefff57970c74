"""After the shape of Kernel Tuner's example of points in a polygon: host code in a function, behind an allocator of another library."""
from collections import OrderedDict
import numpy
import kernel_tuner
import json
import logging

import pycuda.driver as drv

def allocate(n, dtype=numpy.float32):
    """ memory of the host that the device sees """
    return drv.pagelocked_empty(int(n), dtype, order="C")

def tune():
    size = numpy.int32(2e7)
    problem_size = (size, 1)
    vertices = 600

    points = allocate(2*size, numpy.float32)
    numpy.copyto(points, numpy.random.randn(2*size).astype(numpy.float32))
    bitmap = allocate(size, numpy.int32)
    numpy.copyto(bitmap, numpy.zeros(size).astype(numpy.int32))
    vertex_seeds = numpy.sort(numpy.random.rand(vertices)*2.0*numpy.pi)[::-1]
    vertex_xy = allocate(2*vertices, numpy.float32)
    numpy.copyto(vertex_xy, numpy.array(list(zip(numpy.cos(vertex_seeds), numpy.sin(vertex_seeds)))).astype(numpy.float32).ravel())

    args = [bitmap, points, vertex_xy, size]

    tune_params = OrderedDict()
    tune_params["block_size_x"] = [32*i for i in range(1,32)]  #multiple of 32
    tune_params["tile_size"] = [1] + [2*i for i in range(1,11)]
    tune_params["between_method"] = [0, 1, 2, 3]
    tune_params["use_precomputed_slopes"] = [0, 1]
    tune_params["use_method"] = [0, 1]

    grid_div_x = ["block_size_x", "tile_size"]

    return kernel_tuner.tune_kernel("cn_pnpoly_host", ["pnpoly_host.cu", "pnpoly.cu"],
        problem_size, args, tune_params,
        grid_div_x=grid_div_x, lang="C", compiler_options=["-arch=sm_52"], verbose=True, log=logging.DEBUG)

if __name__ == "__main__":
    drv.init()
    context = drv.Device(0).make_context()
    try:
        results = tune()
    finally:
        context.pop()
    with open("pnpoly.json", "w") as fp:
        json.dump(results, fp)
