// A call through a table.
#include <cuda_runtime.h>
static void g(int* x) { x[0] = 1; }
static void h(int* x) { x[1] = 1; }
typedef void (*Function)(int*);
static Function table[2] = {g, h};
extern "C" void f(int* x, int i) { table[i & 1] = table[i >> 1 & 1]; table[i & 1](x); }
