// y = 2 x, beside multiply-adds whose number and order the toggles choose: a space of many variants that compile for about a second and
// run for some 0.2 ms. What they compute is multiplied by zero, which no compiler may leave out of what could be infinite.

template <int SEED, int STEPS> struct Chain {
    static __device__ __forceinline__ float of(float v) {
        constexpr float a = 0.5f + 0.001f * ((SEED * 7 + STEPS * 13) % 97), b = 0.25f + 0.002f * ((SEED * 5 + STEPS * 11) % 89);
        v = fmaf(v, a, b);
        if (FLAG_MIN && STEPS % 16 == 3) v = fminf(v, 8.0f);
        if (FLAG_ABS && STEPS % 16 == 7) v = fabsf(v);
        if (FLAG_XOR && STEPS % 16 == 11) v = __int_as_float(__float_as_int(v) ^ (STEPS & 1));
        return Chain<SEED, STEPS - 1>::of(v);
    }
};
template <int SEED> struct Chain<SEED, 0> {
    static __device__ __forceinline__ float of(float v) { return v; }
};

// Chains of unequal lengths, one after the other or side by side.
template <int CHAINS> struct Chains {
    static __device__ __forceinline__ float of(float v) {
        float here = Chain<CHAINS, 120 + 8 * ((CHAINS * 3) % 5)>::of(v);
        return FLAG_APART ? fmaxf(here, Chains<CHAINS - 1>::of(v + CHAINS)) : Chains<CHAINS - 1>::of(here);
    }
};
template <> struct Chains<0> {
    static __device__ __forceinline__ float of(float v) { return v; }
};

extern "C" __global__ void __launch_bounds__(BLOCK) wide(const float *__restrict__ x, float *__restrict__ y, int n) {
    __shared__ float tile[BLOCK + PAD];
    constexpr int count = 6 + (DEPTH - 3) * (DEPTH - 3) / 2 + FLAG_MORE;
#pragma unroll
    for (int at = 0; at < PER; at++) {
        int i = (blockIdx.x * PER + at) * BLOCK + threadIdx.x;
        float v = i < n ? x[i] : 0.0f, z = v;
        for (int round = 0; round < ROUNDS; round++) z = Chains<count>::of(z);
        if (FLAG_SHARED) {
            tile[threadIdx.x] = z;
            __syncthreads();
            z = tile[(threadIdx.x + SHIFT) % BLOCK];
            __syncthreads();
        }
        if (i < n) y[i] = 2 * v + 0 * fminf(fmaxf(z, -1.0f), 1.0f);
    }
}
