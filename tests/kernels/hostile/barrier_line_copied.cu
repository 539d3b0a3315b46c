// A line whose type is deduced from a barrier's own type, and whose value is any number's bits.
#include <cuda_runtime.h>
template <class T>
__device__ T forged(void (*)(T)) {
    int number = 7;
    return reinterpret_cast<T&>(number);
}
__global__ void k(int* x) {
    auto line = forged(&__syncthreads);
    __syncthreads();
}
extern "C" void f(int* x) { k<<<1, 64>>>(x); }
