// A template that needs itself.
#include <cuda_runtime.h>
template <int N> struct S { static const int value = S<N + 1>::value; };
extern "C" void f(int* x) { x[0] = S<0>::value; }
