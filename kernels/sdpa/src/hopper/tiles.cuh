// The tiles of the Hopper kernels: where their elements lie in shared memory and in registers, and the two products over them.
//
// Queries, keys and raw values lie as TMA writes them: blocks of 64 bytes of the head dimension, [rows][64 bytes] each, swizzled.
// The second product sums over keys, and wgmma wants the sum's dimension of E4M3 operands contiguous: values are transposed on the
// way. It takes fp16 values as they come, so those are only widened.

#pragma once

#include <cfloat>
#include <cstdint>
#include <cuda_fp16.h>
#include <cuda_fp8.h>

#include "async.cuh"
#include "wgmma.cuh"

namespace tiles {

constexpr int kRows = 64;                       // query rows of a warpgroup
constexpr int kWarpgroup = 128;                 // threads
constexpr int kBlockBytes = 64;                 // of a row in a block; the swizzle's width
constexpr int kDimBlocks = HEAD_DIM / kBlockBytes;
constexpr int kDimSteps = HEAD_DIM / 32;        // products of 32 over the head dimension
constexpr int kScores = TILE_N / 2;             // a thread's scores of a tile
constexpr int kScoreWidth = TILE_N % 128 == 0 ? 128 : TILE_N == 192 ? 192 : 64;  // keys of one product
constexpr int kKeyTile = TILE_N * HEAD_DIM;     // bytes of a tile of keys, or of raw values

// E4M3 values have 8 more rows: the first is 1, so that the product sums the probabilities too.
constexpr int kValueRows = HEAD_DIM + 8 * P_E4M3;
constexpr int kValueBlock = kValueRows * kBlockBytes;  // 64 keys of E4M3
constexpr int kValueTile = P_E4M3 ? TILE_N / 64 * kValueBlock : TILE_N * HEAD_DIM * 2;
constexpr int kOutputs = kValueRows / 2;        // a thread's accumulators of the output
constexpr int kKeysAStep = P_E4M3 ? 32 : 16;
constexpr int kKeySteps = TILE_N / kKeysAStep;

// The order of keys for the second product. Of 16 keys, a thread has the scores of 2 l, 2 l + 1, 8 + 2 l and 9 + 2 l (l = lane % 4), and wgmma takes from
// it the operands of places 4 l to 4 l + 3: key 8 h + 2 l + e is at place 4 l + 2 h + e; or, with kKeysAlternate, of 32 keys, key 8 j + 2 l + e at
// place 16 e + 4 l + j. No probability moves between threads.
constexpr bool kKeysAlternate = SPLIT_KEYS;

static_assert(HEAD_DIM == 64 || HEAD_DIM == 128, "head dimensions of 64 and 128");
static_assert(TILE_N % 64 == 0, "tiles of a multiple of 64 keys");

// Byte offset of 16-byte chunk `chunk` of a row of a swizzled block of 64-byte rows.
__device__ __forceinline__ uint32_t swizzled(int row, int chunk) { return row * 64 + ((chunk ^ (row >> 1 & 3)) << 4); }

// Keys, and values as prepared, for wgmma.
using Keys = wgmma::Tile<wgmma::Swizzle::k64Bytes, 512, 0>;
#if P_E4M3
using Values = wgmma::Tile<wgmma::Swizzle::k64Bytes, 512, 0>;
#else
using Values = wgmma::Tile<wgmma::Swizzle::k128Bytes, 1024, TILE_N * 128>;
#endif

using Queries = uint32_t[kDimSteps][4];
using Scores = float[kScores];
using Probabilities = uint32_t[kKeySteps][4];
using Outputs = float[kOutputs];

// A warp's 16 query rows, from blocks of `rows` rows.
__device__ __forceinline__ void load_queries(Queries &q, uint32_t tile, int first_row, int rows) {
    const int lane = threadIdx.x % 32;
    const int row = first_row + (lane & 15);
#pragma unroll
    for (int step = 0; step < kDimSteps; ++step) {
        hopper::load_matrices(q[step], tile + step / 2 * rows * kBlockBytes + swizzled(row, step % 2 * 2 + (lane >> 4)));
    }
}

// Straight from global memory: each element is used by one thread of a warpgroup only.
__device__ __forceinline__ void load_queries(Queries &q, const uint8_t *head, int row, int seq_len) {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int step = 0; step < kDimSteps; ++step) {
#pragma unroll
        for (int r = 0; r < 4; ++r) {
            const int at = row + lane / 4 + (r & 1) * 8;
            q[step][r] = hopper::load_word(head + static_cast<size_t>(min(at, seq_len - 1)) * HEAD_DIM + step * 32 + (r >> 1) * 16 + lane % 4 * 4);
        }
    }
}

// Starts scores = queries keys^T, of queries in registers or in shared memory.
__device__ __forceinline__ const uint32_t (&queries_of(const Queries &q, int step))[4] { return q[step]; }
__device__ __forceinline__ uint64_t queries_of(Keys q, int step) { return q.at(step / 2 * kRows * kBlockBytes + step % 2 * 32); }
template <typename Source>
__device__ __forceinline__ void start_scores(Scores &s, const Source &q, Keys keys) {
#pragma unroll
    for (int n = 0; n < TILE_N / kScoreWidth; ++n) {
#pragma unroll
        for (int step = 0; step < kDimSteps; ++step) {
            wgmma::fp8<kScoreWidth>(*reinterpret_cast<float(*)[kScoreWidth / 2]>(&s[n * kScoreWidth / 2]), queries_of(q, step),
                                    keys.at((step / 2 * TILE_N + n * kScoreWidth) * kBlockBytes + step % 2 * 32), step > 0);
        }
    }
}

// Products only ever add to outputs: with a first one that overwrites registers never set, ptxas (13.0) lets products wait for one another.
__device__ __forceinline__ void clear(Outputs &o) {
#pragma unroll
    for (int i = 0; i < kOutputs; ++i) {
        o[i] = 0.0f;
    }
}

// Starts outputs += probabilities values.
__device__ __forceinline__ void start_outputs(Outputs &o, const Probabilities &p, Values values) {
#pragma unroll
    for (int step = 0; step < kKeySteps; ++step) {
#if P_E4M3
        wgmma::fp8<kValueRows>(o, p[step], values.at(step / 2 * kValueBlock + step % 2 * 32), 1);
#else
        wgmma::fp16<HEAD_DIM>(o, p[step], values.at(step * 16 * 128), 1);
#endif
    }
}

#if P_E4M3
// Of 16 dimensions, the even ones go to rows 0 to 7, the odd ones to rows 8 to 15: stores have no bank conflicts, and a thread
// has four neighbouring outputs.
// One of `warps` warps, each of which takes every so many-th unit of 32 keys and 64 dimensions.
struct Preparer {
    uint32_t from, to;
    int warp, warps;

    __device__ __forceinline__ Preparer(uint32_t raw, uint32_t values, int warp, int warps)
        : from(raw + swizzled(threadIdx.x % 32, 0)), to(values + swizzled(threadIdx.x % 16, threadIdx.x % 32 / 16)), warp(warp), warps(warps) {}

    __device__ __forceinline__ void run(int raw, int values) const {
        constexpr int kChunks = kBlockBytes / 16;
#pragma unroll 1
        for (int unit = warp; unit < TILE_N / 32 * kDimBlocks; unit += warps) {
            const int keys = unit % (TILE_N / 32), block = unit / (TILE_N / 32);
            const uint32_t source = from + raw + (block * TILE_N + keys * 32) * kBlockBytes;
            const uint32_t target = to + values + keys / 2 * kValueBlock + block * 64 * kBlockBytes;
            // All loads before the first store: they would wait for one another.
            uint32_t m[kChunks][4];
#pragma unroll
            for (int chunk = 0; chunk < kChunks; ++chunk) {
                hopper::load_matrices_transposed(m[chunk], source ^ chunk << 4);
            }
#pragma unroll
            for (int chunk = 0; chunk < kChunks; ++chunk) {
                uint32_t t[4];
#pragma unroll
                for (int half = 0; half < 2; ++half) {
                    t[2 * half] = __byte_perm(m[chunk][2 * half], m[chunk][2 * half + 1], 0x6420);
                    t[2 * half + 1] = __byte_perm(m[chunk][2 * half], m[chunk][2 * half + 1], 0x7531);
                }
                hopper::store_matrices((target + chunk * 16 * kBlockBytes) ^ keys % 2 << 5, t);
            }
        }
    }
};

// The rows behind the values of `tiles` tiles: ones, then zeros.
__device__ __forceinline__ void write_ones(uint32_t values, int tiles, int thread, int threads) {
    constexpr int kVectors = 8 * kBlockBytes / 16;  // a block
#pragma unroll 1
    for (int i = thread; i < tiles * (TILE_N / 64) * kVectors; i += threads) {
        const int vector = i % kVectors;
        const uint32_t one = vector < kBlockBytes / 16 ? 0x38383838u : 0u;
        asm volatile("st.shared.v4.u32 [%0], {%1, %1, %1, %1};" ::"r"(values + i / kVectors * kValueBlock + HEAD_DIM * kBlockBytes + vector * 16),
                     "r"(one)
                     : "memory");
    }
}
#else
__device__ __forceinline__ uint32_t widen(uint32_t two_fp8) {
    const __half2_raw pair = __nv_cvt_fp8x2_to_halfraw2(static_cast<__nv_fp8x2_storage_t>(two_fp8), __NV_E4M3);
    return static_cast<uint32_t>(pair.y) << 16 | pair.x;
}

// Of 16 dimensions, 4 l and 4 l + 1 go to columns 2 l and 2 l + 1, 4 l + 2 and 4 l + 3 to columns 8 + 2 l and 9 + 2 l: a thread then has
// four neighbouring outputs.
// One of `warps` warps, each of which takes every so many-th unit of 32 keys and 64 dimensions.
struct Preparer {
    uint32_t from, to;
    int warp, warps, second;  // bytes from a thread's first 8 values to the next

    __device__ __forceinline__ Preparer(uint32_t raw, uint32_t values, int warp, int warps) : warp(warp), warps(warps) {
        const int lane = threadIdx.x % 32, key = lane / 4, chunk = (lane ^ key >> 1) & 3;
        from = raw + lane * 16;
        to = values + key * 128 + ((2 * chunk ^ key) << 4);
        second = (key & 1) != 0 ? -16 : 16;
    }

    __device__ __forceinline__ void run(int raw, int values) const {
        constexpr int kParts = 4;
#pragma unroll 1
        for (int unit = warp; unit < TILE_N / 32 * kDimBlocks; unit += warps) {
            // All loads before the first store: they would wait for one another.
            uint32_t b[kParts][4];
#pragma unroll
            for (int part = 0; part < kParts; ++part) {
                asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];"
                             : "=r"(b[part][0]), "=r"(b[part][1]), "=r"(b[part][2]), "=r"(b[part][3])
                             : "r"(from + raw + (unit * kParts + part) * 512)
                             : "memory");
            }
#pragma unroll
            for (int part = 0; part < kParts; ++part) {
#pragma unroll
                for (int half = 0; half < 2; ++half) {
                    asm volatile("st.shared.v4.u32 [%0], {%1, %2, %3, %4};" ::"r"(to + values + (unit * kParts + part) * 1024 + half * second),
                                 "r"(widen(b[part][0] >> 16 * half & 0xffff)), "r"(widen(b[part][1] >> 16 * half & 0xffff)),
                                 "r"(widen(b[part][2] >> 16 * half & 0xffff)), "r"(widen(b[part][3] >> 16 * half & 0xffff))
                                 : "memory");
                }
            }
        }
    }
};
#endif

// The dimension of this thread's output u, of kOutputs / 4 groups of four neighbours in row `half`.
constexpr int kOutputGroups = HEAD_DIM / 16;
__device__ __forceinline__ float4 output_group(const Outputs &o, int group, int half) {
    const float *x = &o[8 * group + 2 * half];
#if P_E4M3
    return make_float4(x[0], x[4], x[1], x[5]);
#else
    return make_float4(x[0], x[1], x[4], x[5]);
#endif
}

}  // namespace tiles
