// C = A * B in fp32 on the FMA pipe alone (no TF32, no tensor cores); A is M x K, B is K x N, C is M x N, row-major, of any size.
//
// A CTA computes a tile of BLOCK_M x BLOCK_N elements of C, a thread THREAD_M x THREAD_N of them in registers. K is walked in
// steps of BLOCK_K. cp.async brings the slabs of A and B of each step to shared memory, STAGES - 1 steps ahead: A's transposed,
// element by element, B's 16 bytes at a time. A thread reads both slabs by 128-bit loads, one element of K ahead of its FMAs.
//
// The last tile of a row or column of tiles begins so early that it ends with C, and stores only what the tile before it does not:
// a copy is then tested against the matrices' ends in the last step of K alone, or where C is smaller than a tile.
//
// Where C has too few tiles to fill the GPU, the SPLIT_K CTAs of a cluster share a tile. Each walks its part of K and leaves its
// sums in its shared memory; then each adds up a part of the tile over all CTAs, in the order of their ranks, so that the result
// has the same bits each time.
//
// An SM issues an FFMA each cycle only if its operands come from different register banks (even and odd registers), one of
// them from the operand cache. Three things are there for that, each read off the SASS: A is transposed, so that neighbouring
// rows have registers of different parity; FMAs go up and down the columns of a thread's elements in turn, so that each shares an
// operand with the one before; and the sums are copied before they are stored (see `store_tile`).
//
// kbench passes every macro with -D.

#if !defined(BLOCK_M) || !defined(BLOCK_N) || !defined(BLOCK_K) || !defined(THREAD_M) || !defined(THREAD_N) || \
    !defined(STAGES) || !defined(SPLIT_K) || !defined(ALIGNED)
#error "every toggle must be given on the command line"
#endif

namespace {

constexpr int kThreadRows = BLOCK_M / THREAD_M;
constexpr int kThreadCols = BLOCK_N / THREAD_N;
constexpr int kThreads = kThreadRows * kThreadCols;
// CTAs that an SM should hold: a thread of up to 64 sums gets 168 registers, one of more 255.
constexpr int kBlocks = (THREAD_M * THREAD_N <= 64 ? 384 : 256) / kThreads;
constexpr int kWarpRows = 8;   // a warp is 8 rows by 4 columns of threads
constexpr int kWarpCols = 4;
constexpr int kPitchA = BLOCK_M + 4;
constexpr int kSlabA = BLOCK_K * kPitchA;
constexpr int kStage = kSlabA + BLOCK_K * BLOCK_N;
constexpr int kVectors = THREAD_N / 4;
constexpr bool kAligned = ALIGNED;   // rows of B and C start at multiples of 16 bytes: N is a multiple of four
// Elements of a row of B that threads copy side by side. Where rows are not aligned, several copies of a thread share the computation of an address.
constexpr int kSideB = kAligned ? BLOCK_N : (BLOCK_N > 128 ? BLOCK_N / 4 : 32);

static_assert(kThreadRows % kWarpRows == 0 && kThreadCols % kWarpCols == 0, "whole warps");
static_assert(THREAD_M % 4 == 0 && THREAD_N % 4 == 0 && BLOCK_K % 4 == 0, "128-bit loads, an even number of fragments");
static_assert(THREAD_M * kVectors % SPLIT_K == 0, "each CTA of a cluster adds up as much");
static_assert(STAGES >= 3, "one step is read, one is on its way and one is free");

// Keeps a value in a register: the compiler would rather compute it again in each step.
__device__ __forceinline__ void keep(unsigned &x) { asm volatile("" : "+r"(x)); }

__device__ __forceinline__ float4 load(unsigned address) {
    return *static_cast<const float4 *>(__cvta_shared_to_generic(address));
}

// Copies kBytes bytes, or writes as many zeros.
template <int kBytes>
__device__ __forceinline__ void copy(unsigned to, const float *from, bool inside) {
    const int bytes = inside ? kBytes : 0;
    if constexpr (kBytes == 16) {
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(bytes) : "memory");
    } else {
        asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(to), "l"(from), "r"(bytes) : "memory");
    }
}

// What a thread copies of slabs of kRows x kCols elements, kBytes at a time, kSide elements of a row side by side. Neighbours in a row and in a
// column of a slab are kRight and kDown elements apart in shared memory.
template <int kBytes, int kRows, int kCols, int kSide, int kRight, int kDown>
struct Copies {
    static constexpr int kWidth = kBytes / 4, kAtOnce = kThreads * kWidth;   // elements that all threads copy at once
    static constexpr int kColsAtOnce = kAtOnce < kSide ? kAtOnce : kSide, kRowsAtOnce = kAtOnce / kColsAtOnce;
    static constexpr int kOfARow = kCols / kColsAtOnce, kCount = kRows / kRowsAtOnce * kOfARow;
    static_assert(kAtOnce % kColsAtOnce == 0 && kRows % kRowsAtOnce == 0 && kCols % kColsAtOnce == 0, "each thread copies as much");

    const float *from;
    unsigned to;
    int row, col;

    __device__ __forceinline__ Copies(const float *matrix, unsigned slabs, int stride)
        : row(threadIdx.x * kWidth / kSide), col(threadIdx.x * kWidth % kSide) {
        from = matrix + static_cast<long long>(row) * stride + col;
        to = slabs + 4 * (row * kDown + col * kRight);
        keep(to);
    }

    // `rows` and `cols` are what the matrix has from the slab's first element on.
    __device__ __forceinline__ void start(unsigned slot, int stride, int rows, int cols) const {
        if (rows >= kRows && cols >= kCols) {
#pragma unroll
            for (int i = 0; i < kCount; ++i) {
                const int down = i / kOfARow * kRowsAtOnce, right = i % kOfARow * kColsAtOnce;
                copy<kBytes>(to + slot + 4 * (down * kDown + right * kRight), from + static_cast<long long>(down) * stride + right, true);
            }
        } else {
#pragma unroll 1
            for (int i = 0; i < kCount; ++i) {
                const int down = i / kOfARow * kRowsAtOnce, right = i % kOfARow * kColsAtOnce;
                copy<kBytes>(to + slot + 4 * (down * kDown + right * kRight),
                             from + static_cast<long long>(down) * stride + right, row + down < rows && col + right < cols);
            }
        }
    }
};

// This CTA's sums over the steps from `first` up to `last`, for the thread's elements. kBytes is the width of B's copies.
template <int kBytes>
__device__ __forceinline__ void accumulate(float (&sum)[THREAD_M][THREAD_N], unsigned shared, const float *a, const float *b,
                                           int rows, int cols, int n, int k, int first, int last, int thread_row,
                                           int thread_col) {
    unsigned a_slab = shared + 4 * (thread_row * 4), b_slab = shared + 4 * (kSlabA + thread_col * 4);
    keep(a_slab);
    keep(b_slab);
    Copies<4, BLOCK_M, BLOCK_K, BLOCK_K, kPitchA, 1> of_a(a + static_cast<long long>(first) * BLOCK_K, shared, k);
    Copies<kBytes, BLOCK_K, BLOCK_N, kSideB, 1, BLOCK_N> of_b(b + static_cast<long long>(first) * BLOCK_K * n, shared + 4 * kSlabA, n);
    int ahead = first;   // the next step to copy
    auto copy_next = [&](unsigned slot) {
        if (ahead < last) {
            const int depth = k - ahead * BLOCK_K;
            of_a.start(slot, k, rows, depth);
            of_b.start(slot, n, depth, cols);
            of_a.from += BLOCK_K;
            of_b.from += static_cast<long long>(BLOCK_K) * n;
            ++ahead;
        }
        asm volatile("cp.async.commit_group;" ::: "memory");
    };
    constexpr unsigned kSlotBytes = kStage * 4, kLastSlot = (STAGES - 1) * kSlotBytes;
#pragma unroll
    for (int slot = 0; slot < STAGES - 1; ++slot) {
        copy_next(slot * kSlotBytes);
    }

    float x[2][THREAD_M], y[2][THREAD_N];
    auto load_fragments = [&](int into, unsigned slot, int kk) {
#pragma unroll
        for (int j = 0; j < THREAD_N; j += 4) {
            const float4 v = load(b_slab + slot + 4 * (kk * BLOCK_N + j * kThreadCols));
            y[into][j] = v.x, y[into][j + 1] = v.y, y[into][j + 2] = v.z, y[into][j + 3] = v.w;
        }
#pragma unroll
        for (int i = 0; i < THREAD_M; i += 4) {
            const float4 v = load(a_slab + slot + 4 * (kk * kPitchA + i * kThreadRows));
            x[into][i] = v.x, x[into][i + 1] = v.y, x[into][i + 2] = v.z, x[into][i + 3] = v.w;
        }
    };
    asm volatile("cp.async.wait_group %0;" ::"n"(STAGES - 2) : "memory");
    __syncthreads();
    load_fragments(0, 0, 0);
    unsigned slot = 0, free_slot = kLastSlot;
    for (int step = first; step < last; ++step) {
        unsigned next = slot;
#pragma unroll
        for (int kk = 0; kk < BLOCK_K; ++kk) {
            if (kk == BLOCK_K - 1) {
                asm volatile("cp.async.wait_group %0;" ::"n"(STAGES - 3) : "memory");
                // The next step's slabs have arrived for all, and all have read this step's.
                __syncthreads();
                next = slot == kLastSlot ? 0 : slot + kSlotBytes;
            }
            load_fragments((kk + 1) % 2, next, (kk + 1) % BLOCK_K);
            if (kk == BLOCK_K - 1) {
                copy_next(free_slot);
                free_slot = slot;
            }
#pragma unroll
            for (int j = 0; j < THREAD_N; ++j) {
#pragma unroll
                for (int down = 0; down < THREAD_M; ++down) {
                    const int i = j % 2 ? THREAD_M - 1 - down : down;
                    sum[i][j] += x[kk % 2][i] * y[kk % 2][j];
                }
            }
        }
        slot = next;
    }
}

__device__ __forceinline__ void cluster_barrier() {
    asm volatile("barrier.cluster.arrive.release.aligned;\n\tbarrier.cluster.wait.acquire.aligned;" ::: "memory");
}

// Four floats of the shared memory of the CTA `rank` of this cluster, at the address that `here` has in this one's.
__device__ __forceinline__ float4 load_of(unsigned rank, unsigned here) {
    unsigned there;
    float4 x;
    asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(there) : "r"(here), "r"(rank));
    asm volatile("ld.shared::cluster.v4.f32 {%0, %1, %2, %3}, [%4];" : "=f"(x.x), "=f"(x.y), "=f"(x.z), "=f"(x.w) : "r"(there));
    return x;
}

// The rows or columns of a tile that its CTA stores: those before `begin` are another tile's, those from `end` on are not in C.
struct Range {
    int begin, end;
    __device__ __forceinline__ bool has(int i) const { return i >= begin && i < end; }
};

// Four neighbours in a row, from column `col` of the tile on. With kBytes = 16, all four are stored or none.
template <int kBytes>
__device__ __forceinline__ void store(float *c, const float4 &x, int col, Range cols) {
    if constexpr (kBytes == 16) {
        if (cols.has(col)) {
            *reinterpret_cast<float4 *>(c) = x;
        }
    } else {
        const float of[4] = {x.x, x.y, x.z, x.w};
#pragma unroll
        for (int e = 0; e < 4; ++e) {
            if (cols.has(col + e)) {
                c[e] = of[e];
            }
        }
    }
}

// Where a thread's row i and its vector j of a row are in the tile.
__device__ __forceinline__ int row_of(int i, int thread_row) { return thread_row * 4 + i / 4 * (kThreadRows * 4) + i % 4; }
__device__ __forceinline__ int col_of(int j, int thread_col) { return thread_col * 4 + j * (kThreadCols * 4); }

// Rows that are not aligned: the tile goes through shared memory, so that a warp stores neighbours of one row. Stored from registers, 4 bytes
// of each of 32 threads at a time, they would be written to the L2 cache in four times as many parts.
__device__ __forceinline__ void store_rows(const float (&sum)[THREAD_M][THREAD_N], float *shared, float *c, Range rows, Range cols, int n,
                                           int thread_row, int thread_col) {
    constexpr int kPitch = BLOCK_N + 16;   // two rows of four threads each write all banks
    constexpr int kRoom = STAGES * kStage / (kThreadRows * kPitch);
    constexpr int kAtOnce = kRoom >= 4 ? 4 : kRoom >= 2 ? 2 : 1;   // rows of a thread
    static_assert(kRoom > 0 && THREAD_M % kAtOnce == 0, "rows fit where slabs were");
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int first = 0; first < THREAD_M; first += kAtOnce) {
        __syncthreads();   // the last step's slabs, or the rows before, make room
#pragma unroll
        for (int i = 0; i < kAtOnce; ++i) {
#pragma unroll
            for (int j = 0; j < kVectors; ++j) {
                const float *of = &sum[first + i][j * 4];
                *reinterpret_cast<float4 *>(&shared[(i * kThreadRows + thread_row) * kPitch + col_of(j, thread_col)]) =
                    make_float4(of[0], of[1], of[2], of[3]);
            }
        }
        __syncthreads();
#pragma unroll 1
        for (int line = threadIdx.x / 32; line < kAtOnce * kThreadRows; line += kThreads / 32) {
            const int row = row_of(first + line / kThreadRows, line % kThreadRows);
            if (rows.has(row)) {
                float *to = c + static_cast<long long>(row) * n + lane;
#pragma unroll
                for (int col = 0; col < BLOCK_N; col += 32) {
                    if (cols.has(col + lane)) {
                        to[col] = shared[line * kPitch + col + lane];
                    }
                }
            }
        }
    }
}

template <int kBytes>
__device__ __forceinline__ void store_tile(float (&sum)[THREAD_M][THREAD_N], float4 *shared, float *c, Range rows, Range cols, int n,
                                           int thread_row, int thread_col) {
    // A 128-bit store wants its four sums in registers of the parities that its operands from B have: an FMA of a sum and an
    // element of B would then read one bank twice. Copies, made where the compiler cannot see that they are, leave it free.
    unsigned zero = 0;
    keep(zero);
#pragma unroll
    for (int i = 0; i < THREAD_M; ++i) {
#pragma unroll
        for (int j = 0; j < THREAD_N; ++j) {
            sum[i][j] = __uint_as_float(__float_as_uint(sum[i][j]) ^ zero);
        }
    }
    auto vector = [&](int v) {
        const float *of = &sum[v / kVectors][v % kVectors * 4];
        return make_float4(of[0], of[1], of[2], of[3]);
    };
    if constexpr (SPLIT_K == 1 && !kAligned) {
        store_rows(sum, reinterpret_cast<float *>(shared), c, rows, cols, n, thread_row, thread_col);
    } else if constexpr (SPLIT_K == 1) {
#pragma unroll
        for (int i = 0; i < THREAD_M; ++i) {
            const int row = row_of(i, thread_row);
#pragma unroll
            for (int j = 0; j < kVectors; ++j) {
                const int col = col_of(j, thread_col);
                if (rows.has(row)) {
                    store<kBytes>(c + static_cast<long long>(row) * n + col, vector(i * kVectors + j), col, cols);
                }
            }
        }
    } else {
        __syncthreads();   // the last step's slabs make room
        float4 *mine = shared + threadIdx.x;
#pragma unroll
        for (int v = 0; v < THREAD_M * kVectors; ++v) {
            mine[v * kThreads] = vector(v);
        }
        cluster_barrier();
        constexpr int kShare = THREAD_M * kVectors / SPLIT_K;
        const int first = blockIdx.z * kShare;
        const unsigned here = static_cast<unsigned>(__cvta_generic_to_shared(mine + first * kThreads));
#pragma unroll 4
        for (int s = 0; s < kShare; ++s) {
            float4 x = load_of(0, here + s * kThreads * 16);
#pragma unroll
            for (int rank = 1; rank < SPLIT_K; ++rank) {
                const float4 other = load_of(rank, here + s * kThreads * 16);
                x.x += other.x;
                x.y += other.y;
                x.z += other.z;
                x.w += other.w;
            }
            const int v = first + s, row = row_of(v / kVectors, thread_row), col = col_of(v % kVectors, thread_col);
            if (rows.has(row)) {
                store<kBytes>(c + static_cast<long long>(row) * n + col, x, col, cols);
            }
        }
        cluster_barrier();   // no CTA leaves while another reads its shared memory
    }
}

template <int kBytes>
__device__ __forceinline__ void product(const float *a, const float *b, float *c, int m, int n, int k) {
    extern __shared__ float4 dynamic[];
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    constexpr int kWarpsAcross = kThreadCols / kWarpCols;
    const int thread_row = warp / kWarpsAcross * kWarpRows + lane / kWarpCols;
    const int thread_col = warp % kWarpsAcross * kWarpCols + lane % kWarpCols;
    const int tile_row = blockIdx.y * BLOCK_M, tile_col = blockIdx.x * BLOCK_N;
    const int row0 = max(min(tile_row, m - BLOCK_M), 0), col0 = max(min(tile_col, n - BLOCK_N), 0);
    const Range rows = {tile_row - row0, m - row0}, cols = {tile_col - col0, n - col0};
    const int steps = (k + BLOCK_K - 1) / BLOCK_K;
    const int share = (steps + SPLIT_K - 1) / SPLIT_K;
    const int first = min(static_cast<int>(blockIdx.z) * share, steps), last = min(first + share, steps);

    float sum[THREAD_M][THREAD_N] = {};
    accumulate<kBytes>(sum, static_cast<unsigned>(__cvta_generic_to_shared(dynamic)), a + static_cast<long long>(row0) * k,
                       b + col0, rows.end, cols.end, n, k, first, last, thread_row, thread_col);
    store_tile<kBytes>(sum, dynamic, c + static_cast<long long>(row0) * n + col0, rows, cols, n, thread_row, thread_col);
}

}  // namespace

extern "C" __global__ void __launch_bounds__(kThreads, kBlocks > 0 ? kBlocks : 1)
    sgemm(const float *__restrict__ a, const float *__restrict__ b, float *__restrict__ c, int m, int n, int k) {
    // Where rows are aligned, the second path is never taken, but without it ptxas (13.0) gives the first one other registers, which cost 4 % (README.md).
    // Where they are not, the first must not even be instantiated: the copies of a short slab (BLOCK_K = 8) are no whole number 16 bytes at a time.
    if constexpr (kAligned) {
        if (n % 4 == 0) {
            product<16>(a, b, c, m, n, k);
            return;
        }
    }
    product<4>(a, b, c, m, n, k);
}
