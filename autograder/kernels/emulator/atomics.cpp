// Atomic functions: checked like any access, then done as real atomics (blocks may run on two
// threads in fast mode).
#include <cmath>
#include <cstring>

#include "machine.h"

namespace emu {

namespace {

template <class T>
T from_bits(std::uint64_t bits) {
    T value;
    std::memcpy(&value, &bits, sizeof(T));
    return value;
}

float half_to_float(std::uint16_t half) {
    const std::uint32_t exponent = half >> 10 & 31, fraction = half & 1023;
    float value;
    if (exponent == 31) value = fraction ? NAN : INFINITY;
    else if (exponent) value = std::ldexp(1024.0f + fraction, static_cast<int>(exponent) - 25);
    else value = std::ldexp(static_cast<float>(fraction), -24);
    return half >> 15 ? -value : value;
}

std::uint16_t float_to_half(float value) {
    const std::uint16_t sign = std::signbit(value) ? 0x8000 : 0;
    const float size = std::fabs(value);
    if (std::isnan(value)) return 0x7fff;
    if (size >= 65520.0f) return sign | 0x7c00;
    if (size < 6.103515625e-5f) return sign | static_cast<std::uint16_t>(std::nearbyint(std::ldexp(size, 24)));
    int exponent;
    const float fraction = std::frexp(size, &exponent);  // [0.5, 1)
    const int bits = static_cast<int>(std::nearbyint(std::ldexp(fraction, 11)));  // 1024..2048
    return sign | static_cast<std::uint16_t>((exponent + 13) * 1024 + bits);
}

std::uint16_t float_to_bfloat(float value) {
    std::uint32_t bits;
    std::memcpy(&bits, &value, 4);
    if (std::isnan(value)) return 0x7fff;
    return static_cast<std::uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

float bfloat_to_float(std::uint16_t value) {
    return from_bits<float>(static_cast<std::uint64_t>(value) << 16);
}

template <class T>
T combine(int operation, T old, T value, T compare) {
    switch (operation) {
        case EMU_ATOMIC_ADD: return old + value;
        case EMU_ATOMIC_MIN: return value < old ? value : old;
        case EMU_ATOMIC_MAX: return value > old ? value : old;
        case EMU_ATOMIC_COMPARE: return old == compare ? value : old;
        case EMU_ATOMIC_INCREMENT: return old >= value ? T(0) : T(old + 1);
        case EMU_ATOMIC_DECREMENT: return old == T(0) || old > value ? value : T(old - 1);
        default: break;
    }
    if constexpr (std::is_integral<T>::value) {
        if (operation == EMU_ATOMIC_AND) return old & value;
        if (operation == EMU_ATOMIC_OR) return old | value;
        if (operation == EMU_ATOMIC_XOR) return old ^ value;
    }
    return value;
}

// Applies `change` to the bits at the address until no other thread came between.
template <class Bits, class Change>
std::uint64_t swap(void* address, Change change) {
    auto* place = static_cast<Bits*>(address);
    Bits old = __atomic_load_n(place, __ATOMIC_RELAXED), next;
    do {
        next = change(old);
    } while (!__atomic_compare_exchange_n(place, &old, next, false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED));
    return old;
}

template <class T, class Bits>
std::uint64_t apply(int operation, void* address, std::uint64_t value, std::uint64_t compare) {
    return swap<Bits>(address, [&](Bits old) {
        const T result = combine<T>(operation, from_bits<T>(old), from_bits<T>(value), from_bits<T>(compare));
        Bits bits = 0;
        std::memcpy(&bits, &result, sizeof(T));
        return bits;
    });
}

}  // namespace

}  // namespace emu

using namespace emu;

extern "C" std::uint64_t emu_atomic(int operation, int type, void* address, std::uint64_t value,
                                    std::uint64_t compare) {
    static const unsigned sizes[] = {4, 4, 8, 8, 4, 8, 2, 2};
    Thread* thread = current;
    if (thread->is_host) {
        Diagnostic found = describe("device function on the host", true, thread);
        found.text = "an atomic function";
        fail(found);
    }
    if (machine.options.instrumented) {
        access_from_library((Address)address, sizes[type & 7], Access::Atomic, EMU_CALLER);
        if (machine.options.checks) release_acquire(thread, (Address)address);
    } else if (--thread->steps_left == 0) {  // a lock that another lane holds
        thread->steps_left = FAST_TURN;
        thread->yielded = true;
        yield_thread();
    }
    switch (type) {
        case EMU_INT32: return apply<std::int32_t, std::uint32_t>(operation, address, value, compare);
        case EMU_UINT32: return apply<std::uint32_t, std::uint32_t>(operation, address, value, compare);
        case EMU_INT64: return apply<std::int64_t, std::uint64_t>(operation, address, value, compare);
        case EMU_UINT64: return apply<std::uint64_t, std::uint64_t>(operation, address, value, compare);
        case EMU_FLOAT32: return apply<float, std::uint32_t>(operation, address, value, compare);
        case EMU_FLOAT64: return apply<double, std::uint64_t>(operation, address, value, compare);
        case EMU_FLOAT16:
            return swap<std::uint16_t>(address, [&](std::uint16_t old) {
                const float own = half_to_float(static_cast<std::uint16_t>(value));
                return float_to_half(combine<float>(operation, half_to_float(old), own, 0));
            });
        default:
            return swap<std::uint16_t>(address, [&](std::uint16_t old) {
                const float own = bfloat_to_float(static_cast<std::uint16_t>(value));
                return float_to_bfloat(combine<float>(operation, bfloat_to_float(old), own, 0));
            });
    }
}
