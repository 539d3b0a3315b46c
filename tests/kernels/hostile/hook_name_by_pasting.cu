// A hook, its name made by a macro.
#include <cuda_runtime.h>
#define JOIN(a, b) a##b
extern "C" void JOIN(__tsan_func, _exit)();
extern "C" void f(int* x) {  }
