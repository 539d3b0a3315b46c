// Asynchronous copies by a group of threads, for test_groups.py.
#include <cooperative_groups.h>
#include <cooperative_groups/memcpy_async.h>
#include <cuda_runtime.h>

namespace cg = cooperative_groups;

__global__ void copy_by_group(const int* in, int* out, int n) {
    extern __shared__ int staged[];
    cg::thread_block block = cg::this_thread_block();
    cg::memcpy_async(block, staged, in, sizeof(int) * n);
    cg::wait(block);
    for (int i = threadIdx.x; i < n; i += blockDim.x) out[i] = staged[n - 1 - i];
}
extern "C" void launch_copy_by_group(const int* in, int* out, int n) {
    copy_by_group<<<1, 64, n * sizeof(int)>>>(in, out, n);
}
