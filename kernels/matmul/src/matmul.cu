// C = A * B in fp32; A is M x K, B is K x N, C is M x N, all row-major.
//
// A CTA of block_size_x x block_size_y threads computes a tile of C with block_size_y * tile_size_y rows and
// block_size_x * tile_size_x columns; a thread holds tile_size_y x tile_size_x of its elements in registers, block_size_y
// rows and block_size_x columns apart, so that neighbouring threads touch neighbouring columns. K is walked in steps of
// block_size_x: each step stages one slab of A and one of B in shared memory.
//
// The table's constraint, block_size_x == block_size_y * tile_size_y, makes the step as deep as the tile is high: A's
// slab is then a square that the threads fill with tile_size_y elements each, and B's slab has as many rows as a thread
// column has elements. M, N and K must be multiples of the tile and of the step; the table's shapes are.
//
// There is deliberately no __launch_bounds__: 64 x 32 threads (2048), and 64 x 16 threads with 8 x 4 elements each (1024
// times 71 registers), compile and then cannot be launched. kbench has to notice, and not report them as very fast.

#if !defined(block_size_x) || !defined(block_size_y) || !defined(tile_size_x) || !defined(tile_size_y)
#error "every toggle must be given on the command line"
#endif

static_assert(block_size_x == block_size_y * tile_size_y, "the step along K is as deep as the tile is high");

extern "C" __global__ void matmul(const float *__restrict__ a, const float *__restrict__ b, float *__restrict__ c,
                                  int n, int k) {
    constexpr int kTileRows = block_size_y * tile_size_y;
    constexpr int kTileCols = block_size_x * tile_size_x;
    constexpr int kStep = block_size_x;

    __shared__ float a_slab[kTileRows][kStep];
    __shared__ float b_slab[kStep][kTileCols];

    const int tx = threadIdx.x;
    const int ty = threadIdx.y;
    const float *a_tile = a + static_cast<size_t>(blockIdx.y) * kTileRows * k;
    const float *b_tile = b + static_cast<size_t>(blockIdx.x) * kTileCols;

    float sum[tile_size_y][tile_size_x] = {};

    for (int k0 = 0; k0 < k; k0 += kStep) {
#pragma unroll
        for (int i = 0; i < tile_size_y; ++i) {
            const int row = ty + i * block_size_y;
            a_slab[row][tx] = a_tile[static_cast<size_t>(row) * k + k0 + tx];
#pragma unroll
            for (int j = 0; j < tile_size_x; ++j) {
                const int col = tx + j * block_size_x;
                b_slab[row][col] = b_tile[static_cast<size_t>(k0 + row) * n + col];
            }
        }
        __syncthreads();

#pragma unroll
        for (int kk = 0; kk < kStep; ++kk) {
            float b_row[tile_size_x];
#pragma unroll
            for (int j = 0; j < tile_size_x; ++j) {
                b_row[j] = b_slab[kk][tx + j * block_size_x];
            }
#pragma unroll
            for (int i = 0; i < tile_size_y; ++i) {
                const float a_element = a_slab[ty + i * block_size_y][kk];
#pragma unroll
                for (int j = 0; j < tile_size_x; ++j) {
                    sum[i][j] += a_element * b_row[j];
                }
            }
        }
        __syncthreads();
    }

    float *c_tile = c + static_cast<size_t>(blockIdx.y) * kTileRows * n + static_cast<size_t>(blockIdx.x) * kTileCols;
#pragma unroll
    for (int i = 0; i < tile_size_y; ++i) {
#pragma unroll
        for (int j = 0; j < tile_size_x; ++j) {
            c_tile[static_cast<size_t>(ty + i * block_size_y) * n + tx + j * block_size_x] = sum[i][j];
        }
    }
}
