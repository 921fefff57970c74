// Keys split over the warpgroups of a CTA: for sequences too short to keep a GPU busy, where latency is all.
//
// A CTA has 64 query rows. Its warpgroups, one or two, take turns at pairs of tiles of keys, and add up their outputs at the end. No warp produces, no
// tensor map has to be fetched and no barrier in shared memory to be made: each warpgroup copies its own keys with cp.async, and loads its values
// into registers, from which it stores them K-major. Queries lie in shared memory, too: a product whose first operand is in registers holds up its
// warp. While the first tile's scores become probabilities, the second tile's are computed.
//
// Where KEYS_FILL says that the keys fill all turns, no score is masked, and values are loaded as soon as keys are on their way. `copy_rows` tests where keys
// end all the same, and one turn has its loop: without them code is shorter, but slower (README.md).

#pragma once

#include "problem.cuh"
#include "softmax.cuh"

namespace split {

using tiles::kKeyTile;
using tiles::kRows;
using tiles::kValueTile;
using tiles::kWarpgroup;

static_assert(P_E4M3 && HEAD_DIM == 64, "E4M3 values with 64 dimensions");
static_assert(WARPGROUPS <= 2, "each of two warpgroups finishes half of the rows");

constexpr int kThreads = WARPGROUPS * kWarpgroup;
constexpr int kItemRows = kRows;
constexpr int kPair = 2;  // tiles
constexpr int kPairKeys = kPair * TILE_N;
constexpr int kTurnKeys = WARPGROUPS * kPairKeys;
constexpr bool kFill = KEYS_FILL;
static_assert(kTurnKeys % kItemRows == 0, "where keys fill all turns, there are all rows of queries");

// A warpgroup's shared memory: keys, queries, values, its part of the other's rows, totals. The table computes the same size.
constexpr int kQueriesAt = kPair * kKeyTile;
constexpr int kValuesAt = kQueriesAt + kRows * HEAD_DIM;
constexpr int kPartAt = kValuesAt + kPair * kValueTile;
constexpr int kPartVectors = 4;  // of 4 outputs, a thread and row
constexpr int kVectorBytes = kWarpgroup * 16;
constexpr int kTotalsAt = kPartAt + (WARPGROUPS > 1) * (kPartVectors * kVectorBytes + kWarpgroup * 8);
constexpr int kRegion = kTotalsAt + softmax::Totals::kBytes;
static_assert(kKeyTile % 512 == 0 && kValueTile % 512 == 0 && kRegion % 512 == 0, "tiles keep the swizzle's alignment");

__device__ __forceinline__ void sync_warpgroup(int group) { hopper::named_barrier_sync(1 + group, kWarpgroup); }

// `kCount` rows of queries or keys. Behind the last row that row again: what comes of it is masked, or not stored.
template <int kCount, bool kAll>
__device__ __forceinline__ void copy_rows(uint32_t dst, const uint8_t *src, int rows) {
    const int thread = threadIdx.x % kWarpgroup, row = thread / 4, chunk = thread % 4;
#pragma unroll
    for (int i = 0; i < kCount; i += kWarpgroup / 4) {
        hopper::copy_16(dst + tiles::swizzled(row, chunk) + i * HEAD_DIM,
                        src + (kAll ? (row + i) * HEAD_DIM : min(row + i, rows - 1) * HEAD_DIM) + chunk * 16);
    }
}
template <int kCount>
__device__ __forceinline__ void copy_rows(uint32_t dst, const uint8_t *src, int rows) {
    if (rows >= kCount) {
        copy_rows<kCount, true>(dst, src, rows);
    } else if (rows > 0) {
        copy_rows<kCount, false>(dst, src, rows);
    }
}

// Values of a tile on their way to shared memory. A warp takes units of 32 keys, a thread every second of these and four dimensions of each:
// a load is of whole lines. In shared memory dimension 4 l + j (l = lane % 16) is row 16 j + l: stores have no bank conflicts, and in the outputs a
// thread has two times eight neighbouring dimensions.
struct RawValues {
    static constexpr int kUnits = (TILE_N / 32 + 3) / 4;  // a warp
    uint32_t x[kUnits][16];

    template <bool kAll>
    __device__ __forceinline__ void load(const uint8_t *src, int keys) {
        const int lane = threadIdx.x % 32, first = threadIdx.x / 32 % 4 * 32 + lane / 16;
        const uint8_t *from = src + first * HEAD_DIM + lane % 16 * 4;
#pragma unroll
        for (int unit = 0; unit < kUnits; ++unit) {
            if (TILE_N >= 128 || first < TILE_N) {
#pragma unroll
                for (int i = 0; i < 16; ++i) {
                    const int further = unit * 128 + 2 * i;
                    x[unit][i] = hopper::load_word(from + (kAll ? further : min(further, keys - 1 - first)) * HEAD_DIM);
                }
            }
        }
    }
    __device__ __forceinline__ void load(const uint8_t *src, int keys) {
        if (kFill || keys >= TILE_N) {
            load<true>(src, keys);
        } else {  // the last key again, also where all are past the end: zero times what lies there must not be NaN
            load<false>(src, keys);
        }
    }
    __device__ __forceinline__ void store(uint32_t dst) const {
        const int lane = threadIdx.x % 32, warp = threadIdx.x / 32 % 4;
#pragma unroll
        for (int unit = 0; unit < kUnits; ++unit) {
            const int chunk = (unit * 4 + warp) * 2 + lane / 16;  // of 16 keys
            if (TILE_N < 128 && chunk >= TILE_N / 16) {
                break;
            }
            uint32_t y[4][4];  // dimension, four keys
#pragma unroll
            for (int four = 0; four < 4; ++four) {
                const uint32_t *key = &x[unit][four];
                const uint32_t a = __byte_perm(key[0], key[4], 0x5140), b = __byte_perm(key[8], key[12], 0x5140);
                const uint32_t c = __byte_perm(key[0], key[4], 0x7362), d = __byte_perm(key[8], key[12], 0x7362);
                y[0][four] = __byte_perm(a, b, 0x5410);
                y[1][four] = __byte_perm(a, b, 0x7632);
                y[2][four] = __byte_perm(c, d, 0x5410);
                y[3][four] = __byte_perm(c, d, 0x7632);
            }
#pragma unroll
            for (int j = 0; j < 4; ++j) {
                hopper::store_shared(dst + chunk / 4 * tiles::kValueBlock + tiles::swizzled(16 * j + lane % 16, chunk % 4),
                                     make_uint4(y[j][0], y[j][1], y[j][2], y[j][3]));
            }
        }
    }
};

struct Warpgroup {
    const Problem &p;
    const int group, warp;
    const uint32_t shared, region;
    const Item item;
    const size_t head;  // its first byte of queries, keys and values
    RawValues raw[kPair];
    tiles::Outputs o;
    softmax::Rows rows;
    const softmax::Totals totals;

    __device__ __forceinline__ Warpgroup(const Problem &p, uint32_t shared, int group)
        : p(p), group(group), warp(threadIdx.x / 32 % 4), shared(shared), region(shared + group * kRegion),
          item(Items<kItemRows>(p).item()), head(static_cast<size_t>(item.batch_head) * p.seq_len * HEAD_DIM), totals(region + kTotalsAt) {}

    // A pair of tiles, from key `first` on: keys on their way to shared memory, values to the L2 cache unless they are loaded at once.
    __device__ __forceinline__ void fetch(int first) const {
        const uint8_t *keys = p.keys + head + static_cast<size_t>(first) * HEAD_DIM;
#pragma unroll
        for (int i = 0; i < kPair; ++i) {
            copy_rows<TILE_N>(region + i * kKeyTile, keys + i * kKeyTile, p.seq_len - first - i * TILE_N);
            hopper::copy_commit();
        }
        if (!kFill) {
            prefetch(p.values, first);
        }
    }
    // By sectors: a prefetch need not bring a whole line.
    __device__ __forceinline__ void prefetch(const uint8_t *tensor, int first) const {
        const uint8_t *from = tensor + head + static_cast<size_t>(first) * HEAD_DIM;
        const int bytes = min(p.seq_len - first, kPairKeys) * HEAD_DIM;
#pragma unroll
        for (int i = 0; i < kPairKeys * HEAD_DIM; i += kWarpgroup * hopper::kSector) {
            const int at = i + threadIdx.x % kWarpgroup * hopper::kSector;
            if (at < bytes) {
                hopper::prefetch(from + at);
            }
        }
    }
    __device__ __forceinline__ void load_values(int first) {
#pragma unroll
        for (int i = 0; i < kPair; ++i) {
            raw[i].load(p.values + head + static_cast<size_t>(first + i * TILE_N) * HEAD_DIM, p.seq_len - first - i * TILE_N);
        }
    }
    __device__ __forceinline__ void start_scores(tiles::Scores &s, int tile) {
        wgmma::pin(s);
        wgmma::fence();
        tiles::start_scores(s, tiles::Keys(region + kQueriesAt), tiles::Keys(region + tile * kKeyTile));
        wgmma::commit();
    }
    __device__ __forceinline__ void start_outputs(const tiles::Probabilities &probabilities, int tile) {
        wgmma::pin(o);
        wgmma::fence();
        tiles::start_outputs(o, probabilities, tiles::Values(region + kValuesAt + tile * kValueTile));
        wgmma::commit();
    }
    __device__ __forceinline__ void raise_max(const float (&max)[2]) {
        wgmma::wait<0>();
        wgmma::pin(o);
        softmax::rescale(rows, o, max);
    }

    // The maximum of no key: scores of -inf minus it are not NaN.
    __device__ __forceinline__ static void keep_finite(float (&max)[2]) {
        max[0] = fmaxf(max[0], -1e30f);
        max[1] = fmaxf(max[1], -1e30f);
    }
    // `first`: no key came before these.
    __device__ __forceinline__ void weigh(tiles::Probabilities &probabilities, tiles::Scores &s, int keys_left, bool first) {
        wgmma::pin(s);
        if (!kFill && keys_left < TILE_N) {
            softmax::mask(s, keys_left);
        }
        float max[2];
#if EXP_LINEAR
        softmax::Codes codes;
        if (first) {
            // Of 32 keys: where others are much larger, their codes say so.
            softmax::tile_max<16>(s, rows.max);
            keep_finite(rows.max);
        }
        if (__any_sync(0xffffffffu, softmax::encode(codes, s, rows))) {
            softmax::tile_max(s, max);
            raise_max(max);
            softmax::encode(codes, s, rows);
        }
        softmax::pack(probabilities, codes);
#else
        softmax::tile_max(s, max);
        if (first) {
            keep_finite(max);
            rows.max[0] = max[0];
            rows.max[1] = max[1];
        } else if (softmax::must_rescale(rows, max, 1)) {
            raise_max(max);
        }
        softmax::probabilities(probabilities, s, rows);
#endif
        wgmma::pin(probabilities);
    }

    __device__ __forceinline__ void store_values() const {
#pragma unroll
        for (int i = 0; i < kPair; ++i) {
            raw[i].store(region + kValuesAt + i * kValueTile);
        }
        hopper::fence_async();
        sync_warpgroup(group);
    }
    template <int kPending>
    __device__ __forceinline__ void keys_there() const {
        hopper::copy_wait<kPending>();
        hopper::fence_async();
        sync_warpgroup(group);
    }
    __device__ __forceinline__ void pair(int first, int turn) {
        const int keys_left = p.seq_len - first;
        tiles::Scores a, b;
        tiles::Probabilities probabilities[kPair];
        if (turn != 0 && turn * kPair % softmax::kSumTiles == 0) {
            softmax::rescale(rows, o, rows.max);
        }
        if (turn != 0 && turn * kPair % softmax::kTotalTiles == 0) {
            totals.add(o, rows, turn * kPair == softmax::kTotalTiles);
        }
        if (kFill) {
            load_values(first);
        }
        keys_there<1>();
        start_scores(a, 0);
        keys_there<0>();
        start_scores(b, 1);
        if (!kFill) {
            // Not before: the fence would wait for them, and keys, which are needed first, share the way with them.
            load_values(first);
        }
        wgmma::wait<1>();
        weigh(probabilities[0], a, keys_left, turn == 0);
        store_values();
        start_outputs(probabilities[0], 0);
        wgmma::wait<1>();
        weigh(probabilities[1], b, keys_left - TILE_N, false);
        start_outputs(probabilities[1], 1);
        wgmma::wait<0>();
        wgmma::pin(o);
    }

    // Eight neighbouring outputs, and the next eight 32 further.
    __device__ __forceinline__ void store(const float4 (&x)[kPartVectors], float factor, int half) const {
        const int row = item.first_row + warp * 16 + 8 * half + threadIdx.x % 32 / 4;
        if (kFill || row < p.seq_len) {
            uint4 *to = reinterpret_cast<uint4 *>(p.o + (static_cast<size_t>(item.batch_head) * p.seq_len + row) * HEAD_DIM + threadIdx.x % 4 * 8);
            const auto pack = [&](float a, float b) { return softmax::pack_fp16(a * factor, b * factor); };
            to[0] = make_uint4(pack(x[0].x, x[1].x), pack(x[2].x, x[3].x), pack(x[0].y, x[1].y), pack(x[2].y, x[3].y));
            to[4] = make_uint4(pack(x[0].z, x[1].z), pack(x[2].z, x[3].z), pack(x[0].w, x[1].w), pack(x[2].w, x[3].w));
        }
    }
    __device__ __forceinline__ void part(float4 (&x)[kPartVectors], int half) const {
#pragma unroll
        for (int i = 0; i < kPartVectors; ++i) {
            const float *y = &o[8 * i];
            x[i] = half == 0 ? make_float4(y[0], y[1], y[4], y[5]) : make_float4(y[2], y[3], y[6], y[7]);
        }
    }
    __device__ __forceinline__ float2 end(int half) const {
        return half == 0 ? make_float2(rows.max[0], rows.sum[0]) : make_float2(rows.max[1], rows.sum[1]);
    }
    // Each of two warpgroups adds up the parts of one half of a thread's rows: a thread's outputs are at the same places in both.
    __device__ __forceinline__ void join(float value_scale) const {
        const uint32_t vectors = kPartAt + threadIdx.x % kWarpgroup * 16, ends = kPartAt + kPartVectors * kVectorBytes + threadIdx.x % kWarpgroup * 8;
        const uint32_t others = shared + (1 - group) * kRegion;
        float4 x[kPartVectors], y[kPartVectors];
        part(x, 1 - group);
#pragma unroll
        for (int i = 0; i < kPartVectors; ++i) {
            hopper::store_shared(region + vectors + i * kVectorBytes, x[i]);
        }
        hopper::store_shared(region + ends, end(1 - group));
        __syncthreads();
        const float2 other = hopper::load_shared2(others + ends), own = end(group);
#pragma unroll
        for (int i = 0; i < kPartVectors; ++i) {
            y[i] = hopper::load_shared4(others + vectors + i * kVectorBytes);
        }
        part(x, group);
        const float max = fmaxf(own.x, other.x);
        const float a = softmax::exp2_fast((own.x - max) * rows.scale), b = softmax::exp2_fast((other.x - max) * rows.scale);
#pragma unroll
        for (int i = 0; i < kPartVectors; ++i) {
            x[i] = make_float4(fmaf(y[i].x, b, x[i].x * a), fmaf(y[i].y, b, x[i].y * a), fmaf(y[i].z, b, x[i].z * a), fmaf(y[i].w, b, x[i].w * a));
        }
        store(x, __fdividef(value_scale, fmaf(other.y, b, own.y * a)), group);
    }

    __device__ __forceinline__ void run() {
        int first = group * kPairKeys;
        // Loaded here, used when keys are there.
        const float q_scale = hopper::load_float(p.q_scale + item.head), k_scale = hopper::load_float(p.k_scale + item.head);
        const float v_scale = hopper::load_float(p.v_scale + item.head);
        copy_rows<kRows>(region + kQueriesAt, p.queries + head + static_cast<size_t>(item.first_row) * HEAD_DIM, p.seq_len - item.first_row);
        fetch(first);
        tiles::write_ones(region + kValuesAt, kPair, threadIdx.x % kWarpgroup, kWarpgroup);
        rows = {{-INFINITY, -INFINITY}, {}, p.score_scale(q_scale, k_scale)};
        tiles::clear(o);
        // As many turns for each warpgroup, also where one has no keys left: racecheck (13.0) counts the barriers that a thread has passed.
        const int turns = (p.seq_len + kTurnKeys - 1) / kTurnKeys;
#pragma unroll 1
        for (int turn = 0; turn < turns; ++turn) {
            if (turn > 0) {
                sync_warpgroup(group);  // tiles are used up
                fetch(first);
            }
            pair(first, turn);
            first += kTurnKeys;
        }
        if (turns * kPair > softmax::kTotalTiles) {
            totals.add_to(o, rows);
        }
        softmax::finish_sums(rows, o);
        if (WARPGROUPS == 1) {
#pragma unroll
            for (int half = 0; half < 2; ++half) {
                float4 x[kPartVectors];
                part(x, half);
                store(x, __fdividef(v_scale, rows.sum[half]), half);
            }
        } else {
            join(v_scale);
        }
    }
};

__device__ __forceinline__ void run(const Problem &p, uint32_t shared) {
    Warpgroup(p, shared, __shfl_sync(0xffffffffu, threadIdx.x / kWarpgroup, 0)).run();
}

}  // namespace split
