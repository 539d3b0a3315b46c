// Tensor-core tiles of <mma.h>, for test_matrices.py.
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#include <mma.h>

namespace wmma = nvcuda::wmma;

// out = a b + c for one tile of 16x16x16; a, b, c and out have their own layouts and strides.
template <class T, class Sum, class LayoutA, class LayoutB>
__global__ void multiply(const T* a, int stride_a, const T* b, int stride_b, const Sum* c,
                         Sum* out, int stride_out, int out_by_rows) {
    wmma::fragment<wmma::matrix_a, 16, 16, 16, T, LayoutA> left;
    wmma::fragment<wmma::matrix_b, 16, 16, 16, T, LayoutB> right;
    wmma::fragment<wmma::accumulator, 16, 16, 16, Sum> sums;
    const wmma::layout_t layout = out_by_rows ? wmma::mem_row_major : wmma::mem_col_major;
    wmma::load_matrix_sync(left, a, stride_a);
    wmma::load_matrix_sync(right, b, stride_b);
    wmma::load_matrix_sync(sums, c, stride_out, layout);
    wmma::mma_sync(sums, left, right, sums);
    wmma::store_matrix_sync(out, sums, stride_out, layout);
}
template <class T, class Sum>
void multiply_any(int columns_a, int columns_b, const T* a, int stride_a, const T* b, int stride_b,
                  const Sum* c, Sum* out, int stride_out, int out_by_rows) {
    using Row = wmma::row_major;
    using Column = wmma::col_major;
    if (!columns_a && !columns_b) {
        multiply<T, Sum, Row, Row>
            <<<1, 32>>>(a, stride_a, b, stride_b, c, out, stride_out, out_by_rows);
    } else if (!columns_a) {
        multiply<T, Sum, Row, Column>
            <<<1, 32>>>(a, stride_a, b, stride_b, c, out, stride_out, out_by_rows);
    } else if (!columns_b) {
        multiply<T, Sum, Column, Row>
            <<<1, 32>>>(a, stride_a, b, stride_b, c, out, stride_out, out_by_rows);
    } else {
        multiply<T, Sum, Column, Column>
            <<<1, 32>>>(a, stride_a, b, stride_b, c, out, stride_out, out_by_rows);
    }
}
// kind: 0 half with float sums, 1 half with half sums, 2 bfloat16 with float sums.
extern "C" void launch_multiply(int kind, int columns_a, int columns_b, const unsigned* a,
                                int stride_a, const unsigned* b, int stride_b, const float* c,
                                float* out, int stride_out, int out_by_rows) {
    if (kind == 0) {
        multiply_any<__half, float>(columns_a, columns_b, reinterpret_cast<const __half*>(a),
                                    stride_a, reinterpret_cast<const __half*>(b), stride_b, c, out,
                                    stride_out, out_by_rows);
    }
    if (kind == 1) {
        multiply_any<__half, __half>(columns_a, columns_b, reinterpret_cast<const __half*>(a),
                                     stride_a, reinterpret_cast<const __half*>(b), stride_b,
                                     reinterpret_cast<const __half*>(c),
                                     reinterpret_cast<__half*>(out), stride_out, out_by_rows);
    }
    if (kind == 2) {
        multiply_any<__nv_bfloat16, float>(
            columns_a, columns_b, reinterpret_cast<const __nv_bfloat16*>(a), stride_a,
            reinterpret_cast<const __nv_bfloat16*>(b), stride_b, c, out, stride_out, out_by_rows);
    }
}

// out = scale * (a b) for n x n matrices, one warp a tile, a and b staged in shared memory.
__global__ void scaled_product(const __half* a, const __half* b, float* out, int n, float scale) {
    __shared__ __align__(32) __half left[16 * 16];
    __shared__ __align__(32) __half right[16 * 16];
    const int row = 16 * blockIdx.y, column = 16 * blockIdx.x, lane = threadIdx.x;
    wmma::fragment<wmma::accumulator, 16, 16, 16, float> sums;
    wmma::fill_fragment(sums, 0.0f);
    for (int k = 0; k < n; k += 16) {
        for (int i = lane; i < 256; i += 32) {
            left[i] = a[(row + i / 16) * n + k + i % 16];
            right[i] = b[(k + i / 16) * n + column + i % 16];
        }
        __syncwarp();
        wmma::fragment<wmma::matrix_a, 16, 16, 16, __half, wmma::row_major> x;
        wmma::fragment<wmma::matrix_b, 16, 16, 16, __half, wmma::row_major> y;
        wmma::load_matrix_sync(x, left, 16);
        wmma::load_matrix_sync(y, right, 16);
        wmma::mma_sync(sums, x, y, sums);
        __syncwarp();
    }
    for (int i = 0; i < sums.num_elements; ++i) sums.x[i] *= scale;
    wmma::store_matrix_sync(out + row * n + column, sums, n, wmma::mem_row_major);
}
extern "C" void launch_scaled_product(const unsigned* a, const unsigned* b, float* out, int n,
                                      float scale) {
    scaled_product<<<dim3(n / 16, n / 16), 32>>>(reinterpret_cast<const __half*>(a),
                                                 reinterpret_cast<const __half*>(b), out, n, scale);
}

// Wrong: nothing orders what the lanes write before what the tile's load reads.
__global__ void unordered(const __half* a, float* out) {
    __shared__ __align__(32) __half tile[16 * 16];
    for (int i = threadIdx.x; i < 256; i += 32) tile[i] = a[i];
    wmma::fragment<wmma::matrix_a, 16, 16, 16, __half, wmma::row_major> x;
    wmma::fragment<wmma::matrix_b, 16, 16, 16, __half, wmma::row_major> y;
    wmma::fragment<wmma::accumulator, 16, 16, 16, float> sums;
    wmma::load_matrix_sync(x, tile, 16);
    wmma::load_matrix_sync(y, tile, 16);
    wmma::fill_fragment(sums, 0.0f);
    wmma::mma_sync(sums, x, y, sums);
    wmma::store_matrix_sync(out, sums, 16, wmma::mem_row_major);
}
extern "C" void launch_unordered(const unsigned* a, float* out) {
    unordered<<<1, 32>>>(reinterpret_cast<const __half*>(a), out);
}
