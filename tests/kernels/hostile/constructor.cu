// Code that runs when the library is loaded.
#include <cuda_runtime.h>
static int g() { int s = 0; for (int i = 0; i < threadIdx.x; ++i) s += i; return s; }
int value = g();
extern "C" void f(int* x) { value = 1; }
