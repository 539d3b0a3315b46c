// What each word of memory remembers of its accesses; races.cpp says what follows from it.
#pragma once

#include "machine.h"

namespace emu {

// An access: who, when (barriers of all blocks counted through; synchronisations of the warp;
// releases before it) and where in the code.
struct Entry {
    std::uint32_t thread = 0, epoch = 0, pc = 0, clock = 0, stamp = 0;
};

// One line of the cache. atomic: the writer's access was; split: see `bytes`, the number of the
// word's byte cells.
struct alignas(64) Cell {
    Entry writer, readers[2];
    std::uint32_t atomic : 1, split : 1, bytes : 30;
    Cell() : atomic(0), split(0), bytes(0) {}
};
static_assert(sizeof(Cell) == 64, "a cell is one line of the cache");

constexpr std::size_t PAGE_CELLS = 4096;
struct Shadow {
    Cell** pages = nullptr;  // of device memory, PAGE_CELLS words each; null: not yet needed
    Cell* shared = nullptr;
    std::uint32_t stamp = 0;  // releases so far
};
extern Shadow shadow;

// Was it in an earlier launch, before the block's last barrier, or by this thread itself?
inline bool is_past(const Entry& entry, const Thread* thread, Space space) {
    if (entry.thread == thread->number) return true;
    if (space == Space::Shared) return entry.epoch < machine.epoch;  // also what other blocks did
    if (entry.epoch < machine.launch_epoch) return true;
    return entry.epoch >= thread->context->block_epoch && entry.epoch < machine.epoch;
}

inline void note(Entry& entry, const Thread* thread, std::uint32_t pc) {
    entry.thread = thread->number;
    entry.epoch = machine.epoch;
    entry.pc = pc;
    entry.clock = thread->clock[thread->lane];
    entry.stamp = shadow.stamp;
}

// The first reader that nothing orders before this one stays, the last one beside it.
inline void note_reader(Cell& cell, const Thread* thread, Space space, std::uint32_t pc) {
    Entry& first = cell.readers[0];
    note(is_past(first, thread, space) ? first : cell.readers[1], thread, pc);
}

inline void note_writer(Cell& cell, const Thread* thread, std::uint32_t pc) {
    note(cell.writer, thread, pc);
}

// Can an access of these words race with nothing, whatever the lanes of the warp have synchronised?
template <unsigned COUNT, Access KIND>
inline bool is_quiet(const Cell* cells, const Thread* thread, Space space) {
    for (unsigned i = 0; i < COUNT; ++i) {
        const Cell& cell = cells[i];
        if (cell.split || !is_past(cell.writer, thread, space)) return false;
        if (KIND == Access::Load) continue;
        if (cell.atomic || !is_past(cell.readers[0], thread, space) ||
            !is_past(cell.readers[1], thread, space)) {
            return false;
        }
    }
    return true;
}

}  // namespace emu
