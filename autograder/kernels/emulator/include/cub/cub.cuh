// cub::WarpReduce and cub::BlockReduce. Follows the CUB documentation; the algorithms are those of
// its WARP_REDUCE_SHFL and BLOCK_REDUCE_WARP_REDUCTIONS: a tree of shuffles in each warp, whose
// results meet in shared memory and are added up by thread 0. So one barrier a call, and another
// __syncthreads() of the caller's before the same TempStorage is used again.
//
// The result is defined in lane 0 or thread 0 only. The other threads get all-ones bits here (a NaN
// as a float), where a GPU leaves something that looks like a sum.
#pragma once

#include "../caller_line.h"

namespace cuda {
namespace std {
template <class T = void>
struct plus;
template <>
struct plus<void> {
    template <class T>
    EMU_INLINE T operator()(T a, T b) const { return a + b; }
};
template <class T>
struct plus : plus<void> {};
}  // namespace std
template <class T = void>
struct maximum;
template <>
struct maximum<void> {
    template <class T>
    EMU_INLINE T operator()(T a, T b) const { return a < b ? b : a; }
};
template <class T>
struct maximum : maximum<void> {};
template <class T = void>
struct minimum;
template <>
struct minimum<void> {
    template <class T>
    EMU_INLINE T operator()(T a, T b) const { return b < a ? b : a; }
};
template <class T>
struct minimum : minimum<void> {};
}  // namespace cuda

namespace cub {

// Until CUDA 12; CUDA 13 has only those of namespace cuda.
using Sum = ::cuda::std::plus<>;
using Max = ::cuda::maximum<>;
using Min = ::cuda::minimum<>;

namespace emu_details {
template <class T>
EMU_INLINE T undefined() {
    T result;
    __builtin_memset(static_cast<void*>(&result), 0xff, sizeof(T));
    return result;
}

// The value of another lane, for any size of value.
template <class T>
EMU_INLINE T from_lane(unsigned mask, const T& value, unsigned lane, ::emu::Line line) {
    static_assert(::emu::is_plain<T>::value, "a reduced value is copied bit by bit");
    constexpr ::std::size_t words = (sizeof(T) + 7) / 8;
    ::std::uint64_t sent[words] = {}, received[words];
    __builtin_memcpy(sent, static_cast<const void*>(&value), sizeof(T));
    for (::std::size_t i = 0; i < words; ++i) {
        received[i] = emu_shuffle(mask, sent[i], EMU_SHUFFLE, static_cast<int>(lane), 32,
                                  line.number);
    }
    T result;
    __builtin_memcpy(static_cast<void*>(&result), received, sizeof(T));
    return result;
}

// The first of the `width` lanes that share `mask` gets what `valid` of them reduce to. The others
// take part in the shuffles, but what they hold then means nothing.
template <int width, class T, class Operation>
EMU_INLINE T warp_reduced(unsigned mask, T value, Operation operation, int valid,
                          ::emu::Line line) {
    const unsigned lane = emu_lane() % width;
    for (unsigned step = 1; step < width; step *= 2) {
        const bool combined = static_cast<int>(lane + step) < valid;
        const T other = from_lane(mask, value, emu_lane() + (combined ? step : 0u), line);
        if (combined) value = operation(value, other);
    }
    return value;
}
// The lanes of the `width` that this one is among.
template <int width>
EMU_INLINE unsigned lanes_around() {
    return width == 32 ? ~0u : ((1u << (width % 32)) - 1u) << (emu_lane() & ~(width - 1u));
}

template <class T, class Operation, int items>
EMU_INLINE T thread_reduced(T (&input)[items], Operation operation) {
    T result = input[0];
    for (int i = 1; i < items; ++i) result = operation(result, input[i]);
    return result;
}
}  // namespace emu_details

template <class T, int LogicalThreads = 32>
class WarpReduce {
    static_assert(LogicalThreads >= 1 && LogicalThreads <= 32 &&
                      (LogicalThreads & (LogicalThreads - 1)) == 0,
                  "a logical warp has 1, 2, 4, 8, 16 or 32 threads here");

public:
    struct TempStorage {};
    EMU_INLINE WarpReduce(TempStorage&) {}

    EMU_INLINE T Sum(T value, EMU_HERE) {
        return reduced(value, ::cuda::std::plus<>(), LogicalThreads, line);
    }
    EMU_INLINE T Sum(T value, int valid_items, EMU_HERE) {
        return reduced(value, ::cuda::std::plus<>(), valid_items, line);
    }
    template <class Operation>
    EMU_INLINE T Reduce(T value, Operation operation, EMU_HERE) {
        return reduced(value, operation, LogicalThreads, line);
    }
    template <class Operation>
    EMU_INLINE T Reduce(T value, Operation operation, int valid_items, EMU_HERE) {
        return reduced(value, operation, valid_items, line);
    }

private:
    template <class Operation>
    EMU_INLINE T reduced(T value, Operation operation, int valid, ::emu::Line line) {
        const T result = emu_details::warp_reduced<LogicalThreads>(
            emu_details::lanes_around<LogicalThreads>(), value, operation,
            valid < LogicalThreads ? valid : LogicalThreads, line);
        return emu_lane() % LogicalThreads == 0 ? result : emu_details::undefined<T>();
    }
};

enum BlockReduceAlgorithm {
    BLOCK_REDUCE_RAKING_COMMUTATIVE_ONLY,
    BLOCK_REDUCE_RAKING,
    BLOCK_REDUCE_WARP_REDUCTIONS,
};

// Every algorithm is computed as BLOCK_REDUCE_WARP_REDUCTIONS.
template <class T, int BlockX, BlockReduceAlgorithm Algorithm = BLOCK_REDUCE_WARP_REDUCTIONS,
          int BlockY = 1, int BlockZ = 1>
class BlockReduce {
    static constexpr int threads = BlockX * BlockY * BlockZ, warps = (threads + 31) / 32;

public:
    struct TempStorage {
        T warp_results[warps];
    };
    EMU_INLINE BlockReduce(TempStorage& storage) : storage_(storage) {}

    EMU_INLINE T Sum(T value, EMU_HERE) {
        return reduced(value, ::cuda::std::plus<>(), threads, line);
    }
    EMU_INLINE T Sum(T value, int valid_items, EMU_HERE) {
        return reduced(value, ::cuda::std::plus<>(), valid_items, line);
    }
    template <int items>
    EMU_INLINE T Sum(T (&values)[items], EMU_HERE) {
        return reduced(emu_details::thread_reduced(values, ::cuda::std::plus<>()),
                       ::cuda::std::plus<>(), threads, line);
    }
    template <class Operation>
    EMU_INLINE T Reduce(T value, Operation operation, EMU_HERE) {
        return reduced(value, operation, threads, line);
    }
    template <class Operation>
    EMU_INLINE T Reduce(T value, Operation operation, int valid_items, EMU_HERE) {
        return reduced(value, operation, valid_items, line);
    }
    template <class Operation, int items>
    EMU_INLINE T Reduce(T (&values)[items], Operation operation, EMU_HERE) {
        return reduced(emu_details::thread_reduced(values, operation), operation, threads, line);
    }

private:
    template <class Operation>
    EMU_INLINE T reduced(T value, Operation operation, int valid, ::emu::Line line) {
        const int rank = static_cast<int>(
            (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x);
        const int warp = rank / 32, lanes = threads - 32 * warp, in_warp = valid - 32 * warp;
        if (blockDim.x != BlockX || blockDim.y != BlockY || blockDim.z != BlockZ) {
            emu_trap("cub::BlockReduce was made for a block of another shape", line.number);
        }
        const unsigned mask = lanes >= 32 ? ~0u : (1u << (lanes % 32)) - 1u;
        T result = emu_details::warp_reduced<32>(
            mask, value, operation, in_warp < lanes ? in_warp : lanes, line);
        if (rank % 32 == 0) storage_.warp_results[warp] = result;
        emu_barrier(EMU_BARRIER, 0, line.number);
        if (rank != 0) return emu_details::undefined<T>();
        for (int i = 1; i < warps && 32 * i < valid; ++i) {
            result = operation(result, storage_.warp_results[i]);
        }
        return result;
    }
    TempStorage& storage_;
};

}  // namespace cub
