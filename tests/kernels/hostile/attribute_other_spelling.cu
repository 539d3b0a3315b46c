// The other spelling of attributes, and a hook under a name of its own.
#include <cuda_runtime.h>
static void leave() __attribute((weakref("__tsan_func_exit")));
extern "C" void f(int* x) { leave(); }
