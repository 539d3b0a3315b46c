// Inline assembly whose keyword goes on on the next line.
#include <cuda_runtime.h>
extern "C" void f(int* x) { as\
m("syscall"); }
