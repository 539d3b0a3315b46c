// Entry points with odd names and parameters, and kernels that end in a fault.
#include <cuda_pipeline.h>
#include <cuda_runtime.h>

typedef int index_type;
using Scale = float;
using Count = index_type;
struct Range {
    int first, count;
};
template <class T>
struct Same {
    using type = T;
};
using Hidden = Same<int>::type;

__global__ void fill(float* x, int first, int count, float value) {
    for (int i = first + threadIdx.x; i < first + count; i += blockDim.x) x[i] = value;
}
// A name that the emulator's own code might use for something else.
extern "C" void a(float* x, int n) { fill<<<1, 32>>>(x, 0, n, 1.0f); }
extern "C" void emulated(float* a, int x) { fill<<<1, 32>>>(a, 0, x, 2.0f); }
extern "C" void by_alias(float* x, index_type n, Scale value) { fill<<<1, 32>>>(x, 0, n, value); }
extern "C" void by_alias_of_alias(float* x, Count n) { fill<<<1, 32>>>(x, 0, n, 4.0f); }
extern "C" void waits(float* x, int n) {
    fill<<<1, 32>>>(x, 0, 16, 1.0f);
    if (cudaDeviceSynchronize() != cudaSuccess || cudaStreamSynchronize(0) != cudaSuccess) return;
    if (cudaGetLastError() != cudaSuccess) return;
    fill<<<1, 32>>>(x, n, 16 - n, 0.0f);
}
extern "C" void by_struct(float* x, Range range) { fill<<<1, 32>>>(x, range.first, range.count, 5.0f); }
extern "C" void by_hidden_alias(float* x, Hidden n) { fill<<<1, 32>>>(x, 0, n, 6.0f); }

__global__ void trap_in_the_second_block(float* x) {
    x[blockIdx.x] = 7.0f;
    if (blockIdx.x == 1) __trap();
}
extern "C" void traps(float* x) { trap_in_the_second_block<<<4, 1>>>(x); }
extern "C" void allocates_and_traps(float* x) {
    float* space;
    if (cudaMalloc(&space, 64 << 20) != cudaSuccess) return;
    cudaMemset(space, 0, 64);
    trap_in_the_second_block<<<4, 1>>>(x);
    cudaFree(space);
}
__global__ void outside(float* x, int n) { x[n + threadIdx.x] = 8.0f; }
extern "C" void writes_outside(float* x, int n) { outside<<<1, 32>>>(x, n); }

__global__ void copies(const float* x) {
    __shared__ float tile[32];
    for (int i = 0; i < 5000; ++i) __pipeline_memcpy_async(&tile[0], &x[0], 4);
}
extern "C" void copies_without_a_wait(const float* x) { copies<<<1, 1>>>(x); }
__global__ void odd_copy(float* x) { __pipeline_memcpy_async(&x[0], &x[1], 4); }
extern "C" void copies_to_global(float* x) { odd_copy<<<1, 1>>>(x); }
