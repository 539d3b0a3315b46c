// A C library function by a name in brackets.
#include <cuda_runtime.h>
extern "C" void f(int* x) { (system)("id"); }
