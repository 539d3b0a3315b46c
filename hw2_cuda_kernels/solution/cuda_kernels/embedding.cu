// Task 2.8: rows of a table by integer ids, and the gradient that flows back into the table.
//
// table is (rows, dim), ids is (count), out and upstream are (count, dim), all dense, in rows.
// An id outside 0 … rows - 1 is padding: its output row is zeros, and it sends no gradient.
#include "common.cuh"

constexpr int WARPS = 8;     // warps of a block where a warp takes a row
constexpr int CHUNK = WARP;  // positions that a block of version 2 of the backward pass takes
constexpr int COLUMNS = 128; // the most columns that it takes, one a thread

// Whether the table has a row `id`. Given.
__device__ bool is_row(int id, int rows) { return 0 <= id && id < rows; }

// 0 as a float or a float4: `zero<Vector>()`. Given.
template <typename Vector> __device__ Vector zero();
template <> __device__ inline float zero<float>() { return 0.0f; }
template <> __device__ inline float4 zero<float4>() { return make_float4(0.0f, 0.0f, 0.0f, 0.0f); }

// Forward, version 1: a thread a row. Given, to compare with.
//
// Neighbouring threads read and write addresses that lie a row apart: every lane of a request has a
// sector (32 bytes) of its own, and uses 4 bytes of it.
__global__ void gather_thread_a_row(const float* __restrict__ table, const int* __restrict__ ids,
                                    float* __restrict__ out, int count, int dim, int rows) {
    const int position = blockIdx.x * blockDim.x + threadIdx.x;
    if (position >= count) return;
    const int id = ids[position];
    const size_t from = static_cast<size_t>(is_row(id, rows) ? id : 0) * dim;
    const size_t to = static_cast<size_t>(position) * dim;
    for (int column = 0; column < dim; ++column) {
        out[to + column] = is_row(id, rows) ? table[from + column] : 0.0f;
    }
}

// Forward, version 2: a warp a row, whose lanes take neighbouring vectors.
//
// Vector is float4 where dim is a multiple of 4, so that every row begins at a multiple of 16
// bytes, and float otherwise; width is the number of Vectors in a row.
//   table (rows, width), ids (count), out (count, width)
// Launch: blocks of WARPS warps, a row of `out` each; the last block may have too many of them.
// Traffic: every vector that is needed is read once and written once, both coalesced; an id is read
// by one request of its warp. A row whose id is no row of the table reads nothing from it.
template <typename Vector>
__global__ void gather_warp_a_row(const Vector* __restrict__ table, const int* __restrict__ ids,
                                  Vector* __restrict__ out, int count, int width, int rows) {
    // BEGIN SOLUTION 2.8
    const int position = blockIdx.x * WARPS + threadIdx.x / WARP;
    if (position >= count) return;  // the same for all lanes of a warp
    const int lane = threadIdx.x % WARP;
    const int id = ids[position];  // one address for the whole warp: one sector, a broadcast
    Vector* to = out + static_cast<size_t>(position) * width;
    if (!is_row(id, rows)) {
        for (int i = lane; i < width; i += WARP) to[i] = zero<Vector>();
        return;
    }
    const Vector* from = table + static_cast<size_t>(id) * width;
    for (int i = lane; i < width; i += WARP) to[i] = from[i];
    // END SOLUTION
}

// Backward, version 1: a warp a position, an atomic addition an element.
//
//   upstream (count, dim), ids (count), grad (rows, dim): grad[ids[p]] += upstream[p] for all p
// Launch: blocks of WARPS warps, a position each.
// Different positions may have the same id, in the same block or in different ones, so the addition
// must be atomic. Traffic: upstream once, coalesced; count * dim atomic additions, coalesced.
__global__ void scatter_add_atomic(const float* __restrict__ upstream, const int* __restrict__ ids,
                                   float* grad, int count, int dim, int rows) {
    // BEGIN SOLUTION 2.8
    const int position = blockIdx.x * WARPS + threadIdx.x / WARP;
    if (position >= count) return;
    const int id = ids[position];
    if (!is_row(id, rows)) return;
    const float* from = upstream + static_cast<size_t>(position) * dim;
    float* to = grad + static_cast<size_t>(id) * dim;
    for (int i = threadIdx.x % WARP; i < dim; i += WARP) atomicAdd(&to[i], from[i]);
    // END SOLUTION
}

// Backward, version 2: positions of a block that have the same id are summed first.
//
// Text repeats: "the" may be every twentieth token, and padding every second. The atomic additions
// of version 1 to one address wait for each other. Here a block takes CHUNK positions and up to
// COLUMNS columns, a thread a column, and adds once for each different id in its chunk.
//   upstream (count, dim), ids (count), grad (rows, dim): grad[ids[p]] += upstream[p] for all p
// Launch: block (x, y) takes positions x * CHUNK … and columns y * blockDim.x …; blockDim.x is a
// multiple of 32, and dim need not be.
// Which positions go together is the same for all columns: find it once a block, by the first warp
// (__match_any_sync gives every lane the mask of the lanes with its value), and keep it in shared
// memory. Traffic: upstream once, coalesced; one atomic addition for each different id of a chunk
// and each column, coalesced.
__global__ void scatter_add_grouped(const float* __restrict__ upstream,
                                    const int* __restrict__ ids, float* grad, int count, int dim,
                                    int rows) {
    // BEGIN SOLUTION 2.8
    __shared__ int chunk_ids[CHUNK];
    __shared__ unsigned members[CHUNK];  // of an id's first position: where it occurs; else 0
    const int first = blockIdx.x * CHUNK;
    if (threadIdx.x < CHUNK) {  // the first warp, and all of it
        const int lane = threadIdx.x;
        const int id = first + lane < count ? ids[first + lane] : -1;
        const unsigned same = __match_any_sync(FULL_MASK, id);
        const bool leads = is_row(id, rows) && lane == __ffs(same) - 1;
        chunk_ids[lane] = id;
        members[lane] = leads ? same : 0;
    }
    __syncthreads();

    const int column = blockIdx.y * blockDim.x + threadIdx.x;
    if (column >= dim) return;  // after the barrier, which all threads must reach
    const float* from = upstream + static_cast<size_t>(first) * dim + column;
    for (int leader = 0; leader < CHUNK; ++leader) {
        unsigned left = members[leader];  // one word for the whole block: no divergence
        if (left == 0) continue;
        float sum = 0.0f;
        for (; left != 0; left &= left - 1) {  // takes the lowest bit away
            sum += from[static_cast<size_t>(__ffs(left) - 1) * dim];
        }
        atomicAdd(&grad[static_cast<size_t>(chunk_ids[leader]) * dim + column], sum);
    }
    // END SOLUTION
}

// The launchers. Given. Nothing to do means no launch: a grid of 0 blocks is an error in CUDA.

extern "C" void embedding_forward_naive(const float* table, const int* ids, float* out, int count,
                                        int dim, int rows) {
    if (count == 0 || dim == 0) return;
    constexpr int threads = WARPS * WARP;
    gather_thread_a_row<<<ceil_div(count, threads), threads>>>(table, ids, out, count, dim, rows);
}

extern "C" void embedding_forward(const float* table, const int* ids, float* out, int count,
                                  int dim, int rows) {
    if (count == 0 || dim == 0) return;
    const int blocks = ceil_div(count, WARPS);
    if (dim % 4 == 0) {
        gather_warp_a_row<float4><<<blocks, WARPS * WARP>>>(
            reinterpret_cast<const float4*>(table), ids, reinterpret_cast<float4*>(out), count,
            dim / 4, rows);
    } else {
        gather_warp_a_row<float><<<blocks, WARPS * WARP>>>(table, ids, out, count, dim, rows);
    }
}

extern "C" void embedding_backward_atomic(const float* upstream, const int* ids, float* grad,
                                          int count, int dim, int rows) {
    if (count == 0 || dim == 0) return;
    scatter_add_atomic<<<ceil_div(count, WARPS), WARPS * WARP>>>(upstream, ids, grad, count, dim,
                                                                 rows);
}

extern "C" void embedding_backward(const float* upstream, const int* ids, float* grad, int count,
                                   int dim, int rows) {
    if (count == 0 || dim == 0) return;
    const int threads = dim < COLUMNS ? ceil_div(dim, WARP) * WARP : COLUMNS;
    const dim3 grid(ceil_div(count, CHUNK), ceil_div(dim, threads));
    scatter_add_grouped<<<grid, threads>>>(upstream, ids, grad, count, dim, rows);
}
