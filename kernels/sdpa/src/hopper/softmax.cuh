// Online softmax over tiles of scores in registers, and probabilities as wgmma takes them.

#pragma once

#include "tiles.cuh"

namespace softmax {

using tiles::Outputs;
using tiles::Probabilities;
using tiles::Scores;

__device__ __forceinline__ float exp2_fast(float x) {
    float result;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
    return result;
}

// Probabilities are 2^(score * scale - max * scale + kTop), the largest of them 2^kTop unless the maximum is stale: a row's maximum is raised,
// and what was summed brought down, only when it grew by more than kHeadroom octaves. E4M3 reaches 448 = 1.75 * 2^8.
constexpr float kHeadroom = HEADROOM;
constexpr float kTop = P_E4M3 ? 8.75f - kHeadroom : 0.0f;

struct Rows {  // [2]: row lane / 4 of a warp's 16, and that + 8
    float max[2];
    float sum[2];  // this thread's share
    float scale;   // of scores, in octaves
};

__device__ __forceinline__ void mask(Scores &s, int keys) {
    const int column = threadIdx.x % 4 * 2;
#pragma unroll
    for (int i = 0; i < tiles::kScores; ++i) {
        if (8 * (i / 4) + (i & 1) + column >= keys) {
            s[i] = -INFINITY;
        }
    }
}

// The largest of a row's scores in this tile, or of the first kCount that a thread has, for all four threads that share it.
template <int kCount = tiles::kScores>
__device__ __forceinline__ void tile_max(const Scores &s, float (&result)[2]) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        float m[2] = {s[2 * half], s[2 * half + 1]};  // two chains, for the latency
#pragma unroll
        for (int i = 4 + 2 * half; i < kCount; i += 4) {
            m[0] = fmaxf(m[0], s[i]);
            m[1] = fmaxf(m[1], s[i + 1]);
        }
        result[half] = fmaxf(m[0], m[1]);
    }
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        result[half] = fmaxf(result[half], __shfl_xor_sync(0xffffffffu, result[half], 1));
    }
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        result[half] = fmaxf(result[half], __shfl_xor_sync(0xffffffffu, result[half], 2));
    }
}

// E4M3 values come with a column of ones, so their product sums the probabilities as well; the first thread of four has the sums. The tensor core
// keeps 13 bits of a sum, which then loses what is small beside it: the sums are taken over every kSumTiles tiles, of 512 keys together.
constexpr int kSumTiles = P_E4M3 ? (TILE_N >= 128 ? 4 : 8) : 1 << 30;
constexpr int kSumAt = HEAD_DIM / 2;  // among a thread's outputs

__device__ __forceinline__ void take_sums(Rows &rows, const Outputs &o) {
#if P_E4M3
    rows.sum[0] += o[kSumAt];
    rows.sum[1] += o[kSumAt + 2];
#endif
}

// Raises the maxima to those of a further tile and brings down what was summed.
__device__ __forceinline__ void rescale(Rows &rows, Outputs &o, const float (&max)[2]) {
    take_sums(rows, o);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        const float raised = fmaxf(rows.max[half], max[half]);
        const float factor = exp2_fast((rows.max[half] - raised) * rows.scale);
        rows.max[half] = raised;
        rows.sum[half] *= factor;
        // All of them, for ptxas keeps the outputs of one product together and would copy those of which some change.
#pragma unroll
        for (int i = 2 * half; i < tiles::kOutputs; i += 4) {
            o[i] *= i < kSumAt ? factor : 0.0f;
            o[i + 1] *= i < kSumAt ? factor : 0.0f;
        }
    }
}

// Whether the maximum of one of this warp's rows has grown enough to matter, or the sums are due.
__device__ __forceinline__ bool must_rescale(const Rows &rows, const float (&max)[2], int tile) {
    if constexpr (kHeadroom == 0.0f) {
        return true;
    }
    const float grown = fmaxf(max[0] - rows.max[0], max[1] - rows.max[1]) * rows.scale;
    return __any_sync(0xffffffffu, grown > kHeadroom || tile % kSumTiles == 0);
}

// Outputs lose in the same way as sums do where values have one sign: every 2048 keys they are added to totals in shared memory. As bfloat16,
// for space; its rounding has no bias, and is a tenth of that of E4M3.
constexpr int kTotalTiles = P_E4M3 ? 2048 / TILE_N / kSumTiles * kSumTiles : 1 << 30;

// Of a warpgroup.
struct Totals {
    static constexpr int kVectors = HEAD_DIM / 16;
    static constexpr int kBytes = P_E4M3 ? tiles::kWarpgroup * (kVectors * 16 + 8) : 0;

    uint32_t address;  // of this thread's first vector; behind all vectors are the maxima that they are of

    __device__ __forceinline__ explicit Totals(uint32_t shared) : address(shared + threadIdx.x % tiles::kWarpgroup * 16) {}

    // Adds what outputs hold; `first`: to nothing.
    __device__ __forceinline__ void add(Outputs &o, const Rows &rows, bool first) const {
        if (!first) {
            add_to(o, rows);
        }
#pragma unroll
        for (int i = 0; i < kVectors; ++i) {
            asm volatile("st.shared.v4.b32 [%0], {%1, %2, %3, %4};" ::"r"(address + i * tiles::kWarpgroup * 16), "r"(pack(o[8 * i], o[8 * i + 1])),
                         "r"(pack(o[8 * i + 2], o[8 * i + 3])), "r"(pack(o[8 * i + 4], o[8 * i + 5])), "r"(pack(o[8 * i + 6], o[8 * i + 7]))
                         : "memory");
        }
        hopper::store_shared(maxima(), make_float2(rows.max[0], rows.max[1]));
#pragma unroll
        for (int i = 0; i < kSumAt; ++i) {
            o[i] = 0.0f;
        }
    }
    // Adds the totals to outputs.
    __device__ __forceinline__ void add_to(Outputs &o, const Rows &rows) const {
        const float2 max = hopper::load_shared2(maxima());
        const float factor[2] = {exp2_fast((max.x - rows.max[0]) * rows.scale), exp2_fast((max.y - rows.max[1]) * rows.scale)};
#pragma unroll
        for (int i = 0; i < kVectors; ++i) {
            uint32_t x[4];
            asm volatile("ld.shared.v4.b32 {%0, %1, %2, %3}, [%4];"
                         : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3])
                         : "r"(address + i * tiles::kWarpgroup * 16)
                         : "memory");
#pragma unroll
            for (int j = 0; j < 4; ++j) {
                o[8 * i + 2 * j] = fmaf(__uint_as_float(x[j] << 16), factor[j & 1], o[8 * i + 2 * j]);
                o[8 * i + 2 * j + 1] = fmaf(__uint_as_float(x[j] & 0xffff0000u), factor[j & 1], o[8 * i + 2 * j + 1]);
            }
        }
    }

private:
    __device__ __forceinline__ uint32_t maxima() const {
        return address + kVectors * tiles::kWarpgroup * 16 - threadIdx.x % tiles::kWarpgroup * 8;
    }
    __device__ __forceinline__ static uint32_t pack(float low, float high) {
        uint32_t result;
        asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(result) : "f"(high), "f"(low));
        return result;
    }
};

__device__ __forceinline__ uint32_t pack_fp16(float low, float high) {
    uint32_t result;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(result) : "f"(high), "f"(low));
    return result;
}

#if P_E4M3 && EXP_LINEAR
// An E4M3 number of code c is about 2^(c / 8 - 7): exact at powers of two, at most 6.2 % too small between them. That is of the order of
// E4M3's own rounding, and needs no exponential: the code is a product, a sum and a rounding. As fp16, c * 2^-24 has the bits of the
// integer c, and the conversion rounds it and makes negative ones zero.
constexpr float kCodeUnit = 1.0f / (1 << 24);

using Codes = uint32_t[tiles::kScores / 2];  // pairs of 16 bits

// Of 16 keys, two tiles of 8 x 8 scores, a pair has neighbours; or, with kKeysAlternate, the same column of both.
__device__ __forceinline__ int score_of(int pair, int half, int second) {
    return tiles::kKeysAlternate ? pair / 2 * 8 + second * 4 + 2 * half + pair % 2 : pair * 4 + 2 * half + second;
}

// With the maxima as they are. Says whether a code exceeds E4M3's largest: a maximum is too low then. That is rare, so the common case
// looks for no maximum.
__device__ __forceinline__ bool encode(Codes &codes, const Scores &s, const Rows &rows) {
    const float factor = rows.scale * (8.0f * kCodeUnit);
    float offset[2];
    uint32_t largest[2] = {};
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        offset[half] = fmaf(-rows.max[half], factor, 8.0f * (kTop + 7.0f) * kCodeUnit);
    }
#pragma unroll
    for (int i = 0; i < tiles::kScores / 2; i += 2) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            asm("cvt.rn.relu.f16x2.f32 %0, %1, %2;"
                : "=r"(codes[i + half])
                : "f"(fmaf(s[score_of(i / 2, half, 1)], factor, offset[half])), "f"(fmaf(s[score_of(i / 2, half, 0)], factor, offset[half])));
        }
        largest[i / 2 % 2] = __vimax3_u16x2(largest[i / 2 % 2], codes[i], codes[i + 1]);
    }
    const uint32_t both = __vmaxu2(largest[0], largest[1]);
    return max(both & 0xffff, both >> 16) > 126;
}
__device__ __forceinline__ void pack(Probabilities &p, const Codes &codes) {
#pragma unroll
    for (int step = 0; step < tiles::kKeySteps; ++step) {
#pragma unroll
        for (int r = 0; r < 4; ++r) {
            const uint32_t *x = &codes[8 * step + (tiles::kKeysAlternate ? 2 : 4) * (r >> 1) + (r & 1)];
            p[step][r] = __byte_perm(x[0], x[tiles::kKeysAlternate ? 4 : 2], 0x6420);
        }
    }
}
__device__ __forceinline__ void probabilities(Probabilities &p, const Scores &s, const Rows &rows) {
    Codes codes;
    encode(codes, s, rows);
    pack(p, codes);
}
#elif P_E4M3
__device__ __forceinline__ uint32_t pack_e4m3(float a, float b, float c, float d) {
    uint32_t result;
    asm("{\n"
        ".reg .b16 low, high;\n"
        "cvt.rn.satfinite.e4m3x2.f32 low, %2, %1;\n"
        "cvt.rn.satfinite.e4m3x2.f32 high, %4, %3;\n"
        "mov.b32 %0, {low, high};\n"
        "}\n"
        : "=r"(result)
        : "f"(a), "f"(b), "f"(c), "f"(d));
    return result;
}
__device__ __forceinline__ void probabilities(Probabilities &p, const Scores &s, Rows &rows) {
    const float factor = rows.scale;
    const float offset[2] = {fmaf(-rows.max[0], factor, kTop), fmaf(-rows.max[1], factor, kTop)};
#pragma unroll
    for (int step = 0; step < tiles::kKeySteps; ++step) {
#pragma unroll
        for (int r = 0; r < 4; ++r) {
            const int half = r & 1;
            const auto exp2 = [&](int i) {
                const int at = tiles::kKeysAlternate ? 4 * i + (r >> 1) : 8 * (r >> 1) + i / 2 * 4 + i % 2;
                return exp2_fast(fmaf(s[16 * step + at + 2 * half], factor, offset[half]));
            };
            p[step][r] = pack_e4m3(exp2(0), exp2(1), exp2(2), exp2(3));
        }
    }
}
#else
__device__ __forceinline__ void probabilities(Probabilities &p, const Scores &s, Rows &rows) {
    const float factor = rows.scale;
    const float offset[2] = {fmaf(-rows.max[0], factor, kTop), fmaf(-rows.max[1], factor, kTop)};
#pragma unroll
    for (int step = 0; step < tiles::kKeySteps; ++step) {
#pragma unroll
        for (int r = 0; r < 4; ++r) {
            const int half = r & 1;
            const float *x = &s[8 * step + 4 * (r >> 1) + 2 * half];
            const float low = exp2_fast(fmaf(x[0], factor, offset[half]));
            const float high = exp2_fast(fmaf(x[1], factor, offset[half]));
            rows.sum[half] += low + high;
            p[step][r] = pack_fp16(low, high);
        }
    }
}
#endif

// Adds up the four threads' shares; the others' are zero for E4M3.
__device__ __forceinline__ void finish_sums(Rows &rows, const Outputs &o) {
    take_sums(rows, o);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        rows.sum[half] += __shfl_xor_sync(0xffffffffu, rows.sum[half], 1);
        rows.sum[half] += __shfl_xor_sync(0xffffffffu, rows.sum[half], 2);
    }
}

}  // namespace softmax
