// Rounding to the 16-bit formats, and what __half and __nv_bfloat16 have in common.
// Included by cuda_fp16.h and cuda_bf16.h. Formats: IEEE 754-2019 section 3 (binary16), and its
// binary32 cut to 16 bits (bfloat16); rounding as section 4.3.
//
// Arithmetic rounds a float result to 16 bits. For + - * / and square root that equals rounding
// once, because a float has more than twice the digits plus two (S. Figueroa, "When is double
// rounding innocuous?", 1995). A fused multiply-add needs more care: see `fused`.
#pragma once

#include "cuda_runtime.h"

namespace emu {

enum class Round { nearest, zero, up, down };

// How many bits the stored fraction has, and the exponent of the smallest normal number.
struct Binary16 {
    static constexpr int fraction = 10, lowest = -14, type = EMU_FLOAT16;
};
struct Bfloat16 {
    static constexpr int fraction = 7, lowest = -126, type = EMU_BFLOAT16;
};

template <class Format>
constexpr unsigned infinity_bits() {
    return 0x8000u - (1u << Format::fraction);
}

// Any double, rounded once.
template <class Format>
EMU_PURE unsigned short narrowed(double value, Round mode = Round::nearest) {
    const std::uint64_t bits = same_bits<std::uint64_t>(value);
    const unsigned sign = static_cast<unsigned>(bits >> 48) & 0x8000u;
    const int biased = static_cast<int>(bits >> 52) & 0x7ff;
    const std::uint64_t stored = bits & 0xfffffffffffffull;
    if (biased == 0x7ff && stored) return 0x7fff;
    if (biased == 0x7ff) return static_cast<unsigned short>(sign | infinity_bits<Format>());
    const int exponent = biased - 1023;
    const std::uint64_t digits = biased ? stored | 1ull << 52 : 0;  // a subnormal double is tiny
    int shift = 52 - Format::fraction;
    if (exponent < Format::lowest) shift += Format::lowest - exponent;
    const bool tiny = shift > 54;
    const std::uint64_t kept = tiny ? 0 : digits >> shift;
    const std::uint64_t rest = tiny ? bits << 1 != 0 : digits - (kept << shift);
    const std::uint64_t half = tiny ? 2 : 1ull << (shift - 1);
    bool more = false;
    if (mode == Round::nearest) more = rest > half || (rest == half && (kept & 1));
    if (mode == Round::up) more = rest && !sign;
    if (mode == Round::down) more = rest && sign;
    unsigned result = static_cast<unsigned>(kept) + (more ? 1u : 0u);
    if (exponent > Format::lowest) {
        const int steps = exponent - Format::lowest;
        result = steps > 256 ? 0x8000u
                             : result + (static_cast<unsigned>(steps) << Format::fraction);
    }
    if (result >= infinity_bits<Format>()) {
        const bool outward = mode == Round::nearest || (mode == Round::up && !sign) ||
                             (mode == Round::down && sign);
        result = outward ? infinity_bits<Format>() : infinity_bits<Format>() - 1;
    }
    return static_cast<unsigned short>(sign | result);
}

// The two conversions that kernels use most, by arithmetic on the bits.
EMU_PURE unsigned short nearest(Binary16, float value) {
    const unsigned bits = same_bits<unsigned>(value);
    const unsigned sign = bits >> 16 & 0x8000u, size = bits & 0x7fffffffu;
    if (size > 0x7f800000u) return 0x7fff;
    if (size >= 0x47800000u) return static_cast<unsigned short>(sign | 0x7c00u);  // 65536 and up
    if (size < 0x38800000u) {  // below 2^-14: adding 1/2 makes the float's own rounding do it
        const float moved = same_bits<float>(size) + 0.5f;
        return static_cast<unsigned short>(sign | (same_bits<unsigned>(moved) - 0x3f000000u));
    }
    const unsigned rounded = size - 0x38000000u + 0xfffu + (size >> 13 & 1u);
    return static_cast<unsigned short>(sign | rounded >> 13);
}
EMU_PURE unsigned short nearest(Bfloat16, float value) {
    const unsigned bits = same_bits<unsigned>(value);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return 0x7fff;
    return static_cast<unsigned short>((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

EMU_PURE float widened(Binary16, unsigned short bits) {
    const unsigned size = (bits & 0x7fffu) << 13;
    unsigned result = same_bits<unsigned>(same_bits<float>(size) * 0x1p112f);
    if (size >= 0x0f800000u) result = size | 0x7f800000u;  // infinity and NaN
    return same_bits<float>(result | (bits & 0x8000u) << 16);
}
EMU_PURE float widened(Bfloat16, unsigned short bits) {
    return same_bits<float>(static_cast<unsigned>(bits) << 16);
}

// An integer as a double that rounds to 16 bits as the integer does: digits that do not fit a
// double are replaced by one that says they were there.
template <class T>
EMU_INLINE double narrowable(T value) {
    if constexpr (sizeof(T) <= 4) {
        return value;
    } else {
        const bool negative = value < T(0);
        std::uint64_t size = static_cast<std::uint64_t>(value);
        if (negative) size = 0 - size;
        if (size >> 53) size = (size & ~0xffffull) | (size & 0xffffull ? 0x8000ull : 0ull);
        const double result = static_cast<double>(size);
        return negative ? -result : result;
    }
}

// a * b + c to odd: the product of two 16-bit numbers is exact in double; where the sum is not, its
// last bit is set, so that rounding it again gives what rounding once gives (S. Boldo and
// G. Melquiond, "Emulation of FMA and correctly rounded sums: proved algorithms using rounding to
// odd", 2008).
EMU_PURE double fused(float a, float b, float c) {
    const double product = static_cast<double>(a) * b, addend = c;
    const double sum = product + addend;
    const double part = sum - product;
    const double error = (product - (sum - part)) + (addend - part);
    std::uint64_t bits = same_bits<std::uint64_t>(sum);
    if (error != 0 && sum - sum == 0 && !(bits & 1)) bits += (error > 0) == (sum > 0) ? 1u : ~0ull;
    return same_bits<double>(bits);
}

// The parts that __half and __nv_bfloat16 share: one number in 16 bits, which converts from and to
// the arithmetic types as in CUDA.
template <class Self, class Format>
struct SmallFloat {
    static constexpr int emu_type = Format::type;
    unsigned short emu_bits;

    SmallFloat() = default;
    EMU_INLINE SmallFloat(float value) : emu_bits(nearest(Format(), value)) {}
    EMU_INLINE SmallFloat(double value) : emu_bits(narrowed<Format>(value)) {}
#define EMU_FROM(T) \
    EMU_INLINE SmallFloat(T value) : emu_bits(narrowed<Format>(narrowable(value))) {}
    EMU_FROM(short)
    EMU_FROM(unsigned short)
    EMU_FROM(int)
    EMU_FROM(unsigned)
    EMU_FROM(long)
    EMU_FROM(unsigned long)
    EMU_FROM(long long)
    EMU_FROM(unsigned long long)
#undef EMU_FROM
    // The other 16-bit type.
    template <class Other, class OtherFormat,
              class = std::enable_if_t<!std::is_same<Other, Self>::value>>
    explicit EMU_INLINE SmallFloat(const SmallFloat<Other, OtherFormat>& value)
        : SmallFloat(static_cast<float>(value)) {}

    EMU_INLINE operator float() const { return widened(Format(), emu_bits); }
    EMU_INLINE operator bool() const { return (emu_bits & 0x7fffu) != 0; }
#define EMU_TO(T) \
    EMU_INLINE operator T() const { return clamped<T>(::truncf(static_cast<float>(*this))); }
    EMU_TO(signed char)
    EMU_TO(unsigned char)
    EMU_TO(char)
    EMU_TO(short)
    EMU_TO(unsigned short)
    EMU_TO(int)
    EMU_TO(unsigned)
    EMU_TO(long)
    EMU_TO(unsigned long)
    EMU_TO(long long)
    EMU_TO(unsigned long long)
#undef EMU_TO

    static EMU_INLINE Self of_bits(unsigned bits) {
        Self result;
        result.emu_bits = static_cast<unsigned short>(bits);
        return result;
    }
    static EMU_INLINE Self rounded(double value, Round mode = Round::nearest) {
        return of_bits(narrowed<Format>(value, mode));
    }
};

EMU_PURE float kept_between_0_and_1(float value) {
    return value > 0.0f ? (value < 1.0f ? value : 1.0f) : 0.0f;
}
EMU_PURE float kept_from_0(float value) { return value < 0.0f ? 0.0f : value; }

}  // namespace emu
