/*
 * Scaled dot-product attention, forward, non-causal, fp32: o = softmax(scale * q k^T) v for each of `heads` heads;
 * every tensor is [heads, seq, HEAD_DIM], contiguous. Flash-style: one pass over the keys with an online softmax, so
 * that no row of scores is ever stored whole. Scratch is on the stack and its size does not depend on `seq`.
 *
 * A lane of every vector belongs to one query. A tile of queries is transposed once; then both products read K and V as
 * they lie in memory, an element at a time, broadcast to all lanes, and maxima and sums of the softmax stay within their
 * lanes. The results are transposed back once.
 *
 * kbench passes every macro below with -D:
 *
 *   TILE_M         queries in a tile, TILE_M / VECTOR_WIDTH vectors of them
 *   TILE_N         keys in a tile: more keys, fewer rescalings of the output, but a larger part of the L1 cache
 *   VECTOR_WIDTH   floats in a vector; wider than the machine's is correct, the compiler splits it
 *   UNROLL         keys (first product) or components of V (second) whose sums are held in registers at once, each for
 *                  all TILE_M queries
 *   USE_FAST_EXP   exp2 as a polynomial over whole vectors instead of one call of exp2f for each score
 *   THREADS        threads that share the tiles of queries; each tile is computed as by one thread, so the results are
 *                  the same bits. They are started by each call, which takes some 20 us for each
 *   HEAD_DIM       the dimension D of the shape
 */
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#if THREADS > 1
#include <pthread.h>
#endif

_Static_assert(TILE_M % VECTOR_WIDTH == 0, "TILE_M must be a multiple of VECTOR_WIDTH");
_Static_assert(TILE_N % UNROLL == 0, "TILE_N must be a multiple of UNROLL");

#define INLINE static inline __attribute__((always_inline))
#define NOT_INLINE static __attribute__((noinline))
/* UNROLLED unrolls a loop of a few iterations whole, so that the array it indexes stays in registers; UNROLLED_4 the loops
 * of the products, which are long. */
#ifdef __clang__
#define UNROLLED _Pragma("unroll")
#define UNROLLED_4 _Pragma("unroll 4")
#else
#define UNROLLED _Pragma("GCC unroll 32")
#define UNROLLED_4 _Pragma("GCC unroll 4")
#endif

/* Vectors in a tile of queries. */
#define VECTORS (TILE_M / VECTOR_WIDTH)
/* The part of HEAD_DIM that fills whole vectors. */
#define FULL_DIM (HEAD_DIM / VECTOR_WIDTH * VECTOR_WIDTH)

typedef float vec __attribute__((vector_size(4 * VECTOR_WIDTH)));
typedef int32_t ivec __attribute__((vector_size(4 * VECTOR_WIDTH)));

/* At any alignment. */
INLINE vec load(const float *from)
{
    vec x;
    memcpy(&x, from, sizeof x);
    return x;
}

INLINE void store(float *to, vec x)
{
    memcpy(to, &x, sizeof x);
}

INLINE int min(int a, int b)
{
    return a < b ? a : b;
}

/* b where b > a, else a; so a NaN in `a` stays. On x86 that is one instruction, which gcc makes of no expression of
 * vectors in C; <immintrin.h>, which has a function for it, takes longer to compile than all the rest of this file. */
INLINE vec vec_max(vec a, vec b)
{
#if (defined(__AVX512F__) && VECTOR_WIDTH == 16) || (defined(__AVX__) && VECTOR_WIDTH == 8)
    vec max;
    __asm__("vmaxps %1, %2, %0" : "=v"(max) : "v"(a), "v"(b));
    return max;
#else
    ivec take_b = b > a;
    return (vec)((take_b & (ivec)b) | (~take_b & (ivec)a));
#endif
}

/* 2^x for x <= 0, which is all that a softmax asks for: no overflow to guard against. */
INLINE vec vec_exp2(vec x)
{
#if USE_FAST_EXP
    /* 2^x = 2^n 2^f with n an integer and |f| <= 1/2. Below 2^-126 the result stays there: as good as 0 beside the
     * row's maximum, whose power is 1. */
    vec t = vec_max(x, (vec){0} - 126.0f);
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
        x[i] = exp2f(x[i]);
    return x;
#endif
}

/* The lanes of `a` and `b` in turn, from lane `first` on. */
INLINE vec interleave(vec a, vec b, int first)
{
#ifdef __clang__
    vec x;
    UNROLLED
    for (int i = 0; i < VECTOR_WIDTH; i++)
        x[i] = i & 1 ? b[first + i / 2] : a[first + i / 2];
    return x;
#else
    ivec from;
    for (int i = 0; i < VECTOR_WIDTH; i++)
        from[i] = first + i / 2 + (i & 1) * VECTOR_WIDTH;
    return __builtin_shuffle(a, b, from);
#endif
}

/* to = transposed(from * factor) for VECTOR_WIDTH rows and columns, whose rows are `from_stride` and `to_stride` apart. */
NOT_INLINE void transpose(const float *from, int from_stride, const vec *factor, float *to, int to_stride)
{
    vec x[VECTOR_WIDTH];
    UNROLLED
    for (int i = 0; i < VECTOR_WIDTH; i++)
        x[i] = load(from + i * from_stride) * *factor;
    /* As with a deck of cards: after log2(VECTOR_WIDTH) perfect shuffles of all elements, columns are rows. */
    UNROLLED
    for (int round = 1; round < VECTOR_WIDTH; round *= 2) {
        vec y[VECTOR_WIDTH];
        UNROLLED
        for (int i = 0; i < VECTOR_WIDTH; i++)
            y[i] = interleave(x[i / 2], x[(i + VECTOR_WIDTH) / 2], i % 2 * VECTOR_WIDTH / 2);
        memcpy(x, y, sizeof x);
    }
    UNROLLED
    for (int i = 0; i < VECTOR_WIDTH; i++)
        store(to + i * to_stride, x[i]);
}

/* Up to VECTOR_WIDTH queries, scaled, to [HEAD_DIM][TILE_M]. Lanes without a query are zero. */
NOT_INLINE void pack(int queries, const float *q, float scale, float *packed)
{
    vec factor = (vec){0} + scale;
    int d = 0;
    if (queries == VECTOR_WIDTH)
        for (; d < FULL_DIM; d += VECTOR_WIDTH)
            transpose(q + d, HEAD_DIM, &factor, packed + d * TILE_M, TILE_M);
    for (; d < HEAD_DIM; d++)
        for (int i = 0; i < VECTOR_WIDTH; i++)
            packed[d * TILE_M + i] = i < queries ? q[i * HEAD_DIM + d] * scale : 0;
}

/* The reverse, each lane divided by its sum. */
NOT_INLINE void unpack(int queries, const float *packed, const vec *sum, float *o)
{
    vec factor = 1.0f / *sum;
    int d = 0;
    if (queries == VECTOR_WIDTH)
        for (; d < FULL_DIM; d += VECTOR_WIDTH)
            transpose(packed + d * TILE_M, TILE_M, &factor, o + d, HEAD_DIM);
    for (; d < HEAD_DIM; d++)
        for (int i = 0; i < queries; i++)
            o[i * HEAD_DIM + d] = packed[d * TILE_M + i] * factor[i];
}

/* Scores of `keys` keys, to [keys][TILE_M], and each query's maximum so far. */
INLINE void score_block(int keys, int vectors, const float *q, const float *k, float *scores, vec *max)
{
    vec acc[UNROLL][VECTORS] = {{{0}}};
    UNROLLED_4
    for (int d = 0; d < HEAD_DIM; d++) {
        vec x[VECTORS];
        UNROLLED
        for (int j = 0; j < vectors; j++)
            x[j] = load(q + d * TILE_M + j * VECTOR_WIDTH);
        UNROLLED
        for (int n = 0; n < keys; n++)
            UNROLLED
            for (int j = 0; j < vectors; j++)
                acc[n][j] += k[n * HEAD_DIM + d] * x[j];
    }
    UNROLLED
    for (int n = 0; n < keys; n++)
        UNROLLED
        for (int j = 0; j < vectors; j++) {
            max[j] = vec_max(max[j], acc[n][j]);
            store(scores + n * TILE_M + j * VECTOR_WIDTH, acc[n][j]);
        }
}

/* out = out * shrink + v p for `dims` components of V. */
INLINE void output_block(int dims, int vectors, const float *p, const float *v, int keys, const vec *shrink, float *out)
{
    vec acc[UNROLL][VECTORS] = {{{0}}};
    UNROLLED_4
    for (int n = 0; n < keys; n++) {
        vec x[VECTORS];
        UNROLLED
        for (int j = 0; j < vectors; j++)
            x[j] = load(p + n * TILE_M + j * VECTOR_WIDTH);
        UNROLLED
        for (int d = 0; d < dims; d++)
            UNROLLED
            for (int j = 0; j < vectors; j++)
                acc[d][j] += v[n * HEAD_DIM + d] * x[j];
    }
    UNROLLED
    for (int d = 0; d < dims; d++)
        UNROLLED
        for (int j = 0; j < vectors; j++) {
            float *to = out + d * TILE_M + j * VECTOR_WIDTH;
            store(to, load(to) * shrink[j] + acc[d][j]);
        }
}

/* `queries` queries in `vectors` vectors against all keys of their head. */
INLINE void attend(int vectors, int queries, const float *q, const float *k, const float *v, float *o, int seq,
                   float scale)
{
    _Alignas(64) float packed[HEAD_DIM * TILE_M], out[HEAD_DIM * TILE_M], scores[TILE_N * TILE_M];
    vec max[VECTORS], sum[VECTORS] = {{0}};
    for (int j = 0; j < vectors; j++) {
        int first = j * VECTOR_WIDTH;
        /* exp(x) = 2^(x log2(e)) */
        pack(min(queries - first, VECTOR_WIDTH), q + first * HEAD_DIM, scale * 1.44269504f, packed + first);
        max[j] = (vec){0} - INFINITY;
    }
    memset(out, 0, sizeof out);

    for (int n0 = 0; n0 < seq; n0 += TILE_N) {
        int keys = min(seq - n0, TILE_N), n = 0, d = 0;
        const float *k_tile = k + (ptrdiff_t)n0 * HEAD_DIM, *v_tile = v + (ptrdiff_t)n0 * HEAD_DIM;
        vec old_max[VECTORS], shrink[VECTORS], tile_sum[VECTORS];
        memcpy(old_max, max, sizeof max);
        for (; n + UNROLL <= keys; n += UNROLL)
            score_block(UNROLL, vectors, packed, k_tile + n * HEAD_DIM, scores + n * TILE_M, max);
        for (; n < keys; n++)
            score_block(1, vectors, packed, k_tile + n * HEAD_DIM, scores + n * TILE_M, max);

        for (int j = 0; j < vectors; j++) {
            shrink[j] = vec_exp2(old_max[j] - max[j]);
            tile_sum[j] = (vec){0};
        }
        for (n = 0; n < keys; n++)
            UNROLLED
            for (int j = 0; j < vectors; j++) {
                float *score = scores + n * TILE_M + j * VECTOR_WIDTH;
                vec p = vec_exp2(load(score) - max[j]);
                store(score, p);
                tile_sum[j] += p;
            }
        for (int j = 0; j < vectors; j++)
            sum[j] = sum[j] * shrink[j] + tile_sum[j];

        for (; d + UNROLL <= HEAD_DIM; d += UNROLL)
            output_block(UNROLL, vectors, scores, v_tile + d, keys, shrink, out + d * TILE_M);
        for (; d < HEAD_DIM; d++)
            output_block(1, vectors, scores, v_tile + d, keys, shrink, out + d * TILE_M);
    }

    for (int j = 0; j < vectors; j++) {
        int first = j * VECTOR_WIDTH;
        unpack(min(queries - first, VECTOR_WIDTH), out + first, &sum[j], o + first * HEAD_DIM);
    }
}

/* A tile of queries; one at the end of the sequence a vector at a time. */
static void tile_of_queries(int queries, const float *q, const float *k, const float *v, float *o, int seq, float scale)
{
    if (queries > TILE_M - VECTOR_WIDTH)
        attend(VECTORS, queries, q, k, v, o, seq, scale);
    else
        for (int m = 0; m < queries; m += VECTOR_WIDTH)
            attend(1, min(queries - m, VECTOR_WIDTH), q + m * HEAD_DIM, k, v, o + m * HEAD_DIM, seq, scale);
}

struct call {
    const float *q, *k, *v;
    float *o;
    int heads, seq;
    float scale;
};

/* Share `part` of `parts` of all tiles of queries. */
static void share_of_tiles(const struct call *call, int part, int parts)
{
    int in_head = (call->seq + TILE_M - 1) / TILE_M;
    int64_t tiles = (int64_t)call->heads * in_head, end = tiles * (part + 1) / parts;
    for (int64_t tile = tiles * part / parts; tile < end; tile++) {
        ptrdiff_t head = (ptrdiff_t)(tile / in_head) * call->seq * HEAD_DIM;
        int m = (int)(tile % in_head) * TILE_M;
        ptrdiff_t first = head + (ptrdiff_t)m * HEAD_DIM;
        tile_of_queries(min(call->seq - m, TILE_M), call->q + first, call->k + head, call->v + head, call->o + first,
                        call->seq, call->scale);
    }
}

#if THREADS > 1
struct share {
    const struct call *call;
    int part, started;
    pthread_t thread;
};

static void *start(void *share)
{
    share_of_tiles(((struct share *)share)->call, ((struct share *)share)->part, THREADS);
    return NULL;
}
#endif

void sdpa(const float *restrict q, const float *restrict k, const float *restrict v, float *restrict o, int32_t heads,
          int32_t seq, float scale)
{
    struct call call = {q, k, v, o, heads, seq, scale};
#if THREADS > 1
    struct share shares[THREADS];
    for (int t = 1; t < THREADS; t++) {
        shares[t] = (struct share){.call = &call, .part = t};
        shares[t].started = pthread_create(&shares[t].thread, NULL, start, &shares[t]) == 0;
    }
    share_of_tiles(&call, 0, THREADS);
    for (int t = 1; t < THREADS; t++)
        if (shares[t].started)
            pthread_join(shares[t].thread, NULL);
        else
            share_of_tiles(&call, t, THREADS);
#else
    share_of_tiles(&call, 0, 1);
#endif
}
