// A call through a computed function pointer.
#include <cuda_runtime.h>
extern "C" void f(int* x) { void (*g)(int) = (void (*)(int))(unsigned long long)x; g(1); }
