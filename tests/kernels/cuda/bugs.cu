// One bug a kernel. `// HERE kind` marks the line that a report must name, `// AND` the other line of
// a race; the function that launches it is named run_<kernel>.
#include <cooperative_groups.h>
#include <cuda_pipeline.h>
#include <cuda_runtime.h>

__global__ void missing_barrier(const float* in, float* out) {
    __shared__ float tile[256];
    tile[threadIdx.x] = in[threadIdx.x];                 // AND missing_barrier
    out[threadIdx.x] = tile[255 - threadIdx.x];          // HERE missing_barrier race
}
extern "C" void run_missing_barrier(const float* in, float* out, int) {
    missing_barrier<<<1, 256>>>(in, out);
}

__global__ void second_barrier_missing(const float* in, float* out) {
    __shared__ float tile[64];
    float sum = 0;
    for (int step = 0; step < 4; ++step) {
        tile[threadIdx.x] = in[step * 64 + threadIdx.x];  // HERE second_barrier_missing race
        __syncthreads();
        sum += tile[(threadIdx.x + 33) % 64];             // AND second_barrier_missing
    }
    out[threadIdx.x] = sum;
}
extern "C" void run_second_barrier_missing(const float* in, float* out, int) {
    second_barrier_missing<<<1, 64>>>(in, out);
}

// Called twice, as a reduction is; the array of the first call is the second one's, too.
__device__ float sum_of_warps(float value) {
    __shared__ float of_warp[2];
    if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32] = value;  // HERE called_twice race
    __syncthreads();
    return of_warp[0] + of_warp[1];                                // AND called_twice
}
__global__ void called_twice(const float* in, float* out) {
    float first = sum_of_warps(in[threadIdx.x]);
    out[threadIdx.x] = first + sum_of_warps(2 * in[threadIdx.x]);
}
extern "C" void run_called_twice(const float* in, float* out, int) { called_twice<<<1, 64>>>(in, out); }

// The first barrier of a turn is missing, and the second one stands below.
__global__ void first_barrier_missing(const float* in, float* out) {
    __shared__ float tile[64];
    float sum = 0;
    for (int step = 0; step < 4; ++step) {
        tile[threadIdx.x] = in[step * 64 + threadIdx.x];  // AND first_barrier_missing
        if (step == 0) __syncthreads();
        sum += tile[(threadIdx.x + 33) % 64];             // HERE first_barrier_missing race
        __syncthreads();
    }
    out[threadIdx.x] = sum;
}
extern "C" void run_first_barrier_missing(const float* in, float* out, int) {
    first_barrier_missing<<<1, 64>>>(in, out);
}

__global__ void no_syncwarp(const float* in, float* out) {
    __shared__ float part[32];
    part[threadIdx.x] = in[threadIdx.x];
    __syncwarp();
    if (threadIdx.x < 16) part[threadIdx.x] += part[threadIdx.x + 16];  // AND no_syncwarp
    if (threadIdx.x < 8) part[threadIdx.x] += part[threadIdx.x + 8];    // HERE no_syncwarp race
    out[threadIdx.x] = 0;
}
extern "C" void run_no_syncwarp(const float* in, float* out, int) {
    no_syncwarp<<<1, 32>>>(in, out);
}

__global__ void plain_add(const float* in, float* out) {
    out[0] += in[threadIdx.x];  // HERE plain_add race
}
extern "C" void run_plain_add(const float* in, float* out, int) {
    cudaMemset(out, 0, 4);
    plain_add<<<1, 64>>>(in, out);
}

__global__ void plain_add_by_blocks(const float* in, float* out) {
    if (threadIdx.x == 0) out[0] += in[blockIdx.x];  // HERE plain_add_by_blocks race
}
extern "C" void run_plain_add_by_blocks(const float* in, float* out, int) {
    cudaMemset(out, 0, 4);
    plain_add_by_blocks<<<4, 32>>>(in, out);
}

__global__ void overwrites_inputs(float* x) {
    int mine = blockIdx.x * 32 + threadIdx.x, next = (blockIdx.x + 1) % 4 * 32 + threadIdx.x;
    float sum = x[next] + x[next + 1];  // AND overwrites_inputs
    sum += x[mine];
    x[mine] = sum;                      // HERE overwrites_inputs race
}
extern "C" void run_overwrites_inputs(const float*, float* out, int) {
    cudaMemset(out, 0, 1024);
    overwrites_inputs<<<3, 32>>>(out);
}

__global__ void last_block_without_fence(const float* in, float* out, int* count) {
    if (threadIdx.x != 0) return;
    out[1 + blockIdx.x] = in[blockIdx.x];              // AND last_block_without_fence
    if (atomicAdd(count, 1) == int(gridDim.x) - 1) {
        float sum = 0;
        for (int i = 0; i < int(gridDim.x); ++i) {
            sum += out[1 + i];                         // HERE last_block_without_fence race
        }
        out[0] = sum;
    }
}
extern "C" void run_last_block_without_fence(const float* in, float* out, int) {
    int* count;
    cudaMalloc(&count, sizeof(int));
    cudaMemset(count, 0, sizeof(int));
    last_block_without_fence<<<8, 32>>>(in, out, count);
    cudaFree(count);
}

__global__ void written_behind_the_fence(const float* in, float* out, int* count) {
    if (threadIdx.x != 0) return;
    __threadfence();
    out[1 + blockIdx.x] = in[blockIdx.x];              // AND written_behind_the_fence
    if (atomicAdd(count, 1) == int(gridDim.x) - 1) {
        float sum = 0;
        for (int i = 0; i < int(gridDim.x); ++i) {
            sum += out[1 + i];                         // HERE written_behind_the_fence race
        }
        out[0] = sum;
    }
}
extern "C" void run_written_behind_the_fence(const float* in, float* out, int) {
    int* count;
    cudaMalloc(&count, sizeof(int));
    cudaMemset(count, 0, sizeof(int));
    written_behind_the_fence<<<8, 32>>>(in, out, count);
    cudaFree(count);
}

__global__ void fence_of_another_thread(const float* in, float* out, int* count) {
    if (threadIdx.x == 32) out[1 + blockIdx.x] = in[blockIdx.x];  // AND fence_of_another_thread
    if (threadIdx.x != 0) return;  // a barrier should stand before this
    __threadfence();
    if (atomicAdd(count, 1) == int(gridDim.x) - 1) {
        __threadfence();
        float sum = 0;
        for (int i = 0; i < int(gridDim.x); ++i) {
            sum += out[1 + i];  // HERE fence_of_another_thread race
        }
        out[0] = sum;
    }
}
extern "C" void run_fence_of_another_thread(const float* in, float* out, int) {
    int* count;
    cudaMalloc(&count, sizeof(int));
    cudaMemset(count, 0, sizeof(int));
    cudaMemset(out, 0, 64);
    fence_of_another_thread<<<8, 64>>>(in, out, count);
    cudaFree(count);
}

__global__ void released_elsewhere(const float* in, float* out, int* counts) {
    if (threadIdx.x != 0) return;
    out[1 + blockIdx.x] = in[blockIdx.x];      // AND released_elsewhere
    __threadfence();
    atomicAdd(&counts[blockIdx.x % 2], 1);     // the even and the odd blocks tell different counters
    if (blockIdx.x == gridDim.x - 1) out[0] = out[1];  // HERE released_elsewhere race
}
extern "C" void run_released_elsewhere(const float* in, float* out, int) {
    int* counts;
    cudaMalloc(&counts, 2 * sizeof(int));
    cudaMemset(counts, 0, 2 * sizeof(int));
    released_elsewhere<<<2, 32>>>(in, out, counts);
    cudaFree(counts);
}

__global__ void one_past(const float* in, float* out, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i <= n) out[i] = in[0];  // HERE one_past out of bounds
}
extern "C" void run_one_past(const float* in, float* out, int n) {
    one_past<<<n / 128 + 1, 128>>>(in, out, n);
}

__global__ void shared_overflow(float* out) {
    __shared__ float small[32];
    __shared__ float large[64];
    float* p = small;
    p[threadIdx.x] = 1;  // HERE shared_overflow out of bounds
    large[threadIdx.x] = 2;
    out[threadIdx.x] = large[threadIdx.x];
}
extern "C" void run_shared_overflow(const float*, float* out, int) { shared_overflow<<<1, 64>>>(out); }

__global__ void inner_index(float* out) {
    __shared__ float tile[32][33];
    tile[threadIdx.x % 32][threadIdx.x] = 1;  // HERE inner_index index
    out[threadIdx.x] = 1;
}
extern "C" void run_inner_index(const float*, float* out, int) { inner_index<<<1, 64>>>(out); }

__global__ void local_index(const float* in, float* out, int n) {
    float mine[4] = {1, 2, 3, 4};
    mine[n % 4] = in[0];
    out[threadIdx.x] = mine[int(threadIdx.x)];  // HERE local_index index
}
extern "C" void run_local_index(const float* in, float* out, int n) {
    local_index<<<1, 8>>>(in, out, n);
}

__global__ void unwritten_shared(float* out) {
    __shared__ float part[64];
    if (threadIdx.x < 63) part[threadIdx.x] = 1;
    __syncthreads();
    out[threadIdx.x] = part[threadIdx.x];  // HERE unwritten_shared uninitialised
}
extern "C" void run_unwritten_shared(const float*, float* out, int) { unwritten_shared<<<1, 64>>>(out); }

__global__ void unwritten_global(float* out) {
    out[threadIdx.x] += 1;  // HERE unwritten_global uninitialised
}
extern "C" void run_unwritten_global(const float*, float* out, int) { unwritten_global<<<1, 32>>>(out); }

__global__ void barrier_in_branches(const float* in, float* out) {
    __shared__ float part[64];
    if (threadIdx.x < 32) {
        part[threadIdx.x] = in[threadIdx.x];
        __syncthreads();  // AND barrier_in_branches
    } else {
        part[threadIdx.x] = 0;
        __syncthreads();  // HERE barrier_in_branches barrier divergence
    }
    out[threadIdx.x] = part[63 - threadIdx.x];
}
extern "C" void run_barrier_in_branches(const float* in, float* out, int) {
    barrier_in_branches<<<1, 64>>>(in, out);
}

#define WAIT __syncthreads()
__global__ void two_barriers_of_a_line(const float* in, float* out) {
    if (threadIdx.x < 32) __syncthreads(); else __syncthreads();  // HERE two_barriers_of_a_line barrier divergence
    out[threadIdx.x] = in[threadIdx.x];
}
extern "C" void run_two_barriers_of_a_line(const float* in, float* out, int) {
    two_barriers_of_a_line<<<1, 64>>>(in, out);
}

__global__ void two_barriers_of_a_macro(const float* in, float* out) {
    switch (threadIdx.x / 32) { case 0: WAIT; break; default: WAIT; }  // HERE two_barriers_of_a_macro barrier divergence
    out[threadIdx.x] = in[threadIdx.x];
}
extern "C" void run_two_barriers_of_a_macro(const float* in, float* out, int) {
    two_barriers_of_a_macro<<<1, 64>>>(in, out);
}

__global__ void two_group_barriers(const float* in, float* out) {
    cooperative_groups::thread_block block = cooperative_groups::this_thread_block();
    if (threadIdx.x < 32) block.sync(); else block.sync();  // HERE two_group_barriers barrier divergence
    out[threadIdx.x] = in[threadIdx.x];
}
extern "C" void run_two_group_barriers(const float* in, float* out, int) {
    two_group_barriers<<<1, 64>>>(in, out);
}

__global__ void two_shuffles_of_a_line(const float* in, float* out) {
    const float x = in[threadIdx.x];
    float y = 0;
    if (threadIdx.x < 16) y = __shfl_sync(~0u, x, 0); else y = __shfl_sync(~0u, -x, 0);  // HERE two_shuffles_of_a_line deadlock
    out[threadIdx.x] = y;
}
extern "C" void run_two_shuffles_of_a_line(const float* in, float* out, int) {
    two_shuffles_of_a_line<<<1, 32>>>(in, out);
}

__global__ void half_warp_shuffle(const float* in, float* out) {
    float value = in[threadIdx.x];
    if (threadIdx.x < 16) {
        value += __shfl_down_sync(0xffffffffu, value, 8);  // HERE half_warp_shuffle deadlock
    } else {
        __syncthreads();
    }
    out[threadIdx.x] = value;
}
extern "C" void run_half_warp_shuffle(const float* in, float* out, int) {
    half_warp_shuffle<<<1, 32>>>(in, out);
}

__global__ void reads_host(const float* in, float* out) {
    out[threadIdx.x] = in[threadIdx.x];  // HERE reads_host host pointer
}
extern "C" void run_reads_host(const float*, float* out, int) {
    float values[32] = {1};
    reads_host<<<1, 32>>>(values, out);
}

__global__ void early_return(float* out, int n) {
    if (int(threadIdx.x) >= n) return;
    __syncthreads();  // HERE early_return barrier after exit
    out[threadIdx.x] = 1;
}
extern "C" void run_early_return(const float*, float* out, int) { early_return<<<1, 64>>>(out, 50); }

__global__ void same_value(float* out) {
    out[0] = 1;  // HERE same_value same value race
}
extern "C" void run_same_value(const float*, float* out, int) { same_value<<<1, 32>>>(out); }

__global__ void missing_wait(const float4* in, float* out) {
    __shared__ float4 rows[32];
    __pipeline_memcpy_async(&rows[threadIdx.x], &in[threadIdx.x], 16);  // AND missing_wait
    __pipeline_commit();
    out[threadIdx.x] = rows[threadIdx.x].x;  // HERE missing_wait uninitialised
}
extern "C" void run_missing_wait(const float* in, float* out, int) {
    missing_wait<<<1, 32>>>(reinterpret_cast<const float4*>(in), out);
}

__global__ void wait_without_commit(const float* in, float* out) {
    __shared__ float row[64];
    __pipeline_memcpy_async(&row[threadIdx.x], &in[threadIdx.x], 4);  // AND wait_without_commit
    __pipeline_wait_prior(0);
    __syncthreads();
    out[threadIdx.x] = row[63 - threadIdx.x];  // HERE wait_without_commit uninitialised
}
extern "C" void run_wait_without_commit(const float* in, float* out, int) {
    wait_without_commit<<<1, 64>>>(in, out);
}

__global__ void misaligned(const float* in, float* out) {
    float4 v = *reinterpret_cast<const float4*>(in + 1);  // HERE misaligned misaligned address
    out[threadIdx.x] = v.x;
}
extern "C" void run_misaligned(const float* in, float* out, int) { misaligned<<<1, 32>>>(in, out); }

__global__ void null_pointer(const float* in, float* out) {
    out[threadIdx.x] = in[threadIdx.x];  // HERE null_pointer null pointer
}
extern "C" void run_null_pointer(const float*, float* out, int) {
    null_pointer<<<1, 32>>>(nullptr, out);
}

__global__ void freed(float* p, float* out) {
    out[threadIdx.x] = p[threadIdx.x];  // HERE freed use after free
}
extern "C" void run_freed(const float*, float* out, int) {
    float* p;
    cudaMalloc(&p, 128);
    cudaFree(p);
    freed<<<1, 32>>>(p, out);
}

__global__ void anothers_variable(float* out) {
    __shared__ float* where;
    float mine = threadIdx.x;
    if (threadIdx.x == 0) where = &mine;
    __syncthreads();
    out[threadIdx.x] = *where;  // HERE anothers_variable another thread's variable
}
extern "C" void run_anothers_variable(const float*, float* out, int) {
    anothers_variable<<<1, 32>>>(out);
}

__constant__ float table[4];
__global__ void writes_constant(float* out) {
    const_cast<float*>(table)[threadIdx.x] = 1;  // HERE writes_constant constant written
    out[threadIdx.x] = table[threadIdx.x];
}
extern "C" void run_writes_constant(const float*, float* out, int) { writes_constant<<<1, 4>>>(out); }

extern "C" void run_host_access(const float* in, float* out, int) {
    out[0] = in[0];  // HERE host_access device pointer
}

__global__ void waits_for_ever(int* flag, float* out) {
    volatile int* p = flag;
    while (*p == 0) {  // HERE waits_for_ever step limit
    }
    out[threadIdx.x] = 1;
}
extern "C" void run_waits_for_ever(const float*, float* out, int) {
    int* flag;
    cudaMalloc(&flag, 4);
    cudaMemset(flag, 0, 4);
    waits_for_ever<<<1, 32>>>(flag, out);
}

__global__ void too_many_threads(float* out) { out[threadIdx.x] = 1; }
extern "C" void run_too_many_threads(const float*, float* out, int) {
    too_many_threads<<<1, 1000000>>>(out);  // HERE too_many_threads invalid launch
}

__global__ void stops(const float* in, float* out) {
    if (in != nullptr) __trap();  // HERE stops trap
    out[threadIdx.x] = 1;
}
extern "C" void run_stops(const float* in, float* out, int) { stops<<<1, 32>>>(in, out); }

__global__ void divides(float* out, int n) {
    out[threadIdx.x] = 100 / n;  // HERE divides division by zero
}
extern "C" void run_divides(const float*, float* out, int) { divides<<<1, 32>>>(out, 0); }

__device__ float deep(float* out, int n) {
    float here[2048];
    here[n % 2048] = out[n % 8];
    float below = n > 0 ? deep(out, n - 1) : 0.0f;
    return below + here[(n + 1) % 2048];
}
__global__ void uses_much_stack(float* out) {
    out[threadIdx.x] = deep(out, 100);  // HERE uses_much_stack stack overflow
}
extern "C" void run_uses_much_stack(const float*, float* out, int) {
    cudaMemset(out, 0, 64);
    uses_much_stack<<<1, 1>>>(out);
}

__global__ void absent_lane(const float* in, float* out) {
    if (threadIdx.x >= 24) return;
    out[threadIdx.x] = __shfl_down_sync(0xffffffu, in[threadIdx.x], 8);  // HERE absent_lane shuffle from an absent lane
}
extern "C" void run_absent_lane(const float* in, float* out, int) { absent_lane<<<1, 32>>>(in, out); }
