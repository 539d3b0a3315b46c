// Cooperative groups, CUB's reductions and the pipeline primitives, for test_groups.py.
#include <cooperative_groups.h>
#include <cooperative_groups/reduce.h>
#include <cub/cub.cuh>
#include <cuda_pipeline.h>
#include <cuda_runtime.h>

namespace cg = cooperative_groups;

// ---- groups: what each thread is told about itself, 12 numbers a thread
template <int Size>
__global__ void describe(int* out) {
    cg::thread_block block = cg::this_thread_block();
    cg::thread_block_tile<Size> tile = cg::tiled_partition<Size>(block);
    auto inner = cg::tiled_partition<Size / 2>(tile);
    int* mine = out + 12 * block.thread_rank();
    mine[0] = block.thread_rank();
    mine[1] = block.size();
    mine[2] = block.group_index().x;
    mine[3] = block.thread_index().y;
    mine[4] = tile.thread_rank();
    mine[5] = tile.size();
    mine[6] = tile.meta_group_rank();
    mine[7] = tile.meta_group_size();
    mine[8] = inner.thread_rank();
    mine[9] = inner.meta_group_rank();
    mine[10] = cg::this_grid().thread_rank();
    mine[11] = cg::this_grid().size();
}
extern "C" void launch_describe(int* out, int size) {
    if (size == 32) describe<32><<<1, dim3(16, 4)>>>(out);
    if (size == 8) describe<8><<<1, dim3(16, 4)>>>(out);
}

// ---- what tiles exchange, 10 numbers a thread
template <int Size>
__global__ void exchange(const int* values, int* out) {
    auto tile = cg::tiled_partition<Size>(cg::this_thread_block());
    const int value = values[threadIdx.x];
    int* mine = out + 10 * threadIdx.x;
    mine[0] = tile.shfl(value, 3);
    mine[1] = tile.shfl_down(value, 2);
    mine[2] = tile.shfl_up(value, 3);
    mine[3] = tile.shfl_xor(value, 5);
    mine[4] = tile.any(value == 7);
    mine[5] = tile.all(value >= 0);
    mine[6] = tile.ballot(value % 3 == 0);
    mine[7] = tile.match_any(value % 4);
    mine[8] = cg::reduce(tile, value, cg::plus<int>());
    mine[9] = cg::reduce(tile, value, cg::greater<int>());
    tile.sync();
}
extern "C" void launch_exchange(const int* values, int* out, int size) {
    if (size == 32) exchange<32><<<1, 64>>>(values, out);
    if (size == 8) exchange<8><<<1, 64>>>(values, out);
}

// ---- lanes 1, 4, … 31 form a group, found by a branch and by a predicate, 6 numbers a thread
__global__ void coalesced(const int* values, int* out) {
    const int value = values[threadIdx.x];
    const auto parts = cg::binary_partition(cg::coalesced_threads(), threadIdx.x % 3 == 1);
    if (threadIdx.x % 3 == 1) {
        const cg::coalesced_group group = cg::coalesced_threads();
        int* mine = out + 6 * threadIdx.x;
        mine[0] = group.thread_rank();
        mine[1] = parts.size();
        mine[2] = group.shfl(value, 2);
        mine[3] = parts.shfl_down(value, 1);
        mine[4] = group.ballot(group.thread_rank() < 3);
        mine[5] = cg::reduce(group, value, cg::plus<int>());
        group.sync();
    }
}
extern "C" void launch_coalesced(const int* values, int* out) { coalesced<<<1, 32>>>(values, out); }

// ---- a group given by its general type, as in many textbooks
__device__ int sum_of(cg::thread_group group, int* scratch, int value) {
    const int rank = group.thread_rank();
    for (int step = group.size() / 2; step > 0; step /= 2) {
        scratch[rank] = value;
        group.sync();
        if (rank < step) value += scratch[rank + step];
        group.sync();
    }
    return value;
}
__global__ void group_sums(const int* values, int* out) {
    __shared__ int scratch[128];
    cg::thread_block block = cg::this_thread_block();
    const int all = sum_of(block, scratch, values[threadIdx.x]);
    auto tile = cg::tiled_partition<16>(block);
    int* own = scratch + 16 * tile.meta_group_rank();
    const int part = sum_of(tile, own, values[threadIdx.x]);
    if (block.thread_rank() == 0) out[0] = all;
    if (tile.thread_rank() == 0) out[1 + tile.meta_group_rank()] = part;
}
extern "C" void launch_group_sums(const int* values, int* out) {
    group_sums<<<1, 128>>>(values, out);
}

// ---- CUB: sums and maxima of a block and of its warps
struct Larger {
    __device__ float operator()(float a, float b) const { return a > b ? a : b; }
};
template <int Threads>
__global__ void reduce_block(const float* values, int valid, float* out) {
    using Block = cub::BlockReduce<float, Threads>;
    using Warp = cub::WarpReduce<float>;
    __shared__ typename Block::TempStorage storage;
    __shared__ typename Warp::TempStorage warps[(Threads + 31) / 32];
    const float value = values[threadIdx.x];
    const float sum = Block(storage).Sum(value);
    __syncthreads();
    const float largest = Block(storage).Reduce(value, Larger());
    __syncthreads();
    const float some = Block(storage).Sum(value, valid);
    if (threadIdx.x == 0) {
        out[0] = sum;
        out[1] = largest;
        out[2] = some;
    }
    const int warp = threadIdx.x / 32;
    if ((warp + 1) * 32 <= Threads) {
        const float part = Warp(warps[warp]).Sum(value);
        if (threadIdx.x % 32 == 0) out[3 + warp] = part;
    }
}
extern "C" void launch_reduce_block(const float* values, int threads, int valid, float* out) {
    if (threads == 128) reduce_block<128><<<1, 128>>>(values, valid, out);
    if (threads == 48) reduce_block<48><<<1, 48>>>(values, valid, out);
    if (threads == 32) reduce_block<32><<<1, 32>>>(values, valid, out);
}
__global__ void reduce_items(const int* values, int* out) {
    using Block = cub::BlockReduce<int, 64>;
    using Part = cub::WarpReduce<int, 8>;
    __shared__ typename Block::TempStorage storage;
    __shared__ typename Part::TempStorage parts[8];
    int items[4];
    for (int i = 0; i < 4; ++i) items[i] = values[4 * threadIdx.x + i];
    const int sum = Block(storage).Sum(items);
    const int part = Part(parts[threadIdx.x / 8]).Reduce(items[0], cuda::std::plus<>(), 5);
    if (threadIdx.x == 0) out[0] = sum;
    if (threadIdx.x % 8 == 0) out[1 + threadIdx.x / 8] = part;
}
extern "C" void launch_reduce_items(const int* values, int* out) {
    reduce_items<<<1, 64>>>(values, out);
}
// Wrong: the second sum writes the storage that thread 0 may still read.
__global__ void reuse_storage(const float* values, float* out) {
    using Block = cub::BlockReduce<float, 64>;
    __shared__ typename Block::TempStorage storage;
    const float sum = Block(storage).Sum(values[threadIdx.x]);
    const float twice = Block(storage).Sum(2.0f * values[threadIdx.x]);
    if (threadIdx.x == 0) out[0] = sum + twice;
}
extern "C" void launch_reuse_storage(const float* values, float* out) {
    reuse_storage<<<1, 64>>>(values, out);
}

// ---- asynchronous copies: rows reversed through shared memory, two in flight
__global__ void reverse_rows(const float4* in, float4* out, int rows, int waits) {
    __shared__ float4 buffer[2][32];
    const int lane = threadIdx.x;
    __pipeline_memcpy_async(&buffer[0][lane], &in[lane], sizeof(float4));
    __pipeline_commit();
    for (int row = 0; row < rows; ++row) {
        if (row + 1 < rows) {
            __pipeline_memcpy_async(&buffer[(row + 1) % 2][lane], &in[32 * (row + 1) + lane],
                                    sizeof(float4));
        }
        __pipeline_commit();
        if (waits) __pipeline_wait_prior(1);
        __syncthreads();
        out[32 * row + lane] = buffer[row % 2][31 - lane];
        __syncthreads();
    }
}
extern "C" void launch_reverse_rows(const float* in, float* out, int rows, int waits) {
    reverse_rows<<<1, 32>>>(reinterpret_cast<const float4*>(in), reinterpret_cast<float4*>(out),
                            rows, waits);
}
// Fewer than 16 bytes of the last piece exist: the rest is filled with zeros.
__global__ void copy_ragged(const float* in, float* out, int n) {
    __shared__ float4 buffer[32];
    const int left = n - 4 * static_cast<int>(threadIdx.x);
    const int missing = left >= 4 ? 0 : left <= 0 ? 4 : 4 - left;
    const float* from = missing < 4 ? in + 4 * threadIdx.x : in;
    __pipeline_memcpy_async(&buffer[threadIdx.x], from, 16, sizeof(float) * missing);
    __pipeline_commit();
    __pipeline_wait_prior(0);
    __syncthreads();
    reinterpret_cast<float4*>(out)[threadIdx.x] = buffer[31 - threadIdx.x];
}
extern "C" void launch_copy_ragged(const float* in, float* out, int n) {
    copy_ragged<<<1, 32>>>(in, out, n);
}
