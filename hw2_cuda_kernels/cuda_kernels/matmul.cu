// Task 2.4: the matrix product C = A B, in three steps from naive to fast.
//
// All matrices are float32 and row-major: A (rows, inner), B (inner, columns), C (rows, columns).
// Each entry point makes `batch` products in one launch, product z with the block's z coordinate:
// A starts at a + z * a_step, B at b + z * b_step, C at c + z * rows * columns. A step of 0 means
// that all products share the matrix. Any size may be 0: nothing to write means no launch, and an
// `inner` of 0 gives a C of zeros. A matrix has less than 2^31 elements, so an int can index it.
//
// Where the time goes: 2 rows * inner * columns operations, on data that fit into
// 4 (rows * inner + inner * columns + rows * columns) bytes if each value is loaded once. The naive
// kernel loads 8 bytes for each multiply-add. Every step below divides that by the number of times
// a loaded value is used again.
//
//   naive     each thread, one element of C, straight from global memory
//   tiled     a block shares a tile of A and one of B: a load serves TILE multiply-adds
//   register  a thread keeps 4x4 or 8x8 elements of C: a value read from shared memory serves
//             4 or 8 multiply-adds, and one from global memory serves 64 or 128
#include "common.cuh"

namespace matmul {

// ---- naive: given

// One thread an element; a warp is 32 neighbours in a row of C, so what it loads of B is one
// 128-byte line, and what it loads of A one value for all. Compare: with threadIdx.x along the
// rows, each load of A touches 32 lines.
__global__ void naive(
    const float* a, const float* b, float* c, int rows, int inner, int columns, int a_step,
    int b_step
) {
    int row = blockIdx.y * blockDim.y + threadIdx.y;
    int column = blockIdx.x * blockDim.x + threadIdx.x;
    if (row >= rows || column >= columns) return;
    a += size_t(blockIdx.z) * a_step + row * inner;
    b += size_t(blockIdx.z) * b_step + column;
    c += size_t(blockIdx.z) * rows * columns;
    float sum = 0.0f;
    for (int k = 0; k < inner; ++k) sum += a[k] * b[k * columns];
    c[row * columns + column] = sum;
}

// ---- tiled

// A block of TILE x TILE threads makes a TILE x TILE tile of C, one element a thread, walking along
// `inner` in steps of TILE: all threads together copy one tile of A and one of B to shared memory,
// then each multiplies its row of the one with its column of the other.
//
// What changed: each value is loaded from global memory once a block instead of once a thread, so
// global traffic falls by TILE. Both copies are coalesced (a warp copies 32 neighbours of a row).
//
// Grid (given): x over tiles of columns, y over tiles of rows, z over the batch. Block: x is the
// column within the tile, y the row. Memory allowed: 2 loads a thread and step, one store a thread;
// 2 barriers a step; no bank conflict. Tiles that reach over an edge of A or B: put 0 there, on
// both sides (0 times a NaN left in shared memory is NaN), and store only what lies in C. Every
// thread of the block must reach every __syncthreads(), also one that has no element of C.
template <int TILE>
__global__ void __launch_bounds__(TILE * TILE) tiled(
    const float* a, const float* b, float* c, int rows, int inner, int columns, int a_step,
    int b_step
) {
    LLM_NOT_IMPLEMENTED("task 2.4: tiled");
}

// ---- register
//
// In `tiled`, two reads of shared memory feed one multiply-add, and shared memory is the limit.
// Here a thread keeps N x N elements of C in registers: N values of A and N of B feed N * N
// multiply-adds.
//
// A block of 256 threads makes a tile of (64 G) x (64 G) elements, with N = 4 G; G is 1 or 2. Let x
// and y be the thread's place among 16 x 16. Its elements are G x G groups of 4 x 4: four rows from
// 64 g + 4 y on and four columns from 64 h + 4 x on, for g, h < G. So each group is read, and
// written, as float4s. The functions below are a way to get there, one step each; the kernel is
// what counts. Helpers may be filled in, replaced or left out.

constexpr int THREADS = 256;
constexpr int SIDE = 64;  // rows and columns that 16 x 16 threads with 4 x 4 elements each make
constexpr int FETCH = 4;  // elements of a tile of A, and of B, that each thread copies

// Where a thread stands among the 16 x 16 (see above). Given. The 32 lanes of a warp are 8 across
// and 4 down: they read 8 float4s of B, one line of 128 bytes, and 4 of A.
__device__ int thread_x() { return threadIdx.x / WARP % 2 * 8 + threadIdx.x % 8; }
__device__ int thread_y() { return threadIdx.x / WARP / 2 * 4 + threadIdx.x % WARP / 8; }

// The place of a thread's element j among the elements of a tile, counted row by row, when all
// threads copy it together. Given. A warp's accesses are neighbours: 32 float4s with VECTOR, which
// hold elements 0 to 3 of each thread, or else 32 floats.
template <bool VECTOR>
__device__ int tile_element(int j) {
    return VECTOR ? threadIdx.x * FETCH + j : j * THREADS + threadIdx.x;
}

// The tile of A is stored transposed, as a_tile[k][row], and in line k row r is at r ^ swizzle(k).
// Given. Without it, lanes that store different k at the same time meet in one bank, since a line
// is a multiple of 32 floats long. Only bits above the lowest three change, so float4s stay whole.
template <int DEPTH>
__device__ int swizzle(int k) {
    return k / 4 * (128 / DEPTH);
}

// Loads this thread's elements of a tile of `matrix` (rows, columns) into registers. The tile is
// WIDTH columns wide and starts at (first_row, first_column); element j is tile_element<VECTOR>(j).
// What lies outside of the matrix is 0. With VECTOR, `columns` is a multiple of 4 and rows are
// 16-byte aligned: one load of a float4; otherwise FETCH loads of floats.
template <int WIDTH, bool VECTOR>
__device__ void fetch_tile(
    const float* matrix, int rows, int columns, int first_row, int first_column,
    float (&staged)[FETCH]
) {
    LLM_NOT_IMPLEMENTED("task 2.4: fetch_tile");
}

// Stores what fetch_tile loaded of A (WIDTH = DEPTH) as a_tile[k][row ^ swizzle<DEPTH>(k)].
template <bool VECTOR, int DEPTH, int SIZE>
__device__ void store_a(const float (&staged)[FETCH], float (&a_tile)[DEPTH][SIZE]) {
    LLM_NOT_IMPLEMENTED("task 2.4: store_a");
}

// Stores what fetch_tile loaded of B (WIDTH = SIZE) as b_tile[k][column]; with VECTOR as a float4.
template <bool VECTOR, int DEPTH, int SIZE>
__device__ void store_b(const float (&staged)[FETCH], float (&b_tile)[DEPTH][SIZE]) {
    LLM_NOT_IMPLEMENTED("task 2.4: store_b");
}

// Adds the product of the two tiles in shared memory to this thread's elements of C: sums[i][j]
// belongs to row i % 4 of group i / 4, and to column j % 4 of group j / 4. For each k, 2 G reads of
// float4s feed N * N multiply-adds.
template <int DEPTH, int SIZE, int N>
__device__ void multiply_tiles(
    const float (&a_tile)[DEPTH][SIZE], const float (&b_tile)[DEPTH][SIZE], float (&sums)[N][N]
) {
    LLM_NOT_IMPLEMENTED("task 2.4: multiply_tiles");
}

// Writes this thread's elements to the tile of C (rows, columns) at (first_row, first_column): what
// lies in C, as float4s with VECTOR.
template <bool VECTOR, int N>
__device__ void write_sums(
    const float (&sums)[N][N], float* c, int rows, int columns, int first_row, int first_column
) {
    LLM_NOT_IMPLEMENTED("task 2.4: write_sums");
}

// What changed: register tiles, and the next pair of tiles is on its way from global memory, into
// registers, while this pair is being multiplied. With two buffers in shared memory the next pair
// is stored into the one that nobody reads any more, so one barrier a step is enough.
//
// Grid (given): as in `tiled`, with tiles of 64 G; 256 threads in a row. `inner` goes by in steps
// of 16 / G. Memory allowed: each block loads each value of its rows of A and columns of B once,
// with VECTOR as float4s, and stores each of its elements of C once; shared memory gives each
// thread 2 G float4s a k, in requests that are at most 2-way bank conflicts. The bounds on the
// registers let three blocks (G = 1) or two (G = 2) share a multiprocessor.
template <int G, bool VECTOR>
__global__ void __launch_bounds__(THREADS, VECTOR ? 4 - G : 1) register_tiled(
    const float* a, const float* b, float* c, int rows, int inner, int columns, int a_step,
    int b_step
) {
    LLM_NOT_IMPLEMENTED("task 2.4: register_tiled");
}

// Whether every row of every matrix starts on a multiple of 16 bytes. Given.
inline bool rows_are_aligned(
    const float* a, const float* b, const float* c, int inner, int columns, int a_step, int b_step
) {
    size_t addresses = reinterpret_cast<size_t>(a) | reinterpret_cast<size_t>(b)
                       | reinterpret_cast<size_t>(c);
    return addresses % 16 == 0 && (inner | columns | a_step | b_step) % 4 == 0;
}

// Whether to take G = 2. Given. Large tiles halve the traffic of small ones, but a GPU has about a
// hundred multiprocessors, and each should have a tile to work on.
inline bool large_tiles_are_many(int rows, int columns, int batch) {
    constexpr long long ENOUGH = 128;
    return 1LL * ceil_div(rows, 2 * SIDE) * ceil_div(columns, 2 * SIDE) * batch >= ENOUGH;
}

template <int G>
void launch_register(
    const float* a, const float* b, float* c, int rows, int inner, int columns, int batch,
    int a_step, int b_step
) {
    dim3 grid(ceil_div(columns, SIDE * G), ceil_div(rows, SIDE * G), batch);
    if (rows_are_aligned(a, b, c, inner, columns, a_step, b_step)) {
        register_tiled<G, true><<<grid, THREADS>>>(a, b, c, rows, inner, columns, a_step, b_step);
    } else {
        register_tiled<G, false><<<grid, THREADS>>>(a, b, c, rows, inner, columns, a_step, b_step);
    }
}

}  // namespace matmul

// ---- entry points: given

extern "C" void matmul_naive(
    const float* a, const float* b, float* c, int rows, int inner, int columns, int batch,
    int a_step, int b_step
) {
    if (rows == 0 || columns == 0 || batch == 0) return;
    dim3 block(WARP, 8);
    dim3 grid(ceil_div(columns, block.x), ceil_div(rows, block.y), batch);
    matmul::naive<<<grid, block>>>(a, b, c, rows, inner, columns, a_step, b_step);
}

extern "C" void matmul_tiled(
    const float* a, const float* b, float* c, int rows, int inner, int columns, int batch,
    int a_step, int b_step
) {
    constexpr int TILE = 32;
    if (rows == 0 || columns == 0 || batch == 0) return;
    dim3 block(TILE, TILE);
    dim3 grid(ceil_div(columns, TILE), ceil_div(rows, TILE), batch);
    matmul::tiled<TILE><<<grid, block>>>(a, b, c, rows, inner, columns, a_step, b_step);
}

extern "C" void matmul_register(
    const float* a, const float* b, float* c, int rows, int inner, int columns, int batch,
    int a_step, int b_step
) {
    if (rows == 0 || columns == 0 || batch == 0) return;
    if (matmul::large_tiles_are_many(rows, columns, batch)) {
        matmul::launch_register<2>(a, b, c, rows, inner, columns, batch, a_step, b_step);
    } else {
        matmul::launch_register<1>(a, b, c, rows, inner, columns, batch, a_step, b_step);
    }
}
