// A header that opens files.
#include <cuda_runtime.h>
#include <fstream>
extern "C" void f(int* x) {  }
