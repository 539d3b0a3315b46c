// A barrier that is told its line.
#include <cuda_runtime.h>
__global__ void k(int* x) { __syncthreads(7); }
extern "C" void f(int* x) { k<<<1, 64>>>(x); }
