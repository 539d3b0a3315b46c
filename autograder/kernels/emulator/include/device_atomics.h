// Atomic functions. Included by cuda_runtime.h.
#pragma once

namespace emu {
template <class T>
constexpr int type_of() {
    if constexpr (std::is_same<T, float>::value) return EMU_FLOAT32;
    else if constexpr (std::is_same<T, double>::value) return EMU_FLOAT64;
    else if constexpr (sizeof(T) == 8) return std::is_signed<T>::value ? EMU_INT64 : EMU_UINT64;
    else return std::is_signed<T>::value ? EMU_INT32 : EMU_UINT32;
}
template <class T>
EMU_INLINE std::uint64_t atomic_bits(T value) {
    std::uint64_t bits = 0;
    __builtin_memcpy(&bits, &value, sizeof(T));
    return bits;
}
template <class T>
EMU_INLINE T atomic(int operation, T* address, T value, T compare = T()) {
    std::uint64_t old = emu_atomic(operation, type_of<T>(), address, atomic_bits(value),
                                   atomic_bits(compare));
    T result;
    __builtin_memcpy(&result, &old, sizeof(T));
    return result;
}
}  // namespace emu

#define EMU_ATOMIC(name, kind, type)                                       \
    EMU_INLINE type name(type* address, type value) {                      \
        return emu::atomic<type>(kind, address, value);                    \
    }
#define EMU_ATOMIC_INTEGERS(name, kind)                                    \
    EMU_ATOMIC(name, kind, int)                                            \
    EMU_ATOMIC(name, kind, unsigned)                                       \
    EMU_ATOMIC(name, kind, unsigned long long)
EMU_ATOMIC_INTEGERS(atomicAdd, EMU_ATOMIC_ADD)
EMU_ATOMIC(atomicAdd, EMU_ATOMIC_ADD, float)
EMU_ATOMIC(atomicAdd, EMU_ATOMIC_ADD, double)
EMU_ATOMIC_INTEGERS(atomicMin, EMU_ATOMIC_MIN)
EMU_ATOMIC(atomicMin, EMU_ATOMIC_MIN, long long)
EMU_ATOMIC_INTEGERS(atomicMax, EMU_ATOMIC_MAX)
EMU_ATOMIC(atomicMax, EMU_ATOMIC_MAX, long long)
EMU_ATOMIC_INTEGERS(atomicAnd, EMU_ATOMIC_AND)
EMU_ATOMIC_INTEGERS(atomicOr, EMU_ATOMIC_OR)
EMU_ATOMIC_INTEGERS(atomicXor, EMU_ATOMIC_XOR)
EMU_ATOMIC_INTEGERS(atomicExch, EMU_ATOMIC_EXCHANGE)
EMU_ATOMIC(atomicExch, EMU_ATOMIC_EXCHANGE, float)
EMU_ATOMIC(atomicInc, EMU_ATOMIC_INCREMENT, unsigned)
EMU_ATOMIC(atomicDec, EMU_ATOMIC_DECREMENT, unsigned)
#undef EMU_ATOMIC_INTEGERS
#undef EMU_ATOMIC

EMU_INLINE int atomicSub(int* address, int value) { return atomicAdd(address, -value); }
EMU_INLINE unsigned atomicSub(unsigned* address, unsigned value) {
    return atomicAdd(address, 0u - value);
}
template <class T>
EMU_INLINE T atomicCAS(T* address, std::common_type_t<T> compare, std::common_type_t<T> value) {
    static_assert(std::is_integral<T>::value && sizeof(T) >= 4, "atomicCAS takes integers");
    return emu::atomic<T>(EMU_ATOMIC_COMPARE, address, value, compare);
}
