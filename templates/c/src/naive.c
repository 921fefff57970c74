/* The baseline: the textbook's three loops. */
#include <stddef.h>
#include <stdint.h>

void matmul_naive(const float *a, const float *b, float *c, int32_t m, int32_t n, int32_t k)
{
    for (int i = 0; i < m; i++)
        for (int j = 0; j < n; j++) {
            float sum = 0;
            for (int p = 0; p < k; p++)
                sum += a[(ptrdiff_t)i * k + p] * b[(ptrdiff_t)p * n + j];
            c[(ptrdiff_t)i * n + j] = sum;
        }
}
