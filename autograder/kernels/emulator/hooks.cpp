// What the compiler calls: before each load and store (-fsanitize=thread), at the entry and exit of
// functions, at each basic block (-fsanitize-coverage=trace-pc), and for an index outside of an array
// (-fsanitize=bounds).
//
// The library is linked without the sanitizers' own runtimes: these are their entry points.
#include <cstring>

#include "machine.h"

namespace emu {

namespace {

constexpr std::uint64_t TURN = 65536;  // accesses after which a lane lets the others run

void count_step(Thread* thread, std::uint32_t pc) {
    if (++thread->steps < TURN) return;
    thread->steps = 0;
    machine.launch_steps += TURN;
    stop_if_late(thread);
    if (machine.launch_steps > machine.options.steps) {
        Diagnostic found = describe("step limit", true, thread);
        found.pc = pc;
        found.text = std::to_string(machine.options.steps);
        fail(found, 702);
    }
    if (thread->is_host) return;
    thread->yielded = true;  // it may be waiting for another warp
    yield_thread();
}

inline void access(Address address, unsigned size, Access kind, const Caller& from) {
    Thread* thread = current;
    Place place;
    if (!locate(thread, address, size, kind, from, place)) return;
    const std::uint32_t offset = pc_of(from.pc);
    if (machine.options.checks) check_access(thread, place, size, kind, offset);
    if (machine.options.counts) record_event(thread, address, size, kind, place.space, offset);
    count_step(thread, offset);
}

// An access of any length, as pieces of at most 16 aligned bytes.
void access_range(Address address, std::size_t size, Access kind, const Caller& from) {
    while (size > 0) {
        unsigned piece = 16;
        while (piece > size || (address & (piece - 1))) piece /= 2;
        access(address, piece, kind, from);
        address += piece;
        size -= piece;
    }
}

}  // namespace

void access_from_library(Address address, unsigned size, Access kind, const Caller& from) {
    access(address, size, kind, from);
}

}  // namespace emu

using namespace emu;

#define CALLER EMU_CALLER
#define HOOK(size)                                                                             \
    void __tsan_read##size(void* a) { access((Address)a, size, Access::Load, CALLER); }        \
    void __tsan_write##size(void* a) { access((Address)a, size, Access::Store, CALLER); }      \
    void __tsan_unaligned_read##size(void* a) {                                                \
        access((Address)a, size, Access::Load, CALLER);                                        \
    }                                                                                          \
    void __tsan_unaligned_write##size(void* a) {                                               \
        access((Address)a, size, Access::Store, CALLER);                                       \
    }                                                                                          \
    void __tsan_volatile_read##size(void* a) { access((Address)a, size, Access::Load, CALLER); } \
    void __tsan_volatile_write##size(void* a) {                                                \
        access((Address)a, size, Access::Store, CALLER);                                       \
    }                                                                                          \
    void __tsan_unaligned_volatile_read##size(void* a) {                                       \
        access((Address)a, size, Access::Load, CALLER);                                        \
    }                                                                                          \
    void __tsan_unaligned_volatile_write##size(void* a) {                                      \
        access((Address)a, size, Access::Store, CALLER);                                       \
    }                                                                                          \
    void __tsan_read_write##size(void* a) {                                                    \
        access((Address)a, size, Access::Load, CALLER);                                        \
        access((Address)a, size, Access::Store, CALLER);                                       \
    }

extern "C" {

void __tsan_init() {}
HOOK(1)
HOOK(2)
HOOK(4)
HOOK(8)
HOOK(16)
void __tsan_read_range(void* a, std::size_t size) {
    access_range((Address)a, size, Access::Load, CALLER);
}
void __tsan_write_range(void* a, std::size_t size) {
    access_range((Address)a, size, Access::Store, CALLER);
}

// The caller's frame holds its saved frame pointer and, above it, its return address.
void __tsan_func_entry(void*) {
    Thread* thread = current;
    if (!thread) return;
    const Caller from = CALLER;
    const bool overflow = from.stack < thread->stack_low + LIBRARY_STACK;
    if (overflow || thread->depth == MAX_DEPTH) {
        Diagnostic found = describe(overflow ? "stack overflow" : "recursion too deep", true, thread);
        found.pc = pc_of(from.pc);
        fail(found);
    }
    thread->frames[thread->depth++] = (Address)__builtin_frame_address(1);
}

void __tsan_func_exit() {
    Thread* thread = current;
    if (thread && thread->depth > 0) --thread->depth;
}

// Calls to memcpy and the like in a kernel file are linked to these.
void* __wrap_memcpy(void* to, const void* from, std::size_t size) {
    access_range((Address)from, size, Access::Load, CALLER);
    access_range((Address)to, size, Access::Store, CALLER);
    return std::memmove(to, from, size);
}
void* __wrap_memmove(void* to, const void* from, std::size_t size) {
    access_range((Address)from, size, Access::Load, CALLER);
    access_range((Address)to, size, Access::Store, CALLER);
    return std::memmove(to, from, size);
}
void* __wrap_memset(void* to, int value, std::size_t size) {
    access_range((Address)to, size, Access::Store, CALLER);
    return std::memset(to, value, size);
}
// clang's instrumented builds call these instead.
void* __tsan_memcpy(void* to, const void* from, std::size_t size) {
    return __wrap_memcpy(to, from, size);
}
void* __tsan_memmove(void* to, const void* from, std::size_t size) {
    return __wrap_memmove(to, from, size);
}
void* __tsan_memset(void* to, int value, std::size_t size) { return __wrap_memset(to, value, size); }

// At the start of each basic block.
void __sanitizer_cov_trace_pc() {
    Thread* thread = current;
    if (!thread) return;
    const std::uint32_t pc = pc_of(CALLER.pc);
    if (machine.options.counts && !thread->is_host) {
        record_step(thread, pc);
    }
    count_step(thread, pc);
}

struct BoundsData {  // the layout that -fsanitize=bounds passes
    const char* file;
    std::uint32_t line, column;
    const struct {
        std::uint16_t kind, info;
        char name[1];
    } *array, *index;
};

[[noreturn]] void __ubsan_handle_out_of_bounds_abort(BoundsData* data, std::uintptr_t index) {
    Diagnostic found = describe("index", true, current);
    found.pc = pc_of(CALLER.pc);
    found.line = static_cast<int>(data->line);
    found.variable = data->array->name;
    found.offset = static_cast<std::int64_t>(index);
    const unsigned bits = data->index->info >> 1;  // log2 of the index type's width; bit 0: signed
    if (data->index->info & 1 && bits < 6) {
        const unsigned width = 1u << bits;
        found.offset = static_cast<std::int64_t>(index << (64 - width)) >> (64 - width);
    }
    fail(found);
}
void __ubsan_handle_out_of_bounds(BoundsData* data, std::uintptr_t index) {
    __ubsan_handle_out_of_bounds_abort(data, index);
}

struct PlaceData {  // of the two below
    const char* file;
    std::uint32_t line, column;
};

[[noreturn]] void __ubsan_handle_missing_return(PlaceData* data) {
    Diagnostic found = describe("no return", true, current);
    found.pc = pc_of(CALLER.pc);
    found.line = static_cast<int>(data->line);
    fail(found);
}
[[noreturn]] void __ubsan_handle_builtin_unreachable(PlaceData* data) {
    __ubsan_handle_missing_return(data);
}

}  // extern "C"
