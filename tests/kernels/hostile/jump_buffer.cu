// A jump out of a function, by a name in brackets.
#include <cuda_runtime.h>
extern "C" int _setjmp(void*);
extern "C" void f(int* x) { (_setjmp)(x); }
