// The product of two square matrices through tiles of 16 x 16 in shared memory: what bench_hw2 runs,
// line by line the kernel that numba_simulator.py has in Python. n is a multiple of 16.
#include <cuda_runtime.h>

constexpr int TILE = 16;

__global__ void tiled(const float* a, const float* b, float* c, int n) {
    __shared__ float a_tile[TILE][TILE], b_tile[TILE][TILE];
    int x = threadIdx.x, y = threadIdx.y;
    int row = blockIdx.y * TILE + y, column = blockIdx.x * TILE + x;
    float sum = 0;
    for (int start = 0; start < n; start += TILE) {
        a_tile[y][x] = a[row * n + start + x];
        b_tile[y][x] = b[(start + y) * n + column];
        __syncthreads();
        for (int k = 0; k < TILE; ++k) sum += a_tile[y][k] * b_tile[k][x];
        __syncthreads();
    }
    c[row * n + column] = sum;
}

extern "C" void tiled_matmul(const float* a, const float* b, float* c, int n) {
    tiled<<<dim3(n / TILE, n / TILE), dim3(TILE, TILE)>>>(a, b, c, n);
}
