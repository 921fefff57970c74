// What this GPU can do at most, by kernels that do nothing else. Every input is 1, so that each result is known exactly and
// a kernel that skipped its work would show.

// Copies 16 bytes an access, four in flight a thread.
extern "C" __global__ void __launch_bounds__(256) copy(const ulonglong2 *from, ulonglong2 *to, long n) {
    const long threads = 256l * gridDim.x;
    long i = 256l * blockIdx.x + threadIdx.x;
    for (; i + 3 * threads < n; i += 4 * threads) {
        const ulonglong2 a = from[i], b = from[i + threads], c = from[i + 2 * threads], d = from[i + 3 * threads];
        to[i] = a;
        to[i + threads] = b;
        to[i + 2 * threads] = c;
        to[i + 3 * threads] = d;
    }
    for (; i < n; i += threads) to[i] = from[i];
}

extern "C" __global__ void copy_reference(const long long *from, long long *to, long n) {
    for (long i = 256l * blockIdx.x + threadIdx.x; i < n; i += 256l * gridDim.x) to[i] = from[i];
}

// Every thread's result; floating-point tensors of a reference are doubles.
extern "C" __global__ void all_reference(const double *, double *o, double value) {
    o[256l * blockIdx.x + threadIdx.x] = value;
}

// Eight independent chains of fused multiply-adds a thread; each counts the rounds from 1. They start at values that the compiler
// does not know to be the same, or it would compute one chain for all.
extern "C" __global__ void __launch_bounds__(256) fma_f32(const float *one, float *o, int rounds) {
    const float a = one[0], b = one[1];
    float r[8];
    for (int i = 0; i < 8; i++) r[i] = one[2 + i];
    for (int round = 0; round < rounds; round += 8)
#pragma unroll
        for (int k = 0; k < 8; k++)
#pragma unroll
            for (int i = 0; i < 8; i++) r[i] = fmaf(r[i], a, b);
    float sum = 0;
    for (int i = 0; i < 8; i++) sum += r[i];
    o[256l * blockIdx.x + threadIdx.x] = sum * 0.125f;
}

// Tensor cores, on floats of TENSOR bits; compiled for nothing else, since it takes longest.

// FP8 products are added up with some 14 bits: a product of 1 is lost beside a sum of 16384. So each sum is begun anew after
// so many rounds of 32 products.
#define F8_ROUNDS 256

#if defined TENSOR && defined WGMMA // Hopper: one warpgroup instruction multiplies 64 x 16 (FP8: 32) by 256 columns, from shared memory.

#define D4(d, i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])
#define D16(d, i) D4(d, i), D4(d, i + 4), D4(d, i + 8), D4(d, i + 12)

#define REGISTERS \
    "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, " \
    "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, " \
    "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, " \
    "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63, " \
    "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, " \
    "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, " \
    "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, " \
    "%112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127"

__device__ __forceinline__ void wgmma_f16(float (&d)[128], unsigned long long a, unsigned long long b) {
    asm volatile("{\n.reg .pred p;\nsetp.eq.u32 p, 0, 0;\n"
                 "wgmma.mma_async.sync.aligned.m64n256k16.f32.f16.f16 {"
                 REGISTERS
                 "}, %128, %129, p, 1, 1, 0, 0;\n}\n"
                 : D16(d, 0), D16(d, 16), D16(d, 32), D16(d, 48), D16(d, 64), D16(d, 80), D16(d, 96), D16(d, 112)
                 : "l"(a), "l"(b));
}

// Adds to `d`, or replaces it.
__device__ __forceinline__ void wgmma_f8(float (&d)[128], unsigned long long a, unsigned long long b, int adds) {
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %130, 0;\n"
                 "wgmma.mma_async.sync.aligned.m64n256k32.f32.e4m3.e4m3 {"
                 REGISTERS
                 "}, %128, %129, p, 1, 1;\n}\n"
                 : D16(d, 0), D16(d, 16), D16(d, 32), D16(d, 48), D16(d, 64), D16(d, 80), D16(d, 96), D16(d, 112)
                 : "l"(a), "l"(b), "r"(adds));
}

// A tile whose rows are 128 bytes, in atoms of 8 rows, swizzled by 128 bytes; all is 1, so the order does not matter.
__device__ unsigned long long tile(const void *start) {
    const unsigned long long address = __cvta_generic_to_shared(start);
    return (address & 0x3ffff) >> 4 | 1ull << 16 | 64ull << 32 | 1ull << 62;
}

template <bool F8>
__device__ void sum_products(float *o, int rounds) {
    __shared__ __align__(1024) unsigned a[64 * 32], b[256 * 32];
    const unsigned ones = F8 ? 0x38383838u : 0x3c003c00u;
    for (int i = threadIdx.x; i < 64 * 32; i += 256) a[i] = ones;
    for (int i = threadIdx.x; i < 256 * 32; i += 256) b[i] = ones;
    asm volatile("fence.proxy.async;" ::: "memory");
    __syncthreads();
    const unsigned long long at = tile(a), bt = tile(b);
    float d[128] = {};
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
    for (int round = 0; round < rounds; round += 16) {
#pragma unroll
        for (int k = 0; k < 16; k++) {
            // The next 32 bytes of each row.
            const unsigned long long next = 2 * (k % 4);
            if constexpr (F8)
                wgmma_f8(d, at + next, bt + next, k > 0 || round % F8_ROUNDS);
            else
                wgmma_f16(d, at + next, bt + next);
        }
        asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
        asm volatile("wgmma.wait_group.sync.aligned 1;" ::: "memory");
    }
    asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
    float sum = 0;
    for (int i = 0; i < 128; i++) sum += d[i];
    o[256l * blockIdx.x + threadIdx.x] = sum / 128;
}

extern "C" __global__ void __launch_bounds__(256, 1) tensor(const float *, float *o, int rounds) {
    sum_products<TENSOR == 8>(o, rounds);
}

#elif defined TENSOR // mma.sync, a warp at a time.

template <bool F8>
__device__ void sum_products(float *o, int rounds) {
    const unsigned ones = F8 ? 0x38383838u : 0x3c003c00u;
    float d[8][4] = {};
    for (int round = 0; round < rounds; round++)
#pragma unroll
        for (int i = 0; i < 8; i++) {
            if (F8 && round % F8_ROUNDS == 0) d[i][0] = d[i][1] = d[i][2] = d[i][3] = 0;
            if constexpr (F8) {
#if __CUDA_ARCH__ >= 890
                asm volatile("mma.sync.aligned.m16n8k32.row.col.f32.e4m3.e4m3.f32 {%0, %1, %2, %3}, {%4, %4, %4, %4}, "
                             "{%4, %4}, {%0, %1, %2, %3};"
                             : "+f"(d[i][0]), "+f"(d[i][1]), "+f"(d[i][2]), "+f"(d[i][3])
                             : "r"(ones));
#endif
            } else {
                asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %4, %4, %4}, "
                             "{%4, %4}, {%0, %1, %2, %3};"
                             : "+f"(d[i][0]), "+f"(d[i][1]), "+f"(d[i][2]), "+f"(d[i][3])
                             : "r"(ones));
            }
        }
    float sum = 0;
    for (int i = 0; i < 8; i++)
        for (int j = 0; j < 4; j++) sum += d[i][j];
    o[256l * blockIdx.x + threadIdx.x] = sum / 32;
}

extern "C" __global__ void __launch_bounds__(256, 2) tensor(const float *, float *o, int rounds) {
    sum_products<TENSOR == 8>(o, rounds);
}

#endif
