// A pragma that begins with a digraph.
#include <cuda_runtime.h>
%:pragma GCC optimize("omit-frame-pointer")
extern "C" void f(int* x) { x[0] = 1; }
