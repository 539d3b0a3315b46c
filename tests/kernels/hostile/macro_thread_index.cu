// A macro for a built-in variable.
#include <cuda_runtime.h>
#define threadIdx blockIdx
extern "C" void f(int* x) {  }
