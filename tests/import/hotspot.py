#!/usr/bin/env python
# After the shape of benchmark_hub's scripts: helper functions, an argument that only the command line gives, f-strings, a lambda.
import os
import sys
import numpy as np
import kernel_tuner

max_threads = 1024

def get_tunable_parameters(problem_size):
    tune_params = dict()
    tune_params["grid_width"] = [problem_size[0]]
    tune_params["grid_height"] = [problem_size[1]]
    tune_params["block_size_x"] = [1, 2, 4, 8, 16] + [32 * i for i in range(1, 33)]
    tune_params["block_size_y"] = [2**i for i in range(6)]
    tune_params["tile_size_x"] = [i for i in range(1, 11)]
    tune_params["tile_size_y"] = [i for i in range(1, 11)]
    tune_params["temporal_tiling_factor"] = [i for i in range(1, 11)]
    max_tfactor = max(tune_params["temporal_tiling_factor"])
    tune_params["max_tfactor"] = [max_tfactor]
    tune_params["loop_unroll_factor_t"] = [i for i in range(1, max_tfactor + 1)]
    tune_params["sh_power"] = [0, 1]
    return tune_params, max_tfactor

def get_input_data(problem_size, max_tfactor):
    width, height = problem_size[0] + 2 * max_tfactor, problem_size[1] + 2 * max_tfactor
    temp_src = np.zeros((height, width), dtype=np.float32)
    temp_src[max_tfactor:-max_tfactor, max_tfactor:-max_tfactor] = np.random.random(problem_size) + 324
    power = np.random.random((height, width)).astype(np.float32)
    temp_dst = np.zeros(problem_size, dtype=np.float32)
    return temp_src, power, temp_dst

def tune(device_name, lang="CUDA"):
    problem_size = (4096, 4096)
    tune_params, max_tfactor = get_tunable_parameters(problem_size)
    temp_src, power, temp_dst = get_input_data(problem_size, max_tfactor)
    Rx_1, Rz_1 = [np.float32(i) for i in [1 / 0.5, 3.0517578579]]
    args = [power, temp_src, temp_dst, Rx_1, Rz_1]
    if lang == "CUDA":
        kernel_file = "/hotspot.cu"
        max_shared_memory_per_block = 49152
    else:
        kernel_file = "/hotspot.cu.hip"
        max_shared_memory_per_block = 65536
    with open(os.path.dirname(os.path.realpath(__file__)) + kernel_file, "r") as f:
        kernel_string = f.read()
    restrictions = [
        "block_size_x*block_size_y >= 32",
        "temporal_tiling_factor % loop_unroll_factor_t == 0",
        f"block_size_x*block_size_y <= {max_threads}",
        f"(block_size_x*tile_size_x + temporal_tiling_factor * 2) * (block_size_y*tile_size_y + temporal_tiling_factor * 2) * (2+sh_power) * 4 <= {max_shared_memory_per_block}",
        lambda p: p["tile_size_x"] + p["tile_size_y"] <= 12 or p["sh_power"] == 0,
    ]
    metrics = {"GFLOP/s": lambda p: 15 * problem_size[0] * problem_size[1] / 1e9 / (p["time"] / 1e3)}
    return kernel_tuner.tune_kernel("calculate_temp", kernel_string, problem_size, args, tune_params,
        grid_div_x=["block_size_x", "tile_size_x"], grid_div_y=["block_size_y", "tile_size_y"],
        restrictions=restrictions, metrics=metrics, lang=lang, device=0, objective="GFLOP/s",
        cache=f"../cachefiles/{device_name.upper()}")

if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise ValueError(f"given: {sys.argv[1:]}")
    language = sys.argv[1]
    if language not in ("HIP", "CUDA"):
        raise ValueError(f"{language} not valid")
    tune(device_name=sys.argv[2], lang=language)
