// FP8 (E4M3) scaled dot-product attention, forward, non-causal:
//
//     O = softmax(softmax_scale * Q K^T) V        Q, K, V: [B, H, S, HEAD_DIM] E4M3, one fp32 scale per head
//                                                 O:       [B, H, S, HEAD_DIM] fp16
//
// Design ("Stage 2"): a CTA owns TILE_M query rows of one head, a warp 16 of them. K and V arrive as raw FP8 bytes
// through double-buffered cp.async tiles of TILE_N keys, are dequantised to fp16 tiles in shared memory 64 keys at a
// time, and go through the tensor cores with WMMA (fp16 in, fp32 out). Softmax is online: a running maximum and
// sum per row, O rescaled in registers. The fp8 values themselves are exact in fp16, so the scales are applied in fp32:
// q_scale * k_scale to the scores, v_scale to the finished output.
//
// Toggles (all from the command line, as -DNAME=VALUE; HEAD_DIM too):
//   USE_WARP_SPECIALIZATION  0: every warp loads, dequantises and computes, separated by __syncthreads()
//                            1: NUM_PRODUCER_WARPS extra warps load and dequantise into a two-stage ring of fp16
//                               tiles; the TILE_M/16 consumer warps only compute; mbarriers order the two
//   USE_PERSISTENT_CTA       0: one CTA per (query tile, head, batch) of the grid
//                            1: a 1-D grid strides over all those work items, loads running on across items
//   TILE_M, TILE_N           query rows per CTA; keys per cp.async stage
//   NUM_PRODUCER_WARPS       see above (unused without warp specialization)
//   USE_FAST_EXP             0: expf; 1: ex2.approx with log2(e) folded into the score scale

#include <cfloat>
#include <cstdint>
#include <cuda_fp16.h>
#include <cuda_fp8.h>
#include <mma.h>

#if !defined(USE_WARP_SPECIALIZATION) || !defined(USE_PERSISTENT_CTA) || !defined(TILE_M) || !defined(TILE_N) || \
    !defined(NUM_PRODUCER_WARPS) || !defined(USE_FAST_EXP) || !defined(HEAD_DIM)
#error "every toggle and HEAD_DIM must be given on the command line"
#endif

// The softmax below works on WMMA fragments in registers, so it relies on where sm_80 and later keep each element
// (see FragmentLayout). Earlier architectures place them differently.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 890
#error "needs sm_89 or later: FP8 conversion in hardware and the m16n8k16 fragment layout"
#endif

namespace {

namespace wmma = nvcuda::wmma;

constexpr int kWarpSize = 32;
constexpr int kRowsPerWarp = 16;  // one WMMA fragment high
constexpr int kKeyBlock = 64;     // keys a warp scores at once: a 16 x 64 block of S is 32 registers per thread
constexpr int kComputeWarps = TILE_M / kRowsPerWarp;
constexpr int kThreads = kWarpSize * (kComputeWarps + USE_WARP_SPECIALIZATION * NUM_PRODUCER_WARPS);
constexpr int kLoaders = USE_WARP_SPECIALIZATION ? kWarpSize * NUM_PRODUCER_WARPS : kThreads;

constexpr int kRawStages = 2;                               // cp.async double buffering
constexpr int kHalfStages = USE_WARP_SPECIALIZATION ? 2 : 1;  // fp16 tiles: producers run one block ahead
constexpr int kRawTile = TILE_N * HEAD_DIM;                 // bytes
constexpr int kHalfStride = HEAD_DIM + 8;                   // 16 bytes of padding: ldmatrix without bank conflicts
constexpr int kHalfTile = kKeyBlock * kHalfStride;          // elements
constexpr int kBlocksPerTile = TILE_N / kKeyBlock;

constexpr int kChunk = 16;  // bytes per cp.async
constexpr int kChunksPerRow = HEAD_DIM / kChunk;
constexpr int kChunksPerLoader = kKeyBlock * kChunksPerRow / kLoaders;

constexpr int kDimFragments = HEAD_DIM / 16;
constexpr int kKeyFragments = kKeyBlock / 16;

// The most registers at which ptxas (13.0) does without spills at HEAD_DIM 64. A CTA has 5 to 10 warps with warp
// specialization, and at 96 registers an SM holds 20 warps rather than 16; expf needs a few more. (__launch_bounds__
// could only name a whole number of CTAs per SM.)
#if HEAD_DIM > 64
constexpr int kMaxRegisters = 168;
#elif USE_WARP_SPECIALIZATION
constexpr int kMaxRegisters = USE_FAST_EXP ? 96 : 104;
#else
constexpr int kMaxRegisters = USE_PERSISTENT_CTA ? 112 : 120;
#endif

static_assert(TILE_M % kRowsPerWarp == 0 && TILE_N % kKeyBlock == 0 && HEAD_DIM % 16 == 0, "tile shape");
static_assert(kKeyBlock * kChunksPerRow % kLoaders == 0, "every loader copies the same number of chunks");

using QueryFragment = wmma::fragment<wmma::matrix_a, 16, 16, 16, __half, wmma::row_major>;
using KeyFragment = wmma::fragment<wmma::matrix_b, 16, 16, 16, __half, wmma::col_major>;  // K^T
using ValueFragment = wmma::fragment<wmma::matrix_b, 16, 16, 16, __half, wmma::row_major>;
using Accumulator = wmma::fragment<wmma::accumulator, 16, 16, 16, float>;

// Which element of a 16 x 16 tile a thread holds in x[e], e < 8, on sm_80 and later. It is the same for accumulators
// and for matrix_a (whose x[8..15] mirror x[0..7]), so P never leaves its registers between the two products, and the
// elements of a row lie in the four threads of a quad. WMMA leaves the layout unspecified; were it another, every
// result would be wrong at once, which is what the correctness gate is for.
struct FragmentLayout {
    __device__ static constexpr int row_half(int e) { return (e >> 1) & 1; }  // row = lane / 4 + 8 * row_half
    __device__ static int row(int lane, int half) { return (lane >> 2) + 8 * half; }
    __device__ static int col(int lane, int e) { return 2 * (lane & 3) + (e & 1) + 8 * (e >> 2); }
};

// threadIdx.x, read anew at each call: what is derived from it then need not stay in registers across the main loop.
__device__ __forceinline__ int thread_index() {
    int index;
    asm volatile("mov.u32 %0, %%tid.x;" : "=r"(index));
    return index;
}
__device__ __forceinline__ int loader_index() {
    return thread_index() - (USE_WARP_SPECIALIZATION ? kComputeWarps * kWarpSize : 0);
}

struct Problem {
    const __nv_fp8_storage_t *q, *k, *v;
    const float *q_scale, *k_scale, *v_scale;
    __half *o;
    int seq_len, heads, items;
    float softmax_scale;
};

// One query tile of one head: blockIdx when there is a CTA for each, else a running index over all of them.
struct WorkItem {
    int query_tile, batch_head;

    __device__ static WorkItem at(int item, const Problem &p) {
#if USE_PERSISTENT_CTA
        // query tiles of one head are neighbours, so CTAs running together share K and V in L2
        const int query_tiles = (p.seq_len + TILE_M - 1) / TILE_M;
        return {item % query_tiles, item / query_tiles};
#else
        return {static_cast<int>(blockIdx.x), static_cast<int>(blockIdx.z * gridDim.y + blockIdx.y)};
#endif
    }
    // Without persistent CTAs batch_head % heads is blockIdx.y, which costs no registers.
    __device__ int head(const Problem &p) const {
        return USE_PERSISTENT_CTA ? batch_head % p.heads : static_cast<int>(blockIdx.y);
    }
};

// ---- copies --------------------------------------------------------------------------------------------------------

// 16 bytes from global to shared memory, asynchronously; zeros where the source row does not exist (it is not read).
__device__ __forceinline__ void cp_async_16(void *dst, const void *src, bool exists) {
    const uint32_t dst_address = static_cast<uint32_t>(__cvta_generic_to_shared(dst));
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(dst_address), "l"(src), "r"(exists ? 16 : 0)
                 : "memory");
}
__device__ __forceinline__ void cp_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int kPending>
__device__ __forceinline__ void cp_async_wait() {
    asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

// A loader's walk over the K/V tiles of all of this CTA's work items, in the order in which they are consumed.
struct TileLoader {
    int row;        // the next tile's first, counting all heads' rows
    int keys_left;  // in the current head, from the next tile on; not above 0 when there is nothing more to load
    int item;

    __device__ void start_item(const Problem &p) {
        row = WorkItem::at(item, p).batch_head * p.seq_len;
        keys_left = p.seq_len;
    }
    // Starts the copy of the next tile, if there is one. Keys past the end become zeros: V must be finite there, for
    // 0 * NaN is NaN. A group is committed even when it is empty, so that cp_async_wait<1> always means: all but the
    // newest tile.
    __device__ __forceinline__ void load_next(const Problem &p, uint8_t *raw_k, uint8_t *raw_v) {
        if (keys_left > 0) {
            const int loader = loader_index();
            const size_t offset = static_cast<size_t>(row) * HEAD_DIM;
#pragma unroll 1  // the addresses of a whole tile of 128 keys would not fit the registers
            for (int block = 0; block < kBlocksPerTile; ++block) {
                const int block_offset = block * kKeyBlock * HEAD_DIM + loader * kChunk;
#pragma unroll
                for (int i = 0; i < kChunksPerLoader; ++i) {
                    const int step = i * kLoaders * kChunk;
                    const bool exists = block * kKeyBlock + (i * kLoaders + loader) / kChunksPerRow < keys_left;
                    cp_async_16(raw_k + block_offset + step, p.k + offset + block_offset + step, exists);
                    cp_async_16(raw_v + block_offset + step, p.v + offset + block_offset + step, exists);
                }
            }
            row += TILE_N;
            keys_left -= TILE_N;
#if USE_PERSISTENT_CTA
            if (keys_left <= 0) {
                item += gridDim.x;
                keys_left = 0;
                if (item < p.items) {
                    start_item(p);
                }
            }
#endif
        }
        cp_async_commit();
    }
};

__device__ __forceinline__ uint32_t dequantise_pair(uint32_t two_fp8) {
    const __half2_raw pair = __nv_cvt_fp8x2_to_halfraw2(static_cast<__nv_fp8x2_storage_t>(two_fp8), __NV_E4M3);
    return static_cast<uint32_t>(pair.y) << 16 | pair.x;
}

// Turns 64 keys of raw FP8 into an fp16 tile. A loader converts the very chunks that it copied, so its own
// cp_async_wait() is all the synchronisation the raw tiles need, when they are read and when they are refilled.
__device__ __forceinline__ void dequantise_block(const uint8_t *raw, __half *half_tile) {
    const int loader = loader_index();
#pragma unroll
    for (int i = 0; i < kChunksPerLoader; ++i) {
        const int chunk = i * kLoaders + loader;
        const uint4 bytes = *reinterpret_cast<const uint4 *>(raw + chunk * kChunk);
        uint4 low, high;
        low.x = dequantise_pair(bytes.x & 0xffff);
        low.y = dequantise_pair(bytes.x >> 16);
        low.z = dequantise_pair(bytes.y & 0xffff);
        low.w = dequantise_pair(bytes.y >> 16);
        high.x = dequantise_pair(bytes.z & 0xffff);
        high.y = dequantise_pair(bytes.z >> 16);
        high.z = dequantise_pair(bytes.w & 0xffff);
        high.w = dequantise_pair(bytes.w >> 16);
        uint4 *dst = reinterpret_cast<uint4 *>(half_tile + chunk / kChunksPerRow * kHalfStride +
                                               chunk % kChunksPerRow * kChunk);
        dst[0] = low;
        dst[1] = high;
    }
}

// ---- compute -------------------------------------------------------------------------------------------------------

// What a warp keeps of its 16 query rows; [2] is by FragmentLayout::row_half.
struct RowState {
    QueryFragment q[kDimFragments];
    Accumulator o[kDimFragments];
    float row_max[2];  // of the unscaled scores
    float row_sum[2];  // this thread's share; the quad adds up at the end
    float score_scale;
};

// Q goes straight from global memory into matrix_a fragments: each element is used by one thread of the CTA only.
__device__ __forceinline__ void load_queries(RowState &state, const Problem &p, const WorkItem &work) {
    const int warp = thread_index() / kWarpSize, lane = thread_index() % kWarpSize;
    const size_t head_offset = static_cast<size_t>(work.batch_head) * p.seq_len * HEAD_DIM;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        const int row = work.query_tile * TILE_M + warp * kRowsPerWarp + FragmentLayout::row(lane, half);
        const bool exists = row < p.seq_len;
        const __nv_fp8_storage_t *src = p.q + head_offset + static_cast<size_t>(row) * HEAD_DIM;
#pragma unroll
        for (int d = 0; d < kDimFragments; ++d) {
#pragma unroll
            for (int e = 2 * half; e < 8; e += 4) {  // the pairs x[e], x[e + 1] of this row
                uint32_t bytes = 0;
                if (exists) {
                    bytes = *reinterpret_cast<const uint16_t *>(src + d * 16 + FragmentLayout::col(lane, e));
                }
                const uint32_t pair = dequantise_pair(bytes);
                const __half2 values = *reinterpret_cast<const __half2 *>(&pair);
                state.q[d].x[e] = state.q[d].x[e + 8] = __low2half(values);
                state.q[d].x[e + 1] = state.q[d].x[e + 9] = __high2half(values);
            }
        }
    }
#pragma unroll
    for (int d = 0; d < kDimFragments; ++d) {
        wmma::fill_fragment(state.o[d], 0.0f);
    }
    const int head = work.head(p);
    // a head of zeros has scale 0; keep -inf * score_scale from being NaN
    state.score_scale = fmaxf(p.q_scale[head] * p.k_scale[head] * p.softmax_scale, FLT_MIN);
#if USE_FAST_EXP
    state.score_scale *= 1.4426950408889634f;  // exp(x) = exp2(x * log2(e))
#endif
    state.row_max[0] = state.row_max[1] = -INFINITY;
    state.row_sum[0] = state.row_sum[1] = 0.0f;
}

// exp((score - row_max) * scale)
__device__ __forceinline__ float exp_score(float score, float row_max, float scale) {
#if USE_FAST_EXP
    float result;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(fmaf(score, scale, -row_max * scale)));
    return result;
#else
    return expf((score - row_max) * scale);
#endif
}

__device__ __forceinline__ void score_block(Accumulator (&s)[kKeyFragments], const RowState &state, const __half *k_tile) {
#pragma unroll
    for (int n = 0; n < kKeyFragments; ++n) {
        wmma::fill_fragment(s[n], 0.0f);
#pragma unroll
        for (int d = 0; d < kDimFragments; ++d) {
            KeyFragment k;
            wmma::load_matrix_sync(k, k_tile + n * 16 * kHalfStride + d * 16, kHalfStride);
            wmma::mma_sync(s[n], state.q[d], k, s[n]);
        }
    }
}

// Online softmax, first half: raises the running maximum to that of this block too, and brings what was accumulated
// before down to it.
__device__ __forceinline__ void update_row_max(RowState &state, Accumulator (&s)[kKeyFragments], int keys) {
    if (keys < kKeyBlock) {  // last block of the sequence
        const int lane = thread_index() % kWarpSize;
#pragma unroll
        for (int n = 0; n < kKeyFragments; ++n) {
#pragma unroll
            for (int e = 0; e < 8; ++e) {
                if (n * 16 + FragmentLayout::col(lane, e) >= keys) {
                    s[n].x[e] = -INFINITY;
                }
            }
        }
    }

    float block_max[2] = {state.row_max[0], state.row_max[1]};
#pragma unroll
    for (int n = 0; n < kKeyFragments; ++n) {
#pragma unroll
        for (int e = 0; e < 8; ++e) {
            float &m = block_max[FragmentLayout::row_half(e)];
            m = fmaxf(m, s[n].x[e]);
        }
    }
    float rescale[2];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        block_max[half] = fmaxf(block_max[half], __shfl_xor_sync(0xffffffffu, block_max[half], 1));
        block_max[half] = fmaxf(block_max[half], __shfl_xor_sync(0xffffffffu, block_max[half], 2));
        // every block has a key, so block_max is finite, and the first block's rescale is exp(-inf) = 0
        rescale[half] = exp_score(state.row_max[half], block_max[half], state.score_scale);
        state.row_max[half] = block_max[half];
        state.row_sum[half] *= rescale[half];
    }
#pragma unroll
    for (int d = 0; d < kDimFragments; ++d) {
#pragma unroll
        for (int e = 0; e < 8; ++e) {
            state.o[d].x[e] *= rescale[FragmentLayout::row_half(e)];
        }
    }
}

// Second half, and the product with V: 16 keys at a time, so that the exponentials of one step run beside the tensor
// cores' work on the step before. The probabilities' fragment needs no more than a conversion (see FragmentLayout).
__device__ __forceinline__ void accumulate_block(RowState &state, const Accumulator (&s)[kKeyFragments],
                                                 const __half *v_tile) {
#pragma unroll
    for (int n = 0; n < kKeyFragments; ++n) {
        QueryFragment probabilities;
#pragma unroll
        for (int e = 0; e < 8; e += 2) {
            const int half = FragmentLayout::row_half(e);
            const float p0 = exp_score(s[n].x[e], state.row_max[half], state.score_scale);
            const float p1 = exp_score(s[n].x[e + 1], state.row_max[half], state.score_scale);
            state.row_sum[half] += p0 + p1;
            const __half2 pair = __floats2half2_rn(p0, p1);
            probabilities.x[e] = probabilities.x[e + 8] = __low2half(pair);
            probabilities.x[e + 1] = probabilities.x[e + 9] = __high2half(pair);
        }
#pragma unroll
        for (int d = 0; d < kDimFragments; ++d) {
            ValueFragment v;
            wmma::load_matrix_sync(v, v_tile + n * 16 * kHalfStride + d * 16, kHalfStride);
            wmma::mma_sync(state.o[d], probabilities, v, state.o[d]);
        }
    }
}

__device__ __forceinline__ void store_output(const RowState &state, const Problem &p, const WorkItem &work) {
    const int warp = thread_index() / kWarpSize, lane = thread_index() % kWarpSize;
    const float v_scale = p.v_scale[work.head(p)];
    const size_t head_offset = static_cast<size_t>(work.batch_head) * p.seq_len * HEAD_DIM;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        float sum = state.row_sum[half];
        sum += __shfl_xor_sync(0xffffffffu, sum, 1);
        sum += __shfl_xor_sync(0xffffffffu, sum, 2);
        const float scale = v_scale / sum;
        const int row = work.query_tile * TILE_M + warp * kRowsPerWarp + FragmentLayout::row(lane, half);
        if (row < p.seq_len) {
            __half *dst = p.o + head_offset + static_cast<size_t>(row) * HEAD_DIM;
#pragma unroll
            for (int d = 0; d < kDimFragments; ++d) {
#pragma unroll
                for (int e = 2 * half; e < 8; e += 4) {
                    *reinterpret_cast<__half2 *>(dst + d * 16 + FragmentLayout::col(lane, e)) =
                        __floats2half2_rn(state.o[d].x[e] * scale, state.o[d].x[e + 1] * scale);
                }
            }
        }
    }
}

#if USE_WARP_SPECIALIZATION
// ---- producer/consumer hand-over -----------------------------------------------------------------------------------

__device__ __forceinline__ void mbarrier_init(uint64_t *barrier, int arrivals) {
    asm volatile("mbarrier.init.shared.b64 [%0], %1;" ::"r"(static_cast<uint32_t>(__cvta_generic_to_shared(barrier))),
                 "r"(arrivals)
                 : "memory");
}
// Every thread arrives for itself, and so releases its own accesses.
__device__ __forceinline__ void mbarrier_arrive(uint64_t *barrier) {
    asm volatile("mbarrier.arrive.shared.b64 _, [%0];" ::"r"(static_cast<uint32_t>(__cvta_generic_to_shared(barrier)))
                 : "memory");
}
__device__ __forceinline__ void mbarrier_wait(uint64_t *barrier, uint32_t parity) {
    asm volatile(
        "{\n"
        ".reg .pred done;\n"
        "again:\n"
        "mbarrier.try_wait.parity.shared.b64 done, [%0], %1;\n"
        "@!done bra again;\n"
        "}\n" ::"r"(static_cast<uint32_t>(__cvta_generic_to_shared(barrier))),
        "r"(parity)
        : "memory");
}

// A ring of kHalfStages fp16 tiles. Block b, counted across work items, uses stage b % kHalfStages, for the
// (b / kHalfStages)-th time.
struct Handover {
    uint64_t *full, *empty;
    __device__ void producer_acquire(int block) const {
        // a fresh barrier counts as having completed the phase before its first: no wait the first time round
        mbarrier_wait(&empty[block % kHalfStages], (block / kHalfStages & 1) ^ 1);
    }
    __device__ void producer_commit(int block) const { mbarrier_arrive(&full[block % kHalfStages]); }
    __device__ void consumer_wait(int block) const {
        mbarrier_wait(&full[block % kHalfStages], block / kHalfStages & 1);
    }
    __device__ void consumer_release(int block) const { mbarrier_arrive(&empty[block % kHalfStages]); }
};
#endif

}  // namespace

extern "C" __global__ void __maxnreg__(kMaxRegisters)
    sdpa(const __nv_fp8_storage_t *__restrict__ q, const __nv_fp8_storage_t *__restrict__ k,
         const __nv_fp8_storage_t *__restrict__ v, const float *__restrict__ q_scale, const float *__restrict__ k_scale,
         const float *__restrict__ v_scale, __half *__restrict__ o, int seq_len, float softmax_scale, int heads,
         int batch_heads) {
    extern __shared__ __align__(128) uint8_t shared[];
    uint8_t *const raw_k = shared;                          // [kRawStages][TILE_N][HEAD_DIM]
    uint8_t *const raw_v = raw_k + kRawStages * kRawTile;   // the same
    __half *const half_k = reinterpret_cast<__half *>(raw_v + kRawStages * kRawTile);  // [kHalfStages][64][kHalfStride]
    __half *const half_v = half_k + kHalfStages * kHalfTile;                           // the same

    const int query_tiles = (seq_len + TILE_M - 1) / TILE_M;
    const Problem p = {q, k, v, q_scale, k_scale, v_scale, o, seq_len, heads, query_tiles * batch_heads, softmax_scale};
#if USE_PERSISTENT_CTA
    const int first_item = blockIdx.x, last_item = p.items, item_step = gridDim.x;
#else
    const int first_item = 0, last_item = 1, item_step = 1;
#endif

#if USE_WARP_SPECIALIZATION
    // The shuffle tells ptxas that a whole warp has one role, so that counters and addresses can go to uniform
    // registers; without it, ptxas spills.
    const int warp = __shfl_sync(0xffffffffu, threadIdx.x / kWarpSize, 0);
    __shared__ uint64_t barriers[4][kHalfStages];
    if (threadIdx.x == 0) {
        for (int stage = 0; stage < kHalfStages; ++stage) {
            mbarrier_init(&barriers[0][stage], kLoaders);
            mbarrier_init(&barriers[1][stage], kComputeWarps * kWarpSize);
            mbarrier_init(&barriers[2][stage], kLoaders);
            mbarrier_init(&barriers[3][stage], kComputeWarps * kWarpSize);
        }
    }
    __syncthreads();  // the only barrier of both roles; from here on they meet at mbarriers alone
    const Handover keys_ready = {barriers[0], barriers[1]};
    const Handover values_ready = {barriers[2], barriers[3]};
    if (warp >= kComputeWarps) {
        TileLoader tiles = {0, 0, first_item};
        tiles.start_item(p);
        tiles.load_next(p, raw_k, raw_v);
        tiles.load_next(p, raw_k + kRawTile, raw_v + kRawTile);
        int block = 0, stage = 0;
        for (int item = first_item; item < last_item; item += item_step) {
            for (int keys = seq_len; keys > 0; keys -= TILE_N, stage ^= 1) {
                cp_async_wait<1>();
#pragma unroll
                for (int b = 0; b < kBlocksPerTile; ++b) {
                    if (b * kKeyBlock < keys) {
                        const int half_offset = block % kHalfStages * kHalfTile;
                        const int raw_offset = stage * kRawTile + b * kKeyBlock * HEAD_DIM;
                        keys_ready.producer_acquire(block);
                        dequantise_block(raw_k + raw_offset, half_k + half_offset);
                        keys_ready.producer_commit(block);
                        values_ready.producer_acquire(block);
                        dequantise_block(raw_v + raw_offset, half_v + half_offset);
                        values_ready.producer_commit(block);
                        ++block;
                    }
                }
                tiles.load_next(p, raw_k + stage * kRawTile, raw_v + stage * kRawTile);
            }
        }
        return;
    }

    int block = 0;
    for (int item = first_item; item < last_item; item += item_step) {
        const WorkItem work = WorkItem::at(item, p);
        RowState state;
        load_queries(state, p, work);
        for (int keys = seq_len; keys > 0; keys -= kKeyBlock, ++block) {
            const int half_offset = block % kHalfStages * kHalfTile;
            Accumulator s[kKeyFragments];
            keys_ready.consumer_wait(block);
            score_block(s, state, half_k + half_offset);
            keys_ready.consumer_release(block);
            update_row_max(state, s, keys);
            values_ready.consumer_wait(block);
            accumulate_block(state, s, half_v + half_offset);
            values_ready.consumer_release(block);
        }
        store_output(state, p, work);
    }
#else
    TileLoader tiles = {0, 0, first_item};
    tiles.start_item(p);
    tiles.load_next(p, raw_k, raw_v);
    tiles.load_next(p, raw_k + kRawTile, raw_v + kRawTile);
    int stage = 0;
    for (int item = first_item; item < last_item; item += item_step) {
        const WorkItem work = WorkItem::at(item, p);
        RowState state;
        load_queries(state, p, work);
        for (int keys = seq_len; keys > 0; stage ^= 1) {
            cp_async_wait<1>();
#pragma unroll 1
            for (int b = 0; b < kBlocksPerTile && keys > 0; ++b, keys -= kKeyBlock) {
                const int raw_offset = stage * kRawTile + b * kKeyBlock * HEAD_DIM;
                Accumulator s[kKeyFragments];
                // Two barriers a block. Each one also says that every warp is done with the other fp16 tile, so warps
                // on either side of it overlap the conversion of one with the product over the other.
                dequantise_block(raw_k + raw_offset, half_k);
                __syncthreads();  // K is complete, and the V of the block before is used up
                score_block(s, state, half_k);
                update_row_max(state, s, keys);
                dequantise_block(raw_v + raw_offset, half_v);
                if (b == kBlocksPerTile - 1 || keys <= kKeyBlock) {  // the raw tile is used up
                    tiles.load_next(p, raw_k + stage * kRawTile, raw_v + stage * kRawTile);
                }
                __syncthreads();  // V is complete, and this K is used up
                accumulate_block(state, s, half_v);
            }
        }
        store_output(state, p, work);
    }
#endif
}
