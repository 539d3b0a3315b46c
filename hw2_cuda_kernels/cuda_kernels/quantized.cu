// Task 2.11: matrix times vector, with weights of 8 or 4 bits.
//
// y = W x, where W is (rows, columns), quantised in groups of `group` columns of a row: element
// [r, c] is an integer times scales[r, c / group]. group is a power of two, 64 or more; columns is
// a multiple of group. x (columns), y (rows) and scales (rows, columns / group) are float32.
//
// Generating one token multiplies every matrix of the model with one vector. A weight is used once,
// so the time is that of reading the weights: half the bytes are twice the tokens. That holds only
// if the bytes are read once, in full sectors, and unpacked in registers.
#include "common.cuh"

constexpr int WARPS = 8;  // of a block; a warp takes a row

// Version 1: a thread a row, a byte at a time. Given, to compare with.
//
// Neighbouring threads read bytes that lie a row apart: a sector a lane, for one weight.
__global__ void gemv_int8_thread_a_row(const signed char* __restrict__ weights,
                                       const float* __restrict__ scales,
                                       const float* __restrict__ x, float* __restrict__ y, int rows,
                                       int columns, int group) {
    const int row = blockIdx.x * blockDim.x + threadIdx.x;
    if (row >= rows) return;
    const size_t start = static_cast<size_t>(row) * columns;
    float sum = 0.0f;
    for (int column = 0; column < columns; ++column) {
        const float scale = scales[start / group + column / group];
        sum += scale * static_cast<float>(weights[start + column]) * x[column];
    }
    y[row] = sum;
}

// The sum of `value` over the lanes of a warp, in all of them. Called by all lanes.
__device__ float sum_over_warp(float value) {
    LLM_NOT_IMPLEMENTED("task 2.11: sum_over_warp");
}

// The float n - zero of an integer n in 0 … 255, exactly. Given, with a constant for `zero`.
//
// static_cast<float>(n) works too, but a GPU converts at a quarter of the rate at which it adds.
// 0x4b000000 is the float 2^23, whose last mantissa bit counts ones: with n in it, it is 2^23 + n.
__device__ float minus(unsigned n, float zero) {
    return __uint_as_float(0x4b000000u | n) - (8388608.0f + zero);
}

// Four int8 weights in the bytes of `word` (the lowest byte first) times four elements of x.
__device__ float dot_int8(unsigned word, float4 x) {
    LLM_NOT_IMPLEMENTED("task 2.11: dot_int8");
}

// Eight int4 weights in the nibbles of `word` times eight elements of x.
//
// Byte k of the word (the lowest first) has the weight of component k of `low` in its lower four
// bits, that of `high` in its upper four. A nibble n, 0 … 15, stands for n - 8.
__device__ float dot_int4(unsigned word, float4 low, float4 high) {
    LLM_NOT_IMPLEMENTED("task 2.11: dot_int4");
}

// Version 2, int8: a warp a row, a word of four weights a lane.
//
//   words (rows, words_of_row): four weights each; x (words_of_row float4s)
//   scales (rows, words_of_row >> group_shift): word i of a row has the scale i >> group_shift
// Launch: blocks of WARPS warps, a row each; the last block may have too many.
// Traffic: a request of a warp is 32 neighbouring words, 128 bytes, and 32 neighbouring float4s of
// x. Every word is read once. The scale of a word multiplies the sum of its four products: one
// float a word, from an address that 16 or more lanes share.
__global__ void gemv_int8_warp_a_row(const unsigned* __restrict__ words,
                                     const float* __restrict__ scales,
                                     const float4* __restrict__ x, float* __restrict__ y, int rows,
                                     int words_of_row, int group_shift) {
    LLM_NOT_IMPLEMENTED("task 2.11: gemv_int8_warp_a_row");
}

// Version 2, packed int4: a warp a row, a word of eight weights a lane.
//
// 64 columns lie in 32 bytes. Byte j of them has column j in its lower four bits and column j + 32
// in its upper four, so that the eight weights of a word want two float4s of x, each beside that of
// the next lane. (With columns 2j and 2j + 1 in byte j, a lane would want eight neighbouring
// floats, and each of its two float4 loads would use half of every sector.)
//   words (rows, words_of_row): eight weights each; x (2 * words_of_row float4s)
//   scales (rows, words_of_row >> group_shift): word i of a row has the scale i >> group_shift
// Launch: blocks of WARPS warps, a row each; the last block may have too many.
// Traffic: every word is read once, 128 bytes a request; x and scales as in version 2 of int8.
__global__ void gemv_int4_warp_a_row(const unsigned* __restrict__ words,
                                     const float* __restrict__ scales,
                                     const float4* __restrict__ x, float* __restrict__ y, int rows,
                                     int words_of_row, int group_shift) {
    LLM_NOT_IMPLEMENTED("task 2.11: gemv_int4_warp_a_row");
}

// log2 of a power of two. Given.
static int log2_of(int power) {
    int log = 0;
    while (power > 1 << log) ++log;
    return log;
}

// The launchers. Given. Weights come as bytes; columns is a multiple of 64, so that every row of
// words begins at a multiple of 32 bytes.

extern "C" void gemv_int8_naive(const signed char* weights, const float* scales, const float* x,
                                float* y, int rows, int columns, int group) {
    if (rows == 0) return;
    constexpr int threads = WARPS * WARP;
    gemv_int8_thread_a_row<<<ceil_div(rows, threads), threads>>>(weights, scales, x, y, rows,
                                                                 columns, group);
}

extern "C" void gemv_int8(const signed char* weights, const float* scales, const float* x, float* y,
                          int rows, int columns, int group) {
    if (rows == 0) return;
    gemv_int8_warp_a_row<<<ceil_div(rows, WARPS), WARPS * WARP>>>(
        reinterpret_cast<const unsigned*>(weights), scales, reinterpret_cast<const float4*>(x), y,
        rows, columns / 4, log2_of(group / 4));
}

extern "C" void gemv_int4(const unsigned char* packed, const float* scales, const float* x,
                          float* y, int rows, int columns, int group) {
    if (rows == 0) return;
    gemv_int4_warp_a_row<<<ceil_div(rows, WARPS), WARPS * WARP>>>(
        reinterpret_cast<const unsigned*>(packed), scales, reinterpret_cast<const float4*>(x), y,
        rows, columns / 8, log2_of(group / 8));
}
