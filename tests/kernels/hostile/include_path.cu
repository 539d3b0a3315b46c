// A header by its path.
#include <cuda_runtime.h>
#include "../hostile/launch.cu"
extern "C" void f(int* x) {  }
