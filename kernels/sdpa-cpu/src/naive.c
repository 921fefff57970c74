/* What one would write first: all scores of a row, then their softmax, then the sum over V. */
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

void sdpa_naive(const float *q, const float *k, const float *v, float *o, int32_t heads, int32_t seq, float scale)
{
    float *scores = malloc((size_t)seq * sizeof *scores);
    if (!scores)
        abort();
    for (int row = 0; row < heads * seq; row++) {
        const float *q_row = q + (ptrdiff_t)row * HEAD_DIM;
        float *o_row = o + (ptrdiff_t)row * HEAD_DIM;
        ptrdiff_t head = (ptrdiff_t)(row / seq) * seq * HEAD_DIM;

        float max = -INFINITY;
        for (int n = 0; n < seq; n++) {
            float dot = 0;
            for (int d = 0; d < HEAD_DIM; d++)
                dot += q_row[d] * k[head + (ptrdiff_t)n * HEAD_DIM + d];
            scores[n] = dot * scale;
            max = fmaxf(max, scores[n]);
        }
        float sum = 0;
        for (int n = 0; n < seq; n++) {
            scores[n] = expf(scores[n] - max);
            sum += scores[n];
        }
        for (int d = 0; d < HEAD_DIM; d++) {
            float acc = 0;
            for (int n = 0; n < seq; n++)
                acc += scores[n] * v[head + (ptrdiff_t)n * HEAD_DIM + d];
            o_row[d] = acc / sum;
        }
    }
    free(scores);
}
