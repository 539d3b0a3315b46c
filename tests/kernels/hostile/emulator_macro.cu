// Another path on the emulator.
#include <cuda_runtime.h>
#if defined(LLM_SYSTEMS_EMULATOR)
#endif
extern "C" void f(int* x) {  }
