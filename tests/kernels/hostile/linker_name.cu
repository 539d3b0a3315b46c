// A name that the linker gives to the library itself.
#include <cuda_runtime.h>
extern "C" { char __ehdr_start[8]; }
extern "C" void f(int* x) { x[0] = __ehdr_start[0]; }
