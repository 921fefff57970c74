// y = 2 x, four elements a thread.
extern "C" __global__ void stream(const float *x, float *y, int n)
{
    int i = 4 * (blockIdx.x * blockDim.x + threadIdx.x);
    if (i < n) {
        float4 v = *reinterpret_cast<const float4 *>(x + i);
        *reinterpret_cast<float4 *>(y + i) = make_float4(2 * v.x, 2 * v.y, 2 * v.z, 2 * v.w + EXTRA);
    }
}
