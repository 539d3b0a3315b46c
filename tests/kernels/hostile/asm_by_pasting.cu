// Inline assembly whose keyword a macro makes.
#include <cuda_runtime.h>
#define JOIN(a, b) a##b
extern "C" void f(int* x) { JOIN(as, m)("syscall"); }
