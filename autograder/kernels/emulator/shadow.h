// What each word of memory remembers of its accesses; races.cpp says what follows from it.
#pragma once

#include "machine.h"

namespace emu {

// An access.
struct Entry : Moment {
    std::uint32_t pc = 0;
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
};
extern Shadow shadow;

// Was it in an earlier launch, before the block's last barrier, or by this thread itself?
inline bool is_past(const Entry& entry, const Thread* thread, Space space) {
    const Moment& now = thread->moment;
    if (space == Space::Shared) {  // what other blocks did is past, too
        return entry.epoch < now.epoch || entry.thread == now.thread;
    }
    if (entry.epoch < machine.launch_epoch || entry.thread == now.thread) return true;
    return entry.epoch >= thread->context->block_epoch && entry.epoch < now.epoch;
}

inline void note(Entry& entry, const Thread* thread, std::uint32_t pc) {
    static_cast<Moment&>(entry) = thread->moment;
    entry.pc = pc;
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
