// The CUDA runtime for the emulator's build: qualifiers, built-in variables, launches, warp
// functions, atomics, and the part of the runtime library that kernel files use.
//
// With nvcc the real headers are found instead; a file that includes <cuda_runtime.h> needs no
// other change. Follows the CUDA C++ Programming Guide's names and rules.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdio>  // before printf becomes a macro
#include <cstdint>
#include <type_traits>

#include "emulator_abi.h"
#include "vector_types.h"

#define __global__
#define __host__
#define __device__
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __restrict__ __restrict
#define __launch_bounds__(...)
#define __align__(bytes) __attribute__((aligned(bytes)))
#define __constant__ __attribute__((section("emu_constant")))
// Put by the rewriter before a variable that is `__device__` or `__managed__`.
#define EMU_DEVICE_VARIABLE __attribute__((section("emu_device")))
#define EMU_INLINE inline __attribute__((always_inline))

namespace emu {
EMU_INLINE uint3 index(unsigned x, unsigned y, unsigned z) { return {x, y, z}; }
}  // namespace emu
#define EMU_INDEX(function) (::emu::index(function(0), function(1), function(2)))
#define threadIdx EMU_INDEX(::emu_thread_index)
#define blockIdx EMU_INDEX(::emu_block_index)
#define blockDim EMU_INDEX(::emu_block_dim)
#define gridDim EMU_INDEX(::emu_grid_dim)
constexpr int warpSize = 32;

#include "device_atomics.h"
#include "device_functions.h"
#include "device_math.h"
#include "runtime_library.h"

namespace emu {

// What `kernel<<<grid, block, shared, stream>>>` holds between its brackets.
inline EmuLaunch configure(const char* kernel, int line, dim3 grid, dim3 block,
                           std::size_t shared = 0, cudaStream_t = nullptr) {
    return {{grid.x, grid.y, grid.z}, {block.x, block.y, block.z}, shared, kernel, line};
}

// The arguments of a launch, kept by value as a real launch keeps them.
template <class... Arguments>
struct Pack;
template <>
struct Pack<> {
    template <class Call, class... Before>
    void apply(Call& call, Before... before) {
        call(before...);
    }
};
template <class First, class... Rest>
struct Pack<First, Rest...> {
    First first;
    Pack<Rest...> rest;
    template <class Call, class... Before>
    void apply(Call& call, Before... before) {
        rest.apply(call, before..., first);
    }
};
inline Pack<> pack() { return {}; }
template <class First, class... Rest>
Pack<First, Rest...> pack(First first, Rest... rest) {
    return {first, pack(rest...)};
}

template <class Call, class Arguments>
struct Body {
    Call call;
    Arguments arguments;
    static void run(void* body) {
        Body* self = static_cast<Body*>(body);
        self->arguments.apply(self->call);
    }
};

// The rewriter turns `kernel<<<c>>>(a, b)` into
// `::emu::launch(::emu::configure("kernel", line, c), [](auto... x) { kernel(x...); }, a, b)`.
template <class Call, class... Arguments>
void launch(EmuLaunch configuration, Call call, Arguments... arguments) {
    static_assert((emu::is_plain<Arguments>::value && ...),
                  "a kernel's arguments are copied bit by bit: pass plain values and pointers");
    using B = Body<Call, Pack<Arguments...>>;
    static_assert(sizeof(B) <= 4096, "a kernel's arguments have at most 4096 bytes");
    B body{call, pack(arguments...)};
    emu_launch(__builtin_addressof(configuration), B::run, __builtin_addressof(body), sizeof(B));
}

// The rewriter turns `__shared__ float tile[32][33];` into
// `typedef float emu_type_tile[32][33]; emu_type_tile& tile = …shared<emu_type_tile>(…)`.
template <class T>
T& shared(const void* site, const char* name, int line) {
    return *static_cast<T*>(emu_shared(site, sizeof(T), alignof(T), name, line));
}

}  // namespace emu
