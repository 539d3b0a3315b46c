// An honest kernel, run after each hostile one: its values and counts must be what they always are.
#include <cuda_runtime.h>
__global__ void good_k(const float* x, float* y) {
    __shared__ float s[64];
    s[threadIdx.x] = x[threadIdx.x];
    __syncthreads();
    y[threadIdx.x] = 2 * s[63 - threadIdx.x];
}
extern "C" void good(const float* x, float* y) { good_k<<<1, 64>>>(x, y); }
