// A function of the emulator, its name made by a macro.
#include <cuda_runtime.h>
#define JOIN(a, b) a##b
extern "C" void JOIN(em, u_configure)(int, int, int);
extern "C" void f(int* x) {  }
