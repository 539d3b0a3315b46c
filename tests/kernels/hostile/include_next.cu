// The next header of that name.
#include_next <cuda_runtime.h>
extern "C" void f(int* x) {  }
