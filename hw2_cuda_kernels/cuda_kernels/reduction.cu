// Task 2.2: reductions: the sum or the maximum of each row of a matrix, and the sum of a vector.
//
// A ladder of three for the rows, one block a row. In each, every thread first folds its share of
// the row (coalesced, given); what changes is how the block's 256 values become one.
//   1. interleaved (given): a tree in shared memory; in every warp some lanes work, the rest wait
//   2. tree: the same sums by other threads: whole warps work, whole warps are done
//   3. shuffle: within a warp through registers; shared memory and one barrier between warps only
// The vector takes two launches: blocks can't wait for each other, but launches of a stream do.
//
// An operation is a functor with its identity, the value that changes nothing.
#include "common.cuh"

constexpr int BLOCK = 256;  // threads of a block in every launch: a power of two
constexpr int WARPS = BLOCK / WARP;
static_assert(WARPS <= WARP, "one warp reduces what the warps of a block leave");

struct Sum {
    __device__ static float identity() { return 0.0f; }
    __device__ float operator()(float a, float b) const { return a + b; }
};
struct Max {  // NaN where either is NaN
    __device__ static float identity() { return -INFINITY; }
    __device__ float operator()(float a, float b) const { return a != a || a > b ? a : b; }
};

// What this thread contributes: elements threadIdx.x, threadIdx.x + BLOCK, … of `row`. Given.
// At each step a warp reads 32 neighbours: 4 sectors. Unrolled, so that four loads are under way.
template <typename Operation>
__device__ float share_of_row(const float* __restrict__ row, int columns, Operation operation) {
    float value = Operation::identity();
#pragma unroll 4
    for (int column = threadIdx.x; column < columns; column += BLOCK) {
        value = operation(value, row[column]);
    }
    return value;
}

// Version 1, given. Thread 0 adds what thread 1 has, thread 2 what thread 3 has, …; then thread 0
// what thread 2 has, thread 4 what thread 6 has, … With each step half of the working lanes drop
// out, in every warp: all 8 warps issue all of the first five steps, for fewer and fewer lanes.
// 1 + 8 barriers.
template <typename Operation>
__global__ void reduce_rows_interleaved(
    const float* x, float* out, int columns, Operation operation
) {
    __shared__ float values[BLOCK];
    const int thread = threadIdx.x;
    values[thread] = share_of_row(x + size_t(blockIdx.x) * columns, columns, operation);
    __syncthreads();
    for (int distance = 1; distance < BLOCK; distance *= 2) {
        if (thread % (2 * distance) == 0) {
            values[thread] = operation(values[thread], values[thread + distance]);
        }
        __syncthreads();
    }
    if (thread == 0) out[blockIdx.x] = values[0];
}

// Version 2. out[r] = the reduction of row r of x: (rows, columns), one block of BLOCK a row.
//
// Halve the number of working threads from above: first threads 0 … BLOCK/2 - 1 take in what the
// upper half has, then 0 … BLOCK/4 - 1, … The threads that work are always the first ones: whole
// warps are done, and only the last one left, warp 0, comes to have idle lanes, from the step with
// 16 threads on. And the lanes touch neighbours, which lie in 32 different banks.
//
// Allowed: at most 10 barriers a block, no bank conflict, and idle lanes in warp 0 alone.
// A row of no columns gives the identity.
template <typename Operation>
__global__ void reduce_rows_tree(const float* x, float* out, int columns, Operation operation) {
    LLM_NOT_IMPLEMENTED("task 2.2: reduce_rows_tree");
}

// The reduction of `value` over the 32 lanes of a warp; only lane 0 needs to have it.
//
// Five steps of __shfl_down_sync, from register to register: no memory, no barrier. All 32 lanes
// call this together, hence FULL_MASK; a lane whose source lies beyond the warp gets its own value
// back, and what it makes of that, nobody reads.
template <typename Operation>
__device__ float warp_reduce(float value, Operation operation) {
    LLM_NOT_IMPLEMENTED("task 2.2: warp_reduce");
}

// The reduction of `value` over the BLOCK threads of a block; only thread 0 needs to have it.
//
// Each warp reduces its own values and leaves the result in shared memory: WARPS floats. After one
// barrier the first warp reduces those. Its lanes from WARPS on have nothing: the identity. Every
// thread of the block must call this, and a kernel only once (a second call would write to the
// shared memory while the first warp still reads it).
template <typename Operation>
__device__ float block_reduce(float value, Operation operation) {
    LLM_NOT_IMPLEMENTED("task 2.2: block_reduce");
}

// Version 3. As version 2, with block_reduce in the place of the tree.
//
// Allowed: 2 barriers a block, and 16 warp requests of a block to shared memory.
template <typename Operation>
__global__ void reduce_rows_shuffle(const float* x, float* out, int columns, Operation operation) {
    LLM_NOT_IMPLEMENTED("task 2.2: reduce_rows_shuffle");
}

// The vector's first launch: partial[b] = the sum of what the threads of block b take by a
// grid-stride loop over all of x: (n,). partial: (gridDim.x,).
//
// Every element is loaded once, 4 sectors a warp. No atomics: float addition is not associative,
// and a sum in the order of arrival would have other last digits in each run.
__global__ void sum_to_partials(const float* __restrict__ x, float* partial, int n) {
    LLM_NOT_IMPLEMENTED("task 2.2: sum_to_partials");
}

// ---- host code, given

template <typename Operation>
static void launch_rows(
    int version, const float* x, float* out, int rows, int columns, Operation operation
) {
    switch (version) {
        case 1:
            reduce_rows_interleaved<<<rows, BLOCK>>>(x, out, columns, operation);
            break;
        case 2:
            reduce_rows_tree<<<rows, BLOCK>>>(x, out, columns, operation);
            break;
        case 3:
            reduce_rows_shuffle<<<rows, BLOCK>>>(x, out, columns, operation);
            break;
    }
}

// out[r] = the sum (operation 0) or maximum (1) of row r of x: (rows, columns) -> (rows,).
extern "C" void reduce_rows(
    int version, int operation, const float* x, float* out, int rows, int columns
) {
    if (rows == 0) return;
    if (operation == 0) {
        launch_rows(version, x, out, rows, columns, Sum{});
    } else {
        launch_rows(version, x, out, rows, columns, Max{});
    }
}

// out[0] = the sum of x: (n,), 0 for n = 0. partial: (blocks,), scratch memory.
extern "C" void sum_vector(const float* x, float* partial, float* out, int n, int blocks) {
    const int enough = ceil_div(n, BLOCK);
    const int used = enough < blocks ? enough : blocks;
    if (used > 0) sum_to_partials<<<used, BLOCK>>>(x, partial, n);
    // The partial sums are a matrix of one row.
    reduce_rows_shuffle<<<1, BLOCK>>>(partial, out, used, Sum{});
}
