// y = softmax(x) along each row, one block a row. cols must be a multiple of VECTOR.
//
// The toggles are macros that `cargo kbench` defines:
//   THREADS   threads a block
//   STAGED    whether the row is read once and kept in shared memory, or read from global memory in each pass
//   ASYNC     whether it gets there by cp.async, which goes past the registers
//   VECTOR    floats a load or store
//   FAST_EXP  whether exp is the hardware's approximation
#include <cuda_pipeline.h>

struct alignas(VECTOR * sizeof(float)) Vec {
    float at[VECTOR];
};

static __device__ float exponential(float x)
{
    return FAST_EXP ? __expf(x) : expf(x);
}

// Combines one value of each thread by way of `warps`, a value for each warp in shared memory; every thread gets the result.
template <typename Combine> static __device__ float block_reduce(float value, float *warps, Combine combine)
{
    for (int offset = 16; offset > 0; offset /= 2)
        value = combine(value, __shfl_xor_sync(0xffffffff, value, offset));
    if (threadIdx.x % 32 == 0)
        warps[threadIdx.x / 32] = value;
    __syncthreads();
    value = warps[0];
    for (int warp = 1; warp < THREADS / 32; warp++)
        value = combine(value, warps[warp]);
    return value;
}

extern "C" __global__ void __launch_bounds__(THREADS) softmax(const float *x, float *y, int cols)
{
    const Vec *row = reinterpret_cast<const Vec *>(x + static_cast<size_t>(blockIdx.x) * cols);
    Vec *out = reinterpret_cast<Vec *>(y + static_cast<size_t>(blockIdx.x) * cols);
    int vecs = cols / VECTOR;
    // Two, so that no thread overwrites what another still reads: one barrier a reduction is enough.
    __shared__ float maxima[THREADS / 32], sums[THREADS / 32];

#if STAGED
    extern __shared__ float4 shared[];
    Vec *staged = reinterpret_cast<Vec *>(shared);
    for (int v = threadIdx.x; v < vecs; v += THREADS)
#if ASYNC
        __pipeline_memcpy_async(&staged[v], &row[v], sizeof(Vec));
    __pipeline_commit();
    __pipeline_wait_prior(0);
#else
        staged[v] = row[v];
#endif
    row = staged; // no barrier: each thread reads only what it has copied itself
#endif

    float max = -INFINITY;
    for (int v = threadIdx.x; v < vecs; v += THREADS)
        for (int i = 0; i < VECTOR; i++)
            max = fmaxf(max, row[v].at[i]);
    max = block_reduce(max, maxima, [](float a, float b) { return fmaxf(a, b); });

    float sum = 0;
    for (int v = threadIdx.x; v < vecs; v += THREADS)
        for (int i = 0; i < VECTOR; i++)
            sum += exponential(row[v].at[i] - max);
    sum = block_reduce(sum, sums, [](float a, float b) { return a + b; });

    for (int v = threadIdx.x; v < vecs; v += THREADS) {
        Vec result;
        for (int i = 0; i < VECTOR; i++)
            result.at[i] = exponential(row[v].at[i] - max) / sum;
        out[v] = result;
    }
}
