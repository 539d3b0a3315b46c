// Barriers, warp functions, fences and printf. Included by cuda_runtime.h.
#pragma once

#include <cstring>

#include "caller_line.h"

EMU_INLINE void __syncthreads(EMU_HERE) { emu_barrier(EMU_BARRIER, 0, line); }
EMU_INLINE int __syncthreads_count(int predicate, EMU_HERE) {
    return emu_barrier(EMU_BARRIER_COUNT, predicate, line);
}
EMU_INLINE int __syncthreads_and(int predicate, EMU_HERE) {
    return emu_barrier(EMU_BARRIER_AND, predicate, line);
}
EMU_INLINE int __syncthreads_or(int predicate, EMU_HERE) {
    return emu_barrier(EMU_BARRIER_OR, predicate, line);
}
EMU_INLINE void __syncwarp(unsigned mask = 0xffffffffu, EMU_HERE) { emu_warp_sync(mask, line); }
EMU_INLINE unsigned __activemask() { return emu_active_mask(); }

EMU_INLINE void __threadfence_block() { emu_fence(EMU_FENCE_BLOCK); }
EMU_INLINE void __threadfence() { emu_fence(EMU_FENCE_DEVICE); }
EMU_INLINE void __threadfence_system() { emu_fence(EMU_FENCE_SYSTEM); }

namespace emu {
template <class T>
EMU_INLINE std::uint64_t to_bits(T value) {
    static_assert(sizeof(T) <= 8 && emu::is_plain<T>::value,
                  "warp functions and atomics take plain values of up to 8 bytes");
    std::uint64_t bits = 0;
    __builtin_memcpy(&bits, &value, sizeof(T));
    return bits;
}
template <class T>
EMU_INLINE T from_bits(std::uint64_t bits) {
    T value;
    __builtin_memcpy(static_cast<void*>(&value), &bits, sizeof(T));
    return value;
}
}  // namespace emu

template <class T>
EMU_INLINE T __shfl_sync(unsigned mask, T value, int lane, int width = 32, EMU_HERE) {
    return emu::from_bits<T>(
        emu_shuffle(mask, emu::to_bits(value), EMU_SHUFFLE, lane, width, line));
}
template <class T>
EMU_INLINE T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32, EMU_HERE) {
    return emu::from_bits<T>(emu_shuffle(mask, emu::to_bits(value), EMU_SHUFFLE_UP,
                                         static_cast<int>(delta), width, line));
}
template <class T>
EMU_INLINE T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32, EMU_HERE) {
    return emu::from_bits<T>(emu_shuffle(mask, emu::to_bits(value), EMU_SHUFFLE_DOWN,
                                         static_cast<int>(delta), width, line));
}
template <class T>
EMU_INLINE T __shfl_xor_sync(unsigned mask, T value, int lane_mask, int width = 32, EMU_HERE) {
    return emu::from_bits<T>(
        emu_shuffle(mask, emu::to_bits(value), EMU_SHUFFLE_XOR, lane_mask, width, line));
}
EMU_INLINE unsigned __ballot_sync(unsigned mask, int predicate, EMU_HERE) {
    return emu_vote(mask, EMU_BALLOT, predicate, line);
}
EMU_INLINE int __any_sync(unsigned mask, int predicate, EMU_HERE) {
    return static_cast<int>(emu_vote(mask, EMU_ANY, predicate, line));
}
EMU_INLINE int __all_sync(unsigned mask, int predicate, EMU_HERE) {
    return static_cast<int>(emu_vote(mask, EMU_ALL, predicate, line));
}
template <class T>
EMU_INLINE unsigned __match_any_sync(unsigned mask, T value, EMU_HERE) {
    return emu_match_any(mask, emu::to_bits(value), line);
}

#define EMU_REDUCE(name, kind)                                                           \
    EMU_INLINE unsigned name(unsigned mask, unsigned value, EMU_HERE) {                  \
        return emu_warp_reduce(mask, kind, value, 0, line);                              \
    }                                                                                    \
    EMU_INLINE int name(unsigned mask, int value, EMU_HERE) {                            \
        return static_cast<int>(                                                         \
            emu_warp_reduce(mask, kind, static_cast<unsigned>(value), 1, line));         \
    }
EMU_REDUCE(__reduce_add_sync, EMU_ADD)
EMU_REDUCE(__reduce_min_sync, EMU_MIN)
EMU_REDUCE(__reduce_max_sync, EMU_MAX)
EMU_REDUCE(__reduce_and_sync, EMU_AND)
EMU_REDUCE(__reduce_or_sync, EMU_OR)
EMU_REDUCE(__reduce_xor_sync, EMU_XOR)
#undef EMU_REDUCE

// ---- printf: each argument is passed with its type, so a format can't reach other memory
namespace emu {
EMU_INLINE EmuValue printed(const char* text) {
    return {'s', reinterpret_cast<std::uint64_t>(text)};
}
template <class T>
EMU_INLINE EmuValue printed(T value) {
    if constexpr (std::is_floating_point<T>::value) {
        return {'f', to_bits(static_cast<double>(value))};
    } else if constexpr (std::is_pointer<T>::value) {
        return {'p', reinterpret_cast<std::uint64_t>(value)};
    } else if constexpr (std::is_signed<T>::value) {
        return {'i', static_cast<std::uint64_t>(static_cast<std::int64_t>(value))};
    } else {
        return {'u', static_cast<std::uint64_t>(value)};
    }
}
template <class... Values>
EMU_INLINE int print(const char* format, Values... values) {
    const EmuValue all[sizeof...(Values) + 1] = {printed(values)..., EmuValue{0, 0}};
    return emu_print(format, all, sizeof...(Values));
}
}  // namespace emu
#define printf(...) (::emu::print(__VA_ARGS__))
#define __trap() (::emu_trap("__trap()", __LINE__))
#undef assert
#define assert(condition) \
    ((condition) ? static_cast<void>(0) : ::emu_trap("assert(" #condition ")", __LINE__))
