// dim3, float4, int2 and the other built-in vector types, with CUDA's sizes and alignments.
//
// A type of two or four components moves between registers and memory in one access on a GPU, and
// must do so here to be counted as one. Compilers split the copy of a plain struct into its
// members, so these types copy themselves through one vector word. That makes them not trivially
// copyable for the language; `emu::is_plain` is the question to ask instead. Brace initialisation
// works as for the aggregates that they are in CUDA; only copying a union that has one as a member
// does not. A member read through a pointer or a reference is an access of that member alone.
#pragma once

#include <type_traits>

#include "emulator_abi.h"

using cudaStream_t = struct CUstream_st*;
using cudaEvent_t = struct CUevent_st*;

namespace emu {

// Whether copying the bytes copies the value: what a kernel argument or a shuffled value must be.
// A class whose only obstacle is a vector type inside counts too.
template <class T>
struct is_plain
    : std::bool_constant<std::is_trivially_destructible<T>::value &&
                         std::is_copy_constructible<T>::value && !std::is_polymorphic<T>::value> {
};

template <class T, int bytes>
struct Word {
    typedef T type __attribute__((vector_size(bytes), may_alias));
};

// Lets `float4 v = {a}` compile without letting `float4 v = a` compile.
template <class T>
struct First {
    T value;
    constexpr First(T first) : value(first) {}
};

}  // namespace emu

// Copying through words of `bytes` bytes, `words` of them.
#define EMU_WHOLE_COPY(name, T, bytes, words)                                           \
    __attribute__((always_inline)) inline name(const name& other) { *this = other; }    \
    __attribute__((always_inline)) inline name& operator=(const name& other) {          \
        using Word = typename emu::Word<T, bytes>::type;                                \
        Word* to = reinterpret_cast<Word*>(this);                                       \
        const Word* from = reinterpret_cast<const Word*>(&other);                       \
        to[0] = from[0];                                                                \
        if constexpr (words == 2) to[1] = from[1];                                      \
        return *this;                                                                   \
    }

#define EMU_VECTOR_TYPES(name, T, align2, align4, bytes4, words4)                       \
    struct name##1 {                                                                    \
        T x;                                                                            \
    };                                                                                  \
    struct alignas(align2) name##2 {                                                    \
        T x, y;                                                                         \
        name##2() = default;                                                            \
        constexpr name##2(emu::First<T> a) : x(a.value), y() {}                         \
        constexpr name##2(T a, T b) : x(a), y(b) {}                                     \
        EMU_WHOLE_COPY(name##2, T, 2 * sizeof(T), 1)                                    \
    };                                                                                  \
    struct alignas(align4) name##4 {                                                    \
        T x, y, z, w;                                                                   \
        name##4() = default;                                                            \
        constexpr name##4(emu::First<T> a) : x(a.value), y(), z(), w() {}               \
        constexpr name##4(T a, T b, T c = 0, T d = 0) : x(a), y(b), z(c), w(d) {}   \
        EMU_WHOLE_COPY(name##4, T, bytes4, words4)                                      \
    };                                                                                  \
    constexpr name##1 make_##name##1(T x) { return name##1{x}; }                        \
    constexpr name##2 make_##name##2(T x, T y) { return name##2{x, y}; }                \
    constexpr name##3 make_##name##3(T x, T y, T z) { return name##3{x, y, z}; }        \
    constexpr name##4 make_##name##4(T x, T y, T z, T w) { return name##4{x, y, z, w}; } \
    static_assert(sizeof(name##3) == 3 * sizeof(T) && sizeof(name##4) == 4 * sizeof(T))

// Three components are three scalars, on a GPU as here: a compiler shall not copy them as one piece.
#define EMU_VECTOR_TYPE_3(name, T)                                                       \
    struct name##3 {                                                                     \
        T x, y, z;                                                                       \
        name##3() = default;                                                             \
        constexpr name##3(emu::First<T> a) : x(a.value), y(), z() {}                     \
        constexpr name##3(T a, T b, T c = 0) : x(a), y(b), z(c) {}                       \
        constexpr name##3(const name##3& other) : x(other.x), y(other.y), z(other.z) {}  \
        __attribute__((always_inline)) inline name##3& operator=(const name##3& other) { \
            x = other.x;                                                                 \
            y = other.y;                                                                 \
            z = other.z;                                                                 \
            return *this;                                                                \
        }                                                                                \
    }
EMU_VECTOR_TYPE_3(char, signed char);
EMU_VECTOR_TYPE_3(uchar, unsigned char);
EMU_VECTOR_TYPE_3(short, short);
EMU_VECTOR_TYPE_3(ushort, unsigned short);
EMU_VECTOR_TYPE_3(int, int);
EMU_VECTOR_TYPE_3(long, long);
EMU_VECTOR_TYPE_3(ulong, unsigned long);
EMU_VECTOR_TYPE_3(longlong, long long);
EMU_VECTOR_TYPE_3(ulonglong, unsigned long long);
EMU_VECTOR_TYPE_3(float, float);
EMU_VECTOR_TYPE_3(double, double);
#undef EMU_VECTOR_TYPE_3

EMU_VECTOR_TYPES(char, signed char, 2, 4, 4, 1);
EMU_VECTOR_TYPES(uchar, unsigned char, 2, 4, 4, 1);
EMU_VECTOR_TYPES(short, short, 4, 8, 8, 1);
EMU_VECTOR_TYPES(ushort, unsigned short, 4, 8, 8, 1);
EMU_VECTOR_TYPES(int, int, 8, 16, 16, 1);
EMU_VECTOR_TYPES(uint, unsigned, 8, 16, 16, 1);
EMU_VECTOR_TYPES(long, long, 16, 16, 16, 2);
EMU_VECTOR_TYPES(ulong, unsigned long, 16, 16, 16, 2);
EMU_VECTOR_TYPES(longlong, long long, 16, 16, 16, 2);
EMU_VECTOR_TYPES(ulonglong, unsigned long long, 16, 16, 16, 2);
EMU_VECTOR_TYPES(float, float, 8, 16, 16, 1);
EMU_VECTOR_TYPES(double, double, 16, 16, 16, 2);
#undef EMU_VECTOR_TYPES

struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
    constexpr dim3(uint3 v) : x(v.x), y(v.y), z(v.z) {}
    constexpr operator uint3() const { return uint3{x, y, z}; }
};
