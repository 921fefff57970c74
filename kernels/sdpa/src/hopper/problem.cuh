// What a Hopper kernel is asked: its tensors, and the work items they make.

#pragma once

#include "softmax.cuh"

struct Problem {
    const hopper::TensorMap *q, *k, *v;       // [B * H][S][HEAD_DIM], boxes of 64 dimensions
    const uint8_t *queries, *keys, *values;  // the same tensors
    const float *q_scale, *k_scale, *v_scale;
    __half *o;
    int seq_len, heads, batch_heads;
    float softmax_scale;

    __device__ int key_tiles() const { return (seq_len + TILE_N - 1) / TILE_N; }
    // Query tiles of one head are neighbours: CTAs that run together share keys and values in the L2 cache.
    __device__ int query_tiles(int rows) const { return (seq_len + rows - 1) / rows; }
    __device__ int items(int rows) const { return query_tiles(rows) * batch_heads; }
    __device__ int batch_head(int item, int rows) const { return item / query_tiles(rows); }
    // The CTA's next item.
    __device__ int next(int item) const { return PERSISTENT ? item + gridDim.x : 0x7fffffff; }
    __device__ int first_row(int item, int rows) const { return item % query_tiles(rows) * rows; }

    // Octaves a unit of score. A head of zeros has scale 0; -inf times this must not be NaN.
    __device__ float score_scale(int item, int rows) const {
        const int head = batch_head(item, rows) % heads;
        return fmaxf(q_scale[head] * k_scale[head] * softmax_scale, FLT_MIN) * 1.4426950408889634f;
    }

    // Four neighbouring outputs.
    __device__ __forceinline__ void store(float4 x, float factor, int bh, int row, int column) const {
        if (row < seq_len) {
            *reinterpret_cast<uint2 *>(o + (static_cast<size_t>(bh) * seq_len + row) * HEAD_DIM + column) =
                make_uint2(softmax::pack_fp16(x.x * factor, x.y * factor), softmax::pack_fp16(x.z * factor, x.w * factor));
        }
    }

    // A warp's 16 rows, from `warp_row` of the item's on.
    __device__ __forceinline__ void store(const tiles::Outputs &outputs, const float (&sums)[2], int item, int rows, int warp_row) const {
        const int lane = threadIdx.x % 32, bh = batch_head(item, rows);
        const float scale = v_scale[bh % heads];
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const int row = first_row(item, rows) + warp_row + lane / 4 + 8 * half;
            const float factor = scale / sums[half];
#pragma unroll
            for (int group = 0; group < tiles::kOutputGroups; ++group) {
                store(tiles::output_group(outputs, group, half), factor, bh, row, group * 16 + lane % 4 * 4);
            }
        }
    }
};
