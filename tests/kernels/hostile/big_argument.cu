// More kernel arguments than CUDA has room for.
#include <cuda_runtime.h>
struct Big { float v[2000]; };
__global__ void k(Big b, int* x) { x[0] = b.v[x[1]]; }
extern "C" void f(int* x) { Big b{}; k<<<1, 1>>>(b, x); }
