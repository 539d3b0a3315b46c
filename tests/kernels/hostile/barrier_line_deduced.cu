// A barrier whose line is made by a conversion that deduces the type of lines.
#include <cooperative_groups.h>
#include <cuda_runtime.h>
namespace cg = cooperative_groups;
struct Any {
    int number = 7;
    template <class T>
    __device__ operator T() const { return *reinterpret_cast<const T*>(&number); }
};
__global__ void k(int* x) {
    cg::thread_block block = cg::this_thread_block();
    if (threadIdx.x < 32) block.sync(Any{});
    else
        block.sync(Any{});
}
extern "C" void f(int* x) { k<<<1, 64>>>(x); }
