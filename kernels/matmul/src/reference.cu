// Reference for matmul.cu and sgemm.cu: C = A * B, added up in double precision and rounded once; any M, N and K. A CTA has a tile of 64 x 64
// elements, a thread 4 x 4 of them, 16 apart: a search needs the reference for every seed and pattern.
// Grid [ceil_div(N, 64), ceil_div(M, 64)], block [16, 16].

constexpr int kThreads = 16, kEach = 4, kTile = kThreads * kEach, kDepth = 16;

extern "C" __global__ void __launch_bounds__(kThreads *kThreads)
    matmul_reference(const float *a, const float *b, float *c, int M, int N, int K) {
    __shared__ double a_tile[kDepth][kTile];
    __shared__ double b_tile[kDepth][kTile];
    const int tx = threadIdx.x, ty = threadIdx.y;
    const long long row0 = static_cast<long long>(blockIdx.y) * kTile;
    const long long col0 = static_cast<long long>(blockIdx.x) * kTile;

    double sum[kEach][kEach] = {};
    for (int k0 = 0; k0 < K; k0 += kDepth) {
        for (int at = ty * kThreads + tx; at < kTile * kDepth; at += kThreads * kThreads) {
            const long long row = row0 + at / kDepth, col = col0 + at % kTile;
            const int a_k = k0 + at % kDepth, b_k = k0 + at / kTile;
            a_tile[at % kDepth][at / kDepth] = row < M && a_k < K ? a[row * K + a_k] : 0.0f;
            b_tile[at / kTile][at % kTile] = col < N && b_k < K ? b[static_cast<long long>(b_k) * N + col] : 0.0f;
        }
        __syncthreads();
        for (int k = 0; k < kDepth; ++k) {
            for (int i = 0; i < kEach; ++i) {
                for (int j = 0; j < kEach; ++j) {
                    sum[i][j] += a_tile[k][ty + kThreads * i] * b_tile[k][tx + kThreads * j];
                }
            }
        }
        __syncthreads();
    }
    for (int i = 0; i < kEach; ++i) {
        for (int j = 0; j < kEach; ++j) {
            const long long row = row0 + ty + kThreads * i, col = col0 + tx + kThreads * j;
            if (row < M && col < N) {
                c[row * N + col] = static_cast<float>(sum[i][j]);
            }
        }
    }
}
