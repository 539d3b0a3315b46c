// The forms of CUDA that the build rewrites, run by test_build.py. Each function adds what it finds
// to results; the expected numbers stand in the test.
#include <cuda_fp16.h>
#include "forms.cuh"

#define LAUNCH(kernel, ...) kernel<<<1, 32>>>(__VA_ARGS__)
#define JOIN(a, b) a##b
#define SHARED(name) __shared__ int name[32]

__device__ int counter = 5;
static __device__ int table[4] = {1, 2, 3, 4};
__constant__ int fixed[2] = {30, 40};
__constant__ const float half_of = 0.5f;
__managed__ int managed_one;

namespace space {
namespace inner {
template <class T, int N>
__global__ void templated(T* out, T value) {
    __shared__ typename Tile<T>::type tile[Tile<T>::rows][N], other, *unused;
    if (threadIdx.x == 0) {
        other = 100;
        unused = nullptr;
    }
    for (int i = threadIdx.x; i < 4 * N; i += blockDim.x) tile[i / N][i % N] = value;
    __syncthreads();
    if (threadIdx.x == 0) out[0] = tile[3][N - 1] + other + (unused == nullptr);
}
}  // namespace inner
}  // namespace space

__global__ void aligned(int* out) {
    __shared__ char first;
    __shared__ alignas(16) float quad[4];
    __align__(8) __shared__ char bytes[3];
    static __shared__ double wide;
    first = 1;
    bytes[0] = 2;
    wide = 3;
    quad[threadIdx.x % 4] = 1;
    out[0] = reinterpret_cast<size_t>(quad) % 16 == 0 && reinterpret_cast<size_t>(bytes) % 8 == 0 &&
             reinterpret_cast<size_t>(&wide) % 8 == 0;
}
__global__ void dynamic(int* out) {
    extern __shared__ int values[];
    values[threadIdx.x] = threadIdx.x;
    __syncwarp();
    out[threadIdx.x] = values[threadIdx.x ^ 1];
}
__global__ void dynamic_rows(int* out) {
    extern __shared__ __align__(16) int rows[][4];
    rows[threadIdx.x / 4][threadIdx.x % 4] = threadIdx.x;
    __syncwarp();
    if (threadIdx.x == 0) out[0] = rows[7][2];
}
__global__ void two_sites(int* out) {
    {
        __shared__ int x;
        x = 1;
        { __shared__ int x[2]; x[1] = 4; x[0] = 5; }
        if (threadIdx.x == 0) out[0] = x;
    }
}
__global__ void by_macro(int* out, int more) {
    SHARED(a);
    SHARED(b);
    a[threadIdx.x] = 1;
    b[threadIdx.x] = more;
    __syncwarp();
    if (threadIdx.x == 3) out[0] = a[4] + b[5];
}
__global__ void variables(int* out) {
    if (threadIdx.x == 0) {
        counter += table[3] + fixed[1];
        out[0] = counter;
        out[1] = static_cast<int>(half_of * 8) + managed_one;
        managed_one = 7;
    }
}
__global__ void overloaded(int* out, int) { out[0] = 1; }
__global__ void overloaded(int* out, float) { out[0] = 2; }
__global__ void structs(int* out, Pair pair, __half h) {
    if (threadIdx.x == 0) out[0] = pair.a + static_cast<int>(pair.b[1]) + static_cast<int>(__half2float(h));
}
__global__ void functions(int* out) { out[threadIdx.x] = from_shared<int>(threadIdx.x); }
struct Functor {
    int by;
    __host__ __device__ int operator()(int x) const { return x * by; }
};
template <class Operation>
__global__ void functors(int* out, Operation operation) { out[threadIdx.x] = operation(threadIdx.x); }
template <int N>
void launches_itself(int* out) {
    constexpr int size = N * 2;
    space::inner::templated<int, size><<<dim3((size + 31) >> 5, 1), dim3{32, 1}>>>(out, N);
}
__global__ void name(int* out) { out[0] = 9; }

extern "C" void templated(int* out) { launches_itself<3>(out); }
extern "C" void aligned_ones(int* out) { aligned<<<1, 32>>>(out); }
extern "C" void dynamic_one(int* out) {
    dynamic<<<1, 32, 32 * sizeof(int), 0>>>(
        out);
}
extern "C" void dynamic_two(int* out) { dynamic_rows<<<1, 32, 128, nullptr>>>(out); }
extern "C" void sites(int* out) { two_sites<<<1, 1>>>(out); }
extern "C" void macro(int* out) { LAUNCH(by_macro, out, 6); }
extern "C" {
void pasted(int* out) { JOIN(by, _macro)<<<1, 32>>>(out, 7); }
static void helper(int* out) { name<<<1, 1>>>(out); }
void in_block(int* out) {
    if (out != nullptr) helper(out);
    else
        name<<<1, 1>>>(nullptr);
}
}
extern "C" void globals(int* out) { variables<<<1, 32>>>(out); }
extern "C" void overloads(int* out) { ::overloaded<<<1, 1>>>(out, 2.0f); }
extern "C" void structures(int* out, int /* unnamed */, Pair pair, signed char small, __half h, const Pair) {
    pair.a += small;
    structs<<<1, 32>>>(out, pair, h);
}
extern "C" void shared_in_function(int* out) { functions<<<1, 32>>>(out); }
extern "C" void functor(int* out) { functors<<<1, 32>>>(out, Functor{3}); }
extern "C" void nothing(void) {}
