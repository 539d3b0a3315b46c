// Launches, copies and loops that ask for too much, and text that is no text.
#include <cuda_runtime.h>
#include <cuda_pipeline.h>

__global__ void empty_k() {}
__global__ void spin_k(volatile int* x) { while (x[0] == 0) {} }
__global__ void loop_k() { for (;;) {} }
__global__ void barrier_k() { for (;;) __syncthreads(); }
__global__ void shared_k(int* x) {
    __shared__ char s[100'000'000'000];
    s[threadIdx.x] = 1;
    x[0] = s[0];
}
__global__ void divide_k(int* x, int n) { x[0] = 5 / n; }

extern "C" void endless(int* x, int n) { loop_k<<<1, 1>>>(); }
extern "C" void endless_host(int* x, int n) { for (;;) {} }
extern "C" void endless_barriers(int* x, int n) { barrier_k<<<1, 64>>>(); }
extern "C" void endless_wait(int* x, int n) { spin_k<<<1, 1>>>(x); }
extern "C" void blocks_without_end(int* x, int n) { empty_k<<<2147483647, 1024>>>(); }
extern "C" void large_grid(int* x, int n) { empty_k<<<dim3(1, 65536, 1), 1>>>(); }
extern "C" void large_block(int* x, int n) { empty_k<<<1, 1025>>>(); }
extern "C" void overflowing_block(int* x, int n) { empty_k<<<1, dim3(65536, 65536, 1)>>>(); }
extern "C" void no_block(int* x, int n) { empty_k<<<n, 1>>>(); }
extern "C" void large_shared(int* x, int n) { shared_k<<<1, 32>>>(x); }
extern "C" void large_dynamic_shared(int* x, int n) { empty_k<<<1, 1, 1ull << 40>>>(); }
extern "C" void division(int* x, int n) { divide_k<<<1, 1>>>(x, n); }
extern "C" void copy_all(int* x, int n) { cudaMemcpy(x, x + 16, ~0ull, cudaMemcpyDeviceToDevice); }
extern "C" void copy_past_the_end(int* x, int n) { cudaMemcpy(x, x + 512, 4096, cudaMemcpyDeviceToDevice); }
extern "C" void set_all(int* x, int n) { cudaMemset(x, 0, 0ull - 4); }
extern "C" void set_host(int* x, int n) { cudaMemset(&n, 0, 4); }
extern "C" void copy_to_host(int* x, int n) { cudaMemcpy(&n, x, 4, cudaMemcpyDeviceToHost); }
extern "C" void copy_from_host(int* x, int n) { cudaMemcpy(x, &n, 4, cudaMemcpyHostToDevice); }
__constant__ int table[4];
extern "C" void copy_past_a_symbol(int* x, int n) {
    int a[8] = {};
    cudaMemcpyToSymbol(table, a, 32, 4);
}
extern "C" void free_inside(int* x, int n) { cudaFree(x + 1); }
extern "C" void allocate_all(int* x, int n) {
    void* p = x;
    cudaMalloc(&p, ~0ull);
    cudaMalloc(&p, 1ull << 40);
}
__global__ void copy_k(int* x) { cudaMemcpy(x, x + 1, 4, cudaMemcpyDeviceToDevice); }
extern "C" void copy_in_kernel(int* x, int n) { copy_k<<<1, 1>>>(x); }
__global__ void set_k(int* x) { cudaMemset(x, 0, 4); }
extern "C" void set_in_kernel(int* x, int n) { set_k<<<1, 1>>>(x); }
__global__ void launch_k(int* x) { empty_k<<<1, 1>>>(); }
extern "C" void launch_in_kernel(int* x, int n) { launch_k<<<1, 1>>>(x); }

extern "C" void launches_without_end(int* x, int n) { for (;;) empty_k<<<1, 1>>>(); }
extern "C" void sets_without_end(int* x, int n) {
    void* p;
    cudaMalloc(&p, 64 << 20);
    for (int i = 0; i < 5000; ++i) cudaMemset(p, 0, 64 << 20);
    cudaFree(p);
}
__global__ void queue_k(const int* x) {
    __shared__ int s[4];
    for (;;) __pipeline_memcpy_async(s, x, 4);
}
extern "C" void copies_without_a_wait(int* x, int n) { queue_k<<<1, 1>>>(x); }
__global__ void releases_k(int* x) {
    __threadfence();
    for (int i = 0; i < 1000; ++i) atomicAdd(&x[i], 1);
}
extern "C" void releases_without_end(int* x, int n) { releases_k<<<2000000000, 1>>>(x); }

// ---- no fault, and nothing gained
__global__ void wide_k() { printf("%999999999d|%.999999999f|%-99999999999d", 1, 1.5, 2); }
extern "C" void wide_formats(int* x, int n) { wide_k<<<1, 1>>>(); }
__global__ void print_k(const int* x) {
    printf("%s|%n|%*d|%hhn|%d %d\n", (const char*)x, 1, 2, 3, 4);
    printf((const char*)x);
}
extern "C" void formats(int* x, int n) { print_k<<<1, 1>>>(x); }
__global__ void flood_k() { for (int i = 0; i < 3000; ++i) printf("0123456789012345678901234567890123456789\n"); }
extern "C" void flood(int* x, int n) { flood_k<<<1, 1>>>(); }

// ---- found without a fault
__global__ void uninitialised_k(int* x, const int* y) { x[0] = y[0]; }
extern "C" void uninitialised(int* x, int n) {
    int* y;
    cudaMalloc(&y, 64);
    uninitialised_k<<<1, 1>>>(x, y);
    cudaFree(y);
}
__global__ void volatile_race_k(volatile int* x) { x[0] = threadIdx.x; }
extern "C" void volatile_race(int* x, int n) { volatile_race_k<<<1, 64>>>(x); }
__global__ void sync_race_k(int* x) {
    __syncwarp(1u << threadIdx.x % 32);
    x[threadIdx.x / 2] = threadIdx.x;
    __syncwarp(1u << threadIdx.x % 32);
}
extern "C" void lone_sync_race(int* x, int n) { sync_race_k<<<1, 64>>>(x); }
__global__ void shuffle_race_k(int* x) {
    x[threadIdx.x] = threadIdx.x;
    int other = __shfl_xor_sync(0xffffffffu, 1, 1);
    x[threadIdx.x ^ other] += 1;
}
extern "C" void shuffle_race(int* x, int n) { shuffle_race_k<<<1, 32>>>(x); }
#define EIGHT(i) s[i] = 1; s[i + 1] = 1; s[i + 2] = 1; s[i + 3] = 1; s[i + 4] = 1; s[i + 5] = 1; s[i + 6] = 1; s[i + 7] = 1;
#define LINES(i) EIGHT(i) EIGHT(i + 8) EIGHT(i + 16) EIGHT(i + 24) EIGHT(i + 32) EIGHT(i + 40) EIGHT(i + 48) EIGHT(i + 56)
__global__ void warnings_k(int* s) {
    LINES(0)
    LINES(64)
    s[200] = threadIdx.x;
}
extern "C" void race_behind_warnings(int* x, int n) { warnings_k<<<1, 64>>>(x); }
