// Keys split over warpgroups, and over the CTAs of a cluster: for sequences too short to keep a GPU busy, where latency is all.
//
// A CTA has 64 query rows. Each of its WARPGROUPS warpgroups, and of those of the CLUSTER CTAs of its cluster, takes every so many-th tile of
// keys, copies it with cp.async (no tensor map to fetch, no other warp to wait for), and has outputs, maxima and sums of its own. All are
// added up at the end, those of other CTAs through distributed shared memory.

#pragma once

#include "problem.cuh"
#include "softmax.cuh"

namespace split {

using tiles::kKeyTile;
using tiles::kRows;
using tiles::kValueTile;
using tiles::kWarpgroup;

constexpr int kThreads = WARPGROUPS * kWarpgroup;
constexpr int kItemRows = kRows;
constexpr int kParts = WARPGROUPS * CLUSTER;

// A warpgroup's shared memory: tiles first, then its part of the result in the same place. The table computes the same sizes.
constexpr int kPartStride = HEAD_DIM + 16;  // floats; two rows fill the 32 banks once
constexpr int kPartRows = kRows * kPartStride * 4;
constexpr int kPart = kPartRows + kRows * 8;  // rows; a maximum and a sum each
constexpr int kTiles = 2 * STAGES * kKeyTile + kValueTile;
constexpr int kTotalsAt = kTiles > kPart ? kTiles : kPart;
constexpr int kRegion = kTotalsAt + softmax::Totals::kBytes;
static_assert(kKeyTile % 1024 == 0 && kValueTile % 512 == 0, "regions keep the swizzle's alignment");

__device__ __forceinline__ void sync_warpgroup(int group) { hopper::named_barrier_sync(1 + group, kWarpgroup); }

// Keys past the end become zeros: zero times what lies there must not be NaN.
__device__ __forceinline__ void copy_tile(uint32_t dst, const uint8_t *src, int keys) {
#pragma unroll
    for (int i = threadIdx.x % kWarpgroup; i < kKeyTile / 16; i += kWarpgroup) {
        const int row = i / (HEAD_DIM / 16), chunk = i % (HEAD_DIM / 16);
        hopper::copy_16(dst + chunk / 4 * TILE_N * tiles::kBlockBytes + tiles::swizzled(row, chunk % 4), src + i * 16, row < keys);
    }
    hopper::copy_commit();
}

__device__ __forceinline__ void write_part(uint32_t part, const tiles::Outputs &o, const softmax::Rows &rows) {
    const int lane = threadIdx.x % 32, first = threadIdx.x % kWarpgroup / 32 * 16 + lane / 4;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        const int row = first + 8 * half;
#pragma unroll
        for (int group = 0; group < tiles::kOutputGroups; ++group) {
            hopper::store_shared(part + (row * kPartStride + group * 16 + lane % 4 * 4) * 4, tiles::output_group(o, group, half));
        }
        if (lane % 4 == 0) {
            hopper::store_shared(part + kPartRows + row * 8, make_float2(rows.max[half], rows.sum[half]));
        }
    }
}

// Adds up all parts of this CTA's share of the rows, four neighbouring outputs a thread at a time.
__device__ __forceinline__ void merge(const Problem &p, uint32_t shared, const Item &item, int rank, const Scales &scales) {
    constexpr int kUnits = HEAD_DIM / 4, kOwnRows = kRows / CLUSTER;
    for (int unit = threadIdx.x; unit < kOwnRows * kUnits; unit += kThreads) {
        const int row = rank * kOwnRows + unit / kUnits, column = unit % kUnits * 4;
        float2 ends[kParts];
        float4 values[kParts];
        float max = -INFINITY;
#pragma unroll
        for (int i = 0; i < kParts; ++i) {
            const uint32_t part = hopper::peer_address(shared + i % WARPGROUPS * kRegion, i / WARPGROUPS);
            ends[i] = hopper::load_peer2(part + kPartRows + row * 8);
            values[i] = hopper::load_peer4(part + (row * kPartStride + column) * 4);
        }
#pragma unroll
        for (int i = 0; i < kParts; ++i) {
            max = fmaxf(max, ends[i].x);
        }
        float4 x = {};
        float sum = 0.0f;
#pragma unroll
        for (int i = 0; i < kParts; ++i) {
            const float weight = softmax::exp2_fast((ends[i].x - max) * scales.score);
            sum = fmaf(weight, ends[i].y, sum);
            x.x = fmaf(weight, values[i].x, x.x);
            x.y = fmaf(weight, values[i].y, x.y);
            x.z = fmaf(weight, values[i].z, x.z);
            x.w = fmaf(weight, values[i].w, x.w);
        }
        p.store(x, __fdividef(scales.value, sum), item, item.first_row + row, column);
    }
}

__device__ __forceinline__ void run(const Problem &p, uint32_t shared) {
    const int group = __shfl_sync(0xffffffffu, threadIdx.x / kWarpgroup, 0), warp = threadIdx.x / 32 % 4;
    const Item item = Items<kItemRows>(p).item();
    const int rank = blockIdx.x % CLUSTER, key_tiles = p.key_tiles();
    const size_t head = static_cast<size_t>(item.batch_head) * p.seq_len * HEAD_DIM;
    const uint32_t region = shared + group * kRegion, raw = region + STAGES * kKeyTile, values = raw + STAGES * kKeyTile;

    const auto copy = [&](int tile, int stage) {
        const size_t offset = head + static_cast<size_t>(tile) * kKeyTile;
        const int keys = tile < key_tiles ? p.seq_len - tile * TILE_N : 0;
        if (tile < key_tiles) {
            copy_tile(region + stage * kKeyTile, p.keys + offset, keys);
            copy_tile(raw + stage * kKeyTile, p.values + offset, keys);
        } else {  // so that groups count tiles
            hopper::copy_commit();
            hopper::copy_commit();
        }
    };
    const tiles::Preparer preparer(raw, values, warp, 4);
    int tile = rank * WARPGROUPS + group, stage = 0;
    copy(tile, 0);
    tiles::Queries q;
    tiles::load_queries(q, p.queries + head, item.first_row + warp * 16, p.seq_len);
    const Scales scales = p.scales(item);
    softmax::Rows rows = {{-INFINITY, -INFINITY}, {}, scales.score};
    tiles::Outputs o;
    tiles::clear(o);
    const softmax::Totals totals(region + kTotalsAt);
#if P_E4M3
    tiles::write_ones(values, 1, threadIdx.x % kWarpgroup, kWarpgroup);
#endif

#pragma unroll 1
    for (; tile < key_tiles; tile += kParts) {
        tiles::Scores s;
        hopper::copy_wait<1>();  // keys
        hopper::fence_async();
        sync_warpgroup(group);  // keys are there, and the products of the tile before are complete
        wgmma::pin(s);
        wgmma::fence();
        tiles::start_scores(s, q, tiles::Keys(region + stage * kKeyTile));
        wgmma::commit();
        if (STAGES == 2) {
            copy(tile + kParts, stage ^ 1);
            hopper::copy_wait<2>();  // values
        } else {
            hopper::copy_wait<0>();
        }
        sync_warpgroup(group);
        preparer.run(stage * kKeyTile, 0);
        hopper::fence_async();
        wgmma::wait<0>();
        wgmma::pin(s);
        const int keys = p.seq_len - tile * TILE_N;
        if (keys < TILE_N) {
            softmax::mask(s, keys);
        }
        float max[2];
        softmax::tile_max(s, max);
        if (softmax::must_rescale(rows, max, tile / kParts + 1)) {
            softmax::rescale(rows, o, max);
        }
        const int turn = tile / kParts;
        if (P_E4M3 && turn > 0 && turn % softmax::kTotalTiles == 0) {
            totals.add(o, rows, turn == softmax::kTotalTiles);
        }
        tiles::Probabilities probabilities;
        softmax::probabilities(probabilities, s, rows);
        wgmma::pin(probabilities);
        sync_warpgroup(group);  // values are ready, and keys used up
        wgmma::pin(o);
        wgmma::fence();
        tiles::start_outputs(o, probabilities, tiles::Values(values));
        wgmma::commit();
        if (STAGES == 1) {
            copy(tile + kParts, 0);
        }
        wgmma::wait<0>();
        wgmma::pin(o);
        stage ^= STAGES - 1;
    }

    if (P_E4M3 && (tile - kParts) / kParts >= softmax::kTotalTiles) {
        totals.add_to(o, rows);
    }
    softmax::finish_sums(rows, o);
    if (kParts == 1) {
        p.store(o, rows.sum, scales.value, item, warp * 16);
        return;
    }
    hopper::copy_wait<0>();
    sync_warpgroup(group);  // tiles are used up
    write_part(region, o, rows);
    if (CLUSTER > 1) {
        hopper::cluster_sync();
    } else {
        __syncthreads();
    }
    merge(p, shared, item, rank, scales);
    if (CLUSTER > 1) {
        hopper::cluster_sync();  // others may still read this CTA's parts
    }
}

}  // namespace split
