// Kernels without a fault, each with something that a checker could mistake for one. All of them turn
// 256 floats into something that test_correct.py computes with numpy.
#include <cooperative_groups.h>
#include <cub/cub.cuh>
#include <cuda_pipeline.h>
#include <cuda_runtime.h>

constexpr unsigned FULL = 0xffffffffu;

// The last block adds up what the others have left in memory.
__device__ unsigned int blocks_done = 0;
__global__ void last_block(const float* in, float* part, float* out) {
    __shared__ bool last;
    __shared__ float sums[64];
    sums[threadIdx.x] = in[blockIdx.x * 64 + threadIdx.x];
    __syncthreads();
    for (int half = 32; half > 0; half /= 2) {
        if (threadIdx.x < half) sums[threadIdx.x] += sums[threadIdx.x + half];
        __syncthreads();
    }
    if (threadIdx.x == 0) {
        part[blockIdx.x] = sums[0];
        __threadfence();
        last = atomicAdd(&blocks_done, 1u) == gridDim.x - 1;
        __threadfence();
    }
    __syncthreads();
    if (last && threadIdx.x == 0) {
        float total = 0;
        for (int i = 0; i < int(gridDim.x); ++i) total += part[i];
        out[0] = total;
        blocks_done = 0;
    }
}
extern "C" void run_last_block(const float* in, float* out) {
    float* part;
    cudaMalloc(&part, 4 * sizeof(float));
    last_block<<<4, 64>>>(in, part, out);
    cudaFree(part);
}

// All threads of a block write, and one of them, behind a barrier, tells the other blocks. A third
// block learns from the second what the first had released: releases are handed on.
__global__ void chained(const float* in, float* part, int* turn, float* out) {
    part[blockIdx.x * 64 + threadIdx.x] = 2 * in[blockIdx.x * 64 + threadIdx.x];
    __syncthreads();
    if (threadIdx.x == 0) {
        while (atomicAdd(turn, 0) != int(blockIdx.x)) {
        }
        __threadfence();
        atomicExch(turn, int(blockIdx.x) + 1);
    }
    __syncthreads();
    if (blockIdx.x == gridDim.x - 1) {
        for (unsigned i = threadIdx.x; i < 256; i += 64) out[i] = part[255 - i];
    }
}
extern "C" void run_chained(const float* in, float* out) {
    float* part;
    int* turn;
    cudaMalloc(&part, 256 * sizeof(float));
    cudaMalloc(&turn, sizeof(int));
    cudaMemset(turn, 0, sizeof(int));
    chained<<<4, 64>>>(in, part, turn, out);
    cudaFree(turn);
    cudaFree(part);
}

// A scan of each warp; lanes talk by shuffles alone.
__global__ void warp_scan(const float* in, float* out) {
    float value = in[threadIdx.x];
    for (int step = 1; step < 32; step *= 2) {
        float below = __shfl_up_sync(FULL, value, step);
        if (threadIdx.x % 32 >= step) value += below;
    }
    out[threadIdx.x] = value;
}
extern "C" void run_warp_scan(const float* in, float* out) { warp_scan<<<1, 256>>>(in, out); }

// Lanes of a warp through memory, with a __syncwarp between each write and read.
__global__ void warp_tree(const float* in, float* out) {
    __shared__ float all[256];
    float* part = all + threadIdx.x / 32 * 32;
    const int lane = threadIdx.x % 32;
    part[lane] = in[threadIdx.x];
    __syncwarp();
    for (int half = 16; half > 0; half /= 2) {
        float sum = lane < half ? part[lane] + part[lane + half] : 0.0f;
        __syncwarp();
        if (lane < half) part[lane] = sum;
        __syncwarp();
    }
    out[threadIdx.x] = part[0];
}
extern "C" void run_warp_tree(const float* in, float* out) { warp_tree<<<1, 256>>>(in, out); }

// Half warps with masks of their own, in both branches of an if.
__global__ void half_warps(const float* in, float* out) {
    float value = in[threadIdx.x];
    if (threadIdx.x % 32 < 16) {
        for (int step = 8; step > 0; step /= 2) value += __shfl_xor_sync(0x0000ffffu, value, step, 16);
    } else {
        for (int step = 8; step > 0; step /= 2) {
            value = fmaxf(value, __shfl_xor_sync(0xffff0000u, value, step, 16));
        }
    }
    out[threadIdx.x] = value;
}
extern "C" void run_half_warps(const float* in, float* out) { half_warps<<<1, 256>>>(in, out); }

// A histogram in shared memory, then in global memory.
__global__ void histogram(const float* in, int* counts) {
    __shared__ int own[16];
    if (threadIdx.x < 16) own[threadIdx.x] = 0;
    __syncthreads();
    atomicAdd(&own[int(fabsf(in[blockIdx.x * 64 + threadIdx.x])) % 16], 1);
    __syncthreads();
    if (threadIdx.x < 16) atomicAdd(&counts[threadIdx.x], own[threadIdx.x]);
}
__global__ void to_floats(const int* counts, float* out) { out[threadIdx.x] = counts[threadIdx.x]; }
extern "C" void run_histogram(const float* in, float* out) {
    int* counts;
    cudaMalloc(&counts, 16 * sizeof(int));
    cudaMemset(counts, 0, 16 * sizeof(int));
    histogram<<<4, 64>>>(in, counts);
    to_floats<<<1, 16>>>(counts, out);
    cudaFree(counts);
}

// A sort in shared memory: every thread of a pair reads both, one of them writes.
__global__ void bitonic(const float* in, float* out) {
    __shared__ float keys[256];
    const int i = threadIdx.x;
    keys[i] = in[i];
    __syncthreads();
    for (int size = 2; size <= 256; size *= 2) {
        for (int step = size / 2; step > 0; step /= 2) {
            const int other = i ^ step;
            const bool up = (i & size) == 0;
            if (other > i && (keys[i] > keys[other]) == up) {
                float kept = keys[i];
                keys[i] = keys[other];
                keys[other] = kept;
            }
            __syncthreads();
        }
    }
    out[i] = keys[i];
}
extern "C" void run_bitonic(const float* in, float* out) { bitonic<<<1, 256>>>(in, out); }

// Bytes of one word by different threads; shared memory beyond 48 kB by request.
__global__ void bytes(const float* in, float* out) {
    extern __shared__ unsigned char small[];
    small[threadIdx.x] = static_cast<unsigned char>(in[threadIdx.x]);
    __syncthreads();
    out[threadIdx.x] = small[255 - threadIdx.x];
}
extern "C" void run_bytes(const float* in, float* out) {
    cudaFuncSetAttribute(bytes, cudaFuncAttributeMaxDynamicSharedMemorySize, 64 * 1024);
    bytes<<<1, 256, 64 * 1024>>>(in, out);
}

// Two stages of asynchronous copies: one is read while the next is on its way.
__global__ void two_stages(const float* in, float* out) {
    __shared__ float stage[2][64];
    __pipeline_memcpy_async(&stage[0][threadIdx.x], &in[threadIdx.x], 4);
    __pipeline_commit();
    for (int i = 0; i < 4; ++i) {
        if (i < 3) {
            __pipeline_memcpy_async(&stage[(i + 1) % 2][threadIdx.x], &in[(i + 1) * 64 + threadIdx.x], 4);
        }
        __pipeline_commit();
        __pipeline_wait_prior(1);
        __syncthreads();
        out[i * 64 + threadIdx.x] = 2 * stage[i % 2][63 - threadIdx.x];
        __syncthreads();
    }
}
extern "C" void run_two_stages(const float* in, float* out) { two_stages<<<1, 64>>>(in, out); }

// A lock that one lane at a time holds.
__global__ void locked(const float* in, float* out, int* lock) {
    if (threadIdx.x % 32 == 0) {
        while (atomicCAS(lock, 0, 1) != 0) {
        }
        atomicAdd(out, in[threadIdx.x]);
        __threadfence();
        atomicExch(lock, 0);
    }
}
extern "C" void run_locked(const float* in, float* out) {
    int* lock;
    cudaMalloc(&lock, sizeof(int));
    cudaMemset(lock, 0, sizeof(int));
    cudaMemset(out, 0, sizeof(float));
    locked<<<1, 256>>>(in, out, lock);
    cudaFree(lock);
}

// Constants, recursion, a local array that is indexed at run time.
__constant__ float weights[4] = {1, 2, 4, 8};
__device__ float power(float x, int n) { return n == 0 ? 1.0f : x * power(x, n - 1); }
__global__ void polynomial(const float* in, float* out) {
    float terms[4];
    for (int i = 0; i < 4; ++i) terms[i] = power(in[threadIdx.x], i);
    float sum = 0;
    for (int i = 0; i < 4; ++i) sum += weights[i] * terms[(i + int(threadIdx.x) * 4) % 4];
    out[threadIdx.x] = sum;
}
extern "C" void run_polynomial(const float* in, float* out) { polynomial<<<1, 256>>>(in, out); }

// Libraries: cub's block reduction, a tile of cooperative groups.
__global__ void libraries(const float* in, float* out) {
    using Reduce = cub::BlockReduce<float, 128>;
    __shared__ typename Reduce::TempStorage storage;
    __shared__ float total;
    float value = in[blockIdx.x * 128 + threadIdx.x];
    float sum = Reduce(storage).Sum(value);
    if (threadIdx.x == 0) total = sum;
    namespace cg = cooperative_groups;
    cg::thread_block block = cg::this_thread_block();
    cg::thread_block_tile<8> tile = cg::tiled_partition<8>(block);
    block.sync();
    for (int step = 4; step > 0; step /= 2) value = fmaxf(value, tile.shfl_xor(value, step));
    out[blockIdx.x * 128 + threadIdx.x] = value + total;
}
extern "C" void run_libraries(const float* in, float* out) { libraries<<<2, 128>>>(in, out); }
