// Two entry points of one name.
#include <cuda_runtime.h>
namespace one { extern "C" void f(int* x) { } }
namespace two { extern "C" void f(int* x, int y) { } }
