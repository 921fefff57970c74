// Reference for the kernels here: softmax(softmax_scale * Q K^T) V in double precision, on the dequantised inputs.
//
// q, k, v are the E4M3 values and the scales are the kernel's own, all widened exactly to double. A CTA takes kRows query rows of a head
// (grid [ceil(S / kRows), H, B]) and makes two passes over the keys, so it needs no memory that grows with S: the first finds the
// largest scores, the second sums the exponentials and the values they weigh.

constexpr int kThreads = 128;  // also the keys scored at a time
constexpr int kRows = 8;
constexpr int kMaxDim = 128;

extern "C" __global__ void __launch_bounds__(kThreads)
    sdpa_reference(const double *q, const double *k, const double *v, const double *q_scale, const double *k_scale,
                   const double *v_scale, double *o, int B, int H, int S, int D) {
    const int head = blockIdx.y, first_row = blockIdx.x * kRows, rows = min(kRows, S - first_row);
    const long long first = (static_cast<long long>(blockIdx.z) * H + head) * S;  // of the head's rows
    const double *k_head = k + first * D;
    const double *v_head = v + first * D;
    const double score_scale = q_scale[head] * k_scale[head] / sqrt(static_cast<double>(D));

    __shared__ double queries[kRows][kMaxDim], outputs[kRows][kMaxDim], weights[kRows][kThreads], max_score[kRows], sum[kRows];
    for (int i = threadIdx.x; i < kRows * D; i += kThreads) {
        const int row = i / D, d = i % D;
        queries[row][d] = row < rows ? q[(first + first_row + row) * D + d] : 0.0;
        outputs[row][d] = 0.0;
    }
    __syncthreads();

    auto scores = [&](int key, double (&dot)[kRows]) {
        for (int row = 0; row < kRows; ++row) {
            dot[row] = 0.0;
        }
        for (int d = 0; d < D; ++d) {
            const double x = k_head[static_cast<long long>(key) * D + d];
#pragma unroll
            for (int row = 0; row < kRows; ++row) {
                dot[row] += queries[row][d] * x;
            }
        }
        for (int row = 0; row < kRows; ++row) {
            dot[row] *= score_scale;
        }
    };
    // What the threads have for each row, made one by op.
    auto reduce = [&](const double (&values)[kRows], double *result, auto op) {
        __syncthreads();
        for (int row = 0; row < kRows; ++row) {
            weights[row][threadIdx.x] = values[row];
        }
        __syncthreads();
        if (threadIdx.x < kRows) {
            double all = weights[threadIdx.x][0];
            for (int i = 1; i < kThreads; ++i) {
                all = op(all, weights[threadIdx.x][i]);
            }
            result[threadIdx.x] = all;
        }
        __syncthreads();
    };

    double own[kRows], dot[kRows];
    for (int row = 0; row < kRows; ++row) {
        own[row] = -INFINITY;
    }
    for (int key = threadIdx.x; key < S; key += kThreads) {
        scores(key, dot);
        for (int row = 0; row < kRows; ++row) {
            own[row] = fmax(own[row], dot[row]);
        }
    }
    reduce(own, max_score, [](double a, double b) { return fmax(a, b); });

    for (int row = 0; row < kRows; ++row) {
        own[row] = 0.0;
    }
    for (int first_key = 0; first_key < S; first_key += kThreads) {
        const int keys = min(kThreads, S - first_key);
        __syncthreads();
        if (threadIdx.x < keys) {
            scores(first_key + threadIdx.x, dot);
            for (int row = 0; row < kRows; ++row) {
                weights[row][threadIdx.x] = exp(dot[row] - max_score[row]);
                own[row] += weights[row][threadIdx.x];
            }
        }
        __syncthreads();
        for (int i = threadIdx.x; i < kRows * D; i += kThreads) {
            const int row = i / D, d = i % D;
            double weighted = 0.0;
            for (int key = 0; key < keys; ++key) {
                weighted += weights[row][key] * v_head[static_cast<long long>(first_key + key) * D + d];
            }
            outputs[row][d] += weighted;
        }
    }
    reduce(own, sum, [](double a, double b) { return a + b; });
    for (int i = threadIdx.x; i < rows * D; i += kThreads) {
        const int row = i / D, d = i % D;
        o[(first + first_row + row) * D + d] = outputs[row][d] * v_scale[head] / sum[row];
    }
}
