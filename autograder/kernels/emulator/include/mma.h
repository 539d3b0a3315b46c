// nvcuda::wmma for tiles of 16x16x16: half and bfloat16 factors, float or half sums. Follows the
// CUDA C++ Programming Guide, "Warp Matrix Functions".
//
// A fragment is spread over the warp as in the PTX instruction mma.m16n8k16, twice side by side
// (PTX ISA, "Matrix Fragments for mma.m16n8k16"). Lane l holds, in x[0..7]:
//   matrix_a, sums   row l/4 + 8 * (i/2 % 2)                column 2 * (l%4) + i%2 + 8 * (i/4)
//   matrix_b         row 2 * (l%4) + i%2 + 8 * (i/2 % 2)    column l/4 + 8 * (i/4)
// A GPU may do otherwise, so only elementwise work on x is portable, as CUDA says. Loads and stores
// are made by the lanes, in pairs where two elements lie side by side. The product is computed from
// shuffles, which a report counts: 24 an mma_sync, and a vote for a load or a store. Products are
// exact; they are added up in float.
#pragma once

#include "caller_line.h"
#include "cuda_bf16.h"
#include "cuda_fp16.h"

namespace nvcuda {
namespace wmma {

struct matrix_a {};
struct matrix_b {};
struct accumulator {};
struct row_major {};
struct col_major {};
enum layout_t { mem_row_major, mem_col_major };

namespace emu_details {
template <class Use, class T>
constexpr bool known() {
    if (std::is_same<Use, accumulator>::value) {
        return std::is_same<T, float>::value || std::is_same<T, __half>::value;
    }
    return std::is_same<T, __half>::value || std::is_same<T, __nv_bfloat16>::value;
}
template <class Use>
EMU_INLINE unsigned row_of(int i) {
    const unsigned lane = emu_lane();
    if (std::is_same<Use, matrix_b>::value) return 2 * (lane % 4) + i % 2 + 8 * (i / 2 % 2);
    return lane / 4 + 8 * (i / 2 % 2);
}
template <class Use>
EMU_INLINE unsigned column_of(int i) {
    const unsigned lane = emu_lane();
    if (std::is_same<Use, matrix_b>::value) return lane / 4 + 8 * (i / 4);
    return 2 * (lane % 4) + i % 2 + 8 * (i / 4);
}

// All lanes must be here, but nothing orders their memory accesses.
EMU_INLINE void together(emu::Line line) { emu_vote(~0u, EMU_ALL, 1, line.number); }

template <class T>
EMU_INLINE void check_tile(const T* tile, unsigned stride, emu::Line line) {
    if (reinterpret_cast<std::uintptr_t>(tile) % 32) {
        emu_trap("wmma: the address of a tile must be a multiple of 32 bytes", line.number);
    }
    if (stride % (16 / sizeof(T))) {
        emu_trap("wmma: the stride of a tile must be a multiple of 16 bytes", line.number);
    }
}

// Two neighbours in memory, moved in one access.
template <class T>
struct Pair {
    using Word = typename emu::Word<std::conditional_t<sizeof(T) == 2, unsigned short, unsigned>,
                                    2 * sizeof(T)>::type;
    static EMU_INLINE void copy(T* to, const T* from) {
        *reinterpret_cast<Word*>(to) = *reinterpret_cast<const Word*>(from);
    }
};
}  // namespace emu_details

template <class Use, int M, int N, int K, class T, class Layout = void>
class fragment {
    static_assert(M == 16 && N == 16 && K == 16, "only tiles of 16x16x16 are supported here");
    static_assert(emu_details::known<Use, T>(),
                  "supported here: half and bfloat16 factors, float and half sums");
    static_assert(std::is_same<Use, accumulator>::value == std::is_void<Layout>::value,
                  "matrix_a and matrix_b need a layout, an accumulator has none");

public:
    using element_type = T;
    static constexpr int num_elements = 8;
    T x[num_elements];
};

template <class Use, int M, int N, int K, class T, class Layout, class Value>
EMU_INLINE void fill_fragment(fragment<Use, M, N, K, T, Layout>& to, const Value& value) {
    for (int i = 0; i < 8; ++i) to.x[i] = static_cast<T>(value);
}

namespace emu_details {
template <class Use, class Fragment, class T>
EMU_INLINE void load(Fragment& to, const T* tile, unsigned stride, bool by_rows, emu::Line line) {
    together(line);
    check_tile(tile, stride, line);
    const bool rows_of_pairs = !std::is_same<Use, matrix_b>::value;
    for (int i = 0; i < 8; i += 2) {
        const unsigned row = row_of<Use>(i), column = column_of<Use>(i);
        const T* from = by_rows ? tile + row * stride + column : tile + column * stride + row;
        if (by_rows == rows_of_pairs) {
            Pair<T>::copy(&to.x[i], from);
        } else {
            to.x[i] = from[0];
            to.x[i + 1] = from[stride];
        }
    }
}
}  // namespace emu_details

template <class Use, int M, int N, int K, class T, class Layout>
EMU_INLINE void load_matrix_sync(fragment<Use, M, N, K, T, Layout>& to, const T* tile,
                                 unsigned stride, EMU_HERE) {
    static_assert(!std::is_void<Layout>::value, "an accumulator's layout is a fourth argument");
    emu_details::load<Use>(to, tile, stride, std::is_same<Layout, row_major>::value, line);
}
template <int M, int N, int K, class T>
EMU_INLINE void load_matrix_sync(fragment<accumulator, M, N, K, T>& to, const T* tile,
                                 unsigned stride, layout_t layout, EMU_HERE) {
    emu_details::load<accumulator>(to, tile, stride, layout == mem_row_major, line);
}
template <int M, int N, int K, class T>
EMU_INLINE void store_matrix_sync(T* tile, const fragment<accumulator, M, N, K, T>& from,
                                  unsigned stride, layout_t layout, EMU_HERE) {
    emu_details::together(line);
    emu_details::check_tile(tile, stride, line);
    for (int i = 0; i < 8; i += 2) {
        const unsigned row = emu_details::row_of<accumulator>(i);
        const unsigned column = emu_details::column_of<accumulator>(i);
        if (layout == mem_row_major) {
            emu_details::Pair<T>::copy(tile + row * stride + column, &from.x[i]);
        } else {
            tile[column * stride + row] = from.x[i];
            tile[(column + 1) * stride + row] = from.x[i + 1];
        }
    }
}

namespace emu_details {
// The 8 elements of another lane.
template <class T>
EMU_INLINE void gather(float (&to)[8], const T (&mine)[8], unsigned lane, emu::Line line) {
    static_assert(sizeof(T) == 2, "factors have 16 bits");
    for (int i = 0; i < 8; i += 4) {
        std::uint64_t four = 0;
        for (int j = 0; j < 4; ++j) {
            four |= static_cast<std::uint64_t>(mine[i + j].emu_bits) << (16 * j);
        }
        four = emu_shuffle(~0u, four, EMU_SHUFFLE, static_cast<int>(lane), 32, line.number);
        for (int j = 0; j < 4; ++j) {
            to[i + j] = T::of_bits(static_cast<unsigned>(four >> (16 * j)) & 0xffffu);
        }
    }
}
}  // namespace emu_details

// d = a * b + c. Lane l computes rows l/4 and l/4 + 8, columns 2 * (l%4) + {0, 1, 8, 9}.
template <class D, class T, class LayoutA, class LayoutB, class C>
EMU_INLINE void mma_sync(fragment<accumulator, 16, 16, 16, D>& d,
                         const fragment<matrix_a, 16, 16, 16, T, LayoutA>& a,
                         const fragment<matrix_b, 16, 16, 16, T, LayoutB>& b,
                         const fragment<accumulator, 16, 16, 16, C>& c, EMU_HERE) {
    static_assert(std::is_same<T, __half>::value || std::is_same<D, float>::value,
                  "bfloat16 factors have float sums");
    static_assert(std::is_same<T, __half>::value || std::is_same<C, float>::value,
                  "bfloat16 factors have float sums");
    const unsigned lane = emu_lane();
    float sums[8];
    for (int i = 0; i < 8; ++i) sums[i] = static_cast<float>(c.x[i]);
    // Lane 4 * row + j holds the k in {2j, 2j + 1, 2j + 8, 2j + 9} of its rows and columns.
    for (unsigned j = 0; j < 4; ++j) {
        float rows[8], columns[2][8];
        emu_details::gather(rows, a.x, lane / 4 * 4 + j, line);
        emu_details::gather(columns[0], b.x, lane % 4 * 8 + j, line);
        emu_details::gather(columns[1], b.x, lane % 4 * 8 + 4 + j, line);
        for (int i = 0; i < 8; ++i) {
            const int low = i / 2 % 2, right = i / 4;  // the lower rows, the right columns
            for (int k = 0; k < 4; ++k) {
                sums[i] += rows[2 * low + k % 2 + 4 * (k / 2)] *
                           columns[i % 2][4 * right + k % 2 + 2 * (k / 2)];
            }
        }
    }
    for (int i = 0; i < 8; ++i) d.x[i] = static_cast<D>(sums[i]);
}

}  // namespace wmma
}  // namespace nvcuda
