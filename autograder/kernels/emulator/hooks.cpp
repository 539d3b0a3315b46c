// What the compiler calls: before each load and store (-fsanitize=thread), at the entry and exit of
// functions, at each basic block (-fsanitize-coverage=trace-pc), and for an index outside of an array
// (-fsanitize=bounds).
//
// The library is linked without the sanitizers' own runtimes: these are their entry points.
#include <cstring>

#include "record.h"
#include "shadow.h"

namespace emu {

namespace {

__attribute__((noinline)) void take_turns(Thread* thread, std::uint32_t pc) {
    thread->steps_left = TURN;
    machine.launch_steps += TURN;
    if (!test_patience(thread, pc)) return;
    if (thread->is_host) return;
    thread->yielded = true;  // it may be waiting for another warp
    yield_thread();
}

inline void count_step(Thread* thread, std::uint32_t pc) {
    if (__builtin_expect(--thread->steps_left == 0, false)) take_turns(thread, pc);
}

__attribute__((noinline)) void access(Address address, unsigned size, Access kind, const Caller from) {
    Thread* thread = current;
    Place place;
    if (!locate(thread, address, size, kind, from, place)) return;
    const std::uint32_t offset = pc_of(from.pc);
    if (machine.options.checks) check_access(thread, place, size, kind, offset);
    if (machine.options.counts) record_event(thread, address, size, kind, place.space, offset);
    count_step(thread, offset);
}

// What follows a checked access, where it is more than a few instructions.
__attribute__((noinline)) void finish_access(Thread* thread, Address address, const Step step, bool recorded) {
    if (!recorded) record_late(thread, address, step);
    if (thread->steps_left == 0) take_turns(thread, step.pc);
}

// `access` for what most accesses are, without calls: whole words that belong to somebody, and
// whose earlier accesses are past. False, and nothing is done, if this one is not of that kind.
template <unsigned SIZE, Access KIND>
inline __attribute__((always_inline)) bool quick_access(Address address, const void* return_address) {
    static_assert(SIZE % 4 == 0 && (KIND == Access::Load || KIND == Access::Store), "whole words");
    constexpr unsigned COUNT = SIZE / 4;
    Thread* thread = current;
    const Context& context = *thread->context;
    Space space = Space::Shared;
    std::size_t offset = address - reinterpret_cast<Address>(context.shared);
    std::uint8_t* words = context.shared_words;
    Cell* cells = shadow.shared;
    if (offset >= context.shared_used) {
        space = Space::Global;
        offset = address - machine.arena;
        if (offset >= machine.arena_size || thread->is_host) return false;
        words = machine.words;
        cells = nullptr;
    }
    if (offset % SIZE) return false;
    words += offset / 4;
    const bool checks = machine.options.checks;
    const std::uint8_t wanted = KIND == Access::Load && checks ? OWNED | WRITTEN : OWNED;
    for (unsigned i = 0; i < COUNT; ++i) {
        if ((words[i] & wanted) != wanted) return false;
    }
    const std::uint32_t pc = pc_of(return_address);
    if (checks) {
        if (space == Space::Shared) {
            cells += offset / 4;
        } else {
            cells = shadow.pages[offset / 4 / PAGE_CELLS];
            if (!cells) return false;
            cells += offset / 4 % PAGE_CELLS;
        }
        if (machine.race_pending || !is_quiet<COUNT, KIND>(cells, thread, space)) return false;
        if (KIND == Access::Store) thread->fenced = false;
        for (unsigned i = 0; i < COUNT; ++i) {
            if (KIND == Access::Load) {
                note_reader(cells[i], thread, space, pc);
            } else {
                words[i] |= WRITTEN;
                note_writer(cells[i], thread, pc);
            }
        }
    }
    const Step step = step_of(thread, SIZE, KIND, space, pc);
    const bool recorded = !machine.options.counts || record_quick(thread, address, step);
    if (__builtin_expect((--thread->steps_left == 0) | !recorded, false)) {
        finish_access(thread, address, step, recorded);
    }
    return true;
}

template <unsigned SIZE, Access KIND>
inline __attribute__((always_inline)) void hook(void* place, const Caller& from) {
    const auto address = reinterpret_cast<Address>(place);
    if constexpr (SIZE % 4 == 0) {
        if (__builtin_expect(quick_access<SIZE, KIND>(address, from.pc), true)) return;
    }
    access(address, SIZE, KIND, from);
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
#define SAME(name, as) void name(void*) __attribute__((alias(#as)));
#define HOOK(size)                                                               \
    void __tsan_read##size(void* a) { hook<size, Access::Load>(a, CALLER); }     \
    void __tsan_write##size(void* a) { hook<size, Access::Store>(a, CALLER); }   \
    SAME(__tsan_unaligned_read##size, __tsan_read##size)                         \
    SAME(__tsan_unaligned_write##size, __tsan_write##size)                       \
    SAME(__tsan_volatile_read##size, __tsan_read##size)                          \
    SAME(__tsan_volatile_write##size, __tsan_write##size)                        \
    SAME(__tsan_unaligned_volatile_read##size, __tsan_read##size)                \
    SAME(__tsan_unaligned_volatile_write##size, __tsan_write##size)              \
    void __tsan_read_write##size(void* a) {                                      \
        access((Address)a, size, Access::Load, CALLER);                          \
        access((Address)a, size, Access::Store, CALLER);                         \
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
