// Device mathematics: min/max, reinterpretations, rounding conversions, integer intrinsics, and the
// single-precision functions that C lacks. Follows the CUDA Math API's names and edge cases.
// Included by cuda_runtime.h.
//
// The fast versions (__expf …) are as accurate as the others here; a GPU's are not, so tolerances
// come from float64 and not from this file. Functions that write through a pointer store the result
// themselves: a C library's store would escape the emulator's checks.
#pragma once

#include <math.h>
#include <stdlib.h>

#include <cstdint>
#include <limits>
#include <type_traits>

#include "emulator_abi.h"
#include "vector_types.h"

#ifndef EMU_INLINE
#define EMU_INLINE inline __attribute__((always_inline))
#endif

// Functions of their arguments alone that branch. Where accesses are counted they are kept out of
// the kernel's code: what a GPU does without branching shall not look like lanes that part.
#if defined(__clang__)
#define EMU_UNWATCHED __attribute__((no_sanitize("thread"), no_sanitize("coverage")))
#else
#define EMU_UNWATCHED __attribute__((no_sanitize("thread"), no_sanitize_coverage))
#endif
#if defined(__SANITIZE_THREAD__)
#define EMU_PURE __attribute__((noinline, const)) EMU_UNWATCHED inline
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define EMU_PURE __attribute__((noinline, const)) EMU_UNWATCHED inline
#endif
#endif
#ifndef EMU_PURE
#define EMU_PURE EMU_INLINE
#endif

namespace emu {
template <class To, class From>
EMU_INLINE To same_bits(From value) {
    static_assert(sizeof(To) == sizeof(From), "only the type changes");
    To result;
    __builtin_memcpy(&result, &value, sizeof(To));
    return result;
}

// A rounded value as an integer, as a GPU converts (PTX ISA, cvt): clamped to the type; a NaN is 0,
// or the top bit alone where either side has 64 bits.
template <class To, class From>
EMU_PURE To clamped(From rounded) {
    using Limits = std::numeric_limits<To>;
    constexpr From limit = static_cast<From>(Limits::max() / 2 + 1) * From(2);
    if (rounded != rounded) {
        const bool wide = sizeof(To) == 8 || sizeof(From) == 8;
        return wide ? static_cast<To>(std::uint64_t(1) << (8 * sizeof(To) - 1)) : To(0);
    }
    if (rounded >= limit) return Limits::max();
    if (rounded < (Limits::is_signed ? -limit : From(0))) return Limits::min();
    return static_cast<To>(rounded);
}

EMU_INLINE float exp_(float x) { return ::expf(x); }
EMU_INLINE float exp10_(float x) { return ::powf(10.0f, x); }
EMU_INLINE float log_(float x) { return ::logf(x); }
EMU_INLINE float log2_(float x) { return ::log2f(x); }
EMU_INLINE float log10_(float x) { return ::log10f(x); }
EMU_INLINE float pow_(float x, float y) { return ::powf(x, y); }
EMU_INLINE float sin_(float x) { return ::sinf(x); }
EMU_INLINE float cos_(float x) { return ::cosf(x); }
EMU_INLINE float tan_(float x) { return ::tanf(x); }
EMU_INLINE float tanh_(float x) { return ::tanhf(x); }
EMU_INLINE void sincos_(float x, float* s, float* c) {
    *s = ::sinf(x);
    *c = ::cosf(x);
}
EMU_INLINE void sincos_(double x, double* s, double* c) {
    *s = ::sin(x);
    *c = ::cos(x);
}
}  // namespace emu

// Macros, because C libraries declare functions of these names for themselves.
#define __expf(...) (::emu::exp_(__VA_ARGS__))
#define __exp10f(...) (::emu::exp10_(__VA_ARGS__))
#define __logf(...) (::emu::log_(__VA_ARGS__))
#define __log2f(...) (::emu::log2_(__VA_ARGS__))
#define __log10f(...) (::emu::log10_(__VA_ARGS__))
#define __powf(...) (::emu::pow_(__VA_ARGS__))
#define __sinf(...) (::emu::sin_(__VA_ARGS__))
#define __cosf(...) (::emu::cos_(__VA_ARGS__))
#define __tanf(...) (::emu::tan_(__VA_ARGS__))
#define __tanhf(...) (::emu::tanh_(__VA_ARGS__))
#define exp10f(...) (::emu::exp10_(__VA_ARGS__))
#define sincosf(...) (::emu::sincos_(__VA_ARGS__))
#define __sincosf(...) (::emu::sincos_(__VA_ARGS__))
#define sincos(...) (::emu::sincos_(__VA_ARGS__))

#if !defined(__GLIBC__) || __GLIBC__ < 2 || (__GLIBC__ == 2 && __GLIBC_MINOR__ < 42)
EMU_INLINE float rsqrtf(float x) { return 1.0f / ::sqrtf(x); }
EMU_INLINE double rsqrt(double x) { return 1.0 / ::sqrt(x); }
#endif
EMU_INLINE float rsqrt(float x) { return 1.0f / ::sqrtf(x); }
EMU_INLINE float rcbrtf(float x) { return 1.0f / ::cbrtf(x); }
EMU_INLINE float rhypotf(float x, float y) { return 1.0f / ::hypotf(x, y); }
EMU_INLINE float normcdff(float x) { return 0.5f * ::erfcf(-x * 0.70710678118654752f); }
EMU_INLINE double normcdf(double x) { return 0.5 * ::erfc(-x * 0.70710678118654752); }
EMU_INLINE float fdividef(float x, float y) { return x / y; }
EMU_INLINE float __fdividef(float x, float y) { return x / y; }
EMU_PURE float __saturatef(float x) { return x > 0.0f ? (x < 1.0f ? x : 1.0f) : 0.0f; }

EMU_INLINE float __fadd_rn(float a, float b) { return a + b; }
EMU_INLINE float __fsub_rn(float a, float b) { return a - b; }
EMU_INLINE float __fmul_rn(float a, float b) { return a * b; }
EMU_INLINE float __fdiv_rn(float a, float b) { return a / b; }
EMU_INLINE float __fmaf_rn(float a, float b, float c) { return ::fmaf(a, b, c); }
EMU_INLINE float __frcp_rn(float x) { return 1.0f / x; }
EMU_INLINE float __fsqrt_rn(float x) { return ::sqrtf(x); }
EMU_INLINE float __frsqrt_rn(float x) {  // through double, whose error is far below a float's
    return static_cast<float>(1.0 / ::sqrt(static_cast<double>(x)));
}
EMU_INLINE double __dadd_rn(double a, double b) { return a + b; }
EMU_INLINE double __dmul_rn(double a, double b) { return a * b; }
EMU_INLINE double __fma_rn(double a, double b, double c) { return ::fma(a, b, c); }

// ---- min and max, with CUDA's mixed overloads; a NaN loses against a number
#define EMU_MIN_MAX(A, B, R)                                                         \
    EMU_INLINE R min(A a, B b) {                                                     \
        return static_cast<R>(a) < static_cast<R>(b) ? static_cast<R>(a) : static_cast<R>(b); \
    }                                                                                \
    EMU_INLINE R max(A a, B b) {                                                     \
        return static_cast<R>(a) > static_cast<R>(b) ? static_cast<R>(a) : static_cast<R>(b); \
    }
#define EMU_MIN_MAX_SIGNS(T)               \
    EMU_MIN_MAX(T, T, T)                   \
    EMU_MIN_MAX(unsigned T, unsigned T, unsigned T) \
    EMU_MIN_MAX(T, unsigned T, unsigned T) \
    EMU_MIN_MAX(unsigned T, T, unsigned T)
EMU_MIN_MAX_SIGNS(int)
EMU_MIN_MAX_SIGNS(long)
EMU_MIN_MAX_SIGNS(long long)
#undef EMU_MIN_MAX_SIGNS
#undef EMU_MIN_MAX
EMU_INLINE float min(float a, float b) { return ::fminf(a, b); }
EMU_INLINE float max(float a, float b) { return ::fmaxf(a, b); }
EMU_INLINE double min(double a, double b) { return ::fmin(a, b); }
EMU_INLINE double max(double a, double b) { return ::fmax(a, b); }
EMU_INLINE double min(float a, double b) { return ::fmin(a, b); }
EMU_INLINE double max(float a, double b) { return ::fmax(a, b); }
EMU_INLINE double min(double a, float b) { return ::fmin(a, b); }
EMU_INLINE double max(double a, float b) { return ::fmax(a, b); }

// ---- loads and stores with cache hints: plain accesses here
#define EMU_LOAD(name)                       \
    template <class T>                       \
    EMU_INLINE T name(const T* pointer) {    \
        return *pointer;                     \
    }
#define EMU_STORE(name)                                                     \
    template <class T>                                                      \
    EMU_INLINE void name(T* pointer, const std::common_type_t<T>& value) {  \
        *pointer = value;                                                   \
    }
EMU_LOAD(__ldg)
EMU_LOAD(__ldca)
EMU_LOAD(__ldcg)
EMU_LOAD(__ldcs)
EMU_LOAD(__ldlu)
EMU_LOAD(__ldcv)
EMU_STORE(__stwb)
EMU_STORE(__stcg)
EMU_STORE(__stcs)
EMU_STORE(__stwt)
#undef EMU_LOAD
#undef EMU_STORE

// ---- the same bits as another type
EMU_INLINE float __int_as_float(int x) { return emu::same_bits<float>(x); }
EMU_INLINE int __float_as_int(float x) { return emu::same_bits<int>(x); }
EMU_INLINE float __uint_as_float(unsigned x) { return emu::same_bits<float>(x); }
EMU_INLINE unsigned __float_as_uint(float x) { return emu::same_bits<unsigned>(x); }
EMU_INLINE double __longlong_as_double(long long x) { return emu::same_bits<double>(x); }
EMU_INLINE long long __double_as_longlong(double x) { return emu::same_bits<long long>(x); }

// ---- conversions: _rn to nearest even, _rz to zero, _ru up, _rd down
#define EMU_TO_INTEGER(suffix, T)                                                              \
    EMU_INLINE T __float2##suffix##_rn(float x) { return emu::clamped<T>(::rintf(x)); }       \
    EMU_INLINE T __float2##suffix##_rz(float x) { return emu::clamped<T>(::truncf(x)); }      \
    EMU_INLINE T __float2##suffix##_ru(float x) { return emu::clamped<T>(::ceilf(x)); }       \
    EMU_INLINE T __float2##suffix##_rd(float x) { return emu::clamped<T>(::floorf(x)); }      \
    EMU_INLINE T __double2##suffix##_rn(double x) { return emu::clamped<T>(::rint(x)); }      \
    EMU_INLINE T __double2##suffix##_rz(double x) { return emu::clamped<T>(::trunc(x)); }     \
    EMU_INLINE float __##suffix##2float_rn(T x) { return static_cast<float>(x); }
EMU_TO_INTEGER(int, int)
EMU_TO_INTEGER(uint, unsigned)
EMU_TO_INTEGER(ll, long long)
EMU_TO_INTEGER(ull, unsigned long long)
#undef EMU_TO_INTEGER
EMU_INLINE float __double2float_rn(double x) { return static_cast<float>(x); }
EMU_INLINE double __int2double_rn(int x) { return x; }

// ---- integer intrinsics
EMU_INLINE int __popcll(unsigned long long x) {  // by hand: the builtin may be a library's function
    x -= x >> 1 & 0x5555555555555555ull;
    x = (x & 0x3333333333333333ull) + (x >> 2 & 0x3333333333333333ull);
    x = (x + (x >> 4)) & 0x0f0f0f0f0f0f0f0full;
    return static_cast<int>(x * 0x0101010101010101ull >> 56);
}
EMU_INLINE int __popc(unsigned x) { return __popcll(x); }
EMU_INLINE int __clz(int x) { return x ? __builtin_clz(static_cast<unsigned>(x)) : 32; }
EMU_INLINE int __clzll(long long x) {
    return x ? __builtin_clzll(static_cast<unsigned long long>(x)) : 64;
}
EMU_INLINE int __ffs(int x) { return __builtin_ffs(x); }
EMU_INLINE int __ffsll(long long x) { return __builtin_ffsll(x); }
EMU_INLINE unsigned __brev(unsigned x) {
    x = (x >> 1 & 0x55555555u) | (x & 0x55555555u) << 1;
    x = (x >> 2 & 0x33333333u) | (x & 0x33333333u) << 2;
    x = (x >> 4 & 0x0f0f0f0fu) | (x & 0x0f0f0f0fu) << 4;
    return __builtin_bswap32(x);
}
EMU_INLINE unsigned long long __brevll(unsigned long long x) {
    return static_cast<unsigned long long>(__brev(static_cast<unsigned>(x))) << 32 |
           __brev(static_cast<unsigned>(x >> 32));
}
EMU_INLINE int __mulhi(int a, int b) {
    return static_cast<int>(static_cast<long long>(a) * b >> 32);
}
EMU_INLINE unsigned __umulhi(unsigned a, unsigned b) {
    return static_cast<unsigned>(static_cast<unsigned long long>(a) * b >> 32);
}
EMU_INLINE long long __mul64hi(long long a, long long b) {
    return static_cast<long long>(static_cast<__int128>(a) * b >> 64);
}
EMU_INLINE unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
    return static_cast<unsigned long long>(static_cast<unsigned __int128>(a) * b >> 64);
}
EMU_INLINE unsigned __umul24(unsigned a, unsigned b) { return (a & 0xffffffu) * (b & 0xffffffu); }
EMU_INLINE int __mul24(int a, int b) {  // of the low 24 bits, sign-extended
    const int x = static_cast<int>(static_cast<unsigned>(a) << 8) >> 8;
    const int y = static_cast<int>(static_cast<unsigned>(b) << 8) >> 8;
    return static_cast<int>(static_cast<unsigned>(x) * static_cast<unsigned>(y));
}
EMU_INLINE unsigned __usad(unsigned a, unsigned b, unsigned c) {
    return (a > b ? a - b : b - a) + c;
}
EMU_INLINE unsigned __sad(int a, int b, unsigned c) {
    const unsigned x = static_cast<unsigned>(a), y = static_cast<unsigned>(b);
    return (a > b ? x - y : y - x) + c;
}
EMU_INLINE int __hadd(int a, int b) {
    return static_cast<int>((static_cast<long long>(a) + b) >> 1);
}
EMU_INLINE unsigned __funnelshift_l(unsigned low, unsigned high, unsigned shift) {
    const unsigned long long both = static_cast<unsigned long long>(high) << 32 | low;
    return static_cast<unsigned>(both << (shift & 31u) >> 32);
}
EMU_INLINE unsigned __funnelshift_r(unsigned low, unsigned high, unsigned shift) {
    const unsigned long long both = static_cast<unsigned long long>(high) << 32 | low;
    return static_cast<unsigned>(both >> (shift & 31u));
}
// Four bytes chosen out of y:x by the selector's nibbles; a nibble's top bit replicates the sign.
EMU_PURE unsigned __byte_perm(unsigned x, unsigned y, unsigned selector) {
    const unsigned long long bytes = static_cast<unsigned long long>(y) << 32 | x;
    unsigned result = 0;
    for (int i = 0; i < 4; ++i) {
        const unsigned choice = selector >> (4 * i) & 0xfu;
        unsigned byte = static_cast<unsigned>(bytes >> (8 * (choice & 7u))) & 0xffu;
        if (choice & 8u) byte = byte & 0x80u ? 0xffu : 0u;
        result |= byte << (8 * i);
    }
    return result;
}
EMU_INLINE int __dp4a(int a, int b, int c) {
    unsigned sum = static_cast<unsigned>(c);
    for (int i = 0; i < 32; i += 8) {
        sum += static_cast<unsigned>(static_cast<signed char>(a >> i) *
                                     static_cast<signed char>(b >> i));
    }
    return static_cast<int>(sum);
}
EMU_INLINE unsigned __dp4a(unsigned a, unsigned b, unsigned c) {
    for (int i = 0; i < 32; i += 8) c += (a >> i & 0xffu) * (b >> i & 0xffu);
    return c;
}
EMU_INLINE int __dp4a(char4 a, char4 b, int c) {
    return c + a.x * b.x + a.y * b.y + a.z * b.z + a.w * b.w;
}
EMU_INLINE unsigned __dp4a(uchar4 a, uchar4 b, unsigned c) {
    return c + static_cast<unsigned>(a.x * b.x + a.y * b.y + a.z * b.z + a.w * b.w);
}
