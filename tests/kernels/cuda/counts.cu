// Kernels whose memory traffic can be counted by hand; see count_cases.py for the derivations.
#include <cuda_pipeline.h>
#include <cuda_runtime.h>

// ---- copies and strides

__global__ void copy_rows(const float* in, float* out, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) out[i] = in[i];
}
__global__ void copy_rows_return(const float* in, float* out, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    out[i] = in[i];
}
__global__ void copy_columns(const float* in, float* out) {
    for (int j = 0; j < 32; ++j) out[threadIdx.x * 32 + j] = in[threadIdx.x * 32 + j];
}
__global__ void copy_vectors(const float4* in, float4* out) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    out[i] = in[i];
}
__global__ void copy_bytes(const signed char* in, signed char* out) {
    out[threadIdx.x] = in[threadIdx.x];
}
__global__ void copy_doubles(const double* in, double* out) { out[threadIdx.x] = in[threadIdx.x]; }
__global__ void load_stride(const float* in, float* out, int stride, int offset) {
    out[threadIdx.x] = in[threadIdx.x * stride + offset];
}
__global__ void grid_stride(const float* in, float* out, int n) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) {
        out[i] = in[i];
    }
}
__global__ void even_and_odd(const float* in, float* out, int n) {
    int i = threadIdx.x;
    if (i % 2) {
        out[i] = 2 * in[i];
    } else {
        out[i] = 1 - in[i + n];
    }
}

extern "C" void run_copy(const float* in, float* out, int n) {
    copy_rows<<<(n + 127) / 128, 128>>>(in, out, n);
}
extern "C" void run_copy_return(const float* in, float* out, int n) {
    copy_rows_return<<<(n + 127) / 128, 128>>>(in, out, n);
}
extern "C" void run_columns(const float* in, float* out) { copy_columns<<<1, 32>>>(in, out); }
extern "C" void run_vectors(const float* in, float* out, int n) {
    copy_vectors<<<n / 4 / 64, 64>>>(reinterpret_cast<const float4*>(in),
                                     reinterpret_cast<float4*>(out));
}
extern "C" void run_bytes(const signed char* in, signed char* out) { copy_bytes<<<1, 64>>>(in, out); }
extern "C" void run_doubles(const double* in, double* out) { copy_doubles<<<1, 64>>>(in, out); }
extern "C" void run_stride(const float* in, float* out, int stride, int offset) {
    load_stride<<<1, 32>>>(in, out, stride, offset);
}
extern "C" void run_grid_stride(const float* in, float* out, int n) {
    grid_stride<<<2, 64>>>(in, out, n);
}
extern "C" void run_even_and_odd(const float* in, float* out, int n) {
    even_and_odd<<<1, 32>>>(in, out, n);
}

// ---- transposes: a tile of 32 x PITCH in shared memory

template <int PITCH>
__global__ void transpose_tile(const float* in, float* out) {
    __shared__ float tile[32][PITCH];
    tile[threadIdx.y][threadIdx.x] = in[threadIdx.y * 32 + threadIdx.x];
    __syncthreads();
    out[threadIdx.y * 32 + threadIdx.x] = tile[threadIdx.x][threadIdx.y];
}
extern "C" void run_transpose_32(const float* in, float* out) {
    transpose_tile<32><<<1, dim3(32, 32)>>>(in, out);
}
extern "C" void run_transpose_33(const float* in, float* out) {
    transpose_tile<33><<<1, dim3(32, 32)>>>(in, out);
}

// ---- matrix products of n x n

__global__ void matmul_naive(const float* a, const float* b, float* c, int n) {
    int row = blockIdx.y * blockDim.y + threadIdx.y, col = blockIdx.x * blockDim.x + threadIdx.x;
    float sum = 0;
    for (int k = 0; k < n; ++k) sum += a[row * n + k] * b[k * n + col];
    c[row * n + col] = sum;
}
__global__ void matmul_swapped(const float* a, const float* b, float* c, int n) {
    int row = blockIdx.x * blockDim.x + threadIdx.x, col = blockIdx.y * blockDim.y + threadIdx.y;
    float sum = 0;
    for (int k = 0; k < n; ++k) sum += a[row * n + k] * b[k * n + col];
    c[row * n + col] = sum;
}
template <int T>
__global__ void matmul_tile(const float* a, const float* b, float* c, int n) {
    __shared__ float a_tile[T][T], b_tile[T][T];
    int row = blockIdx.y * T + threadIdx.y, col = blockIdx.x * T + threadIdx.x;
    float sum = 0;
    for (int start = 0; start < n; start += T) {
        a_tile[threadIdx.y][threadIdx.x] = a[row * n + start + threadIdx.x];
        b_tile[threadIdx.y][threadIdx.x] = b[(start + threadIdx.y) * n + col];
        __syncthreads();
        for (int k = 0; k < T; ++k) sum += a_tile[threadIdx.y][k] * b_tile[k][threadIdx.x];
        __syncthreads();
    }
    c[row * n + col] = sum;
}
// 64 x 64 of C in a block of 16 x 16 threads, 4 x 4 in each; steps of 16 along k.
__global__ void matmul_register(const float* a, const float* b, float* c, int n) {
    __shared__ float a_tile[64][17], b_tile[16][64];
    int id = threadIdx.y * 16 + threadIdx.x, row = blockIdx.y * 64, col = blockIdx.x * 64;
    float sum[4][4] = {};
    for (int start = 0; start < n; start += 16) {
        for (int i = id; i < 64 * 16; i += 256) {
            a_tile[i / 16][i % 16] = a[(row + i / 16) * n + start + i % 16];
            b_tile[i / 64][i % 64] = b[(start + i / 64) * n + col + i % 64];
        }
        __syncthreads();
        for (int k = 0; k < 16; ++k) {
            for (int i = 0; i < 4; ++i) {
                for (int j = 0; j < 4; ++j) {
                    sum[i][j] += a_tile[threadIdx.y + 16 * i][k] * b_tile[k][threadIdx.x + 16 * j];
                }
            }
        }
        __syncthreads();
    }
    for (int i = 0; i < 4; ++i) {
        for (int j = 0; j < 4; ++j) {
            c[(row + threadIdx.y + 16 * i) * n + col + threadIdx.x + 16 * j] = sum[i][j];
        }
    }
}
extern "C" void run_matmul(const float* a, const float* b, float* c, int n, int width) {
    matmul_naive<<<dim3(n / width, n / width), dim3(width, width)>>>(a, b, c, n);
}
extern "C" void run_matmul_swapped(const float* a, const float* b, float* c, int n) {
    matmul_swapped<<<dim3(n / 16, n / 16), dim3(16, 16)>>>(a, b, c, n);
}
extern "C" void run_matmul_tile_16(const float* a, const float* b, float* c, int n) {
    matmul_tile<16><<<dim3(n / 16, n / 16), dim3(16, 16)>>>(a, b, c, n);
}
extern "C" void run_matmul_tile_32(const float* a, const float* b, float* c, int n) {
    matmul_tile<32><<<dim3(n / 32, n / 32), dim3(32, 32)>>>(a, b, c, n);
}
extern "C" void run_matmul_register(const float* a, const float* b, float* c, int n) {
    matmul_register<<<dim3(n / 64, n / 64), dim3(16, 16)>>>(a, b, c, n);
}

// ---- softmax and layernorm, a warp a row

__device__ float warp_max(float value) {
    for (int step = 16; step > 0; step /= 2) {
        value = fmaxf(value, __shfl_xor_sync(0xffffffffu, value, step));
    }
    return value;
}
__device__ float warp_sum(float value) {
    for (int step = 16; step > 0; step /= 2) value += __shfl_xor_sync(0xffffffffu, value, step);
    return value;
}
__global__ void softmax_rows(const float* in, float* out, int columns) {
    const float* x = in + blockIdx.x * columns;
    float largest = -INFINITY, sum = 0;
    for (int i = threadIdx.x; i < columns; i += 32) largest = fmaxf(largest, x[i]);
    largest = warp_max(largest);
    for (int i = threadIdx.x; i < columns; i += 32) sum += expf(x[i] - largest);
    sum = warp_sum(sum);
    for (int i = threadIdx.x; i < columns; i += 32) {
        out[blockIdx.x * columns + i] = expf(x[i] - largest) / sum;
    }
}
__global__ void layernorm_rows(const float4* in, const float4* scale, const float4* shift,
                               float4* out, int columns) {
    const float4* x = in + blockIdx.x * columns;
    float sum = 0, squares = 0;
    for (int i = threadIdx.x; i < columns; i += 32) {
        float4 v = x[i];
        sum += v.x + v.y + v.z + v.w;
        squares += v.x * v.x + v.y * v.y + v.z * v.z + v.w * v.w;
    }
    float mean = warp_sum(sum) / (4 * columns);
    float inverse = rsqrtf(warp_sum(squares) / (4 * columns) - mean * mean + 1e-5f);
    for (int i = threadIdx.x; i < columns; i += 32) {
        float4 v = x[i], g = scale[i], b = shift[i];
        out[blockIdx.x * columns + i] = make_float4(
            (v.x - mean) * inverse * g.x + b.x, (v.y - mean) * inverse * g.y + b.y,
            (v.z - mean) * inverse * g.z + b.z, (v.w - mean) * inverse * g.w + b.w);
    }
}
extern "C" void run_softmax(const float* in, float* out, int rows, int columns) {
    softmax_rows<<<rows, 32>>>(in, out, columns);
}
extern "C" void run_layernorm(const float* in, const float* scale, const float* shift, float* out,
                              int rows, int columns) {
    layernorm_rows<<<rows, 32>>>(
        reinterpret_cast<const float4*>(in), reinterpret_cast<const float4*>(scale),
        reinterpret_cast<const float4*>(shift), reinterpret_cast<float4*>(out), columns / 4);
}

// ---- shared memory

__global__ void shared_stride(float* out, int stride) {
    __shared__ float values[32 * 33];
    for (int i = threadIdx.x; i < 32 * 33; i += 32) values[i] = i;
    __syncwarp();
    out[threadIdx.x] = values[threadIdx.x * stride];
}
__global__ void shared_vectors(float4* out) {
    __shared__ float4 values[32];
    values[threadIdx.x] = make_float4(1, 2, 3, 4);
    __syncwarp();
    out[threadIdx.x] = values[31 - threadIdx.x];
}
__global__ void shared_doubles(double* out) {
    __shared__ double values[32];
    values[threadIdx.x] = threadIdx.x;
    __syncwarp();
    out[threadIdx.x] = values[31 - threadIdx.x];
}
__global__ void shared_counter(int* out, int spread) {
    __shared__ int counts[32];
    counts[threadIdx.x] = 0;
    __syncwarp();
    atomicAdd(&counts[threadIdx.x * spread], 1);
    __syncwarp();
    out[threadIdx.x] = counts[threadIdx.x];
}
__global__ void async_rows(const float4* in, float4* out) {
    __shared__ float4 rows[64];
    __pipeline_memcpy_async(&rows[threadIdx.x], &in[threadIdx.x], sizeof(float4));
    __pipeline_commit();
    __pipeline_wait_prior(0);
    out[threadIdx.x] = rows[threadIdx.x];
}
extern "C" void run_shared_stride(float* out, int stride) { shared_stride<<<1, 32>>>(out, stride); }
extern "C" void run_shared_vectors(float* out) {
    shared_vectors<<<1, 32>>>(reinterpret_cast<float4*>(out));
}
extern "C" void run_shared_doubles(double* out) { shared_doubles<<<1, 32>>>(out); }
extern "C" void run_shared_counter(int* out, int spread) { shared_counter<<<1, 32>>>(out, spread); }
extern "C" void run_async(const float* in, float* out) {
    async_rows<<<1, 64>>>(reinterpret_cast<const float4*>(in), reinterpret_cast<float4*>(out));
}

// ---- reductions, atomics, divergence

__global__ void tree_sum(const float* in, float* out) {
    __shared__ float part[256];
    part[threadIdx.x] = in[threadIdx.x];
    __syncthreads();
    for (int half = 128; half > 0; half /= 2) {
        if (threadIdx.x < half) part[threadIdx.x] += part[threadIdx.x + half];
        __syncthreads();
    }
    if (threadIdx.x == 0) out[0] = part[0];
}
__global__ void shuffle_sum(const float* in, float* out) {
    float value = warp_sum(in[threadIdx.x]);
    if (threadIdx.x % 32 == 0) atomicAdd(out, value);
}
__global__ void ragged(const float* in, float* out, int rows) {
    float sum = 0;
    for (int i = 0; i < rows; ++i) {
        for (int j = 0; j <= int(threadIdx.x) % 4; ++j) sum += in[(i * 4 + j) * 32 + threadIdx.x];
    }
    out[threadIdx.x] = sum;
}
__device__ __noinline__ float fetch(const float* in, int i) { return in[i]; }
__global__ void called(const float* in, float* out) {
    float value = 0;
    if (threadIdx.x % 2) value = fetch(in, threadIdx.x);
    else value = 2 * in[threadIdx.x + 32];
    out[threadIdx.x] = value;
}
__global__ void branch_in_loop(const float* in, float* out, int columns) {
    const float* x = in + blockIdx.x * columns;
    float largest = -INFINITY, sum = 0;
    for (int i = threadIdx.x; i < columns; i += blockDim.x) {
        const float value = x[i];
        if (value > largest) {
            sum *= expf(largest - value);
            largest = value;
        }
        sum += expf(value - largest);
    }
    out[blockIdx.x * blockDim.x + threadIdx.x] = sum;
}
extern "C" void run_branch_in_loop(const float* in, float* out, int columns) {
    branch_in_loop<<<16, 128>>>(in, out, columns);
}
extern "C" void run_tree(const float* in, float* out) { tree_sum<<<1, 256>>>(in, out); }
extern "C" void run_shuffle(const float* in, float* out) { shuffle_sum<<<1, 256>>>(in, out); }
extern "C" void run_ragged(const float* in, float* out, int rows) { ragged<<<1, 32>>>(in, out, rows); }
extern "C" void run_called(const float* in, float* out) { called<<<1, 32>>>(in, out); }
