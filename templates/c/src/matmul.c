/* c = a * b, row-major: a is m x k, b is k x n, c is m x n.
 *
 * The toggles are macros that `cargo kbench` defines:
 *   ROWS, COLS  the block of c that stays in registers while k runs, so that b is read ROWS times less often
 *   PACK        whether the COLS columns of b in use are first copied to where they lie side by side
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static inline int min(int x, int y)
{
    return x < y ? x : y;
}

/* Eight floats that the compiler keeps in one vector register where it can (a GNU C extension; clang has it too). */
typedef float vec __attribute__((vector_size(32), aligned(4), may_alias));
enum { LANES = sizeof(vec) / sizeof(float), VECS = COLS / LANES };

/* A whole block. Its sizes are constants, so that the inner loops unroll and `sum` stays in registers. */
static void block(const float *a, const float *b, ptrdiff_t b_stride, float *c, int n, int k)
{
    vec sum[ROWS][VECS] = {0};
    for (int p = 0; p < k; p++) {
        const vec *row = (const vec *)(b + p * b_stride);
        for (int i = 0; i < ROWS; i++)
            for (int v = 0; v < VECS; v++)
                sum[i][v] += a[(ptrdiff_t)i * k + p] * row[v];
    }
    for (int i = 0; i < ROWS; i++)
        for (int v = 0; v < VECS; v++)
            ((vec *)(c + (ptrdiff_t)i * n))[v] = sum[i][v];
}

/* What is left at the right and the lower edge, smaller than a block. */
static void edge(const float *a, const float *b, float *c, int rows, int cols, int n, int k)
{
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < cols; j++) {
            float sum = 0;
            for (int p = 0; p < k; p++)
                sum += a[(ptrdiff_t)i * k + p] * b[(ptrdiff_t)p * n + j];
            c[(ptrdiff_t)i * n + j] = sum;
        }
}

void matmul(const float *a, const float *b, float *c, int32_t m, int32_t n, int32_t k)
{
    float *packed = PACK ? malloc(sizeof(float[COLS]) * k) : NULL;
    if (PACK && !packed)
        abort();
    for (int j = 0; j < n; j += COLS) {
        const float *columns = b + j;
        for (int p = 0; PACK && j + COLS <= n && p < k; p++)
            memcpy(packed + (ptrdiff_t)p * COLS, columns + (ptrdiff_t)p * n, sizeof(float[COLS]));
        for (int i = 0; i < m; i += ROWS) {
            const float *rows = a + (ptrdiff_t)i * k;
            float *out = c + (ptrdiff_t)i * n + j;
            if (i + ROWS > m || j + COLS > n)
                edge(rows, columns, out, min(ROWS, m - i), min(COLS, n - j), n, k);
            else if (PACK)
                block(rows, packed, COLS, out, n, k);
            else
                block(rows, columns, n, out, n, k);
        }
    }
    free(packed);
}
