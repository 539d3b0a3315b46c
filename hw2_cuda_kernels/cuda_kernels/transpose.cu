// Task 2.3: the transpose of each matrix of a batch, through shared memory.
//
// out[b, c, r] = x[b, r, c] for x: (batch, rows, columns), out: (batch, columns, rows), both
// contiguous. There is no arithmetic: memory traffic is all there is to it, n elements in, n out.
//   1. naive (given): a warp reads along a row, 4 sectors, and writes down a column: 32 sectors
//   2. tiled: both along rows; the turn happens on chip, in shared memory
#include "common.cuh"

constexpr int TILE = 32;       // a block transposes TILE x TILE elements…
constexpr int TILE_ROWS = 8;   // …with TILE x TILE_ROWS threads

// Version 1, given: one element a thread. Lanes are neighbours along x's row, so their stores lie
// `rows` elements apart: each in a sector of its own, 32 bytes moved for 4.
__global__ void transpose_naive(
    const float* __restrict__ x, float* __restrict__ out, int rows, int columns
) {
    const size_t start = size_t(blockIdx.z) * rows * columns;
    const int c = blockIdx.x * TILE + threadIdx.x;
    const int r = blockIdx.y * TILE_ROWS + threadIdx.y;
    if (r < rows && c < columns) {
        out[start + size_t(c) * rows + r] = x[start + size_t(r) * columns + c];
    }
}

// Version 2. Block (x, y, z) transposes the tile of matrix z whose first element is
// [y * TILE, x * TILE], with threads (TILE, TILE_ROWS): each copies TILE / TILE_ROWS elements.
//
// First the block reads the tile into shared memory, each warp 32 neighbours of a row of x. After a
// barrier it writes the tile to its place in `out`, each warp 32 neighbours of a row of `out`: that
// is a column of the tile, read from shared memory. With TILE floats to a row of shared memory, a
// column lies in one single bank, and the 32 lanes are served one after another. One float more to
// a row, and its elements lie in 32 banks.
//
// rows and columns need not be multiples of TILE, and a tile at the edge is cut off at another
// place when it is written than when it was read. Allowed: 4 sectors a warp on either side, no
// bank conflict, one barrier.
__global__ void transpose_tiled(
    const float* __restrict__ x, float* __restrict__ out, int rows, int columns
) {
    LLM_NOT_IMPLEMENTED("task 2.3: transpose_tiled");
}

// ---- host code, given: version 1 or 2

extern "C" void transpose(
    int version, const float* x, float* out, int batch, int rows, int columns
) {
    if (batch == 0 || rows == 0 || columns == 0) return;  // a grid of no blocks is an error
    const dim3 block(TILE, TILE_ROWS);
    if (version == 1) {
        const dim3 grid(ceil_div(columns, TILE), ceil_div(rows, TILE_ROWS), batch);
        transpose_naive<<<grid, block>>>(x, out, rows, columns);
    } else {
        const dim3 grid(ceil_div(columns, TILE), ceil_div(rows, TILE), batch);
        transpose_tiled<<<grid, block>>>(x, out, rows, columns);
    }
}
