// Another path without nvcc.
#include <cuda_runtime.h>
#ifndef __CUDACC__
#endif
extern "C" void f(int* x) {  }
