// Task 2.5: softmax over the rows of a matrix, forward and backward.
//
// x, out and all gradients are (rows, cols), dense, in rows. For a row x
//     out[i] = exp(x[i]) / sum_j exp(x[j])
// Shifting the whole row changes nothing, so the row's largest value is taken off first: exp never
// sees a positive number, and 10,000 is as good as 0.
//     -inf     (a masked position) has probability 0
//     a row of nothing but -inf (all positions masked) is a row of zeros; torch makes it nan
//     nan or +inf anywhere in a row makes all of that row nan, as in torch
//
// A ladder of three. A row takes one block, and neighbouring threads take neighbouring elements.
//   1. three_pass (given): the row is read for the max, again for the sum, again for the result
//   2. online: max and sum come from the same pass: two reads
//   3. on_chip: the row stays in registers: one read
// Arithmetic is cheap, memory is not: the time goes with the number of passes over memory.
#include "common.cuh"

namespace softmax {

// Of a row on chip, a thread keeps PER_THREAD elements: threadIdx.x, threadIdx.x + blockDim.x, …
constexpr int PER_THREAD = 8;
constexpr int MOST_THREADS = 1024;
constexpr int ON_CHIP_COLS = PER_THREAD * MOST_THREADS;  // 8,192: the longest row that fits

// Operations for block_reduce: two arguments into one, and the value that changes nothing. Given.
struct Sum {
    __device__ static float identity() { return 0.0f; }
    __device__ float operator()(float a, float b) const { return a + b; }
};
struct Max {  // -FLT_MAX and not -inf: -inf - -inf would be nan in a row that is masked throughout
    __device__ static float identity() { return -FLT_MAX; }
    __device__ float operator()(float a, float b) const { return fmaxf(a, b); }
};

// 1 / sum, and 0 for the sum of a row of nothing but -inf. Given.
__device__ float inverse(float sum) { return sum == 0.0f ? 0.0f : 1.0f / sum; }

// Where this block's row begins, as a size_t: an int overflows at 2^31 elements. Given.
__device__ size_t row_start(int cols) { return static_cast<size_t>(blockIdx.x) * cols; }

// The reduction of `value` over the 32 lanes of a warp, in every lane.
//
// All lanes call this together. Five steps of __shfl_xor_sync: in step d, lane i takes in what lane
// i ^ d has. After the last, all 32 lanes have the same.
template <typename Operation>
__device__ float warp_reduce(float value, Operation operation) {
    LLM_NOT_IMPLEMENTED("task 2.5: warp_reduce");
}

// The reduction of `value` over the threads of a block, in every thread.
//
// All threads of the block call this; their number is a multiple of 32, up to 1024. Each warp
// reduces its values and leaves the result in shared memory; behind a barrier, each warp reduces
// those. Operations have an array each: a second barrier is for two calls with the same one.
template <typename Operation>
__device__ float block_reduce(float value, Operation operation) {
    LLM_NOT_IMPLEMENTED("task 2.5: block_reduce");
}

// Version 1, given (it needs block_reduce). Three reads and a write of each element.
__global__ void __launch_bounds__(MOST_THREADS)
three_pass(const float* __restrict__ x, float* __restrict__ out, int cols) {
    x += row_start(cols);
    out += row_start(cols);
    float largest = Max::identity();
    for (int i = threadIdx.x; i < cols; i += blockDim.x) largest = fmaxf(largest, x[i]);
    largest = block_reduce(largest, Max());
    float sum = 0.0f;
    for (int i = threadIdx.x; i < cols; i += blockDim.x) sum += expf(x[i] - largest);
    const float scale = inverse(block_reduce(sum, Sum()));
    for (int i = threadIdx.x; i < cols; i += blockDim.x) out[i] = scale * expf(x[i] - largest);
}

// Version 2. Two reads and a write of each element; rows of any length.
//
// What changed: max and sum in one pass. A thread keeps the largest of its elements so far, and the
// sum of exp(x[i] - largest) over them. When a larger one comes, the sum is still measured from the
// old max: multiply it by exp(old max - new max). At the end each thread has its own max; find the
// row's, measure all sums from it, add them up. The second pass writes.
// (Milakov and Gimelshein, 2018: "Online normalizer calculation for softmax".)
//
// Launch (given): a block a row, of a multiple of 32 threads; threads may be left without elements.
// Traffic allowed: two reads and one write, coalesced. No thread-local copy of the row fits.
__global__ void __launch_bounds__(MOST_THREADS)
online(const float* __restrict__ x, float* __restrict__ out, int cols) {
    x += row_start(cols);
    out += row_start(cols);
    LLM_NOT_IMPLEMENTED("task 2.5: online");
}

// Version 3. One read and one write of each element; rows of up to ON_CHIP_COLS.
//
// What changed: the row is loaded once, into PER_THREAD registers of each thread, and everything
// else happens there; exp is computed once an element, too. An array is in registers only if every
// index into it is known at compile time: a loop over it must be unrolled, with PER_THREAD steps
// (guard the elements beyond cols; don't shorten the loop). All loads are under way at once, which
// is also what keeps the memory busy.
//
// Launch (given): a block a row, of as many warps as it takes at PER_THREAD elements a thread.
// Traffic allowed: one read and one write, coalesced.
__global__ void __launch_bounds__(MOST_THREADS)
on_chip(const float* __restrict__ x, float* __restrict__ out, int cols) {
    x += row_start(cols);
    out += row_start(cols);
    LLM_NOT_IMPLEMENTED("task 2.5: on_chip");
}

// Backward, rows of up to ON_CHIP_COLS. y is what forward gave, upstream the gradient with respect
// to it, grad the gradient with respect to x:
//     grad[i] = y[i] * (upstream[i] - sum_j y[j] * upstream[j])
// Of a masked row (y all 0) the gradient is 0.
//
// Launch: as on_chip. Traffic allowed: y and upstream read once, grad written once, coalesced.
__global__ void __launch_bounds__(MOST_THREADS)
backward_on_chip(const float* __restrict__ y, const float* __restrict__ upstream,
                 float* __restrict__ grad, int cols) {
    const size_t start = row_start(cols);
    LLM_NOT_IMPLEMENTED("task 2.5: backward_on_chip");
}

// Backward, rows of any length. y, upstream and grad as above.
//
// Launch: as online. Traffic allowed: y and upstream read twice, grad written once, coalesced.
__global__ void __launch_bounds__(MOST_THREADS)
backward_two_pass(const float* __restrict__ y, const float* __restrict__ upstream,
                  float* __restrict__ grad, int cols) {
    const size_t start = row_start(cols);
    LLM_NOT_IMPLEMENTED("task 2.5: backward_two_pass");
}

// Threads of a block for a row of `cols`: whole warps, PER_THREAD elements a thread. Given.
inline int threads_for(int cols) {
    const int wanted = ceil_div(ceil_div(cols, PER_THREAD), WARP) * WARP;
    return wanted < MOST_THREADS ? wanted : MOST_THREADS;
}

}  // namespace softmax

// The entry points. Given. No elements means no launch: a grid of 0 blocks is an error in CUDA.

extern "C" void softmax_three_pass(const float* x, float* out, int rows, int cols) {
    if (rows == 0 || cols == 0) return;
    softmax::three_pass<<<rows, softmax::threads_for(cols)>>>(x, out, cols);
}

extern "C" void softmax_online(const float* x, float* out, int rows, int cols) {
    if (rows == 0 || cols == 0) return;
    softmax::online<<<rows, softmax::threads_for(cols)>>>(x, out, cols);
}

// The fastest for the length of the row.
extern "C" void softmax_forward(const float* x, float* out, int rows, int cols) {
    if (rows == 0 || cols == 0) return;
    const int threads = softmax::threads_for(cols);
    if (cols <= softmax::ON_CHIP_COLS) {
        softmax::on_chip<<<rows, threads>>>(x, out, cols);
    } else {
        softmax::online<<<rows, threads>>>(x, out, cols);
    }
}

extern "C" void softmax_backward(const float* y, const float* upstream, float* grad, int rows,
                                 int cols) {
    if (rows == 0 || cols == 0) return;
    const int threads = softmax::threads_for(cols);
    if (cols <= softmax::ON_CHIP_COLS) {
        softmax::backward_on_chip<<<rows, threads>>>(y, upstream, grad, cols);
    } else {
        softmax::backward_two_pass<<<rows, threads>>>(y, upstream, grad, cols);
    }
}
