// Loops that never end, one a kernel; `// HERE name` marks the line that a report must name.
#include <cuda_runtime.h>

__device__ float tile_sum(const float* x, int n) {
    float sum = 0;
    for (int i = 0; i < 64; ++i) sum += x[i % n];
    return sum;
}

__noinline__ __device__ float far_sum(const float* x, int n, int first) {
    float sum = first;
    for (int i = 0; i < 64; ++i) sum += x[i % n];
    return sum;
}

__global__ void mask_stays(float* out, const float* x, int n) {
    unsigned mask = 7;
    for (int i = 0; i < 3; ++i) out[i] = x[i];
    while (mask) {  // HERE mask_stays
        out[threadIdx.x] += x[__ffs(mask) - 1];
    }
}

__global__ void shuffles(float* out, const float* x, int n) {
    float value = x[threadIdx.x];
    for (int far = 16; far >= 0; far /= 2) {  // HERE shuffles
        value += __shfl_xor_sync(0xffffffffu, value, far);
    }
    out[threadIdx.x] = value;
}

__global__ void outermost(float* out, const float* x, int n) {
    __shared__ float held[128];
    float sum = 0;
    for (int first = 0; first < n; first += 0) {  // HERE outermost
        held[threadIdx.x] = x[threadIdx.x];
        __syncthreads();
        sum += tile_sum(x, n);
        for (int k = 0; k < 64; ++k) sum += held[k];
        __syncthreads();
    }
    out[threadIdx.x] = sum;
}

__global__ void through_a_call(float* out, const float* x, int n) {
    float sum = 0;
    for (int first = 0; first < n; first += n / 1000)  // HERE through_a_call
        sum += far_sum(x, n, first) + out[first];
    out[threadIdx.x] = sum;
}

__global__ void atomics(float* out, const float* x, int n) {
    int i = threadIdx.x;
    while (i < n) {  // HERE atomics
        atomicAdd(&out[i], 1.0f);
    }
}

// The optimiser leaves a jump to itself of it.
__global__ void nothing_left(float* out, const float* x, int n) {
    for (int row = 0; row < n; ++row) {
        float sum = 0;
        for (int c = threadIdx.x; c < n; c += 0) sum += x[c];  // HERE nothing_left
        out[row] = sum;
    }
}

#define ENTRY(name, threads) \
    extern "C" void run_##name(float* out, const float* x, int n) { name<<<2, threads>>>(out, x, n); }
ENTRY(mask_stays, 64)
ENTRY(shuffles, 128)
ENTRY(outermost, 128)
ENTRY(through_a_call, 128)
ENTRY(atomics, 128)
ENTRY(nothing_left, 32)
