/* What one would write first: every row of scores is computed whole, then its softmax, then the sum over V. */
#include <math.h>
#include <stddef.h>
#include <stdint.h>

void sdpa_naive(const float *q, const float *k, const float *v, float *o, float *scores, int32_t heads, int32_t seq,
                float scale)
{
}
