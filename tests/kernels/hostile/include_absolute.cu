// A file that is not the submission's.
#include <cuda_runtime.h>
#include "/etc/passwd"
extern "C" void f(int* x) {  }
