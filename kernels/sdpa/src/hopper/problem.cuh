// What a Hopper kernel is asked: its tensors, and the work items they make.

#pragma once

#include "softmax.cuh"

// Query rows of one head.
struct Item {
    int batch_head, head, first_row;
};

// Factors of an item. Loaded before they are needed: each is a load from memory away.
struct Scales {
    float score;  // octaves a unit of score
    float value;
};

struct Problem {
    const hopper::TensorMap *q, *k, *v;       // [B * H][S][HEAD_DIM], boxes of 64 dimensions
    const uint8_t *queries, *keys, *values;  // the same tensors
    const float *q_scale, *k_scale, *v_scale;
    __half *o;
    int seq_len, heads, batch_heads;
    float softmax_scale;

    __device__ int key_tiles() const { return (seq_len + TILE_N - 1) / TILE_N; }

    __device__ Scales scales(const Item &item) const { return {score_scale(q_scale[item.head], k_scale[item.head]), v_scale[item.head]}; }
    __device__ float score_scale(float q, float k) const {
        // A head of zeros has scale 0; -inf times this must not be NaN.
        return fmaxf(q * k * softmax_scale, FLT_MIN) * 1.4426950408889634f;
    }

    // Four neighbouring outputs.
    __device__ __forceinline__ void store(float4 x, float factor, const Item &item, int row, int column) const {
        if (row < seq_len) {
            *reinterpret_cast<uint2 *>(o + (static_cast<size_t>(item.batch_head) * seq_len + row) * HEAD_DIM + column) =
                make_uint2(softmax::pack_fp16(x.x * factor, x.y * factor), softmax::pack_fp16(x.z * factor, x.w * factor));
        }
    }

    // A warp's 16 rows, from `warp_row` of the item's on.
    __device__ __forceinline__ void store(const tiles::Outputs &outputs, const float (&sums)[2], float scale, const Item &item,
                                          int warp_row) const {
        const int lane = threadIdx.x % 32;
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const int row = item.first_row + warp_row + lane / 4 + 8 * half;
            const float factor = __fdividef(scale, sums[half]);
#pragma unroll
            for (int group = 0; group < tiles::kOutputGroups; ++group) {
                store(tiles::output_group(outputs, group, half), factor, item, row, group * 16 + lane % 4 * 4);
            }
        }
    }
};

// The items of this CTA, one after the other.
template <int kRows>
struct Items {
    const Problem &p;
#if PERSISTENT
    // Every gridDim.x-th of all. Query tiles of one head are neighbours: CTAs that run together share keys and values in the L2 cache.
    int index = blockIdx.x;

    __device__ explicit Items(const Problem &p) : p(p) {}
    __device__ int query_tiles() const { return (p.seq_len + kRows - 1) / kRows; }
    __device__ bool more() const { return index < query_tiles() * p.batch_heads; }
    __device__ void advance() { index += gridDim.x; }
    __device__ Item item() const {
        const int batch_head = index / query_tiles();
        return {batch_head, batch_head % p.heads, index % query_tiles() * kRows};
    }
#else
    // One, as blockIdx says: no division delays the first copies.
    bool left = true;

    __device__ explicit Items(const Problem &p) : p(p) {}
    __device__ bool more() const { return left; }
    __device__ void advance() { left = false; }
    __device__ Item item() const {
        return {static_cast<int>(blockIdx.z * gridDim.y + blockIdx.y), static_cast<int>(blockIdx.y),
                static_cast<int>(blockIdx.x * kRows)};
    }
#endif
};
