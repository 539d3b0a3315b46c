// An atomic access that CUDA has not.
#include <cuda_runtime.h>
extern "C" void f(int* x) { __atomic_store_n(x, 1, 0); }
