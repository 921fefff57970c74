// Reference for sdpa.cu: softmax(softmax_scale * Q K^T) V in double precision, on the dequantised inputs.
//
// q, k, v are the E4M3 values and the scales are the kernel's own, all widened exactly to double. One CTA per query row
// (grid [S, H, B]); it makes two passes over the keys, so it needs no memory that grows with S: the first finds the
// largest score, the second sums the exponentials and the values they weigh.

constexpr int kThreads = 128;  // also the keys scored at a time

// The result of op over the CTA's values, for every thread.
template <typename Op>
__device__ double reduce(double value, Op op) {
    __shared__ double values[kThreads];
    __syncthreads();
    values[threadIdx.x] = value;
    __syncthreads();
    for (int n = kThreads / 2; n > 0; n /= 2) {
        if (threadIdx.x < n) {
            values[threadIdx.x] = op(values[threadIdx.x], values[threadIdx.x + n]);
        }
        __syncthreads();
    }
    return values[0];
}

extern "C" __global__ void __launch_bounds__(kThreads)
    sdpa_reference(const double *q, const double *k, const double *v, const double *q_scale, const double *k_scale,
                   const double *v_scale, double *o, int B, int H, int S, int D) {
    const int row = blockIdx.x, head = blockIdx.y, batch = blockIdx.z;
    const long long first_row = (static_cast<long long>(batch) * H + head) * S;
    const double *q_row = q + (first_row + row) * D;
    const double *k_head = k + first_row * D;
    const double *v_head = v + first_row * D;
    double *o_row = o + (first_row + row) * D;
    const double score_scale = q_scale[head] * k_scale[head] / sqrt(static_cast<double>(D));

    auto score = [&](int key) {
        double dot = 0.0;
        for (int d = 0; d < D; ++d) {
            dot += q_row[d] * k_head[static_cast<long long>(key) * D + d];
        }
        return dot * score_scale;
    };

    double max_score = -INFINITY;
    for (int key = threadIdx.x; key < S; key += kThreads) {
        max_score = fmax(max_score, score(key));
    }
    max_score = reduce(max_score, [](double a, double b) { return fmax(a, b); });

    __shared__ double weights[kThreads];
    double sum = 0.0;
    for (int d = threadIdx.x; d < D; d += kThreads) {
        o_row[d] = 0.0;
    }
    for (int first_key = 0; first_key < S; first_key += kThreads) {
        const int keys = min(kThreads, S - first_key);
        __syncthreads();
        if (threadIdx.x < keys) {
            weights[threadIdx.x] = exp(score(first_key + threadIdx.x) - max_score);
            sum += weights[threadIdx.x];
        }
        __syncthreads();
        for (int d = threadIdx.x; d < D; d += kThreads) {
            double weighted = 0.0;
            for (int i = 0; i < keys; ++i) {
                weighted += weights[i] * v_head[static_cast<long long>(first_key + i) * D + d];
            }
            o_row[d] += weighted;
        }
    }
    sum = reduce(sum, [](double a, double b) { return a + b; });
    for (int d = threadIdx.x; d < D; d += kThreads) {
        o_row[d] *= v_scale[head] / sum;
    }
}
