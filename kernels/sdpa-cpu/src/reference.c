/* The definition of the result. kbench hands a reference every floating-point tensor widened to double. */
#include <math.h>
#include <stddef.h>
#include <stdint.h>

static double dot(const double *a, const double *b, int length)
{
    double sum = 0;
    for (int i = 0; i < length; i++)
        sum += a[i] * b[i];
    return sum;
}

void sdpa_reference(const double *q, const double *k, const double *v, double *o, int32_t heads, int32_t seq,
                    int32_t head_dim)
{
    double scale = 1 / sqrt(head_dim);
    for (int row = 0; row < heads * seq; row++) {
        const double *q_row = q + (ptrdiff_t)row * head_dim;
        double *o_row = o + (ptrdiff_t)row * head_dim;
        ptrdiff_t head = (ptrdiff_t)(row / seq) * seq * head_dim;

        double max = -INFINITY;
        for (int n = 0; n < seq; n++)
            max = fmax(max, scale * dot(q_row, k + head + (ptrdiff_t)n * head_dim, head_dim));

        double sum = 0;
        for (int d = 0; d < head_dim; d++)
            o_row[d] = 0;
        for (int n = 0; n < seq; n++) {
            /* The score again rather than kept: slower, but with nothing to allocate for any length. */
            double p = exp(scale * dot(q_row, k + head + (ptrdiff_t)n * head_dim, head_dim) - max);
            sum += p;
            for (int d = 0; d < head_dim; d++)
                o_row[d] += p * v[head + (ptrdiff_t)n * head_dim + d];
        }
        for (int d = 0; d < head_dim; d++)
            o_row[d] /= sum;
    }
}
