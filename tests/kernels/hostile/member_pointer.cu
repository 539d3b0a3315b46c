// A call through a pointer to a member function.
#include <cuda_runtime.h>
struct S { int a; __attribute__((noinline)) int g(int i) { return a + i; } __attribute__((noinline)) int h(int i) { return a - i; } };
extern "C" void f(int* x) { S s{1}; int (S::*g)(int) = x ? &S::g : &S::h; volatile int i = 1; *(volatile int*)&i = (s.*g)(i); }
