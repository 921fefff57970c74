/* What is right: as simple as can be, and in double, so that its own rounding does not count. */
#include <math.h>
#include <stddef.h>
#include <stdint.h>

void softmax_reference(const double *x, double *y, int32_t cols, int32_t rows)
{
    for (int row = 0; row < rows; row++) {
        const double *in = x + (ptrdiff_t)row * cols;
        double *out = y + (ptrdiff_t)row * cols;
        double max = -INFINITY, sum = 0;
        for (int i = 0; i < cols; i++)
            max = fmax(max, in[i]);
        for (int i = 0; i < cols; i++)
            sum += out[i] = exp(in[i] - max);
        for (int i = 0; i < cols; i++)
            out[i] /= sum;
    }
}
