// As barrier_line_copied.cu, by the member function of a group.
#include <cooperative_groups.h>
#include <cuda_runtime.h>
namespace cg = cooperative_groups;
template <class T>
__device__ T forged(void (*)(T)) {
    int number = 7;
    return reinterpret_cast<T&>(number);
}
__global__ void k(int* x) { forged(&cg::thread_block::sync); }
extern "C" void f(int* x) { k<<<1, 64>>>(x); }
