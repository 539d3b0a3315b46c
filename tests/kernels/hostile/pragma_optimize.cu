// A pragma that changes how frames are made.
#include <cuda_runtime.h>
#pragma GCC optimize("omit-frame-pointer")
extern "C" void f(int* x) { x[0] = 1; }
