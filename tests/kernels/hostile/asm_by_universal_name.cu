// Inline assembly whose keyword is spelled with a code point.
#include <cuda_runtime.h>
extern "C" void f(int* x) { \u0061sm("syscall"); }
