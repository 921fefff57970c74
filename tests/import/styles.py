"""Spaces in the many ways in which scripts write them. Each count is what Python finds by trying all combinations."""
import argparse
import collections
import itertools
import math
from collections import OrderedDict

import numpy
import numpy as np
import kernel_tuner
from kernel_tuner import tune_kernel

SOURCE = """
__global__ void NAME(float *c, const float *a, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) { c[i] = a[i]; }
}
"""
SIZE = 1024
ARGS = [np.zeros(SIZE, np.float32), np.random.default_rng(1).random(SIZE, dtype=np.float32), np.int32(SIZE)]


def tune(name, tune_params, restrictions, **more):
    tune_kernel(name, SOURCE.replace("NAME", name), SIZE, ARGS, tune_params, restrictions=restrictions, **more)


def closures():  # 53
    limit = 512
    tune_params = OrderedDict()
    tune_params["block_size_x"] = [2**i for i in range(4, 11)]
    tune_params["tile"] = list(range(1, 9))
    tune_params["vec"] = [1, 2, 4]
    tune("closures", tune_params, [lambda p: p["block_size_x"] * p["tile"] <= limit, lambda p: p["tile"] % p["vec"] == 0])


def changes():  # 16
    tune_params = {name: [1, 2, 4, 8] for name in ("bx", "by", "bz")}
    tune_params["gone"] = [1]
    del tune_params["gone"]
    tune_params["bx"].remove(8)
    tune_params["by"].insert(0, 16)
    tune_params["bz"].pop()
    tune("changes", tune_params, ["bx*by*bz in (16, 32, 64)", "not (bx == 1 or by == 1)"], block_size_names=["bx", "by", "bz"])


def arrays():  # 864
    base = {"block_size_x": [32, 64, 128, 256]}
    tune_params = {**base, "n": np.array([1, 2, 4]), "m": numpy.arange(1, 5), "q": 2 ** np.arange(0, 4), "s": [*range(3)], "t": tuple([0, 1])}
    tune_params["r"] = np.array([1, 2]).tolist()
    tune("arrays", tune_params, lambda p: (p["block_size_x"] // p["n"]) % p["m"] == 0 and p["q"] <= p["m"])


def statements():  # 370
    def valid(p):
        """Blocks of a warp or more, in shared memory."""
        threads = p["block_size_x"] * p["block_size_y"]
        if threads < 32 or threads > 1024:
            return False
        shared, most = 4 * threads * p["tile"], 16384
        return shared <= most

    tune_params = {"block_size_x": [1, 2, 4, 8, 16] + [32 * i for i in range(1, 33)], "block_size_y": [2**i for i in range(6)]}
    tune_params["tile"] = [i for i in range(1, 11) if i % 2 == 0 or i == 1]
    tune("statements", tune_params, [valid])


def named_arguments():  # 20
    def check(block_size_x, tile_x, use_shared):
        if use_shared:
            return block_size_x * tile_x * 4 <= 1024
        return tile_x < 4

    tune("named_arguments", dict([("block_size_x", [32, 64, 128]), ("tile_x", [1, 2, 3, 4, 8]), ("use_shared", [True, False])]), check)


def loops():  # 29
    x, sizes = 16, []
    while x <= 1024:
        sizes.append(x)
        x *= 2
    tune_params = {"block_size_x": sizes, "mode": ["a", "b"], "alpha": [0.5, 1.0, 1.5]}
    tune("loops", tune_params, ["block_size_x > 32 if mode == 'a' else alpha < 1.5", "alpha * 2 != 3 or block_size_x >= 64"])


def functions():  # 2520
    tp = {}
    tp.update({"bx": [8, 16, 32], "by": [8, 16, 32]})
    tp.setdefault("tx", [1, 2, 4])
    tp.setdefault("bx", [7])
    tp["ty"] = sorted({1, 2, 4, 2})
    tp["u"] = [int(math.pow(2, i)) for i in range(3)]
    tp["v"] = list(map(lambda i: i * 2, range(1, 4)))
    tp["w"] = list(filter(lambda i: i % 2, range(6)))
    tp = {**tp, **{"x": [1, 2]}}
    tune("functions", tp, ["math.ceil(bx / tx) <= 16", "by % ty == 0", "max(u, v) < 6 or w == 1", "(bx*by) % (32) == 0", "x < 2 or u > 1"])


def returned():  # 732
    sizes = [16, 32, 64]

    def parameters():
        p = collections.OrderedDict()
        for i, n in enumerate(["MWG", "NWG", "KWG"]):
            p[n] = sizes[:]
        p["MDIMC"] = [8, 16, 32]; p["NDIMC"] = [8, 16, 32]
        p["VWM"] = [1, 2, 4, 8]
        p["SA"] = [0, 1]
        return p

    def restrictions():
        even = 2
        v1 = lambda p: p["KWG"] % even == 0
        v2 = lambda p: p["MWG"] % (p["MDIMC"] * p["VWM"]) == 0
        v3 = lambda p: all([p["NWG"] % p["NDIMC"] == 0, p["MDIMC"] * p["NDIMC"] <= 512])
        v4 = lambda p, least=4: any((p["SA"] == 1, p["VWM"] < least))
        return [v1, v2, v3, v4]

    tune("returned", parameters(), restrictions(), block_size_names=["MDIMC", "NDIMC", "Z"])


def tuples():  # 48
    tune_params = dict(block_size_x=[32, 64, 128, 256, 512, 1024], elems=[1, 2, 4])
    tune_params["order"] = [0, 1]
    tune_params["block_size_x"].sort(reverse=True)
    tune_params["elems"] += [8]
    tune_params |= {"z": [1, 2, 3]}
    valid = [(32, 1), (64, 2), (128, 4)]
    tune("tuples", tune_params, [lambda p: (p["block_size_x"], p["elems"]) in valid or p["z"] == 1,
         lambda p: p["block_size_x"] >= 64 and not p["order"] == 1 or p["z"] in {1, 3}, f"block_size_x <= {2**9}"])


def formats():  # 1850
    bounds = (32, 1024)
    tune_params = {
        "block_size_x": [16 * i for i in range(1, 17)],   # threads
        "block_size_y": [2**i for i in range(5)],
        "tile_size_x": [*range(1, 5)], "tile_size_y": list(range(1, 5)),
        "use_padding": [0, 1], "read_only": [0, 1],
    }
    restrict = ["use_padding==0 or block_size_x % 32 != 0", f"block_size_x*block_size_y >= {bounds[0]}",
                "block_size_x*block_size_y <= %d" % bounds[1],
                "(block_size_x*tile_size_x+16)*(block_size_y*tile_size_y+16)*4 <= {}".format(48*1024),
                "tile_size_x > 1 if read_only else True", "1 <= tile_size_x * tile_size_y <= 12"]
    tune("formats", tune_params, restrict)


def statements_around():  # 384
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", type=int, default=1024)
    combos = list(itertools.product([16, 32], [1, 2, 4]))
    tune_params = {"block_size_x": [a * b for a, b in combos], "k": [a for a, _ in zip(range(3), "abc")], "log": [int(np.log2(x)) for x in (2, 4, 8)]}
    n = 64
    if n > 32 and len(tune_params) == 3:
        tune_params["extra"] = [0] if n < 64 else [0, 1]
    else:
        tune_params["extra"] = [9]
    for name, default in (("p", 1), ("q", 2)):
        tune_params[name] = [default, default * 2]
    try:
        tune_params["r"] = [1, 2]
    except ImportError:
        tune_params["r"] = [5]
    tune("statements_around", tune_params, ["k + log > 1", "p != q"])


def getters():  # 18
    tune("getters", {"a": [1, 2, 4, 8], "b": [1, 2, 3], "c": [0, 1]}, lambda conf: conf["a"] * conf.get("b", 1) < 9)


def generators():  # 3
    names = ("a", "b")
    tune("generators", {"a": [1, 2, 4, 8], "b": [1, 2, 3], "c": [0, 1]},
         [lambda p: all(p[k] > 1 for k in names), lambda p: sum([p["a"], p["b"]]) <= 6 and \
             p["c"] == 0 or any([p["a"] > 8])])


def flags():  # 12
    def large(p):
        return p["a"] > 1

    def valid(p):
        ok = True
        if not large(p):
            ok = False
        if p["b"] == 2:
            ok = False
        return ok

    tune("flags", {"a": [1, 2, 4, 8], "b": [1, 2, 3], "c": [0, 1]}, valid)


def several_calls():  # 3 and 4: a restriction has the variables of its call
    params = {"block_size_x": [32, 64, 128, 256]}
    limit = 128
    restrict = lambda p: p["block_size_x"] <= limit
    tune_kernel("small", SOURCE.replace("NAME", "small"), SIZE, ARGS, params, restrictions=[restrict])
    limit = 256
    tune_kernel("large", SOURCE.replace("NAME", "large"), SIZE, ARGS, params, restrictions=[restrict])


for style in (closures, changes, arrays, statements, named_arguments, loops, functions, returned, tuples, formats, statements_around, getters, generators, flags,
              several_calls):
    style()
