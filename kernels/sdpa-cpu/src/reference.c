/* The definition, in double precision; kbench hands every tensor over widened to double. */
#include <math.h>
#include <stddef.h>
#include <stdint.h>

void sdpa_reference(const double *q, const double *k, const double *v, double *o, int32_t heads, int32_t seq,
                    int32_t head_dim)
{
    double scale = 1 / sqrt(head_dim);
    for (int h = 0; h < heads; h++) {
        ptrdiff_t head = (ptrdiff_t)h * seq * head_dim;
        for (int m = 0; m < seq; m++) {
            const double *q_row = q + head + (ptrdiff_t)m * head_dim;
            double *o_row = o + head + (ptrdiff_t)m * head_dim;
        }
    }
}
