/* What one core can do at most. Every input is 1, so that each result is known exactly. */
#include <stdint.h>
#include <string.h>

void copy(const int64_t *from, int64_t *to, int64_t n) { memcpy(to, from, n * sizeof *from); }

void copy_reference(const int64_t *from, int64_t *to, int64_t n) {
    for (int64_t i = 0; i < n; i++) to[i] = from[i];
}

/* Every result; floating-point tensors of a reference are doubles. */
void all_reference(const double *one, double *o, double value) {
    (void)one;
    for (int i = 0; i < 192; i++) o[i] = value;
}

#if defined __AVX512F__
#define LANES 16
#elif defined __AVX__
#define LANES 8
#else
#define LANES 4
#endif
typedef float vector __attribute__((vector_size(4 * LANES)));

/* 192 sums, twelve independent chains of vectors at a time, each of which counts the rounds from 1. They start at values that the
   compiler does not know to be the same, or it would compute one chain for all. */
void fma_f32(const float *one, float *o, int32_t rounds) {
#define ALL(i) (one[i] + (vector){0})
    const vector a = ALL(0), b = ALL(1);
    for (int part = 0; part < 16 / LANES; part++) {
        vector r0 = ALL(2), r1 = ALL(3), r2 = ALL(4), r3 = ALL(5), r4 = ALL(6), r5 = ALL(7), r6 = ALL(8), r7 = ALL(9);
        vector r8 = ALL(10), r9 = ALL(11), r10 = ALL(12), r11 = ALL(13);
        for (int32_t round = 0; round < rounds; round++) {
            r0 = r0 * a + b, r1 = r1 * a + b, r2 = r2 * a + b, r3 = r3 * a + b;
            r4 = r4 * a + b, r5 = r5 * a + b, r6 = r6 * a + b, r7 = r7 * a + b;
            r8 = r8 * a + b, r9 = r9 * a + b, r10 = r10 * a + b, r11 = r11 * a + b;
        }
        const vector all[12] = {r0, r1, r2, r3, r4, r5, r6, r7, r8, r9, r10, r11};
        memcpy(o + 12 * LANES * part, all, sizeof all);
    }
}
