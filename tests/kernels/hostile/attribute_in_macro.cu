// An attribute that switches the checks off, out of a macro.
#include <cuda_runtime.h>
#define QUICK(name) [[gnu::name("thread")]]
QUICK(no_sanitize) void g(int* x) { x[0] = 1; }
extern "C" void f(int* x) { g(x); }
