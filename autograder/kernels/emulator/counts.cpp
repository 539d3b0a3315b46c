// Counting: the lanes' accesses merged into the requests of a warp, and what each costs.
//
// A GPU runs the lanes of a warp in lock step and lets the ones that are behind catch up. From the
// lanes' separate streams this order comes back by always taking the lanes whose next step is
// deepest in calls, then first in the program's order; the starts of basic blocks are steps too, so that
// lanes that left a loop wait for those still in it. Memory is moved in sectors of 32 bytes;
// shared memory has 32 banks of 4 bytes (CUDA C++ Best Practices Guide, "Memory Optimizations").
#include <algorithm>

#include "machine.h"

namespace emu {

namespace {

constexpr std::size_t MAX_WAITING = 4096;  // events of a lane that wait to be merged
constexpr unsigned SECTOR = 32, BANKS = 32;
constexpr auto STEP = static_cast<std::uint8_t>(Access::None);

struct Request {
    const Event* events[WARP];
    unsigned lanes[WARP];
    unsigned count = 0;
};

// The counts of a place in the code, found again quickly.
LineCounts& line_of(LaunchRecord& record, const Event& event) {
    struct Known {
        const LaunchRecord* record;
        std::uint64_t serial, key;
        LineCounts* line;
    };
    static Known known[256];
    const std::uint64_t key = static_cast<std::uint64_t>(event.pc) << 8 | event.kind;
    Known& place = known[(event.pc * 31 + event.kind) % 256];
    if (place.record != &record || place.serial != record.serial || place.key != key) {
        place = {&record, record.serial, key, &record.lines[key]};
    }
    return *place.line;
}

// Distinct values among the first `count`, which are in order already more often than not.
unsigned distinct(std::uint64_t* values, unsigned count) {
    unsigned found = count > 0;
    for (unsigned i = 1; i < count; ++i) {
        if (values[i] < values[i - 1]) {
            std::sort(values, values + count);
            return static_cast<unsigned>(std::unique(values, values + count) - values);
        }
        found += values[i] != values[i - 1];
    }
    return found;
}

void count_sectors(const Request& request, LineCounts& line) {
    std::uint64_t sectors[WARP * 2], starts[WARP];
    unsigned touched = 0;
    const unsigned size = request.events[0]->size;
    for (unsigned i = 0; i < request.count; ++i) {
        const Address first = request.events[i]->address;
        sectors[touched++] = first / SECTOR;
        if ((first + size - 1) / SECTOR != first / SECTOR) sectors[touched++] = first / SECTOR + 1;
        starts[i] = first;
    }
    line.sectors += distinct(sectors, touched);
    line.sectors_min += (distinct(starts, request.count) * size + SECTOR - 1) / SECTOR;
}

// The largest number of accesses that fall on one bank: different words of it, or for atomics all.
unsigned degree(const Request& request, unsigned first, unsigned last, bool atomic) {
    std::uint64_t words[WARP * 4];
    unsigned count = 0;
    for (unsigned i = 0; i < request.count; ++i) {
        if (request.lanes[i] < first || request.lanes[i] >= last) continue;
        const Event& event = *request.events[i];
        for (Address word = event.address / 4; word * 4 < event.address + event.size; ++word) {
            words[count++] = word;
        }
    }
    if (!atomic) {
        std::sort(words, words + count);
        count = static_cast<unsigned>(std::unique(words, words + count) - words);
    }
    unsigned per_bank[BANKS] = {}, most = 0;
    for (unsigned i = 0; i < count; ++i) most = std::max(most, ++per_bank[words[i] % BANKS]);
    return most;
}

// The usual request of 4 bytes a lane or less: does each bank serve one word at most?
bool without_conflict(const Request& request) {
    std::uint64_t word_of[BANKS];
    std::uint32_t used = 0;
    for (unsigned i = 0; i < request.count; ++i) {
        const Event& event = *request.events[i];
        const std::uint64_t word = event.address / 4;
        const std::uint32_t bank = word % BANKS, bit = 1u << bank;
        if (event.size > 4 || (used & bit && word_of[bank] != word)) return false;
        used |= bit;
        word_of[bank] = word;
    }
    return true;
}

void count_banks(const Request& request, LineCounts& line, bool atomic) {
    if (!atomic && without_conflict(request)) {
        ++line.wavefronts;
        ++line.wavefronts_min;
        line.worst_degree = std::max(line.worst_degree, 1.0);
        return;
    }
    // Accesses of 8 bytes are served a half of the warp at a time, of 16 bytes a quarter.
    const unsigned phases = std::max(1u, request.events[0]->size / 4u), width = WARP / phases;
    unsigned wavefronts = 0, least = 0;
    for (unsigned phase = 0; phase < phases; ++phase) {
        const unsigned most = degree(request, phase * width, (phase + 1) * width, atomic);
        wavefronts += most;
        least += most > 0;
    }
    line.wavefronts += wavefronts;
    line.wavefronts_min += least;
    line.worst_degree = std::max(line.worst_degree, static_cast<double>(wavefronts) / least);
}

void keep_sample(const Request& request, LineCounts& line) {
    const double cost = line.worst_degree;
    const std::uint64_t weight = request.count * 1000 + static_cast<std::uint64_t>(cost * 10);
    if (weight <= line.sample_weight) return;
    line.sample_weight = weight;
    line.sample_size = request.events[0]->size;
    Address lowest = ~Address{0};
    for (unsigned i = 0; i < request.count; ++i) {
        lowest = std::min(lowest, request.events[i]->address);
    }
    lowest = lowest / 128 * 128;
    std::fill(line.sample, line.sample + WARP, -1);
    for (unsigned i = 0; i < request.count; ++i) {
        line.sample[request.lanes[i]] = static_cast<std::int64_t>(request.events[i]->address - lowest);
    }
}

void count(const Request& request, unsigned living, LaunchRecord& record) {
    const Event& event = *request.events[0];
    LineCounts& line = line_of(record, event);
    ++line.requests;
    line.lanes += request.count;
    line.bytes += request.count * event.size;
    line.partial += request.count < living;
    if (static_cast<Space>(event.kind >> 4) == Space::Shared) {
        count_banks(request, line, static_cast<Access>(event.kind & 15) == Access::Atomic);
    } else {
        count_sectors(request, line);
    }
    keep_sample(request, line);
}

bool before(const Event& a, const Event& b) {
    if (a.depth != b.depth) return a.depth > b.depth;
    return a.pc != b.pc && rank_of(a.pc) < rank_of(b.pc);
}

bool together(const Event& a, const Event& b) {
    return a.pc == b.pc && a.depth == b.depth && a.size == b.size && a.kind == b.kind;
}

}  // namespace

void record_event(Thread* thread, Address address, unsigned size, Access access, Space space,
                  std::uint32_t pc) {
    const auto depth = static_cast<std::uint16_t>(thread->depth);
    std::vector<Event>& events = thread->events;
    if (thread->step_pending) {
        // A step matters only if the lane then goes back, or to another function: on the way ahead
        // the next access says as well where the lane is.
        thread->step_pending = false;
        if (thread->step_depth != depth || rank_of(pc) < rank_of(thread->step_pc)) {
            events.push_back({0, thread->step_pc, thread->step_depth, 1, STEP});
        }
    }
    // Written member by member: a copy of a whole event would wait for its parts to be stored.
    Event& event = events.emplace_back();
    event.address = address;
    event.pc = pc;
    event.depth = depth;
    event.size = static_cast<std::uint8_t>(size);
    event.kind = static_cast<std::uint8_t>(static_cast<unsigned>(access) | static_cast<unsigned>(space) << 4);
    thread->accesses_end = events.size();
    if (events.size() >= MAX_WAITING) yield_thread();
}

void record_step(Thread* thread, std::uint32_t pc) {
    const auto depth = static_cast<std::uint16_t>(thread->depth);
    if (thread->step_pending && (thread->step_depth != depth || rank_of(pc) < rank_of(thread->step_pc))) {
        thread->events.push_back({0, thread->step_pc, thread->step_depth, 1, STEP});
        if (thread->events.size() >= MAX_WAITING) yield_thread();
    }
    thread->step_pending = true;
    thread->step_pc = pc;
    thread->step_depth = depth;
}

namespace {

// The lanes of a warp and the heads of their streams.
struct Streams {
    Thread* const* threads;
    unsigned lanes;
    const Event *head[WARP], *end[WARP];

    Streams(Context& context, unsigned warp)
        : threads(context.threads.data() + warp * WARP),
          lanes(std::min(WARP, context.count - warp * WARP)) {
        for (unsigned i = 0; i < lanes; ++i) {
            const std::vector<Event>& events = threads[i]->events;
            head[i] = events.data();
            end[i] = events.data() + events.size();
        }
    }

    // Do all lanes stand at the same place? Then they are one request.
    bool converged() const {
        for (unsigned i = 0; i < lanes; ++i) {
            if (head[i] == end[i] || !together(*head[i], *head[0])) return false;
        }
        return true;
    }

    unsigned living() const {
        unsigned count = 0;
        for (unsigned i = 0; i < lanes; ++i) {
            const Thread* thread = threads[i];
            count += thread->state != State::Done ||
                     head[i] < thread->events.data() + thread->accesses_end;
        }
        return count;
    }

    // The event to be served next; null if there is none or, unless `all`, if a lane that can still
    // run has nothing waiting.
    const Event* next(bool all) const {
        const Event* found = nullptr;
        for (unsigned i = 0; i < lanes; ++i) {
            if (head[i] == end[i]) {
                if (!all && threads[i]->state == State::Ready) return nullptr;
            } else if (!found || before(*head[i], *found)) {
                found = head[i];
            }
        }
        return found;
    }

    // Leaves in the lanes' streams what is still to come.
    void keep_rest() {
        for (unsigned i = 0; i < lanes; ++i) {
            Thread* thread = threads[i];
            std::vector<Event>& events = thread->events;
            if (head[i] == end[i]) {
                events.clear();
                thread->accesses_end = 0;
            } else if (const auto served = head[i] - events.data(); served > 0) {
                thread->accesses_end -= std::min(thread->accesses_end, static_cast<std::size_t>(served));
                events.erase(events.begin(), events.begin() + served);
            }
        }
    }
};

}  // namespace

// Merges what waits. Not `all`: only as long as each lane that can still run has something waiting.
void merge_events(Context& context, unsigned warp, bool all) {
    Streams streams(context, warp);
    Request request;
    for (;;) {
        const bool converged = streams.converged();
        const Event* next = converged ? streams.head[0] : streams.next(all);
        if (!next) break;
        const bool step = static_cast<Access>(next->kind & 15) == Access::None;
        request.count = 0;
        const unsigned living = converged || step ? streams.lanes : streams.living();
        for (unsigned i = 0; i < streams.lanes; ++i) {
            if (!converged && (streams.head[i] == streams.end[i] || !together(*streams.head[i], *next))) continue;
            request.events[request.count] = streams.head[i]++;
            request.lanes[request.count++] = i;
        }
        if (!step) count(request, living, *context.record);
    }
    streams.keep_rest();
}

}  // namespace emu
