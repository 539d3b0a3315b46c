// A constant that takes for ever.
#include <cuda_runtime.h>
constexpr long long g(long long n) { long long s = 0; for (long long i = 0; i < n; ++i) s += i; return s; }
constexpr long long value = g(1LL << 40);
extern "C" void f(int* x) {  }
