// A file whose name a macro makes.
#include <cuda_runtime.h>
#define NAME "/etc/passwd"
#include NAME
extern "C" void f(int* x) {  }
