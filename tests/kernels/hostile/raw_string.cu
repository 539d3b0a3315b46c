// A raw string, in which a directive would not be one.
#include <cuda_runtime.h>
const char* text = R"(
#define x)";
extern "C" void f(int* x) {  }
