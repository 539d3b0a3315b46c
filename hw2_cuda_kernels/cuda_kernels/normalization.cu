// Task 2.6: LayerNorm and RMSNorm over the rows of a matrix, forward and backward.
//
// x, out and their gradients are (rows, cols), dense, in rows; gamma and beta are (cols); mean and
// rstd are (rows): what forward saves for backward. cols is at most 8,192. For a row x
//     LayerNorm   normal = (x - mean) * rstd,  rstd = 1 / sqrt(mean((x - mean)^2) + eps)
//                 out = gamma * normal + beta
//     RMSNorm     normal = x * rstd,           rstd = 1 / sqrt(mean(x^2) + eps)
//                 out = gamma * normal
// where the means are taken over the row: divide by cols.
//
// All of it is limited by memory, so the rule is one pass: a row is read once, into registers, and
// all that is needed of it is computed there. Backward has sums in two directions: along the row
// for the gradient of x, and down the columns for those of gamma and beta. A block that has many
// rows in turn does both in the same pass.
#include "common.cuh"

namespace normalization {

// Thread t of the block that has a row keeps elements t, t + blockDim.x, t + 2 * blockDim.x, …
constexpr int PER_THREAD = 8;
constexpr int MOST_THREADS = 1024;  // so a row has at most 8,192

// A block of sum_partials: 32 columns, and so many warps to share the partial sums of each.
constexpr int SUM_WARPS = 16;

// Sums over the threads of a block: each of the N values becomes its sum, in every thread. N sums
// at once cost the barriers of one.
//
// All threads of the block call this; their number is a multiple of 32, up to 1024. Warp shuffles
// first, then one value a warp through shared memory. It is called again and again: what a warp
// still reads, the next call must not overwrite.
template <int N>
__device__ void block_sum(float (&values)[N]) {
    LLM_NOT_IMPLEMENTED("task 2.6: block_sum");
}

// LayerNorm, forward: out, mean and rstd.
//
// Launch (given): a block a row, of whole warps, PER_THREAD elements a thread.
// The row goes into registers: an array whose every index is known at compile time, so unroll the
// loops, and guard the elements beyond cols. Mean first, then the variance from what is left when
// the mean is taken off. mean(x^2) - mean^2 needs one sum less, but at a mean of 10,000 and a
// deviation of 1 it is the difference of two numbers near 100,000,000, of which float32 keeps
// multiples of 8.
// Traffic allowed: x, gamma and beta are each read once a row, out is written once, coalesced.
__global__ void __launch_bounds__(MOST_THREADS)
layernorm_rows(const float* __restrict__ x, const float* __restrict__ gamma,
               const float* __restrict__ beta, float* __restrict__ out, float* __restrict__ mean,
               float* __restrict__ rstd, int cols, float eps) {
    const size_t start = static_cast<size_t>(blockIdx.x) * cols;  // of this block's row
    LLM_NOT_IMPLEMENTED("task 2.6: layernorm_rows");
}

// RMSNorm, forward: out and rstd. As LayerNorm, without mean and beta: one sum instead of two.
__global__ void __launch_bounds__(MOST_THREADS)
rmsnorm_rows(const float* __restrict__ x, const float* __restrict__ gamma,
             float* __restrict__ out, float* __restrict__ rstd, int cols, float eps) {
    const size_t start = static_cast<size_t>(blockIdx.x) * cols;
    LLM_NOT_IMPLEMENTED("task 2.6: rmsnorm_rows");
}

// Where the partial sum of column i for gamma (which = 0) or beta (which = 1) of a block goes:
// partial is (1 or 2, gridDim.x, cols). Given.
__device__ size_t partial_index(int which, int i, int cols) {
    return (static_cast<size_t>(which) * gridDim.x + blockIdx.x) * cols + i;
}

// LayerNorm, backward: the gradient of x, and each block's part of those of gamma and beta.
//
// With scaled = upstream * gamma, and means over the row:
//     grad_x = rstd * (scaled - mean(scaled) - normal * mean(scaled * normal))
//     grad_gamma = sum over the rows of upstream * normal
//     grad_beta  = sum over the rows of upstream
// Launch (given): fewer blocks than rows. Block b has rows b, b + gridDim.x, …, one after the
// other, and a thread has the same columns of all of them. So it can add up its columns' upstream *
// normal and upstream in registers, row after row, and write each sum once, when all rows are done:
// to partial, which holds whatever it holds when the kernel begins. sum_partials does the rest.
// (The other way is an atomicAdd for each element: rows * cols of them on cols addresses, which
// wait for each other and add in another order each time.)
// Traffic allowed: x, upstream and gamma are read once a row; grad_x is written once, partial once
// a block; all coalesced. No atomics.
__global__ void __launch_bounds__(MOST_THREADS)
layernorm_backward_rows(const float* __restrict__ upstream, const float* __restrict__ x,
                        const float* __restrict__ gamma, const float* __restrict__ mean,
                        const float* __restrict__ rstd, float* __restrict__ grad_x,
                        float* __restrict__ partial, int rows, int cols) {
    LLM_NOT_IMPLEMENTED("task 2.6: layernorm_backward_rows");
}

// RMSNorm, backward: as LayerNorm's, without mean(scaled) and without beta.
//     grad_x = rstd * (scaled - normal * mean(scaled * normal))
__global__ void __launch_bounds__(MOST_THREADS)
rmsnorm_backward_rows(const float* __restrict__ upstream, const float* __restrict__ x,
                      const float* __restrict__ gamma, const float* __restrict__ rstd,
                      float* __restrict__ grad_x, float* __restrict__ partial, int rows, int cols) {
    LLM_NOT_IMPLEMENTED("task 2.6: rmsnorm_backward_rows");
}

// The second launch: sums partial (1 or 2, blocks, cols) over the blocks. With blockIdx.y == 0 the
// result goes to grad_gamma, with 1 to grad_beta. `blocks` may be 0: the sums are 0 then.
//
// Launch (given): block (32, SUM_WARPS), grid (ceil(cols / 32), 1 or 2). Lane x of a warp has
// column blockIdx.x * 32 + x, so that each read of a warp is coalesced; the SUM_WARPS warps share
// the rows of partial, and bring together what they have in shared memory, without bank conflicts.
// Traffic allowed: partial is read once, each gradient written once.
__global__ void sum_partials(const float* __restrict__ partial, float* __restrict__ grad_gamma,
                             float* __restrict__ grad_beta, int blocks, int cols) {
    const int col = blockIdx.x * WARP + threadIdx.x;
    const float* source = partial + static_cast<size_t>(blockIdx.y) * blocks * cols;
    float* target = blockIdx.y == 0 ? grad_gamma : grad_beta;
    LLM_NOT_IMPLEMENTED("task 2.6: sum_partials");
}

// Threads of a block for a row of `cols`: whole warps, PER_THREAD elements a thread. Given.
inline int threads_for(int cols) { return ceil_div(ceil_div(cols, PER_THREAD), WARP) * WARP; }

}  // namespace normalization

// The entry points. Given. No rows or columns means no launch: a grid of 0 blocks is an error in
// CUDA. Backward gets `partial`, (2 or 1, blocks, cols), as working space from its caller, who also
// says how many blocks share the rows (no more than there are rows).

extern "C" void layernorm_forward(const float* x, const float* gamma, const float* beta, float* out,
                                  float* mean, float* rstd, int rows, int cols, float eps) {
    if (rows == 0 || cols == 0) return;
    normalization::layernorm_rows<<<rows, normalization::threads_for(cols)>>>(
        x, gamma, beta, out, mean, rstd, cols, eps);
}

extern "C" void rmsnorm_forward(const float* x, const float* gamma, float* out, float* rstd,
                                int rows, int cols, float eps) {
    if (rows == 0 || cols == 0) return;
    normalization::rmsnorm_rows<<<rows, normalization::threads_for(cols)>>>(x, gamma, out, rstd,
                                                                            cols, eps);
}

extern "C" void layernorm_backward(const float* upstream, const float* x, const float* gamma,
                                   const float* mean, const float* rstd, float* grad_x,
                                   float* grad_gamma, float* grad_beta, float* partial, int rows,
                                   int cols, int blocks) {
    if (cols == 0) return;
    if (blocks > 0) {
        normalization::layernorm_backward_rows<<<blocks, normalization::threads_for(cols)>>>(
            upstream, x, gamma, mean, rstd, grad_x, partial, rows, cols);
    }
    const dim3 grid(ceil_div(cols, WARP), 2), block(WARP, normalization::SUM_WARPS);
    normalization::sum_partials<<<grid, block>>>(partial, grad_gamma, grad_beta, blocks, cols);
}

extern "C" void rmsnorm_backward(const float* upstream, const float* x, const float* gamma,
                                 const float* rstd, float* grad_x, float* grad_gamma,
                                 float* partial, int rows, int cols, int blocks) {
    if (cols == 0) return;
    if (blocks > 0) {
        normalization::rmsnorm_backward_rows<<<blocks, normalization::threads_for(cols)>>>(
            upstream, x, gamma, rstd, grad_x, partial, rows, cols);
    }
    const dim3 grid(ceil_div(cols, WARP)), block(WARP, normalization::SUM_WARPS);
    normalization::sum_partials<<<grid, block>>>(partial, grad_gamma, nullptr, blocks, cols);
}
