// Counting: the lanes' accesses merged into the requests of a warp, and what each costs.
//
// A GPU runs the lanes of a warp in lock step and lets the ones that are behind catch up. From the
// lanes' separate streams this order comes back by always taking the lanes whose next step is
// deepest in calls, then first in the program's order; the starts of basic blocks are steps too, so that
// lanes that left a loop wait for those still in it. Memory is moved in sectors of 32 bytes;
// shared memory has 32 banks of 4 bytes (CUDA C++ Best Practices Guide, "Memory Optimizations").
#include <algorithm>

#include "record.h"

namespace emu {

namespace {

constexpr unsigned SECTOR = 32, BANKS = 32;
constexpr unsigned APART = ~0u;  // Thread::following of a lane that has events of its own

// What some lanes of a warp do together.
struct Request {
    Step step;
    const Address* addresses;
    const unsigned* lanes;  // in order
    unsigned count;
};

const unsigned ALL_LANES[WARP] = {0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13, 14, 15,
                                  16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31};

// The counts of a place in the code, found again quickly.
LineCounts& line_of(LaunchRecord& record, const Step& step) {
    struct Known {
        const LaunchRecord* record;
        std::uint64_t serial, key;
        LineCounts* line;
    };
    static Known known[256];
    const std::uint64_t key = static_cast<std::uint64_t>(step.pc) << 8 | step.kind;
    Known& place = known[(step.pc * 31 + step.kind) % 256];
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
    const unsigned size = request.step.size;
    for (unsigned i = 0; i < request.count; ++i) {
        const Address first = request.addresses[i];
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
        const Address begin = request.addresses[i], end = begin + request.step.size;
        for (Address word = begin / 4; word * 4 < end; ++word) {
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
    if (request.step.size > 4) return false;
    for (unsigned i = 0; i < request.count; ++i) {
        const std::uint64_t word = request.addresses[i] / 4;
        const std::uint32_t bank = word % BANKS, bit = 1u << bank;
        if (used & bit && word_of[bank] != word) return false;
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
    const unsigned phases = std::max(1u, request.step.size / 4u), width = WARP / phases;
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
    line.sample_size = request.step.size;
    Address lowest = ~Address{0};
    for (unsigned i = 0; i < request.count; ++i) {
        lowest = std::min(lowest, request.addresses[i]);
    }
    lowest = lowest / 128 * 128;
    std::fill(line.sample, line.sample + WARP, -1);
    for (unsigned i = 0; i < request.count; ++i) {
        line.sample[request.lanes[i]] = static_cast<std::int64_t>(request.addresses[i] - lowest);
    }
}

void count_costs(const Request& request, LineCounts& line) {
    if (static_cast<Space>(request.step.kind >> 4) == Space::Shared) {
        count_banks(request, line, static_cast<Access>(request.step.kind & 15) == Access::Atomic);
    } else {
        count_sectors(request, line);
    }
    keep_sample(request, line);
}

// Are these the last request's addresses, all shifted by whole sectors, or in shared memory words?
// Then it costs the same, for banks follow each other in turn.
bool repeats(const Request& request, const LineCounts& line) {
    const Address shift = request.addresses[0] - line.last[0];
    const bool shared = static_cast<Space>(request.step.kind >> 4) == Space::Shared;
    if (shift % (shared ? 4 : SECTOR)) return false;
    Address differs = 0;
    for (unsigned i = 0; i < WARP; ++i) differs |= (request.addresses[i] - line.last[i]) ^ shift;
    return !differs;
}

// A request of all 32 lanes.
void count_whole(const Request& request, LineCounts& line) {
    if (request.step.size == line.last_size && repeats(request, line)) {
        line.sectors += line.last_sectors;
        line.sectors_min += line.last_sectors_min;
        line.wavefronts += line.last_wavefronts;
        line.wavefronts_min += line.last_wavefronts_min;
        return;
    }
    const std::uint64_t sectors = line.sectors, sectors_min = line.sectors_min,
                        wavefronts = line.wavefronts, wavefronts_min = line.wavefronts_min;
    count_costs(request, line);
    line.last_size = request.step.size;
    line.last_sectors = line.sectors - sectors;
    line.last_sectors_min = line.sectors_min - sectors_min;
    line.last_wavefronts = line.wavefronts - wavefronts;
    line.last_wavefronts_min = line.wavefronts_min - wavefronts_min;
    std::copy(request.addresses, request.addresses + WARP, line.last);
}

void count(const Request& request, unsigned living, LaunchRecord& record) {
    LineCounts& line = line_of(record, request.step);
    ++line.requests;
    line.lanes += request.count;
    line.bytes += request.count * request.step.size;
    line.partial += request.count < living;
    if (request.count == WARP) {
        count_whole(request, line);
    } else {
        count_costs(request, line);
    }
}

bool before(const Step& a, const Step& b) {
    if (a.depth != b.depth) return a.depth > b.depth;
    return a.pc != b.pc && rank_of(a.pc) < rank_of(b.pc);
}

bool together(const Event& a, const Event& b) { return bits_of(a.step) == bits_of(b.step); }

bool is_access(const Step& step) { return step.kind != STEP; }

// How many of the trace's steps a lane did, too.
unsigned in_trace(const Thread* thread) {
    return thread->following == APART ? thread->common : thread->following;
}

// Moves what a lane did of the trace, from the step `first` on, to its own events.
void take_out(const Trace& trace, Thread* thread, unsigned first) {
    std::vector<Event>& events = thread->events;
    if (thread->following == first) {
        thread->following = 0;
        return;
    }
    std::vector<Event> taken;
    std::size_t end = 0;
    for (unsigned i = first; i < in_trace(thread); ++i) {
        taken.push_back({trace.addresses[i][thread->lane], trace.steps[i]});
        if (is_access(trace.steps[i])) end = taken.size();
    }
    thread->accesses_end = thread->accesses_end ? taken.size() + thread->accesses_end : end;
    events.insert(events.begin(), taken.begin(), taken.end());
    thread->common = 0;
    thread->following = events.empty() ? 0 : APART;
}

// Counts what all lanes did alike; what some did beyond that goes to their own events.
void merge_trace(Context& context, Thread* const* threads, unsigned lanes) {
    Trace& trace = *context.trace;
    unsigned alike = trace.length;
    for (unsigned i = 0; i < lanes; ++i) alike = std::min(alike, in_trace(threads[i]));
    for (unsigned i = 0; i < alike; ++i) {
        if (!is_access(trace.steps[i])) continue;
        count({trace.steps[i], trace.addresses[i], ALL_LANES, lanes}, lanes, *context.record);
    }
    for (unsigned i = 0; i < lanes; ++i) take_out(trace, threads[i], alike);
    trace.length = 0;
    trace.leader = nullptr;
}

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
            } else if (!found || before(head[i]->step, found->step)) {
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
                thread->following = 0;
            } else if (const auto served = head[i] - events.data(); served > 0) {
                thread->accesses_end -= std::min(thread->accesses_end, static_cast<std::size_t>(served));
                events.erase(events.begin(), events.begin() + served);
            }
        }
    }
};

void merge_apart(Context& context, unsigned warp, bool all) {
    Streams streams(context, warp);
    Address addresses[WARP];
    unsigned lanes[WARP];
    for (;;) {
        const bool converged = streams.converged();
        const Event* next = converged ? streams.head[0] : streams.next(all);
        if (!next) break;
        const Step step = next->step;
        const unsigned living = converged || !is_access(step) ? streams.lanes : streams.living();
        unsigned together_now = 0;
        for (unsigned i = 0; i < streams.lanes; ++i) {
            if (!converged && (streams.head[i] == streams.end[i] || !together(*streams.head[i], *next))) continue;
            addresses[together_now] = streams.head[i]++->address;
            lanes[together_now++] = i;
        }
        if (is_access(step)) count({step, addresses, lanes, together_now}, living, *context.record);
    }
    streams.keep_rest();
}

}  // namespace

void record_apart(Thread* thread, Address address, Step step) {
    Trace& trace = *thread->context->trace;
    const bool leads = !trace.leader || trace.leader == thread;
    if (leads && thread->following == trace.length && trace.length < MAX_WAITING) {
        trace.leader = thread;
        trace.steps[trace.length] = step;
        trace.addresses[trace.length][thread->lane] = address;
        thread->following = ++trace.length;
        return;
    }
    if (thread->following != APART) {
        thread->common = thread->following;
        thread->following = APART;
    }
    thread->events.push_back({address, step});
    if (is_access(step)) thread->accesses_end = thread->events.size();
    if (thread->common + thread->events.size() >= MAX_WAITING) yield_thread();
}

void begin_block_events(Context& context) {
    if (!machine.options.counts) return;
    if (!context.trace) context.trace = new Trace;
    context.trace->leader = nullptr;
    context.trace->length = 0;
    for (unsigned i = 0; i < context.count; ++i) {
        Thread* thread = context.threads[i];
        thread->events.clear();
        thread->accesses_end = 0;
        thread->step_pending = false;
        thread->common = thread->following = 0;
    }
}

// Merges what waits. Not `all`: only as long as each lane that can still run has something waiting.
void merge_events(Context& context, unsigned warp, bool all) {
    Thread* const* threads = context.threads.data() + warp * WARP;
    const unsigned lanes = std::min(WARP, context.count - warp * WARP);
    if (context.trace->length) merge_trace(context, threads, lanes);
    bool apart = false;
    for (unsigned i = 0; i < lanes; ++i) apart |= threads[i]->following == APART;
    if (apart) merge_apart(context, warp, all);
}

}  // namespace emu
