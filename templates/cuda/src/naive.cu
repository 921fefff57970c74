// The baseline: one thread a row, as one would write it in C.
extern "C" __global__ void softmax_naive(const float *x, float *y, int cols, int rows)
{
    int row = blockIdx.x * blockDim.x + threadIdx.x;
    if (row >= rows)
        return;
    x += static_cast<size_t>(row) * cols;
    y += static_cast<size_t>(row) * cols;

    float max = -INFINITY;
    for (int i = 0; i < cols; i++)
        max = fmaxf(max, x[i]);
    float sum = 0;
    for (int i = 0; i < cols; i++)
        sum += expf(x[i] - max);
    for (int i = 0; i < cols; i++)
        y[i] = expf(x[i] - max) / sum;
}
