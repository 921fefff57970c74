// Reference for matmul.cu: C = A * B, added up in double precision and rounded once; a tile of 16 x 16 elements per CTA, one a
// thread. Grid [ceil_div(N, 16), ceil_div(M, 16)], block [16, 16]; any M, N and K.

constexpr int kTile = 16;

extern "C" __global__ void __launch_bounds__(kTile *kTile)
    matmul_reference(const float *a, const float *b, float *c, int M, int N, int K) {
    __shared__ double a_tile[kTile][kTile];
    __shared__ double b_tile[kTile][kTile];
    const int tx = threadIdx.x, ty = threadIdx.y;
    const long long row = static_cast<long long>(blockIdx.y) * kTile + ty;
    const long long col = static_cast<long long>(blockIdx.x) * kTile + tx;

    double sum = 0.0;
    for (int k0 = 0; k0 < K; k0 += kTile) {
        a_tile[ty][tx] = row < M && k0 + tx < K ? a[row * K + k0 + tx] : 0.0f;
        b_tile[ty][tx] = col < N && k0 + ty < K ? b[(k0 + ty) * static_cast<long long>(N) + col] : 0.0f;
        __syncthreads();
        for (int kk = 0; kk < kTile; ++kk) {
            sum += a_tile[ty][kk] * b_tile[kk][tx];
        }
        __syncthreads();
    }
    if (row < M && col < N) {
        c[row * N + col] = static_cast<float>(sum);
    }
}
