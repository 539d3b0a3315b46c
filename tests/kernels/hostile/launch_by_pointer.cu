// A launch through a pointer.
#include <cuda_runtime.h>
__global__ void k(int* x) { x[0] = 1; }
extern "C" void f(int* x, int i) { auto p = i ? k : k; p<<<1, 1>>>(x); }
