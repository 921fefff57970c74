"""After the shape of Kernel Tuner's smallest example: the kernel is a string, and an instance of a template."""
import numpy as np
from kernel_tuner import tune_kernel

kernel_string = """
template <typename T>
__global__ void vector_add(T *c, const T *a, const T *b, int n) {
    int i = blockIdx.x * block_size_x + threadIdx.x;
    if (i<n) {
        c[i] = a[i] + b[i];
    }
}
"""
n = np.int32(10_000_000)
a = np.random.randn(n).astype(np.float32)
b = np.random.randn(n).astype(np.float32)
c = np.zeros_like(b)
tune_params = {"block_size_x": [128 + 64 * i for i in range(15)], "unused": ["on", "off"]}
if strange_flag():
    tune_params["more"] = [1, 2]
tune_kernel("vector_add<float>", kernel_string, n, [c, a, b, n], tune_params, smem_args={"size": "block_size_x * 4"})
