// Each thread computes a tile of tile_size_x by tile_size_y elements of C = A B, for square matrices of WIDTH.
#include "width.h"

extern "C" __global__ void matmul(float *C, const float *A, const float *B)
{
    for (int j = 0; j < tile_size_y; j++) {
        for (int i = 0; i < tile_size_x; i++) {
            int x = (blockIdx.x * tile_size_x + i) * block_size_x + threadIdx.x;
            int y = (blockIdx.y * tile_size_y + j) * block_size_y + threadIdx.y;
            if (x < WIDTH && y < WIDTH) {
                float sum = 0.0f;
                for (int k = 0; k < WIDTH; k++)
                    sum += A[y * WIDTH + k] * B[k * WIDTH + x];
                C[y * WIDTH + x] = sum;
            }
        }
    }
}
