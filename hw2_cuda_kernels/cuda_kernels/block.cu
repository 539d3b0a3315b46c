// Task 2.12: the forward pass of a transformer block, from your own kernels.
//
//     h   = x + attention(layernorm(x) @ w_qkv) @ w_out
//     out = h + gelu(layernorm(h) @ w_up + b_up) @ w_down + b_down
//
// ("Pre-norm": the norms stand before the products, not behind the sums.) x, h and out are
// (batch, time, dim), dense; dim = heads * head_dim, and head_dim is 32 or 64; hidden, the width
// between w_up and w_down, is a multiple of 4. Attention is causal. The product with w_qkv, which is
// (dim, 3 * dim), makes q, k and v side by side, each (heads, head_dim) wide.
//
// Everything stays on the device: a launch reads what an earlier one wrote, in the order of the
// launches, and nothing is copied or waited for in between.
#include "common.cuh"

// Your own files. Each keeps its names in a namespace, so that they do not meet here.
#include "attention.cu"
#include "fused.cu"
#include "matmul.cu"
#include "normalization.cu"

namespace block {

[[maybe_unused]] constexpr float EPS = 1e-5f;  // of both layernorms
constexpr int THREADS = 256;  // of a block, at most
constexpr int ROWS_A_BLOCK = 8;

// The weights, as they lie on the device. Products are y = x @ w, so w is (in, out).
struct Weights {
    const float *gamma1, *beta1;  // (dim)
    const float* w_qkv;           // (dim, 3 * dim)
    const float* w_out;           // (dim, dim)
    const float *gamma2, *beta2;  // (dim)
    const float *w_up, *b_up;     // (dim, hidden), (hidden)
    const float *w_down, *b_down; // (hidden, dim), (dim)
};

// Memory for what comes between x and out. Two large pieces are enough if each step reads from one
// and writes to the other; a third holds what is as narrow as x.
struct Workspace {
    float* narrow;  // rows * dim floats, where rows = batch * time
    float* wide1;   // rows * max(hidden, 3 * dim) floats
    float* wide2;   // as many
    float* mean;    // rows floats: what layernorm saves for a backward pass
    float* rstd;    // as many
};

// Cuts `memory`, rows * (dim + 2 * max(hidden, 3 * dim) + 2) floats, into these pieces. Given.
inline Workspace cut(float* memory, size_t rows, int dim, int hidden) {
    const size_t wide = rows * (hidden > 3 * dim ? hidden : 3 * dim);
    float* wide1 = memory + rows * dim;
    float* wide2 = wide1 + wide;
    return {memory, wide1, wide2, wide2 + wide, wide2 + wide + rows};
}

// Moves heads between two layouts, in float4s, `width` of them to a head's row. Given.
//
//   together  (batch, time, sides, heads, width): what a product with w_qkv makes, with 3 sides, or
//             what one with w_out takes, with 1
//   apart     (sides, batch, heads, time, width): what attention takes and makes, a side after the
//             other
// Thread x of block (x, y, z) has element x of head y of z = side * batch + sample. Runs of
// head_dim floats, 128 or 256 bytes, stay together, so reads and writes are full sectors both ways.
template <bool SPLIT>
__global__ void move_heads(const float4* __restrict__ from, float4* __restrict__ to, int batch,
                           int sides, int time, int width) {
    const int element = blockIdx.x * blockDim.x + threadIdx.x;
    if (element >= time * width) return;
    const int heads = gridDim.y, head = blockIdx.y;
    const int side = blockIdx.z / batch, sample = blockIdx.z % batch;
    const size_t row = static_cast<size_t>(sample) * time + element / width;
    const size_t together = ((row * sides + side) * heads + head) * width + element % width;
    const size_t apart = (static_cast<size_t>(blockIdx.z) * heads + head) * time * width + element;
    to[SPLIT ? apart : together] = from[SPLIT ? together : apart];
}

// out = x + y + bias. x, y and out (rows, width) float4s, bias (width) float4s or null for none.
//
// out may be x or y itself, so these pointers carry no __restrict__.
// Launch (given): thread x of block (x, y) has column blockIdx.x * blockDim.x + threadIdx.x, in
// float4s, of the ROWS_A_BLOCK rows from blockIdx.y * ROWS_A_BLOCK on.
// Traffic: x and y read once, out written once, bias read once a block; coalesced.
__global__ void add_residual(const float4* x, const float4* y, const float4* __restrict__ bias,
                             float4* out, int rows, int width) {
    LLM_NOT_IMPLEMENTED("task 2.12: add_residual");
}

// Launchers of these three, for tensors of floats. Given.

// x (batch, time, 3, heads, head_dim) to q, k and v, (batch, heads, time, head_dim) each, in `out`,
// one after the other.
inline void split_heads(const float* x, float* out, int batch, int time, int heads, int head_dim) {
    const int width = head_dim / 4;
    const dim3 grid(ceil_div(time * width, THREADS), heads, 3 * batch);
    move_heads<true><<<grid, THREADS>>>(reinterpret_cast<const float4*>(x),
                                        reinterpret_cast<float4*>(out), batch, 3, time, width);
}

// x (batch, heads, time, head_dim) to out (batch, time, heads, head_dim).
inline void join_heads(const float* x, float* out, int batch, int time, int heads, int head_dim) {
    const int width = head_dim / 4;
    const dim3 grid(ceil_div(time * width, THREADS), heads, batch);
    move_heads<false><<<grid, THREADS>>>(reinterpret_cast<const float4*>(x),
                                         reinterpret_cast<float4*>(out), batch, 1, time, width);
}

// out = x + y + bias, (rows, cols); bias (cols) or null; cols is a multiple of 4.
inline void residual(const float* x, const float* y, const float* bias, float* out, int rows,
                     int cols) {
    const int width = cols / 4;
    const int threads = width < THREADS ? ceil_div(width, WARP) * WARP : THREADS;
    const dim3 grid(ceil_div(width, threads), ceil_div(rows, ROWS_A_BLOCK));
    add_residual<<<grid, threads>>>(
        reinterpret_cast<const float4*>(x), reinterpret_cast<const float4*>(y),
        reinterpret_cast<const float4*>(bias), reinterpret_cast<float4*>(out), rows, width);
}

// The block's twelve launches. x is not changed, nor are the weights; out is not x.
//
// What there is to call, each one launch:
//   layernorm_forward   of normalization.cu: writes mean and rstd too
//   matmul_register     of matmul.cu: batch 1, steps 0 (matmul_tiled until that one works)
//   split_heads         above: q, k and v apart, as attention wants them
//   attention_flash     of attention.cu: over batch * heads heads, scale 1 / sqrt(head_dim),
//                       logsumexp null
//   join_heads          above
//   bias_gelu_forward   of fused.cu: x and out must be different memory
//   residual            above: with a bias, or null
// Launches allowed: 12. No copies, no allocations, no other launches; intermediate results go to
// `space`, and h may wait in `out`. Mind that no launch writes what it still reads.
void forward(const float* x, float* out, const Weights& weights, const Workspace& space, int batch,
             int time, int dim, int heads, int hidden) {
    [[maybe_unused]] const int rows = batch * time;
    [[maybe_unused]] const int head_dim = dim / heads;
    LLM_NOT_IMPLEMENTED("task 2.12: forward");
}

}  // namespace block

// The entry points. Given.

// out = x + y + bias: add_residual by itself.
extern "C" void residual_add(const float* x, const float* y, const float* bias, float* out,
                             int rows, int cols) {
    if (rows == 0 || cols == 0) return;
    block::residual(x, y, bias, out, rows, cols);
}

// `workspace` is rows * (dim + 2 * max(hidden, 3 * dim) + 2) floats.
extern "C" void transformer_block(const float* x, float* out, const float* gamma1,
                                  const float* beta1, const float* w_qkv, const float* w_out,
                                  const float* gamma2, const float* beta2, const float* w_up,
                                  const float* b_up, const float* w_down, const float* b_down,
                                  float* workspace, int batch, int time, int dim, int heads,
                                  int hidden) {
    if (batch == 0 || time == 0) return;
    const block::Weights weights = {gamma1, beta1, w_qkv, w_out, gamma2,
                                    beta2,  w_up,  b_up,  w_down, b_down};
    const size_t rows = static_cast<size_t>(batch) * time;
    block::forward(x, out, weights, block::cut(workspace, rows, dim, hidden), batch, time, dim,
                   heads, hidden);
}
