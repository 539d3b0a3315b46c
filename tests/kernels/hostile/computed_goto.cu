// A jump to a computed label.
#include <cuda_runtime.h>
extern "C" void f(int* x) { void* at = &&there; goto *at; there: x[0] = 1; }
