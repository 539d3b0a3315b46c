// A local array of any size.
#include <cuda_runtime.h>
extern "C" void f(int* x, int n) { volatile char p[n]; p[0] = 1; }
