// What task 2.1 computes, element by element, and how layouts are simplified before a launch.
// Given code.
//
// An operation is a functor: a kernel is compiled once for each, with the arithmetic inlined, and
// no thread asks at run time which operation it is. The numbers are those of elementwise.py.
#pragma once

#include "common.cuh"

enum MapOperation { NEGATE, EXP, LOG, TANH, RELU, GELU };
enum ZipOperation { ADD, SUBTRACT, MULTIPLY, DIVIDE, MAXIMUM };

struct Negate {
    __device__ float operator()(float x) const { return -x; }
};
struct Exp {
    __device__ float operator()(float x) const { return expf(x); }
};
struct Log {
    __device__ float operator()(float x) const { return logf(x); }
};
struct Tanh {
    __device__ float operator()(float x) const { return tanhf(x); }
};
struct Relu {  // a comparison, not fmaxf, which would turn NaN into 0
    __device__ float operator()(float x) const { return x < 0.0f ? 0.0f : x; }
};
struct Gelu {  // the tanh form that GPT-2 uses (Hendrycks and Gimpel, 2016)
    __device__ float operator()(float x) const {
        const float inner = 0.7978845608f * (x + 0.044715f * x * x * x);  // sqrt(2 / pi)
        return 0.5f * x * (1.0f + tanhf(inner));
    }
};

struct Add {
    __device__ float operator()(float a, float b) const { return a + b; }
};
struct Subtract {
    __device__ float operator()(float a, float b) const { return a - b; }
};
struct Multiply {
    __device__ float operator()(float a, float b) const { return a * b; }
};
struct Divide {
    __device__ float operator()(float a, float b) const { return a / b; }
};
struct Maximum {  // numpy's: NaN where either is NaN
    __device__ float operator()(float a, float b) const { return a != a || a > b ? a : b; }
};

inline int size_of(const Layout& layout) {
    int size = 1;
    for (int d = 0; d < layout.rank; ++d) size *= layout.shape[d];
    return size;
}

// Drops the dimensions of size 1, and joins neighbours wherever all `count` layouts (of one shape)
// step from the end of the inner one to the next of the outer as if they were one dimension. The
// row-major order of the elements stays as it is. Each dimension less is a division less for every
// element. (2, 3, 4) with strides (12, 4, 1) becomes (24) with stride (1); (2, 3, 4) with strides
// (1, 8, 2) becomes (2, 12) with strides (1, 2). The rank is at least 1 afterwards, so that a
// tensor is contiguous exactly if its rank is 1 and its stride is 1.
inline void merge_dimensions(Layout* layouts, int count) {
    const int rank = layouts[0].rank;
    int last = -1;  // the dimension that is being put together
    for (int d = 0; d < rank; ++d) {
        const int size = layouts[0].shape[d];
        if (size == 1) continue;
        bool joined = last >= 0;
        for (int k = 0; k < count && joined; ++k) {
            joined = layouts[k].stride[last] == layouts[k].stride[d] * size;
        }
        if (!joined) ++last;
        for (int k = 0; k < count; ++k) {
            layouts[k].shape[last] = joined ? layouts[k].shape[last] * size : size;
            layouts[k].stride[last] = layouts[k].stride[d];
        }
    }
    for (int k = 0; k < count; ++k) {
        if (last < 0) layouts[k].shape[0] = layouts[k].stride[0] = 1;  // one element
        layouts[k].rank = last < 0 ? 1 : last + 1;
    }
}
