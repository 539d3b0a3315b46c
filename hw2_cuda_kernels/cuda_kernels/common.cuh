// What every kernel file of this homework includes: the CUDA runtime and a few names. Given code.
#pragma once

#include <cuda_runtime.h>

#include <cfloat>
#include <cmath>
#include <cstdint>

#include "not_implemented.cuh"

// Threads of a warp, and the mask that names all of them.
constexpr int WARP = 32;
constexpr unsigned FULL_MASK = 0xffffffffu;

// The number of blocks of `size` that cover `n` elements.
__host__ __device__ constexpr int ceil_div(int n, int size) { return (n + size - 1) / size; }

// Where the elements of a tensor of up to four dimensions lie: element [i0, i1, …] is at
// i0 * stride[0] + i1 * stride[1] + … (in elements, not bytes). A broadcast dimension has stride 0.
struct Layout {
    int rank;
    int shape[4];
    int stride[4];
};
