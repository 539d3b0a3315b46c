// A built-in function of the compiler.
#include <cuda_runtime.h>
extern "C" void f(int* x) { __builtin_memset(x, 0, 4); }
