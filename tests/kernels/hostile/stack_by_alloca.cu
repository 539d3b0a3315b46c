// Memory of any size on the stack.
#include <cuda_runtime.h>
extern "C" void f(int* x, int n) { volatile char* p = (char*)(alloca)(n); p[0] = 1; }
