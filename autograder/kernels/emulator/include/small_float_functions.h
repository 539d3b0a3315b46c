// The functions on __half and __nv_bfloat16, which CUDA names alike. Follows the CUDA Math API,
// "Half Precision Intrinsics" and "Bfloat16 Precision Intrinsics". Included by small_floats.h's
// users; H is the type, H2 its pair, `name` the word in the function names (half, bfloat16).
#pragma once

#include "small_floats.h"

#define EMU_SMALL_FLOAT_TYPES(H, H2, Format)                                                \
    struct alignas(2) H : emu::SmallFloat<H, emu::Format> {                                 \
        using SmallFloat::SmallFloat;                                                       \
        H() = default;                                                                      \
    };                                                                                      \
    struct alignas(4) H2 {                                                                  \
        H x, y;                                                                             \
        H2() = default;                                                                     \
        EMU_INLINE H2(const H& a, const H& b) : x(a), y(b) {}                               \
        EMU_WHOLE_COPY(H2, unsigned short, 4, 1)                                            \
    };

// One operation as a function, its pair version, and the operators on both.
#define EMU_SMALL_OPERATION(H, H2, name, sign)                                              \
    EMU_INLINE H __h##name(H a, H b) { return H(float(a) sign float(b)); }                  \
    EMU_INLINE H2 __h##name##2(H2 a, H2 b) {                                                \
        return H2(__h##name(a.x, b.x), __h##name(a.y, b.y));                                \
    }                                                                                       \
    EMU_INLINE H __h##name##_rn(H a, H b) { return __h##name(a, b); }                       \
    EMU_INLINE H2 __h##name##2_rn(H2 a, H2 b) { return __h##name##2(a, b); }                \
    EMU_INLINE H __h##name##_sat(H a, H b) {                                                \
        return H(emu::kept_between_0_and_1(__h##name(a, b)));                               \
    }                                                                                       \
    EMU_INLINE H2 __h##name##2_sat(H2 a, H2 b) {                                            \
        return H2(__h##name##_sat(a.x, b.x), __h##name##_sat(a.y, b.y));                    \
    }                                                                                       \
    EMU_SMALL_OPERATORS(H, H2, sign, __h##name, __h##name##2)
#define EMU_SMALL_OPERATORS(H, H2, sign, function, function2)                               \
    EMU_INLINE H operator sign(const H& a, const H& b) { return function(a, b); }           \
    EMU_INLINE H2 operator sign(const H2& a, const H2& b) { return function2(a, b); }       \
    EMU_INLINE H& operator sign##=(H& a, const H& b) { return a = function(a, b); }         \
    EMU_INLINE H2& operator sign##=(H2& a, const H2& b) { return a = function2(a, b); }

// Comparisons: false with a NaN (`u` versions: true with a NaN), as a pair of 0 and 1, as "both".
#define EMU_SMALL_COMPARISON(H, H2, name, sign)                                             \
    EMU_INLINE bool __h##name(H a, H b) { return float(a) sign float(b); }                  \
    EMU_INLINE bool __h##name##u(H a, H b) {                                                \
        return __hisnan(a) || __hisnan(b) || float(a) sign float(b);                        \
    }                                                                                       \
    EMU_SMALL_COMPARISON_2(H, H2, name)                                                     \
    EMU_SMALL_COMPARISON_2(H, H2, name##u)
#define EMU_SMALL_COMPARISON_2(H, H2, name)                                                 \
    EMU_INLINE H2 __h##name##2(H2 a, H2 b) {                                                \
        return H2(H(__h##name(a.x, b.x) ? 1.0f : 0.0f), H(__h##name(a.y, b.y) ? 1.0f : 0.0f)); \
    }                                                                                       \
    EMU_INLINE unsigned __h##name##2_mask(H2 a, H2 b) {                                     \
        return (__h##name(a.x, b.x) ? 0xffffu : 0u) | (__h##name(a.y, b.y) ? 0xffff0000u : 0u); \
    }                                                                                       \
    EMU_INLINE bool __hb##name##2(H2 a, H2 b) {                                             \
        return __h##name(a.x, b.x) && __h##name(a.y, b.y);                                  \
    }
#define EMU_SMALL_COMPARISON_OPERATOR(H, H2, name, sign)                                    \
    EMU_INLINE bool operator sign(const H& a, const H& b) { return __h##name(a, b); }       \
    EMU_INLINE bool operator sign(const H2& a, const H2& b) { return __hb##name##2(a, b); }

// A function of one number, computed in float.
#define EMU_SMALL_MATH(H, H2, name, expression)                                             \
    EMU_INLINE H h##name(H value) {                                                         \
        const float x = value;                                                              \
        return H(static_cast<float>(expression));                                           \
    }                                                                                       \
    EMU_INLINE H2 h2##name(H2 v) { return H2(h##name(v.x), h##name(v.y)); }

#define EMU_SMALL_ROUNDINGS(H, name, suffix, mode)                                          \
    EMU_INLINE H __float2##name##suffix(float v) { return H::rounded(v, mode); }            \
    EMU_INLINE H __int2##name##suffix(int v) { return H::rounded(v, mode); }                \
    EMU_INLINE H __uint2##name##suffix(unsigned v) { return H::rounded(v, mode); }          \
    EMU_INLINE H __short2##name##suffix(short v) { return H::rounded(v, mode); }            \
    EMU_INLINE H __ushort2##name##suffix(unsigned short v) { return H::rounded(v, mode); }  \
    EMU_INLINE H __ll2##name##suffix(long long v) {                                         \
        return H::rounded(emu::narrowable(v), mode);                                        \
    }                                                                                       \
    EMU_INLINE H __ull2##name##suffix(unsigned long long v) {                               \
        return H::rounded(emu::narrowable(v), mode);                                        \
    }
#define EMU_SMALL_TO_INTEGERS(H, name, suffix, round)                                       \
    EMU_INLINE int __##name##2int##suffix(H v) { return emu::clamped<int>(round(float(v))); } \
    EMU_INLINE unsigned __##name##2uint##suffix(H v) {                                      \
        return emu::clamped<unsigned>(round(float(v)));                                     \
    }                                                                                       \
    EMU_INLINE short __##name##2short##suffix(H v) {                                        \
        return emu::clamped<short>(round(float(v)));                                        \
    }                                                                                       \
    EMU_INLINE unsigned short __##name##2ushort##suffix(H v) {                              \
        return emu::clamped<unsigned short>(round(float(v)));                               \
    }                                                                                       \
    EMU_INLINE long long __##name##2ll##suffix(H v) {                                       \
        return emu::clamped<long long>(round(float(v)));                                    \
    }                                                                                       \
    EMU_INLINE unsigned long long __##name##2ull##suffix(H v) {                             \
        return emu::clamped<unsigned long long>(round(float(v)));                           \
    }

#define EMU_SMALL_CONVERSIONS(H, H2, name)                                                  \
    EMU_INLINE float __##name##2float(H v) { return v; }                                    \
    EMU_INLINE H __float2##name(float v) { return H(v); }                                   \
    EMU_INLINE H __float2##name##_rn(float v) { return H(v); }                              \
    EMU_INLINE H __double2##name(double v) { return H(v); }                                 \
    EMU_INLINE H2 __float2##name##2_rn(float v) { return H2(H(v), H(v)); }                  \
    EMU_INLINE H2 __floats2##name##2_rn(float a, float b) { return H2(H(a), H(b)); }        \
    EMU_INLINE H2 __float22##name##2_rn(float2 v) { return H2(H(v.x), H(v.y)); }            \
    EMU_INLINE float2 __##name##22float2(H2 v) { return float2{float(v.x), float(v.y)}; }   \
    EMU_INLINE float __low2float(H2 v) { return v.x; }                                      \
    EMU_INLINE float __high2float(H2 v) { return v.y; }                                     \
    EMU_INLINE H __low2##name(H2 v) { return v.x; }                                         \
    EMU_INLINE H __high2##name(H2 v) { return v.y; }                                        \
    EMU_INLINE H2 __low2##name##2(H2 v) { return H2(v.x, v.x); }                            \
    EMU_INLINE H2 __high2##name##2(H2 v) { return H2(v.y, v.y); }                           \
    EMU_INLINE H2 __lows2##name##2(H2 a, H2 b) { return H2(a.x, b.x); }                     \
    EMU_INLINE H2 __highs2##name##2(H2 a, H2 b) { return H2(a.y, b.y); }                    \
    EMU_INLINE H2 __lowhigh2highlow(H2 v) { return H2(v.y, v.x); }                          \
    EMU_INLINE H2 __##name##2##name##2(H v) { return H2(v, v); }                            \
    EMU_INLINE H2 __halves2##name##2(H a, H b) { return H2(a, b); }                         \
    EMU_INLINE H2 make_##name##2(H a, H b) { return H2(a, b); }                             \
    EMU_INLINE short __##name##_as_short(H v) { return static_cast<short>(v.emu_bits); }    \
    EMU_INLINE unsigned short __##name##_as_ushort(H v) { return v.emu_bits; }              \
    EMU_INLINE H __short_as_##name(short v) {                                               \
        return H::of_bits(static_cast<unsigned short>(v));                                  \
    }                                                                                       \
    EMU_INLINE H __ushort_as_##name(unsigned short v) { return H::of_bits(v); }             \
    EMU_SMALL_ROUNDINGS_WITHOUT_FLOAT_RN(H, name)                                           \
    EMU_SMALL_ROUNDINGS(H, name, _rz, emu::Round::zero)                                     \
    EMU_SMALL_ROUNDINGS(H, name, _ru, emu::Round::up)                                       \
    EMU_SMALL_ROUNDINGS(H, name, _rd, emu::Round::down)                                     \
    EMU_SMALL_TO_INTEGERS(H, name, _rn, ::rintf)                                            \
    EMU_SMALL_TO_INTEGERS(H, name, _rz, ::truncf)                                           \
    EMU_SMALL_TO_INTEGERS(H, name, _ru, ::ceilf)                                            \
    EMU_SMALL_TO_INTEGERS(H, name, _rd, ::floorf)
#define EMU_SMALL_ROUNDINGS_WITHOUT_FLOAT_RN(H, name)                                       \
    EMU_INLINE H __int2##name##_rn(int v) { return H(v); }                                  \
    EMU_INLINE H __uint2##name##_rn(unsigned v) { return H(v); }                            \
    EMU_INLINE H __short2##name##_rn(short v) { return H(v); }                              \
    EMU_INLINE H __ushort2##name##_rn(unsigned short v) { return H(v); }                    \
    EMU_INLINE H __ll2##name##_rn(long long v) { return H(v); }                             \
    EMU_INLINE H __ull2##name##_rn(unsigned long long v) { return H(v); }

#define EMU_SMALL_SIGNS(H, H2)                                                              \
    EMU_INLINE bool __hisnan(H v) { return float(v) != float(v); }                          \
    EMU_INLINE int __hisinf(H v) {                                                          \
        return __builtin_fabsf(v) == __builtin_inff() ? (float(v) > 0 ? 1 : -1) : 0;        \
    }                                                                                       \
    EMU_INLINE H2 __hisnan2(H2 v) {                                                         \
        return H2(H(__hisnan(v.x) ? 1.0f : 0.0f), H(__hisnan(v.y) ? 1.0f : 0.0f));          \
    }                                                                                       \
    EMU_INLINE H __habs(H v) { return H::of_bits(v.emu_bits & 0x7fffu); }                   \
    EMU_INLINE H2 __habs2(H2 v) { return H2(__habs(v.x), __habs(v.y)); }                    \
    EMU_INLINE H __hneg(H v) { return H::of_bits(v.emu_bits ^ 0x8000u); }                   \
    EMU_INLINE H2 __hneg2(H2 v) { return H2(__hneg(v.x), __hneg(v.y)); }                    \
    EMU_INLINE H operator+(const H& v) { return v; }                                        \
    EMU_INLINE H operator-(const H& v) { return __hneg(v); }                                \
    EMU_INLINE H2 operator+(const H2& v) { return v; }                                      \
    EMU_INLINE H2 operator-(const H2& v) { return __hneg2(v); }

#define EMU_SMALL_MIN_MAX(H, H2, name, sign, first_zero)                                    \
    EMU_PURE H __h##name(H a, H b) {                                                        \
        if (__hisnan(a)) return __hisnan(b) ? H::of_bits(0x7fffu) : b;                      \
        if (__hisnan(b)) return a;                                                          \
        if (float(a) == float(b)) return (a.emu_bits & 0x8000u) == first_zero ? a : b;      \
        return float(a) sign float(b) ? a : b;                                              \
    }                                                                                       \
    EMU_INLINE H __h##name##_nan(H a, H b) {                                                \
        return __hisnan(a) || __hisnan(b) ? H::of_bits(0x7fffu) : __h##name(a, b);          \
    }                                                                                       \
    EMU_INLINE H2 __h##name##2(H2 a, H2 b) {                                                \
        return H2(__h##name(a.x, b.x), __h##name(a.y, b.y));                                \
    }                                                                                       \
    EMU_INLINE H2 __h##name##2_nan(H2 a, H2 b) {                                            \
        return H2(__h##name##_nan(a.x, b.x), __h##name##_nan(a.y, b.y));                    \
    }

#define EMU_SMALL_ARITHMETIC(H, H2)                                                         \
    EMU_SMALL_OPERATION(H, H2, add, +)                                                      \
    EMU_SMALL_OPERATION(H, H2, sub, -)                                                      \
    EMU_SMALL_OPERATION(H, H2, mul, *)                                                      \
    EMU_INLINE H __hdiv(H a, H b) { return H(float(a) / float(b)); }                        \
    EMU_INLINE H2 __h2div(H2 a, H2 b) { return H2(__hdiv(a.x, b.x), __hdiv(a.y, b.y)); }    \
    EMU_SMALL_OPERATORS(H, H2, /, __hdiv, __h2div)                                          \
    EMU_INLINE H& operator++(H& v) { return v = __hadd(v, H(1.0f)); }                       \
    EMU_INLINE H& operator--(H& v) { return v = __hsub(v, H(1.0f)); }                       \
    EMU_INLINE H operator++(H& v, int) {                                                    \
        const H before = v;                                                                 \
        ++v;                                                                                \
        return before;                                                                      \
    }                                                                                       \
    EMU_INLINE H operator--(H& v, int) {                                                    \
        const H before = v;                                                                 \
        --v;                                                                                \
        return before;                                                                      \
    }                                                                                       \
    EMU_INLINE H __hfma(H a, H b, H c) { return H(emu::fused(a, b, c)); }                   \
    EMU_INLINE H __hfma_sat(H a, H b, H c) {                                                \
        return H(emu::kept_between_0_and_1(__hfma(a, b, c)));                               \
    }                                                                                       \
    EMU_INLINE H __hfma_relu(H a, H b, H c) { return H(emu::kept_from_0(__hfma(a, b, c))); } \
    EMU_SMALL_FUSED_2(H, H2, )                                                              \
    EMU_SMALL_FUSED_2(H, H2, _sat)                                                          \
    EMU_SMALL_FUSED_2(H, H2, _relu)                                                         \
    EMU_SMALL_MIN_MAX(H, H2, max, >, 0u)                                                    \
    EMU_SMALL_MIN_MAX(H, H2, min, <, 0x8000u)
#define EMU_SMALL_FUSED_2(H, H2, suffix)                                                    \
    EMU_INLINE H2 __hfma2##suffix(H2 a, H2 b, H2 c) {                                       \
        return H2(__hfma##suffix(a.x, b.x, c.x), __hfma##suffix(a.y, b.y, c.y));            \
    }

#define EMU_SMALL_COMPARISONS(H, H2)                                                        \
    EMU_SMALL_COMPARISON(H, H2, eq, ==)                                                     \
    EMU_SMALL_COMPARISON(H, H2, lt, <)                                                      \
    EMU_SMALL_COMPARISON(H, H2, le, <=)                                                     \
    EMU_SMALL_COMPARISON(H, H2, gt, >)                                                      \
    EMU_SMALL_COMPARISON(H, H2, ge, >=)                                                     \
    EMU_INLINE bool __hne(H a, H b) {                                                       \
        return !__hisnan(a) && !__hisnan(b) && float(a) != float(b);                        \
    }                                                                                       \
    EMU_INLINE bool __hneu(H a, H b) { return float(a) != float(b); }                       \
    EMU_SMALL_COMPARISON_2(H, H2, ne)                                                       \
    EMU_SMALL_COMPARISON_2(H, H2, neu)                                                      \
    EMU_SMALL_COMPARISON_OPERATOR(H, H2, eq, ==)                                            \
    EMU_SMALL_COMPARISON_OPERATOR(H, H2, neu, !=)                                           \
    EMU_SMALL_COMPARISON_OPERATOR(H, H2, lt, <)                                             \
    EMU_SMALL_COMPARISON_OPERATOR(H, H2, le, <=)                                            \
    EMU_SMALL_COMPARISON_OPERATOR(H, H2, gt, >)                                             \
    EMU_SMALL_COMPARISON_OPERATOR(H, H2, ge, >=)

#define EMU_SMALL_FUNCTIONS(H, H2, name)                                                    \
    EMU_SMALL_CONVERSIONS(H, H2, name)                                                      \
    EMU_SMALL_SIGNS(H, H2)                                                                  \
    EMU_SMALL_ARITHMETIC(H, H2)                                                             \
    EMU_SMALL_COMPARISONS(H, H2)                                                            \
    EMU_SMALL_MATH(H, H2, exp, ::expf(x))                                                   \
    EMU_SMALL_MATH(H, H2, exp2, ::exp2f(x))                                                 \
    EMU_SMALL_MATH(H, H2, exp10, ::powf(10.0f, x))                                          \
    EMU_SMALL_MATH(H, H2, log, ::logf(x))                                                   \
    EMU_SMALL_MATH(H, H2, log2, ::log2f(x))                                                 \
    EMU_SMALL_MATH(H, H2, log10, ::log10f(x))                                               \
    EMU_SMALL_MATH(H, H2, sin, ::sinf(x))                                                   \
    EMU_SMALL_MATH(H, H2, cos, ::cosf(x))                                                   \
    EMU_SMALL_MATH(H, H2, tanh, ::tanhf(x))                                                 \
    EMU_SMALL_MATH(H, H2, sqrt, ::sqrtf(x))                                                 \
    EMU_SMALL_MATH(H, H2, rsqrt, 1.0 / ::sqrt(static_cast<double>(x)))                      \
    EMU_SMALL_MATH(H, H2, rcp, 1.0f / x)                                                    \
    EMU_SMALL_MATH(H, H2, ceil, ::ceilf(x))                                                 \
    EMU_SMALL_MATH(H, H2, floor, ::floorf(x))                                               \
    EMU_SMALL_MATH(H, H2, rint, ::rintf(x))                                                 \
    EMU_SMALL_MATH(H, H2, trunc, ::truncf(x))                                               \
    EMU_INLINE H atomicAdd(H* address, H value) {                                           \
        return H::of_bits(static_cast<unsigned>(                                            \
            emu_atomic(EMU_ATOMIC_ADD, H::emu_type, address, value.emu_bits, 0)));          \
    }                                                                                       \
    /* Each half is added atomically, the pair is not: so are CUDA's. */                    \
    EMU_INLINE H2 atomicAdd(H2* address, H2 value) {                                        \
        const H x = atomicAdd(&address->x, value.x);                                        \
        return H2(x, atomicAdd(&address->y, value.y));                                      \
    }
