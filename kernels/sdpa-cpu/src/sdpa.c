/*
 * Scaled dot-product attention, forward, non-causal, fp32: o = softmax(scale * q k^T) v for each of `heads` heads;
 * every tensor is [heads, seq, HEAD_DIM], contiguous. Flash-style: one pass over the keys with an online softmax, so
 * that no row of scores is ever stored whole; scratch is a tile of K and one of scores, on the stack, whatever `seq`.
 *
 * kbench passes every macro below with -D:
 *
 *   TILE_M         query rows that share one packed tile of K: more rows, less packing for each
 *   TILE_N         keys in a tile: more keys, fewer rescalings of the output, but a larger part of the L1 cache
 *   VECTOR_WIDTH   floats in a vector; wider than the machine's is correct, the compiler splits it
 *   UNROLL         query rows in flight: as many chains of FMAs that wait for no other, on one load of K or V
 *   USE_FAST_EXP   exp as a polynomial over whole vectors instead of one call of expf for each score
 *   HEAD_DIM       the dimension D of the shape
 */
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

_Static_assert(TILE_M % UNROLL == 0, "TILE_M must be a multiple of UNROLL");
_Static_assert(TILE_N % VECTOR_WIDTH == 0, "TILE_N must be a multiple of VECTOR_WIDTH");

#define INLINE static inline __attribute__((always_inline))

typedef float vec __attribute__((vector_size(4 * VECTOR_WIDTH)));
typedef int32_t ivec __attribute__((vector_size(4 * VECTOR_WIDTH)));

/* The part of HEAD_DIM that fills whole vectors. */
#define FULL_DIM (HEAD_DIM / VECTOR_WIDTH * VECTOR_WIDTH)

/* The first `count` lanes at an address of any alignment. `count` is a constant wherever these are inlined. */
INLINE vec load(const float *from, int count)
{
    vec x = {0};
    memcpy(&x, from, count * sizeof *from);
    return x;
}

INLINE void store(float *to, vec x, int count)
{
    memcpy(to, &x, count * sizeof *to);
}

/* b where b > a, else a; so a NaN in `a` stays. */
INLINE vec vec_max(vec a, vec b)
{
    ivec take_b = b > a;
    return (vec)((take_b & (ivec)b) | (~take_b & (ivec)a));
}

INLINE float max_lane(vec x)
{
    float max = x[0];
    for (int i = 1; i < VECTOR_WIDTH; i++)
        max = x[i] > max ? x[i] : max;
    return max;
}

INLINE float sum_lanes(vec x)
{
    float sum = 0;
    for (int i = 0; i < VECTOR_WIDTH; i++)
        sum += x[i];
    return sum;
}

/* exp(x) for x <= 0, which is all that a softmax asks for: no overflow to guard against. */
INLINE vec vec_exp(vec x)
{
#if USE_FAST_EXP
    /* exp(x) = 2^n 2^f with n an integer and |f| <= 1/2. Below 2^-126 the result stays there: as good as 0 beside the
     * row's maximum, whose exp is 1. */
    vec t = vec_max(x * 1.44269504f, (vec){0} - 126.0f);
    /* Adding 1.5 * 2^23 rounds to an integer, which then stands in the low bits of the sum. */
    vec shifted = t + 12582912.0f;
    vec f = t - (shifted - 12582912.0f);
    /* Minimax polynomial of 2^f on [-1/2, 1/2], relative error 9e-8. */
    vec p = f * 1.32647272e-3f + 9.67151269e-3f;
    p = p * f + 5.55073374e-2f;
    p = p * f + 2.40222421e-1f;
    p = p * f + 6.93146978e-1f;
    p = p * f + 1.0f;
    /* 2^n, by adding n to the exponent of 1. */
    return p * (vec)(((ivec)shifted << 23) + 0x3f800000);
#else
    for (int i = 0; i < VECTOR_WIDTH; i++)
        x[i] = expf(x[i]);
    return x;
#endif
}

/* Transposes `keys` rows of K to [TILE_N / VECTOR_WIDTH][HEAD_DIM][VECTOR_WIDTH], so that one vector holds one
 * component of VECTOR_WIDTH keys. Lanes past the last key are zero. */
INLINE void pack_keys(const float *k, int keys, float *packed)
{
    for (int n = 0; n < keys; n += VECTOR_WIDTH) {
        int lanes = keys - n < VECTOR_WIDTH ? keys - n : VECTOR_WIDTH;
        for (int d = 0; d < HEAD_DIM; d++, packed += VECTOR_WIDTH) {
            for (int i = 0; i < lanes; i++)
                packed[i] = k[(ptrdiff_t)(n + i) * HEAD_DIM + d];
            for (int i = lanes; i < VECTOR_WIDTH; i++)
                packed[i] = 0;
        }
    }
}

/* Scores of `rows` rows of Q against VECTOR_WIDTH packed keys. */
INLINE void score_block(int rows, const float *q, const float *packed, float scale, float *scores)
{
    vec acc[UNROLL] = {{0}};
    for (int d = 0; d < HEAD_DIM; d++) {
        vec k = load(packed + d * VECTOR_WIDTH, VECTOR_WIDTH);
        for (int r = 0; r < rows; r++)
            acc[r] += q[r * HEAD_DIM + d] * k;
    }
    for (int r = 0; r < rows; r++)
        store(scores + r * TILE_N, acc[r] * scale, VECTOR_WIDTH);
}

/* Replaces one row of scores by exp(score - max) and brings the row's running maximum and (lane by lane) running sum up
 * to date. Returns the factor by which all that was accumulated before must shrink. */
INLINE float softmax_row(int keys, float *scores, float *row_max, float *row_sum)
{
    int vectors = (keys + VECTOR_WIDTH - 1) / VECTOR_WIDTH;
    for (int n = keys; n < vectors * VECTOR_WIDTH; n++)
        scores[n] = -INFINITY;

    vec max = load(scores, VECTOR_WIDTH);
    for (int j = 1; j < vectors; j++)
        max = vec_max(max, load(scores + j * VECTOR_WIDTH, VECTOR_WIDTH));
    float old_max = *row_max;
    *row_max = fmaxf(old_max, max_lane(max));

    float shrink = expf(old_max - *row_max);
    vec sum = load(row_sum, VECTOR_WIDTH) * shrink;
    for (int j = 0; j < vectors; j++) {
        vec p = vec_exp(load(scores + j * VECTOR_WIDTH, VECTOR_WIDTH) - *row_max);
        store(scores + j * VECTOR_WIDTH, p, VECTOR_WIDTH);
        sum += p;
    }
    store(row_sum, sum, VECTOR_WIDTH);
    return shrink;
}

/* o = o * shrink + p v for `rows` rows and the `width` columns at which `v` and `o` point. */
INLINE void output_block(int rows, int width, const float *p, const float *v, int keys, const float *shrink, float *o)
{
    vec acc[UNROLL];
    for (int r = 0; r < rows; r++)
        acc[r] = load(o + r * HEAD_DIM, width) * shrink[r];
    for (int n = 0; n < keys; n++) {
        vec x = load(v + n * HEAD_DIM, width);
        for (int r = 0; r < rows; r++)
            acc[r] += p[r * TILE_N + n] * x;
    }
    for (int r = 0; r < rows; r++)
        store(o + r * HEAD_DIM, acc[r], width);
}

/* One tile of keys for `rows` rows of Q, whose unnormalised output is accumulated in `o` itself. */
INLINE void attend(int rows, const float *q, const float *packed, const float *v, int keys, float scale, float *row_max,
                   float (*row_sum)[VECTOR_WIDTH], float *o)
{
    float scores[UNROLL * TILE_N], shrink[UNROLL];
    for (int n = 0; n < keys; n += VECTOR_WIDTH)
        score_block(rows, q, packed + n * HEAD_DIM, scale, scores + n);
    for (int r = 0; r < rows; r++)
        shrink[r] = softmax_row(keys, scores + r * TILE_N, row_max + r, row_sum[r]);
    for (int d = 0; d < FULL_DIM; d += VECTOR_WIDTH)
        output_block(rows, VECTOR_WIDTH, scores, v + d, keys, shrink, o + d);
    if (FULL_DIM < HEAD_DIM)
        output_block(rows, HEAD_DIM - FULL_DIM, scores, v + FULL_DIM, keys, shrink, o + FULL_DIM);
}

/* TILE_M rows of Q (`rows`, at the end of the sequence) against all keys of their head. */
static void tile_of_queries(int rows, const float *q, const float *k, const float *v, float *o, int seq, float scale)
{
    _Alignas(64) float packed[TILE_N * HEAD_DIM];
    float row_max[TILE_M], row_sum[TILE_M][VECTOR_WIDTH] = {{0}};
    for (int m = 0; m < rows; m++)
        row_max[m] = -INFINITY;
    memset(o, 0, (size_t)rows * HEAD_DIM * sizeof *o);

    for (int n = 0; n < seq; n += TILE_N) {
        int keys = seq - n < TILE_N ? seq - n : TILE_N;
        const float *v_tile = v + (ptrdiff_t)n * HEAD_DIM;
        pack_keys(k + (ptrdiff_t)n * HEAD_DIM, keys, packed);
        int m = 0;
        for (; m + UNROLL <= rows; m += UNROLL)
            attend(UNROLL, q + m * HEAD_DIM, packed, v_tile, keys, scale, row_max + m, row_sum + m, o + m * HEAD_DIM);
        for (; m < rows; m++)
            attend(1, q + m * HEAD_DIM, packed, v_tile, keys, scale, row_max + m, row_sum + m, o + m * HEAD_DIM);
    }

    for (int m = 0; m < rows; m++) {
        float norm = 1.0f / sum_lanes(load(row_sum[m], VECTOR_WIDTH));
        for (int d = 0; d < HEAD_DIM; d++)
            o[m * HEAD_DIM + d] *= norm;
    }
}

void sdpa(const float *restrict q, const float *restrict k, const float *restrict v, float *restrict o, int32_t heads,
          int32_t seq, float scale)
{
    for (int h = 0; h < heads; h++) {
        ptrdiff_t head = (ptrdiff_t)h * seq * HEAD_DIM;
        for (int m = 0; m < seq; m += TILE_M) {
            int rows = seq - m < TILE_M ? seq - m : TILE_M;
            ptrdiff_t tile = head + (ptrdiff_t)m * HEAD_DIM;
            tile_of_queries(rows, q + tile, k + head, v + head, o + tile, seq, scale);
        }
    }
}
