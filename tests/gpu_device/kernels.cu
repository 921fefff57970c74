// Kernels of the test gpu_device. Compiled when that test runs, with nvcc, for the GPU that is there.
#include <cooperative_groups.h>

extern "C" { __constant__ float coefficients[4]; }

extern "C" __global__ void add(const float *in, float *out, int n, float k) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) out[i] = in[i] + k;
}

// Every thread's word goes through the far end of dynamic shared memory.
extern "C" __global__ void big_shared(float *out, int words) {
    extern __shared__ float buffer[];
    for (int i = threadIdx.x; i < words; i += blockDim.x) buffer[words - 1 - i] = (float)i;
    __syncthreads();
    for (int i = threadIdx.x; i < words; i += blockDim.x) out[i] = buffer[i];
}

// out[block] = 100 * blocks in this cluster + rank in it
extern "C" __global__ void clusters(int *out) {
#if __CUDA_ARCH__ >= 900
    unsigned rank, count;
    asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
    asm volatile("mov.u32 %0, %%cluster_nctarank;" : "=r"(count));
    asm volatile("barrier.cluster.arrive.aligned;\nbarrier.cluster.wait.aligned;" ::: "memory");
    if (threadIdx.x == 0) out[blockIdx.x] = 100 * count + rank;
#endif
}

// Each block adds into `sum` before the grid-wide barrier, and reads it after.
extern "C" __global__ void cooperative(int *sum, int *out) {
    if (threadIdx.x == 0) atomicAdd(sum, 1);
    cooperative_groups::this_grid().sync();
    if (threadIdx.x == 0) out[blockIdx.x] = *(volatile int *)sum;
}

extern "C" __global__ void __launch_bounds__(256) bounded(float *out) { out[threadIdx.x] = 1.0f; }

extern "C" __global__ void polynomial(const float *in, float *out) {
    float x = in[threadIdx.x];
    out[threadIdx.x] = coefficients[0] + x * (coefficients[1] + x * (coefficients[2] + x * coefficients[3]));
}

extern "C" __global__ void far_away(float *out) { out[(1ll << 40) + threadIdx.x] = 1.0f; }

extern "C" __global__ void misaligned(float *out) {
    *(volatile float *)((char *)out + 2 + 4 * threadIdx.x) = 1.0f;
}

extern "C" __global__ void traps() { __trap(); }

extern "C" __global__ void empty() {}

// Spins for that many nanoseconds.
extern "C" __global__ void spin(long long nanoseconds) {
    long long start, now;
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(start));
    do asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now));
    while (now - start < nanoseconds);
}

// A dependent chain: its time is rounds * 4 cycles or so, on every SM alike.
extern "C" __global__ void chain(float *out, int rounds) {
    float x = threadIdx.x;
    for (int i = 0; i < rounds; i++) x = fmaf(x, 0.999f, 0.5f);
    out[blockIdx.x * blockDim.x + threadIdx.x] = x;
}

// Reads all of `in`.
extern "C" __global__ void read_all(const float4 *in, float *out, int n) {
    float sum = 0;
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) {
        float4 v = in[i];
        sum += v.x + v.y + v.z + v.w;
    }
    if (sum == 12345.678f) out[0] = sum;
}

struct alignas(64) Map { unsigned char opaque[128]; };

// Copies one box of 8 rows of 32 floats, as it lies in shared memory, to `out`.
extern "C" __global__ void tensor_map(const __grid_constant__ Map map, float *out, int x, int y) {
#if __CUDA_ARCH__ >= 900
    __shared__ alignas(1024) float tile[8 * 32];
    __shared__ alignas(8) unsigned long long barrier;
    unsigned bar = (unsigned)__cvta_generic_to_shared(&barrier);
    unsigned to = (unsigned)__cvta_generic_to_shared(tile);
    if (threadIdx.x == 0) {
        asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(bar) : "memory");
        asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    }
    __syncthreads();
    if (threadIdx.x == 0) {
        asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(bar), "n"(8 * 32 * 4) : "memory");
        asm volatile(
            "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3}], [%4];"
            ::"r"(to), "l"(&map), "r"(x), "r"(y), "r"(bar) : "memory");
    }
    unsigned done = 0;
    while (!done)
        asm volatile("{ .reg .pred p;\nmbarrier.try_wait.parity.shared::cta.b64 p, [%1], 0;\nselp.u32 %0, 1, 0, p; }"
                     : "=r"(done) : "r"(bar) : "memory");
    for (int i = threadIdx.x; i < 8 * 32; i += blockDim.x) out[i] = tile[i];
#endif
}
