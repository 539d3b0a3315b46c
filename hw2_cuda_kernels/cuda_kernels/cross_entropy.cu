// Task 2.9: cross-entropy from logits over a large vocabulary, and its gradient, in one kernel.
//
// logits (rows, vocabulary), dense, in rows; targets (rows). For a row x with target t
//     loss        = log(sum_i exp(x[i])) - x[t]
//     gradient[i] = scale * (exp(x[i]) / sum_j exp(x[j]) - (i == t))
// The gradient overwrites the logits: 8,192 rows of 50,304 floats are 1.6 GB, and nothing else of
// that size may exist. `scale` is what the mean over the batch, and whatever comes after it,
// multiplies the gradient with; the losses are not scaled.
//
// A row whose target is ignore_index has loss 0 and a gradient of exact zeros, whatever its logits
// are, nan and infinities included. Any other target outside 0 … vocabulary - 1 is an error of the
// caller: its loss is nan and so is its whole gradient row, so that nobody misses it.
#include "common.cuh"

constexpr int MOST_THREADS = 512;  // of a block, which takes a row

// The sum of exp(x - max) over some elements x, and the max of them; of one element {x, 1}.
struct ExpSum {
    float max;
    float sum;
};

// The ExpSum of no elements. Given. -FLT_MAX, not -inf: -inf - -inf would be nan.
__device__ ExpSum no_elements() { return {-FLT_MAX, 0.0f}; }

// Version 1: a thread a row, a pass for each step. Given, to compare with.
//
// Three reads and a write of every logit, with 32 sectors a request: neighbouring threads are a row
// apart.
__global__ void cross_entropy_thread_a_row(float* logits, const int* __restrict__ targets,
                                           float* __restrict__ losses, int rows, int vocabulary,
                                           float scale, int ignore_index) {
    const int row = blockIdx.x * blockDim.x + threadIdx.x;
    if (row >= rows) return;
    float* x = logits + static_cast<size_t>(row) * vocabulary;
    const int target = targets[row];
    if (target == ignore_index) {
        for (int i = 0; i < vocabulary; ++i) x[i] = 0.0f;
        losses[row] = 0.0f;
        return;
    }
    const bool valid = 0 <= target && target < vocabulary;
    float max = -FLT_MAX;
    for (int i = 0; i < vocabulary; ++i) max = fmaxf(max, x[i]);
    float sum = 0.0f;
    for (int i = 0; i < vocabulary; ++i) sum += expf(x[i] - max);
    losses[row] = valid ? logf(sum) + (max - x[target]) : NAN;
    for (int i = 0; i < vocabulary; ++i) {
        const float probability = expf(x[i] - max) / sum;
        x[i] = valid ? scale * (probability - (i == target ? 1.0f : 0.0f)) : NAN;
    }
}

// The ExpSum of the elements of a and of b together.
//
// The larger max is the new one; the other's sum is scaled down to it. Must hold for no_elements()
// on either side or on both, and give nan where an element was nan or +inf, as torch does.
__device__ ExpSum merge(ExpSum a, ExpSum b) {
    LLM_NOT_IMPLEMENTED("task 2.9: merge");
}

// The ExpSum of the elements of `state` and four more. Given: one rescaling for four.
__device__ ExpSum merge_four(ExpSum state, float4 x) {
    const float max = fmaxf(fmaxf(fmaxf(x.x, x.y), fmaxf(x.z, x.w)), state.max);
    const float sum = expf(x.x - max) + expf(x.y - max) + expf(x.z - max) + expf(x.w - max);
    return {max, state.sum * expf(state.max - max) + sum};
}

// The ExpSum of all threads of the block, in every thread.
//
// Called by all threads of the block, whose number is a multiple of 32, once in a kernel. By warp
// shuffles first, then across warps through shared memory, one entry a warp; one barrier is enough
// if every warp reduces those entries itself.
__device__ ExpSum reduce_block(ExpSum own) {
    LLM_NOT_IMPLEMENTED("task 2.9: reduce_block");
}

// A row cut for float4 access: `head` floats before the first multiple of 16 bytes, `quads` float4s
// from there, and the rest. Rows of an odd vocabulary (50,257) begin anywhere. Given.
struct RowParts {
    float4* body;  // the quads
    int head;
    int quads;
    int edges;  // floats of the row that are in no quad: at most 6

    __device__ RowParts(float* row, int n) {
        const int to_boundary = static_cast<int>((16 - reinterpret_cast<uintptr_t>(row) % 16) % 16);
        head = to_boundary / 4 < n ? to_boundary / 4 : n;
        quads = (n - head) / 4;
        edges = n - 4 * quads;
        body = reinterpret_cast<float4*>(row + head);
    }

    // The column of an edge, 0 … edges - 1: those before the quads, then those behind them.
    __device__ int edge_column(int edge) const { return edge < head ? edge : edge + 4 * quads; }
};

// Version 2: a block a row, two reads and a write.
//
// The first walk over the row finds max and sum at once (online: the sum is rescaled where the max
// grows), the second writes the gradient over the logits. Then all that is left of the row is a
// loss. A vocabulary of 50,304 floats fits neither in registers nor in the shared memory of most
// GPUs, so two reads it is; the second comes from the L2 cache where that is large enough.
//   logits (rows, vocabulary), overwritten; targets (rows); losses (rows)
// Launch: a block a row, of a multiple of 32 threads, at most MOST_THREADS.
// Traffic: two reads and one write of every logit, coalesced; nothing is read from an ignored row.
// RowParts lets you read and write float4s in rows that begin anywhere; floats will do as well.
__global__ void cross_entropy_block_a_row(float* logits, const int* __restrict__ targets,
                                          float* __restrict__ losses, int vocabulary, float scale,
                                          int ignore_index) {
    LLM_NOT_IMPLEMENTED("task 2.9: cross_entropy_block_a_row");
}

// The launchers. Given.

extern "C" void cross_entropy_naive(float* logits, const int* targets, float* losses, int rows,
                                    int vocabulary, float scale, int ignore_index) {
    if (rows == 0) return;
    cross_entropy_thread_a_row<<<ceil_div(rows, 128), 128>>>(logits, targets, losses, rows,
                                                             vocabulary, scale, ignore_index);
}

extern "C" void cross_entropy(float* logits, const int* targets, float* losses, int rows,
                              int vocabulary, float scale, int ignore_index) {
    if (rows == 0) return;
    const int wanted = ceil_div(ceil_div(vocabulary, 4), WARP) * WARP;  // a quad a thread
    const int threads = wanted < WARP ? WARP : wanted < MOST_THREADS ? wanted : MOST_THREADS;
    cross_entropy_block_a_row<<<rows, threads>>>(logits, targets, losses, vocabulary, scale,
                                                 ignore_index);
}
