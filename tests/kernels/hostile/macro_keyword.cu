// A macro for a type.
#include <cuda_runtime.h>
#define float double
extern "C" void f(int* x) {  }
