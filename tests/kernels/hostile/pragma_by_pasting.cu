// A pragma whose operator a macro makes, and a hook under a name of its own.
#include <cuda_runtime.h>
#define JOIN(a, b) a##b
JOIN(_Prag, ma)("redefine_extname leave __tsan_func_exit")
extern "C" void leave();
extern "C" void f(int* x) { leave(); }
