// Races and uninitialised reads.
//
// Each word of memory remembers its last writer and two of its readers since. Two accesses by
// different threads, one of them a write, race unless something orders them: a barrier between
// (the epoch has moved on), a __syncwarp between (the lanes' vector clocks say so), another launch,
// or, between blocks, an atomic after a __threadfence, which releases what the block did before it to
// those who use the atomic later. Words that are accessed in parts are watched byte by byte.
#include <algorithm>
#include <array>
#include <cstring>
#include <iterator>

#include "shadow.h"

namespace emu {

namespace {

std::vector<Cell> device_cells;
// A word's four cells; `of` tells whose they are, since words remember the numbers of old launches.
struct ByteCells {
    Space space;
    std::size_t word;
    std::array<Cell, 4> cells;
};
std::vector<ByteCells> byte_cells;
constexpr std::size_t MAX_PAGES = 3000;  // of cells: about 48 MB of device memory touched
constexpr std::size_t MAX_BYTE_CELLS = 1 << 20;
constexpr std::size_t MAX_RELEASED = 1 << 22;
std::size_t pages = 0, released_entries = 0;

// A release by a thread: of what it did before that stamp, and of what its block did before the
// barrier that it had passed last.
struct Release {
    std::uint32_t thread, epoch, stamp;
    bool operator<(const Release& other) const { return thread < other.thread; }
};
using Released = std::vector<Release>;  // in order, one for each thread
Released acquired;  // by the block that runs
std::unordered_map<Address, Released> released;

// A second write to the same word, made but not yet looked at: harmless if it writes the same.
struct Pending {
    bool active = false;
    Address address = 0;
    unsigned size = 0;
    unsigned char before[16];
    Diagnostic found;
} pending;

}  // namespace

Shadow shadow;

namespace {

[[noreturn]] void too_much(const char* what) {
    Diagnostic found = describe("too much to watch", true, current);
    found.text = what;
    fail(found, 2);
}

Cell& cell_of(const Place& place) {
    const std::size_t word = place.offset / 4;
    if (place.space == Space::Shared) return shadow.shared[word];
    if (place.space == Space::Global) {
        Cell*& page = shadow.pages[word / PAGE_CELLS];
        if (!page) {
            if (++pages > MAX_PAGES) too_much("device memory");
            page = new Cell[PAGE_CELLS];
        }
        return page[word % PAGE_CELLS];
    }
    if (word >= device_cells.size()) device_cells.resize(word + 1024);
    return device_cells[word];
}

Address address_of(const Thread* thread, const Place& place) {
    if (place.space == Space::Global) return machine.arena + place.offset;
    if (place.space == Space::Shared) {
        return reinterpret_cast<Address>(thread->context->shared) + place.offset;
    }
    return machine.modules[static_cast<std::size_t>(machine.module)].device_begin + place.offset;
}

// Does something order an access of this launch's current interval, or of another block of it,
// against what this thread does now?
bool ordered_within(const Entry& entry, const Thread* thread, Space space) {
    const Context& context = *thread->context;
    if (entry.epoch >= context.block_epoch) {
        const std::uint32_t other = entry.thread % context.count;
        return other / WARP == thread->linear / WARP && thread->clock[other % WARP] >= entry.clock;
    }
    if (space == Space::Shared) return true;
    const std::uint32_t first = entry.thread / context.count * context.count;
    auto place = std::lower_bound(acquired.begin(), acquired.end(), Release{first, 0, 0});
    for (; place != acquired.end() && place->thread < first + context.count; ++place) {
        if (entry.epoch < place->epoch) return true;
        if (place->thread == entry.thread && entry.stamp < place->stamp) return true;
    }
    return false;
}

// Is there an order between an earlier access and what this thread does now?
inline bool ordered(const Entry& entry, const Thread* thread, Space space) {
    return is_past(entry, thread, space) || ordered_within(entry, thread, space);
}

void found_race(const Thread* thread, const Place& place, unsigned size, Access access,
                std::uint32_t pc, const Entry& with, bool with_write) {
    Diagnostic found = describe("race", true, thread);
    found.pc = pc;
    found.other_pc = with.pc;
    found.access = access;
    found.size = size;
    const std::uint32_t count = thread->context->count;
    found.other = {with.thread / count, with.thread % count};
    found.text = with_write ? "write" : "read";
    found.barrier_line = thread->context->barrier_line;
    describe_place(found, thread, place);
    if (with_write && access == Access::Store && size <= 16) {
        pending.active = machine.race_pending = true;
        pending.address = address_of(thread, place);
        pending.size = size;
        std::memcpy(pending.before, reinterpret_cast<void*>(pending.address), size);
        pending.found = std::move(found);
    } else {
        report(std::move(found));
    }
}

void watch(Cell& cell, Thread* thread, const Place& place, unsigned size, Access access,
           std::uint32_t pc) {
    const bool atomic = access == Access::Atomic;
    if (!ordered(cell.writer, thread, place.space) && !(atomic && cell.atomic)) {
        found_race(thread, place, size, access, pc, cell.writer, true);
    }
    if (access == Access::Load) {
        note_reader(cell, thread, place.space, pc);
        return;
    }
    for (Entry& reader : cell.readers) {
        if (!ordered(reader, thread, place.space)) {
            found_race(thread, place, size, access, pc, reader, false);
            break;
        }
    }
    note_writer(cell, thread, pc);
    cell.atomic = atomic;
}

// Is a cp.async to the place under way? Then `found` says whose, from which line, and if committed.
void describe_copy(Diagnostic& found, const Thread* thread, const Place& place) {
    if (place.space != Space::Shared) return;
    const Address address = address_of(thread, place);
    for (unsigned i = 0; i < thread->context->count; ++i) {
        const Thread* other = thread->context->threads[i];
        for (std::size_t k = 0; k < other->copies.size(); ++k) {
            const AsyncCopy& copy = other->copies[k];
            if (address - copy.to >= copy.size) continue;
            const bool committed = !other->committed.empty() && k < other->committed.back();
            found.text = committed ? "not waited for" : "not committed";
            found.other = {thread->context->block_linear, other->linear};
            found.other_pc = copy.pc;
            return;
        }
    }
}

void check_valid(Thread* thread, const Place& place, std::uint8_t* words, unsigned size,
                 Access access, std::uint32_t pc) {
    const std::size_t end = place.offset + size;
    for (std::size_t word = place.offset / 4; word * 4 < end; ++word) {
        const unsigned low = word * 4 < place.offset ? place.offset % 4 : 0;
        const unsigned high = static_cast<unsigned>(std::min<std::size_t>(4, end - word * 4));
        const std::uint8_t mask = static_cast<std::uint8_t>(((1u << high) - 1) & ~((1u << low) - 1));
        if (access != Access::Store && (words[word] & mask) != mask) {
            Diagnostic found = describe("uninitialised", true, thread);
            found.pc = pc;
            found.size = size;
            found.access = access;
            describe_place(found, thread, place);
            describe_copy(found, thread, place);
            report(std::move(found));
            return;
        }
        if (access != Access::Load) words[word] |= mask;
    }
}

bool is_split(Cell& cell, Space space, std::size_t word) {
    if (!cell.split) return false;
    if (cell.bytes < byte_cells.size()) {
        const ByteCells& own = byte_cells[cell.bytes];
        if (own.space == space && own.word == word) return true;
    }
    cell.split = false;
    return false;
}

void split(Cell& cell, Space space, std::size_t word) {
    if (is_split(cell, space, word)) return;
    const Cell whole = cell;
    cell.split = true;
    cell.bytes = static_cast<std::uint32_t>(byte_cells.size()) & 0x3fffffff;
    if (byte_cells.size() > MAX_BYTE_CELLS) too_much("single bytes");
    byte_cells.push_back({space, word, {whole, whole, whole, whole}});
}

}  // namespace

void settle_pending() {
    if (!pending.active) return;
    pending.active = machine.race_pending = false;
    if (std::memcmp(pending.before, reinterpret_cast<void*>(pending.address), pending.size) == 0) {
        pending.found.kind = "same value race";
        pending.found.error = false;
    }
    report(std::move(pending.found));
}

void begin_launch_races() {
    if (!shadow.pages) {
        shadow.pages = new Cell*[machine.arena_size / 4 / PAGE_CELLS + 1]();
        shadow.shared = new Cell[SHARED_ARENA / 4];
    }
    acquired.clear();
    released.clear();
    byte_cells.clear();
    released_entries = 0;
    pending.active = machine.race_pending = false;
}

// Joins two lists; of a thread that is in both, the later release.
static Released joined(const Released& a, const Released& b) {
    Released both;
    both.reserve(a.size() + b.size());
    std::merge(a.begin(), a.end(), b.begin(), b.end(), std::back_inserter(both));
    Released kept;
    for (const Release& entry : both) {
        if (kept.empty() || kept.back().thread != entry.thread) kept.push_back(entry);
        else if (kept.back().stamp < entry.stamp) kept.back() = entry;
    }
    return kept;
}

void release_acquire(Thread* thread, Address address) {
    const Context& context = *thread->context;
    static std::uint32_t of_block = 0;
    if (of_block != context.block_epoch) {
        acquired.clear();  // what another block acquired is not this one's
        of_block = context.block_epoch;
    }
    Released& there = released[address];
    released_entries -= there.size();
    if (!there.empty()) acquired = joined(acquired, there);
    if (thread->fenced) {
        const Released own{{thread->moment.thread, machine.epoch, ++machine.stamp}};
        there = joined(joined(there, acquired), own);
        thread->moment.stamp = machine.stamp;
    }
    released_entries += there.size();
    if (released_entries > MAX_RELEASED) too_much("atomics after fences");
}

void check_access(Thread* thread, const Place& place, unsigned size, Access access,
                  std::uint32_t pc) {
    if (machine.race_pending) settle_pending();
    if (access == Access::Store) thread->fenced = false;  // what follows a fence is not behind it
    if (place.space == Space::Global) {
        check_valid(thread, place, machine.words, size, access, pc);
    } else if (place.space == Space::Shared) {
        check_valid(thread, place, thread->context->shared_words, size, access, pc);
    }
    for (std::size_t offset = place.offset, end = offset + size; offset < end;) {
        const unsigned part = static_cast<unsigned>(std::min<std::size_t>(end - offset, 4 - offset % 4));
        Cell& cell = cell_of({place.space, offset});
        if (part == 4 && !is_split(cell, place.space, offset / 4)) {
            watch(cell, thread, place, size, access, pc);
        } else {
            split(cell, place.space, offset / 4);
            for (unsigned i = 0; i < part; ++i) {
                Cell& byte = byte_cells[cell.bytes].cells[offset % 4 + i];
                watch(byte, thread, place, size, access, pc);
            }
        }
        offset += part;
    }
}

}  // namespace emu
