// Task 2.10: causal scaled-dot-product attention, forward.
//
//     out[i] = sum of p[i][j] v[j] over j <= i, p[i] = softmax of scale * (q[i] . k[j]) over j <= i
//
// for each of `heads` heads (batch times heads, one after the other). q, k, v and out are float32
// (heads, time, head_dim), contiguous and 16-byte aligned; head_dim is 32 or 64; scale > 0.
//
//   naive  three kernels with a (time, time) matrix for each head between them
//   flash  one kernel that keeps a tile of scores at a time, on chip: nothing of size (time, time)
//          is stored, and each tile of queries reads the keys and values it sees once
//
// Flash attention: Dao et al. 2022; the online softmax: Milakov and Gimelshein 2018.
#include "common.cuh"

#include <cuda_pipeline.h>

namespace attention {

// ---- naive: given

// scores[i][j] = scale * (q[i] . k[j]) for j <= i, and -inf for keys of the future.
__global__ void naive_scores(
    const float* q, const float* k, float* scores, int time, int head_dim, float scale
) {
    int i = blockIdx.y, j = blockIdx.x * blockDim.x + threadIdx.x;
    if (j >= time) return;
    size_t row = size_t(blockIdx.z) * time + i;
    k += (size_t(blockIdx.z) * time + j) * head_dim;
    float sum = 0.0f;
    if (j <= i) {
        for (int d = 0; d < head_dim; ++d) sum += q[row * head_dim + d] * k[d];
    }
    scores[row * time + j] = j <= i ? scale * sum : -INFINITY;
}

// The softmax of each row of scores, in place, by one warp: maximum, sum, quotient.
__global__ void naive_softmax(float* scores, int time) {
    scores += (size_t(blockIdx.y) * time + blockIdx.x) * time;
    float largest = -INFINITY, total = 0.0f;
    for (int j = threadIdx.x; j < time; j += WARP) largest = fmaxf(largest, scores[j]);
    for (int far = 1; far < WARP; far *= 2) {
        largest = fmaxf(largest, __shfl_xor_sync(FULL_MASK, largest, far));
    }
    for (int j = threadIdx.x; j < time; j += WARP) total += expf(scores[j] - largest);
    for (int far = 1; far < WARP; far *= 2) total += __shfl_xor_sync(FULL_MASK, total, far);
    for (int j = threadIdx.x; j < time; j += WARP) scores[j] = expf(scores[j] - largest) / total;
}

// out[i][d] = sum over j <= i of p[i][j] v[j][d].
__global__ void naive_values(
    const float* p, const float* v, float* out, int time, int head_dim
) {
    int i = blockIdx.x, d = threadIdx.x;
    size_t first = size_t(blockIdx.y) * time;
    p += (first + i) * time;
    v += first * head_dim + d;
    float sum = 0.0f;
    for (int j = 0; j <= i; ++j) sum += p[j] * v[j * head_dim];
    out[(first + i) * head_dim + d] = sum;
}

// ---- flash
//
// A block takes QUERIES rows of q and walks over the keys in tiles of KEYS rows of k and v, up to
// the last key that one of its queries sees. Of every row it keeps the largest score so far, the
// sum of exp(score - largest) and the sum of exp(score - largest) v, and rescales both sums when a
// larger score turns up. At the end it divides the one by the other.
//
// 128 threads, 16 down (y) and 8 across (x). Of a tile of scores, thread (y, x) has rows y + 16 i
// and keys x + 8 j, for i, j < 4; of the output, those rows and four columns from 32 c + 4 x on,
// for each c < head_dim / 32. The 8 threads of a row are neighbours in one warp, so its maximum
// takes three shuffles and no barrier.
//
// Why these rows and keys: lanes that read at the same time read neighbouring rows, which PAD moves
// on by 4 banks each, so that no two float4s of a request lie in the same banks.
//
// The functions below are a way to get there, one step each; the kernel is what counts. Helpers may
// be filled in, replaced or left out. To begin with, let 64 threads have one query each, with the
// tile of q in shared memory and a row of the output in registers: k and v are read as they should
// be already.

constexpr int QUERIES = 64;
constexpr int KEYS = 32;
constexpr int THREADS = 128;
constexpr int ACROSS = 8;               // threads of one row
constexpr int DOWN = THREADS / ACROSS;
constexpr int ROWS = QUERIES / DOWN;    // rows of a thread: 4
constexpr int COLUMNS = KEYS / ACROSS;  // keys of a thread in a tile of scores: 4
constexpr int PAD = 4;                  // floats; a multiple of 4, so that rows stay aligned
constexpr int P_WIDTH = KEYS + 8;       // 4 rows of 8 neighbours fill the 32 banks

// exp(x) = exp2(x * LOG2_E): one instruction and a multiplication that the scale does anyway.
[[maybe_unused]] constexpr float LOG2_E = 1.44269504f;
[[maybe_unused]] constexpr float LN_2 = 0.69314718f;

// What a thread knows of its rows: the largest score so far (times scale * LOG2_E), the sum of the
// exponentials relative to it, and the output relative to it, still to be divided by that sum.
template <int HEAD_DIM>
struct RowState {
    float largest[ROWS];
    float total[ROWS];
    float out[ROWS][HEAD_DIM / ACROSS];
};

// Copies rows first_row … of `source` (time, HEAD_DIM) to a tile of COUNT rows, WIDTH apart; rows
// past the end become 0. All threads of the block take part, each with 16 bytes at a time,
// neighbours with neighbours. Given. The copies are asynchronous: they need __pipeline_commit()
// after the call, and __pipeline_wait_prior(0) and a barrier before anyone reads the tile.
template <int COUNT, int HEAD_DIM, int WIDTH>
__device__ void copy_rows(
    float (&tile)[COUNT][WIDTH], const float* source, int first_row, int time
) {
    for (int place = threadIdx.x * 4; place < COUNT * HEAD_DIM; place += THREADS * 4) {
        int row = place / HEAD_DIM, d = place % HEAD_DIM;
        if (first_row + row < time) {
            __pipeline_memcpy_async(
                &tile[row][d], source + size_t(first_row + row) * HEAD_DIM + d, sizeof(float4)
            );
        } else {
            *reinterpret_cast<float4*>(&tile[row][d]) = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        }
    }
}

// This thread's scores of a tile, q[row] . k[key] without the factor `scale`.
template <int HEAD_DIM>
__device__ void score_tile(
    const float (&q_tile)[QUERIES][HEAD_DIM + PAD], const float (&k_tile)[KEYS][HEAD_DIM + PAD],
    float (&scores)[ROWS][COLUMNS]
) {
    LLM_NOT_IMPLEMENTED("task 2.10: score_tile");
}

// Sets the scores of keys after the query to -inf; the tile begins at (first_query, first_key).
// Keys past the end of time are after every query that exists.
__device__ void mask_future(float (&scores)[ROWS][COLUMNS], int first_query, int first_key) {
    LLM_NOT_IMPLEMENTED("task 2.10: mask_future");
}

// One step of the online softmax. Replaces the scores by p = exp(scale * score - largest), where
// `largest` now takes in this tile, over all threads of the row; brings `total` and `out` to the
// new `largest`, and adds this thread's p to `total` (the threads' totals are added up at the very
// end). factor is scale * LOG2_E, and `largest` is kept multiplied by it. A row whose scores are
// all -inf so far has `largest` -inf, and p = 0 in it, not exp(-inf + inf).
template <int HEAD_DIM>
__device__ void online_softmax(
    float (&scores)[ROWS][COLUMNS], RowState<HEAD_DIM>& state, float factor
) {
    LLM_NOT_IMPLEMENTED("task 2.10: online_softmax");
}

// Adds p v of one tile to this thread's part of the output.
template <int HEAD_DIM>
__device__ void add_values(
    const float (&p_tile)[QUERIES][P_WIDTH], const float (&v_tile)[KEYS][HEAD_DIM],
    RowState<HEAD_DIM>& state
) {
    LLM_NOT_IMPLEMENTED("task 2.10: add_values");
}

// Divides by the rows' totals and writes this thread's part of the output, and the logsumexp of
// each row (scale * largest score + log(total)) unless `logsumexp` is null. Both point to this
// head's first row.
template <int HEAD_DIM>
__device__ void write_rows(
    RowState<HEAD_DIM>& state, float* out, float* logsumexp, int first_query, int time
) {
    LLM_NOT_IMPLEMENTED("task 2.10: write_rows");
}

// Grid (given): x over tiles of queries, y over heads; 128 threads. Memory allowed: q is read once,
// out and logsumexp are written once, and each block reads the tiles of k and v that begin at or
// before its last query, and before the end of time, once each. Nothing else is read or written.
//
// The tile of v is on its way while the scores are computed, and the next tile of k while their
// product with v is: one barrier before each use, which also says that the tile which is
// overwritten next has been read by all.
template <int HEAD_DIM>
__global__ void __launch_bounds__(THREADS, 4) flash(
    const float* q, const float* k, const float* v, float* out, float* logsumexp, int time,
    float scale
) {
    LLM_NOT_IMPLEMENTED("task 2.10: flash");
}

}  // namespace attention

// ---- entry points: given

extern "C" void attention_naive(
    const float* q, const float* k, const float* v, float* scores, float* out, int heads, int time,
    int head_dim, float scale
) {
    if (heads == 0 || time == 0) return;
    dim3 pairs(ceil_div(time, 128), time, heads);
    attention::naive_scores<<<pairs, 128>>>(q, k, scores, time, head_dim, scale);
    attention::naive_softmax<<<dim3(time, heads), WARP>>>(scores, time);
    attention::naive_values<<<dim3(time, heads), head_dim>>>(scores, v, out, time, head_dim);
}

// `logsumexp` (heads, time) may be null.
extern "C" void attention_flash(
    const float* q, const float* k, const float* v, float* out, float* logsumexp, int heads,
    int time, int head_dim, float scale
) {
    if (heads == 0 || time == 0) return;
    dim3 grid(ceil_div(time, attention::QUERIES), heads);
    if (head_dim == 32) {
        attention::flash<32><<<grid, attention::THREADS>>>(q, k, v, out, logsumexp, time, scale);
    } else {
        attention::flash<64><<<grid, attention::THREADS>>>(q, k, v, out, logsumexp, time, scale);
    }
}
