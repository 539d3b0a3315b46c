// What forms.cu includes: types, a device function with a shared variable, a launch in a header.
#pragma once
#include <cuda_runtime.h>

struct Pair {
    int a;
    double b[2];
};
template <class T>
struct Tile {
    using type = T;
    static constexpr int rows = 4;
};

template <class T>
__device__ T from_shared(T value) {
    __shared__ T slot[32];
    slot[threadIdx.x] = value;
    __syncwarp();
    return slot[31 - threadIdx.x];
}
