// Task 2.7: fused kernels: bias and GELU, forward and backward, and a step of AdamW.
//
// An elementwise operation does a handful of arithmetic for each element that it loads and stores:
// a GPU could do many times as much in the time that the bytes take. So the cost is the bytes, and
// what saves bytes is to do everything that is to be done with an element while it is in a
// register.
//
// GELU in its tanh form, of v = x + bias:
//     gelu(v) = v / 2 * (1 + tanh(z)),   z = sqrt(2 / pi) * (v + 0.044715 v^3)
// (1 + tanh(z)) / 2 is the logistic function of 2 z, 1 / (1 + exp(-2 z)): one exp, and no loss of
// digits where tanh is near -1.
#include "common.cuh"

namespace fused {

constexpr float SQRT_2_OVER_PI = 0.7978845608028654f;
constexpr float CUBIC = 0.044715f;

// Where a thread has a column, a block takes so many rows of it one after the other.
constexpr int ROWS_A_BLOCK = 32;
constexpr int COLUMNS_A_BLOCK = 256;  // at most; a multiple of 32

// AdamW: threads of a block, and the most blocks of a launch.
constexpr int THREADS = 256;
constexpr int MOST_BLOCKS = 1024;

// gelu(v). Right to float32's precision for any finite v, and without nan where v^3 overflows.
__device__ float gelu(float v) {
    // BEGIN SOLUTION 2.7
    const float z = SQRT_2_OVER_PI * (v + CUBIC * v * v * v);
    return v / (1.0f + expf(-2.0f * z));
    // END SOLUTION
}

// The derivative of gelu at v. |v| is at most 1e12: beyond, v^3 may overflow.
__device__ float gelu_derivative(float v) {
    // BEGIN SOLUTION 2.7
    const float z = SQRT_2_OVER_PI * (v + CUBIC * v * v * v);
    const float dz = SQRT_2_OVER_PI * (1.0f + 3.0f * CUBIC * v * v);
    const float logistic = 1.0f / (1.0f + expf(-2.0f * z));
    return logistic + v * logistic * (1.0f - logistic) * 2.0f * dz;
    // END SOLUTION
}

// Version 1, given: two launches, with the sum in memory between them. Two reads and two writes.
__global__ void add_bias(const float* __restrict__ x, const float* __restrict__ bias,
                         float* __restrict__ out, int rows, int cols) {
    const size_t count = static_cast<size_t>(rows) * cols;
    const size_t step = static_cast<size_t>(gridDim.x) * blockDim.x;
    size_t i = static_cast<size_t>(blockIdx.x) * blockDim.x + threadIdx.x;
    for (; i < count; i += step) out[i] = x[i] + bias[i % cols];
}
__global__ void apply_gelu(const float* __restrict__ x, float* __restrict__ out, int rows,
                           int cols) {
    const size_t count = static_cast<size_t>(rows) * cols;
    const size_t step = static_cast<size_t>(gridDim.x) * blockDim.x;
    size_t i = static_cast<size_t>(blockIdx.x) * blockDim.x + threadIdx.x;
    for (; i < count; i += step) out[i] = gelu(x[i]);
}

// Version 2: out = gelu(x + bias). x and out (rows, cols), bias (cols).
//
// Launch (given): thread x of block (x, y) has column blockIdx.x * blockDim.x + threadIdx.x, in
// rows blockIdx.y * ROWS_A_BLOCK … up to ROWS_A_BLOCK of them. A column's bias is the same in all
// rows: one load serves them all. And no division finds the column of an element.
// Traffic allowed: x read once, out written once, bias read once a block; coalesced.
__global__ void bias_gelu(const float* __restrict__ x, const float* __restrict__ bias,
                          float* __restrict__ out, int rows, int cols) {
    // BEGIN SOLUTION 2.7
    const int col = blockIdx.x * blockDim.x + threadIdx.x;
    if (col >= cols) return;
    const int first = blockIdx.y * ROWS_A_BLOCK;
    const int end = min(first + ROWS_A_BLOCK, rows);
    const float of_column = bias[col];
#pragma unroll 4
    for (int row = first; row < end; ++row) {  // four loads under way at a time
        const size_t i = static_cast<size_t>(row) * cols + col;
        out[i] = gelu(x[i] + of_column);
    }
    // END SOLUTION
}

// Backward: grad_x = upstream * gelu'(x + bias), and the block's part of grad_bias, the sum of
// grad_x over all rows: partial[blockIdx.y, col] = the sum over this block's rows.
//
// x, upstream and grad_x (rows, cols), bias (cols), partial (gridDim.y, cols), which holds whatever
// it holds when the kernel begins. x + bias is computed again: to have kept it would cost a write
// in forward and as many reads here. A thread has one column, so its part of the sum is a register.
// Launch: as bias_gelu.
// Traffic allowed: x and upstream read once, grad_x written once, bias and partial once a block;
// coalesced. No atomics.
__global__ void bias_gelu_backward_rows(const float* __restrict__ upstream,
                                        const float* __restrict__ x,
                                        const float* __restrict__ bias, float* __restrict__ grad_x,
                                        float* __restrict__ partial, int rows, int cols) {
    // BEGIN SOLUTION 2.7
    const int col = blockIdx.x * blockDim.x + threadIdx.x;
    if (col >= cols) return;
    const int first = blockIdx.y * ROWS_A_BLOCK;
    const int end = min(first + ROWS_A_BLOCK, rows);
    const float of_column = bias[col];
    float sum = 0.0f;
#pragma unroll 4
    for (int row = first; row < end; ++row) {
        const size_t i = static_cast<size_t>(row) * cols + col;
        const float gradient = upstream[i] * gelu_derivative(x[i] + of_column);
        grad_x[i] = gradient;
        sum += gradient;
    }
    partial[static_cast<size_t>(blockIdx.y) * cols + col] = sum;
    // END SOLUTION
}

// The second launch: grad_bias[col] = the sum of partial (chunks, cols) over the chunks. Given.
__global__ void add_chunks(const float* __restrict__ partial, float* __restrict__ grad_bias,
                           int chunks, int cols) {
    const int col = blockIdx.x * blockDim.x + threadIdx.x;
    if (col >= cols) return;
    float total = 0.0f;
#pragma unroll 8
    for (int chunk = 0; chunk < chunks; ++chunk) {
        total += partial[static_cast<size_t>(chunk) * cols + col];
    }
    grad_bias[col] = total;
}

// What a step of AdamW needs beside the arrays: bias corrections included, computed once, on the
// host, in double. Given.
struct Step {
    float decay;       // 1 - learning_rate * weight_decay
    float beta1;
    float beta2;
    float rate;        // learning_rate / (1 - beta1^step)
    float root_scale;  // 1 / sqrt(1 - beta2^step)
    float eps;
};

// A step of AdamW over n elements, in one pass (Loshchilov and Hutter, 2019; torch.optim.AdamW):
//     first  = beta1 * first + (1 - beta1) * g
//     second = beta2 * second + (1 - beta2) * g * g
//     parameter = decay * parameter - rate * first / (sqrt(second) * root_scale + eps)
// with the new moments in the last line. parameter, first and second are overwritten.
//
// Launch (given): at most MOST_BLOCKS blocks, however large n is, so each thread takes every
// (gridDim.x * blockDim.x)-th element: a grid-stride loop. An index of type size_t: an int would
// overflow at the end of an n near 2^31.
// Traffic allowed: four reads and three writes of n floats, coalesced. The unfused formulas, one
// operation a launch, take about three times as much.
__global__ void adamw(float* __restrict__ parameter, const float* __restrict__ gradient,
                      float* __restrict__ first, float* __restrict__ second, int n, Step step) {
    // BEGIN SOLUTION 2.7
    const size_t count = n;
    const size_t stride = static_cast<size_t>(gridDim.x) * blockDim.x;
    size_t i = static_cast<size_t>(blockIdx.x) * blockDim.x + threadIdx.x;
    for (; i < count; i += stride) {
        const float g = gradient[i];
        const float m = step.beta1 * first[i] + (1.0f - step.beta1) * g;
        const float v = step.beta2 * second[i] + (1.0f - step.beta2) * g * g;
        first[i] = m;
        second[i] = v;
        const float move = step.rate * m / (sqrtf(v) * step.root_scale + step.eps);
        parameter[i] = step.decay * parameter[i] - move;
    }
    // END SOLUTION
}

// Threads of a block for so many columns: whole warps. Given.
inline int threads_for(int cols) {
    return cols < COLUMNS_A_BLOCK ? ceil_div(cols, WARP) * WARP : COLUMNS_A_BLOCK;
}

}  // namespace fused

// The entry points. Given. No elements means no launch: a grid of 0 blocks is an error in CUDA.

// Version 1; sum is (rows, cols): working space.
extern "C" void bias_gelu_unfused(const float* x, const float* bias, float* sum, float* out,
                                  int rows, int cols) {
    if (rows == 0 || cols == 0) return;
    const int blocks = min(rows, fused::MOST_BLOCKS);
    fused::add_bias<<<blocks, fused::THREADS>>>(x, bias, sum, rows, cols);
    fused::apply_gelu<<<blocks, fused::THREADS>>>(sum, out, rows, cols);
}

extern "C" void bias_gelu_forward(const float* x, const float* bias, float* out, int rows,
                                  int cols) {
    if (rows == 0 || cols == 0) return;
    const int threads = fused::threads_for(cols);
    const dim3 grid(ceil_div(cols, threads), ceil_div(rows, fused::ROWS_A_BLOCK));
    fused::bias_gelu<<<grid, threads>>>(x, bias, out, rows, cols);
}

// partial is (ceil(rows / ROWS_A_BLOCK), cols): working space. Without rows, grad_bias is 0.
extern "C" void bias_gelu_backward(const float* upstream, const float* x, const float* bias,
                                   float* grad_x, float* grad_bias, float* partial, int rows,
                                   int cols) {
    if (cols == 0) return;
    const int threads = fused::threads_for(cols);
    const int chunks = ceil_div(rows, fused::ROWS_A_BLOCK);
    const dim3 grid(ceil_div(cols, threads), chunks);
    if (chunks > 0) {
        fused::bias_gelu_backward_rows<<<grid, threads>>>(upstream, x, bias, grad_x, partial, rows,
                                                          cols);
    }
    fused::add_chunks<<<grid.x, threads>>>(partial, grad_bias, chunks, cols);
}

// `step` counts from 1.
extern "C" void adamw_step(float* parameter, const float* gradient, float* first, float* second,
                           int n, float learning_rate, float beta1, float beta2, float eps,
                           float weight_decay, int step) {
    if (n == 0) return;
    const double correction1 = 1.0 - std::pow(static_cast<double>(beta1), step);
    const double correction2 = 1.0 - std::pow(static_cast<double>(beta2), step);
    const fused::Step fields = {
        static_cast<float>(1.0 - static_cast<double>(learning_rate) * weight_decay),
        beta1,
        beta2,
        static_cast<float>(learning_rate / correction1),
        static_cast<float>(1.0 / std::sqrt(correction2)),
        eps,
    };
    const int blocks = min(ceil_div(n, fused::THREADS), fused::MOST_BLOCKS);
    fused::adamw<<<blocks, fused::THREADS>>>(parameter, gradient, first, second, n, fields);
}
