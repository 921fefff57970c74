// y = 2 x, and a chain of WORK + EXTRA dependent multiply-adds whose result no output depends on.
static __device__ __forceinline__ void body(const float *x, float *y, int n)
{
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n)
        return;
    float value = x[i], sum = value;
#pragma unroll 1
    for (int k = 0; k < WORK + EXTRA; k++)
        sum = fmaf(sum, 0.5f, value);
    // |sum| stays below 2 |value|: never true, and the compiler does not know it.
    y[i] = sum == 1e30f ? 0 : 2 * value;
}

extern "C" __global__ void chain(const float *x, float *y, int n)
{
    body(x, y, n);
}

extern "C" __global__ void chain_twin(const float *x, float *y, int n)
{
    body(x, y, n);
}
