// Task 2.1: element-wise operations on tensors of any layout: map (one tensor in) and zip (two).
//
// Two kernels for each. The strided one takes any layout: transposed, sliced, reversed, broadcast
// (stride 0). The contiguous one is for the common case, where the elements lie in a row from a
// 16-byte boundary on: it moves float4, a quarter of the memory instructions, and divides nothing.
//
// All of them are grid-stride loops: thread t of T = gridDim.x * blockDim.x takes the elements t,
// t + T, t + 2T, … of `size`. So any grid covers any size, and at each step the 32 lanes of a warp
// hold 32 neighbours: 128 bytes, which memory delivers as 4 sectors of 32 bytes. The other way to
// share, a run of size / T elements a thread, puts the lanes far apart: 32 sectors for 128 bytes.
#include "common.cuh"
#include "elementwise_operations.cuh"

constexpr int THREADS = 256;  // of a block, in every launch of this file
constexpr int MAX_RANK = 4;   // of a Layout
static_assert(sizeof(Layout::shape) == MAX_RANK * sizeof(int), "common.cuh has another rank");

// Where element number `index`, counted in row-major order, lies: the sum over the dimensions of
// coordinate times stride. Shape (2, 3): number 4 is [1, 1], at stride[0] + stride[1].
//
// layout.rank is 1 to 4. The coordinate in the last dimension is index % shape, and index / shape
// is the number within the dimensions before it. A division is tens of instructions on a GPU: one
// for each dimension but the first, whose coordinate is what is left. Let the compiler unroll the
// loop (over MAX_RANK, skipping what rank lacks): registers have no index, so an array that is
// indexed by a variable can end up in local memory, which is off the chip.
__device__ int position_of(int index, const Layout& layout) {
    // BEGIN SOLUTION 2.1
    int position = 0;
#pragma unroll
    for (int d = MAX_RANK - 1; d > 0; --d) {
        if (d < layout.rank) {
            position += index % layout.shape[d] * layout.stride[d];
            index /= layout.shape[d];
        }
    }
    return position + index * layout.stride[0];
    // END SOLUTION
}

// out[i] = operation(element number i of x) for 0 <= i < size.
//
// x: where element [0, …, 0] lies, with `layout`; out: (size,), contiguous.
// Launch (given): any number of blocks of THREADS. Traffic: one load and one store an element;
// stores, and loads where the last stride is 1, take 4 sectors for each warp of 32 elements.
template <typename Operation>
__global__ void map_strided(
    Operation operation, const float* __restrict__ x, Layout layout, float* __restrict__ out,
    int size
) {
    // BEGIN SOLUTION 2.1
    const int step = gridDim.x * blockDim.x;
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < size; i += step) {
        out[i] = operation(x[position_of(i, layout)]);
    }
    // END SOLUTION
}

// out[i] = operation(x[i]) for 0 <= i < size; x and out start at a 16-byte boundary.
//
// A thread moves four elements at a time: a float4 is one 16-byte load, a warp's are 16 sectors in
// one instruction. size / 4 of them, by a grid-stride loop; then up to 3 elements are left, one for
// each of the grid's first threads. Launch (given): any number of blocks of THREADS.
template <typename Operation>
__global__ void map_contiguous(
    Operation operation, const float* __restrict__ x, float* __restrict__ out, int size
) {
    // BEGIN SOLUTION 2.1
    const int thread = blockIdx.x * blockDim.x + threadIdx.x, step = gridDim.x * blockDim.x;
    const float4* x4 = reinterpret_cast<const float4*>(x);
    float4* out4 = reinterpret_cast<float4*>(out);
    for (int i = thread; i < size / 4; i += step) {
        const float4 v = x4[i];
        out4[i] = make_float4(operation(v.x), operation(v.y), operation(v.z), operation(v.w));
    }
    const int left = size / 4 * 4 + thread;
    if (left < size) out[left] = operation(x[left]);
    // END SOLUTION
}

// out[i] = operation(element number i of a, element number i of b) for 0 <= i < size.
//
// a and b have one shape, each its own strides; out: (size,), contiguous. Otherwise as map_strided.
// One walk through the shape serves both operands: half the divisions of two calls of position_of.
template <typename Operation>
__global__ void zip_strided(
    Operation operation, const float* __restrict__ a, Layout a_layout, const float* __restrict__ b,
    Layout b_layout, float* __restrict__ out, int size
) {
    // BEGIN SOLUTION 2.1
    const int step = gridDim.x * blockDim.x;
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < size; i += step) {
        int rest = i, at_a = 0, at_b = 0;
#pragma unroll
        for (int d = MAX_RANK - 1; d > 0; --d) {
            if (d < a_layout.rank) {
                const int coordinate = rest % a_layout.shape[d];
                rest /= a_layout.shape[d];
                at_a += coordinate * a_layout.stride[d];
                at_b += coordinate * b_layout.stride[d];
            }
        }
        at_a += rest * a_layout.stride[0];
        at_b += rest * b_layout.stride[0];
        out[i] = operation(a[at_a], b[at_b]);
    }
    // END SOLUTION
}

// out[i] = operation(a[i], b[i]) for 0 <= i < size; all three start at a 16-byte boundary.
// As map_contiguous, with two loads for each store.
template <typename Operation>
__global__ void zip_contiguous(
    Operation operation, const float* __restrict__ a, const float* __restrict__ b,
    float* __restrict__ out, int size
) {
    // BEGIN SOLUTION 2.1
    const int thread = blockIdx.x * blockDim.x + threadIdx.x, step = gridDim.x * blockDim.x;
    const float4* a4 = reinterpret_cast<const float4*>(a);
    const float4* b4 = reinterpret_cast<const float4*>(b);
    for (int i = thread; i < size / 4; i += step) {
        const float4 v = a4[i], w = b4[i];
        reinterpret_cast<float4*>(out)[i] = make_float4(
            operation(v.x, w.x), operation(v.y, w.y), operation(v.z, w.z), operation(v.w, w.w)
        );
    }
    const int left = size / 4 * 4 + thread;
    if (left < size) out[left] = operation(a[left], b[left]);
    // END SOLUTION
}

// Whether the contiguous kernels may read the tensor at x: its elements lie in a row, and x is a
// multiple of 16 bytes (a slice x[1:] is not; a float4 load from there is an error on a GPU).
//
// The layout is merged (see merge_dimensions), so one look at rank and stride is enough. For the
// address, uintptr_t of <cstdint> is the integer that a pointer fits into. Host code, to be
// written first: both launches call it.
bool may_use_float4(const float* x, const Layout& layout) {
    // BEGIN SOLUTION 2.1
    const bool aligned = reinterpret_cast<uintptr_t>(x) % sizeof(float4) == 0;
    return aligned && layout.rank == 1 && layout.stride[0] == 1;
    // END SOLUTION
}

// ---- host code, given

// Blocks of a launch for `items` grid-stride steps' worth of work, `most` at most.
static int blocks_for(int items, int most) {
    const int enough = items > THREADS ? ceil_div(items, THREADS) : 1;
    return enough < most ? enough : most;
}

template <typename Operation>
static void launch_map(Operation operation, const float* x, Layout layout, float* out, int blocks) {
    const int size = size_of(layout);
    if (size == 0) return;  // a grid of no blocks is an error
    merge_dimensions(&layout, 1);
    if (may_use_float4(x, layout)) {
        map_contiguous<<<blocks_for(size / 4, blocks), THREADS>>>(operation, x, out, size);
    } else {
        map_strided<<<blocks_for(size, blocks), THREADS>>>(operation, x, layout, out, size);
    }
}

template <typename Operation>
static void launch_zip(
    Operation operation, const float* a, const Layout& a_layout, const float* b,
    const Layout& b_layout, float* out, int blocks
) {
    const int size = size_of(a_layout);
    if (size == 0) return;
    Layout layouts[2] = {a_layout, b_layout};
    merge_dimensions(layouts, 2);
    if (may_use_float4(a, layouts[0]) && may_use_float4(b, layouts[1])) {
        zip_contiguous<<<blocks_for(size / 4, blocks), THREADS>>>(operation, a, b, out, size);
    } else {
        zip_strided<<<blocks_for(size, blocks), THREADS>>>(
            operation, a, layouts[0], b, layouts[1], out, size
        );
    }
}

// out = operation(x): out is contiguous, at a 16-byte boundary, and has x's size. x[offset] is x's
// first element, `layout` its layout; at most `blocks` blocks run.
extern "C" void map_array(
    int operation, const float* x, int offset, Layout layout, float* out, int blocks
) {
    x += offset;
    switch (operation) {
        case NEGATE: return launch_map(Negate{}, x, layout, out, blocks);
        case EXP: return launch_map(Exp{}, x, layout, out, blocks);
        case LOG: return launch_map(Log{}, x, layout, out, blocks);
        case TANH: return launch_map(Tanh{}, x, layout, out, blocks);
        case RELU: return launch_map(Relu{}, x, layout, out, blocks);
        case GELU: return launch_map(Gelu{}, x, layout, out, blocks);
    }
}

// out = operation(a, b): as map_array; the layouts have one shape, broadcast dimensions stride 0.
extern "C" void zip_arrays(
    int operation, const float* a, int a_offset, Layout a_layout, const float* b, int b_offset,
    Layout b_layout, float* out, int blocks
) {
    a += a_offset;
    b += b_offset;
    switch (operation) {
        case ADD: return launch_zip(Add{}, a, a_layout, b, b_layout, out, blocks);
        case SUBTRACT: return launch_zip(Subtract{}, a, a_layout, b, b_layout, out, blocks);
        case MULTIPLY: return launch_zip(Multiply{}, a, a_layout, b, b_layout, out, blocks);
        case DIVIDE: return launch_zip(Divide{}, a, a_layout, b, b_layout, out, blocks);
        case MAXIMUM: return launch_zip(Maximum{}, a, a_layout, b, b_layout, out, blocks);
    }
}
