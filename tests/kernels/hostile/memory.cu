// Accesses to memory that is not the kernel's, each in another spelling. `at`: an address from outside.
#include <cuda_runtime.h>
#include <cuda_pipeline.h>

using Address = unsigned long long;

struct Block { int v[16]; };
struct Bits { unsigned low : 5, high : 7; };
struct Wide { unsigned char x[1ull << 46]; };
int host_variable = 1;
__constant__ int table[4];
__device__ int device_variable[4];

__global__ void store_k(Address at) { *(int*)at = 1; }
__global__ void load_k(Address at, int* x) { x[0] = *(const int*)at; }
__global__ void struct_k(Address at, Block b) { *(Block*)at = b; }
__global__ void vector_k(Address at) { *(float4*)at = make_float4(1, 2, 3, 4); }
__global__ void double_k(Address at) { *(double2*)at = make_double2(1, 2); }
__global__ void bits_k(Address at) { ((Bits*)at)->high = 3; }
__global__ void volatile_k(Address at) { *(volatile char*)at = 3; }
__global__ void extended_k(Address at) { *(long double*)at = 3; }
__global__ void atomic_k(Address at) { atomicAdd((float*)at, 1.0f); }
__global__ void memcpy_k(Address at, int n) { int a[4] = {n, n, n, n}; memcpy((void*)at, a, n); }
__global__ void memset_k(Address at, int n) { memset((void*)at, 0, n); }
__global__ void reference_k(Address at) { int& r = *(int*)at; r += 1; }
__global__ void async_to_k(Address at, int* x) { __pipeline_memcpy_async((void*)at, x, 4); }
__global__ void async_from_k(Address at) {
    __shared__ int s[4];
    __pipeline_memcpy_async(s, (void*)at, 4);
}
struct Evil {
    Address at;
    __device__ Evil* operator&() { return (Evil*)at; }
    __device__ const Evil* operator&() const { return (const Evil*)at; }
};
__global__ void operator_k(Address at, int* x) {
    Evil e;
    e.at = at;
    x[0] = (int)__shfl_sync(0xffffffffu, e, 0).at;
}
__global__ void lying_k(Address at, int v) {
    unsigned char a[16];
    for (int i = 0; i < 16; ++i) a[i] = v;
    ((Wide*)a)->x[at & 0x3fffffffffffull] = v;
    *(volatile unsigned char*)at = a[v & 15];
}

extern "C" void store(unsigned long long at, int* x, int n) { store_k<<<1, 32>>>(at); }
extern "C" void load(unsigned long long at, int* x, int n) { load_k<<<1, 32>>>(at, x); }
extern "C" void struct_copy(unsigned long long at, int* x, int n) { struct_k<<<1, 32>>>(at, Block{}); }
extern "C" void vector(unsigned long long at, int* x, int n) { vector_k<<<1, 32>>>(at); }
extern "C" void two_doubles(unsigned long long at, int* x, int n) { double_k<<<1, 32>>>(at); }
extern "C" void bit_field(unsigned long long at, int* x, int n) { bits_k<<<1, 32>>>(at); }
extern "C" void volatile_store(unsigned long long at, int* x, int n) { volatile_k<<<1, 32>>>(at); }
extern "C" void extended(unsigned long long at, int* x, int n) { extended_k<<<1, 32>>>(at); }
extern "C" void atomic(unsigned long long at, int* x, int n) { atomic_k<<<1, 32>>>(at); }
extern "C" void by_memcpy(unsigned long long at, int* x, int n) { memcpy_k<<<1, 32>>>(at, n); }
extern "C" void by_memset(unsigned long long at, int* x, int n) { memset_k<<<1, 32>>>(at, n); }
extern "C" void reference(unsigned long long at, int* x, int n) { reference_k<<<1, 32>>>(at); }
extern "C" void async_to(unsigned long long at, int* x, int n) { async_to_k<<<1, 32>>>(at, x); }
extern "C" void async_from(unsigned long long at, int* x, int n) { async_from_k<<<1, 32>>>(at); }
extern "C" void address_operator(unsigned long long at, int* x, int n) { operator_k<<<1, 32>>>(at, x); }
extern "C" void lying_type(unsigned long long at, int* x, int n) { lying_k<<<1, 32>>>(at, n); }
extern "C" void host_store(unsigned long long at, int* x, int n) { *(int*)at = n; }
extern "C" void host_load(unsigned long long at, int* x, int n) { host_variable = *(const int*)at; }
extern "C" void host_memcpy(unsigned long long at, int* x, int n) { memcpy((void*)at, &host_variable, 4); }

// ---- addresses of the process that the file finds itself; `n` is 0
__global__ void code_k(Address at) { *(int*)at = 1; }
extern "C" void own_code(unsigned long long at, int* x, int n) { code_k<<<1, 32>>>((Address)&own_code & ~3ull); }
extern "C" void emulator_code(unsigned long long at, int* x, int n) { *(int*)((Address)&powf & ~3ull) = 1; }
extern "C" void host_memory_in_kernel(unsigned long long at, int* x, int n) { store_k<<<1, 32>>>((Address)&host_variable); }
__global__ void constant_k(int n) { *(int*)(Address)&table[n & 3] = 1; }
extern "C" void constant_written(unsigned long long at, int* x, int n) { constant_k<<<1, 32>>>(n); }
extern "C" void device_memory_on_host(unsigned long long at, int* x, int n) { x[n] = 1; }
extern "C" void device_variable_on_host(unsigned long long at, int* x, int n) { device_variable[n & 3] = 1; }
extern "C" void null(unsigned long long at, int* x, int n) { store_k<<<1, 32>>>(n); }
__global__ void past_k(int* x) { x[1024 + threadIdx.x] = 1; }
extern "C" void past_the_end(unsigned long long at, int* x, int n) { past_k<<<1, 32>>>(x); }
extern "C" void freed(unsigned long long at, int* x, int n) {
    int* p;
    cudaMalloc(&p, 64);
    cudaFree(p);
    past_k<<<1, 1>>>(p - 1024);
}

// ---- the stack
__device__ __noinline__ void upward(Address v, int from, int to) {
    volatile Address a[2];
    a[0] = v;
    volatile Address* p = a;
    for (int i = from; i < to; ++i) p[i] = v;
}
__global__ void upward_k(Address v, int n) { upward(v, 2 + n, 200); }
extern "C" void return_address(unsigned long long at, int* x, int n) { upward_k<<<1, 1>>>(at, n); }
extern "C" void host_return_address(unsigned long long at, int* x, int n) { upward(at, 2 + n, 200); }
__global__ void downward_k(Address v, int n) { upward(v, n - 60, n - 50); }
extern "C" void below_the_stack(unsigned long long at, int* x, int n) { downward_k<<<1, 1>>>(at, n); }
__global__ void memcpy_below_k(Address v, int n) {
    Address a[16];
    for (int i = 0; i < 16; ++i) a[i] = v;
    for (int k = 0; k < 3; ++k) memcpy((char*)&a[0] - 256 + k * 64, a, 128 + n);
}
extern "C" void memcpy_below_the_stack(unsigned long long at, int* x, int n) { memcpy_below_k<<<1, 1>>>(at, n); }
__global__ void other_k(int n) {
    __shared__ int* there;
    int own[4] = {1, 2, 3, 4};
    if (threadIdx.x == 0) there = own;
    __syncthreads();
    if (threadIdx.x == 1) there[n] = 5;
    __syncthreads();
    device_variable[0] = own[n];
}
extern "C" void other_threads_stack(unsigned long long at, int* x, int n) { other_k<<<1, 2>>>(n); }
__global__ void index_k(int* x, int n) {
    int a[4] = {1, 2, 3, 4};
    a[n + 4] = 1;
    x[0] = a[n];
}
extern "C" void local_index(unsigned long long at, int* x, int n) { index_k<<<1, 1>>>(x, n); }
__device__ __noinline__ int deep(int n) { return n < 0 ? 0 : deep(n + 1) + 1; }
__global__ void deep_k(int* x, int n) { x[0] = deep(n); }
extern "C" void recursion(unsigned long long at, int* x, int n) { deep_k<<<1, 1>>>(x, n); }
extern "C" void host_recursion(unsigned long long at, int* x, int n) { host_variable = deep(n); }
