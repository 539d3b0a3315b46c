// Barriers and warp-wide operations: what they compute, and what is wrong about how they are used.
#include "warp.h"

#include <algorithm>
#include <map>

namespace emu {

namespace {

using Lanes = Thread* [WARP];

unsigned lanes_of(Context& context, unsigned warp, Lanes& lanes) {
    const unsigned first = warp * WARP, count = std::min(WARP, context.count - first);
    for (unsigned i = 0; i < count; ++i) lanes[i] = context.threads[first + i];
    return count;
}

bool all_there(const Lanes& lanes, unsigned count, const WarpRequest& request) {
    for (unsigned i = 0; i < count; ++i) {
        const Thread* lane = lanes[i];
        if (!(request.mask >> i & 1) || lane->state == State::Done) continue;
        const WarpRequest& other = lane->request;
        if (lane->state != State::Collective || other.mask != request.mask ||
            other.kind != request.kind || other.line != request.line) {
            return false;
        }
    }
    return true;
}

unsigned shuffle_source(const WarpRequest& request, unsigned lane) {
    const int width = request.width, base = static_cast<int>(lane) & ~(width - 1);
    const int own = static_cast<int>(lane) - base;
    int source = own;
    switch (request.sub) {
        case EMU_SHUFFLE: source = request.operand & (width - 1); break;
        case EMU_SHUFFLE_UP: source = own - request.operand; break;
        case EMU_SHUFFLE_DOWN: source = own + request.operand; break;
        case EMU_SHUFFLE_XOR: source = own ^ request.operand; break;
        default: break;
    }
    return static_cast<unsigned>(source < 0 || source >= width ? base + own : base + source);
}

std::uint32_t reduce(std::uint32_t a, std::uint32_t b, const WarpRequest& request) {
    const auto sa = static_cast<std::int32_t>(a), sb = static_cast<std::int32_t>(b);
    switch (request.sub) {
        case EMU_ADD: return a + b;
        case EMU_MIN: return request.is_signed ? (sa < sb ? a : b) : std::min(a, b);
        case EMU_MAX: return request.is_signed ? (sa > sb ? a : b) : std::max(a, b);
        case EMU_AND: return a & b;
        case EMU_OR: return a | b;
        default: return a ^ b;
    }
}

void shuffle(const Lanes& lanes, unsigned count, unsigned mask) {
    for (unsigned i = 0; i < count; ++i) {
        if (!(mask >> i & 1) || lanes[i]->state == State::Done) continue;
        WarpRequest& own = lanes[i]->request;
        const unsigned source = shuffle_source(own, i);
        const bool there = source < count && mask >> source & 1 && lanes[source]->state != State::Done;
        if (!there) {
            Diagnostic found = describe("shuffle from an absent lane", true, lanes[i]);
            found.line = own.line;
            found.text = std::to_string(source);
            report(found);
        }
        own.result = there ? lanes[source]->request.value : ~std::uint64_t{0};
    }
}

void compute(const Lanes& lanes, unsigned count, const WarpRequest request) {
    if (request.kind == Collective::Shuffle) return shuffle(lanes, count, request.mask);
    unsigned ballot = 0, members = 0;
    std::uint32_t total = 0;
    for (unsigned i = 0; i < count; ++i) {
        if (!(request.mask >> i & 1) || lanes[i]->state == State::Done) continue;
        const std::uint64_t value = lanes[i]->request.value;
        ballot |= (value != 0 ? 1u : 0u) << i;
        total = members ? reduce(total, static_cast<std::uint32_t>(value), request)
                        : static_cast<std::uint32_t>(value);
        members |= 1u << i;
    }
    for (unsigned i = 0; i < count; ++i) {
        if (!(members >> i & 1)) continue;
        WarpRequest& own = lanes[i]->request;
        if (request.kind == Collective::Reduce) own.result = total;
        if (request.kind == Collective::Vote) {
            own.result = request.sub == EMU_BALLOT ? ballot
                         : request.sub == EMU_ANY  ? ballot != 0
                                                   : ballot == members;
        }
        if (request.kind == Collective::Match) {
            own.result = 0;
            for (unsigned j = 0; j < count; ++j) {
                if (members >> j & 1 && lanes[j]->request.value == own.value) own.result |= 1u << j;
            }
        }
    }
}

// __syncwarp orders what its lanes did before it against what they do after it.
void join_clocks(const Lanes& lanes, unsigned count, unsigned mask) {
    std::uint32_t joined[WARP] = {};
    for (unsigned i = 0; i < count; ++i) {
        if (!(mask >> i & 1)) continue;
        for (unsigned j = 0; j < WARP; ++j) joined[j] = std::max(joined[j], lanes[i]->clock[j]);
    }
    for (unsigned i = 0; i < count; ++i) {
        if (!(mask >> i & 1)) continue;
        std::copy(joined, joined + WARP, lanes[i]->clock);
        ++lanes[i]->clock[i];
    }
}

const char* name_of(const WarpRequest& request) {
    static const char* const shuffles[] = {"__shfl_sync", "__shfl_up_sync", "__shfl_down_sync",
                                           "__shfl_xor_sync"};
    static const char* const votes[] = {"__ballot_sync", "__any_sync", "__all_sync"};
    switch (request.kind) {
        case Collective::Sync: return "__syncwarp";
        case Collective::Shuffle: return shuffles[request.sub];
        case Collective::Vote: return votes[request.sub];
        case Collective::Match: return "__match_any_sync";
        case Collective::Active: return "__activemask";
        default: return "__reduce_*_sync";
    }
}

std::string where_it_waits(const Thread* thread) {
    if (thread->state == State::Done) return "ended";
    if (thread->state == State::Barrier) {
        return "__syncthreads@" + std::to_string(thread->barrier_line);
    }
    char mask[16];
    std::snprintf(mask, sizeof mask, "0x%08x", thread->request.mask);
    return std::string(name_of(thread->request)) + "@" + std::to_string(thread->request.line) + "@" + mask;
}

}  // namespace

bool complete_collectives(Context& context, unsigned warp) {
    Lanes lanes;
    const unsigned count = lanes_of(context, warp, lanes);
    bool any = false;
    for (unsigned i = 0; i < count; ++i) {
        if (lanes[i]->state != State::Collective) continue;
        if (lanes[i]->request.kind == Collective::Active) continue;
        const WarpRequest request = lanes[i]->request;
        if (!all_there(lanes, count, request)) continue;
        unsigned living = 0;
        for (unsigned j = 0; j < count; ++j) living |= (lanes[j]->state != State::Done) << j;
        // The streams of the lanes line up where the whole warp meets.
        if (machine.options.counts && (living & ~request.mask) == 0) merge_events(context, warp, true);
        compute(lanes, count, request);
        const bool sync = request.kind == Collective::Sync;
        if (sync) join_clocks(lanes, count, request.mask & living);
        if (machine.options.instrumented) ++(sync ? context.record->warp_syncs : context.record->shuffles);
        for (unsigned j = 0; j < count; ++j) {
            if (!(request.mask & living & (1u << j))) continue;
            lanes[j]->state = State::Ready;
            --context.at_collectives;
        }
        any = true;
    }
    return any;
}

bool complete_active_mask(Context& context, unsigned warp) {
    Lanes lanes;
    const unsigned count = lanes_of(context, warp, lanes);
    const auto asks = [&](unsigned i) {
        return lanes[i]->state == State::Collective && lanes[i]->request.kind == Collective::Active;
    };
    unsigned group = 0, first = WARP;
    for (unsigned i = 0; i < count; ++i) {
        if (asks(i) && (first == WARP || lanes[i]->request.value < lanes[first]->request.value)) first = i;
    }
    for (unsigned i = first; i < count; ++i) {
        if (asks(i) && lanes[i]->request.value == lanes[first]->request.value) group |= 1u << i;
    }
    for (unsigned i = 0; i < count; ++i) {
        if (!(group >> i & 1)) continue;
        lanes[i]->request.result = group;
        lanes[i]->state = State::Ready;
        --context.at_collectives;
    }
    return group != 0;
}

namespace {

// The barrier that has a predicate, or threads at other lines of it, or some that have ended.
void complete_mixed_barrier(Context& context) {
    const unsigned ended = context.ended;
    const Thread* first = nullptr;
    int total = 0, all = 1, any = 0;
    for (unsigned i = 0; i < context.count; ++i) {
        const Thread* thread = context.threads[i];
        if (thread->state != State::Barrier) continue;
        total += thread->barrier_value != 0;
        all &= thread->barrier_value != 0;
        any |= thread->barrier_value != 0;
        if (!first) first = thread;
        if (thread->barrier_line != first->barrier_line) {
            Diagnostic found = describe("barrier divergence", true, thread);
            found.line = thread->barrier_line;
            found.other_line = first->barrier_line;
            found.other = {context.block_linear, first->linear};
            report(found);
            break;
        }
    }
    if (ended && first) {
        Diagnostic found = describe("barrier after exit", false, first);
        found.line = first->barrier_line;
        found.text = std::to_string(ended);
        report(found);
    }
    for (unsigned i = 0; i < context.count; ++i) {
        Thread* thread = context.threads[i];
        if (thread->state != State::Barrier) continue;
        thread->barrier_value = thread->barrier_kind == EMU_BARRIER_COUNT ? total
                                : thread->barrier_kind == EMU_BARRIER_AND ? all
                                                                          : any;
    }
}

}  // namespace

void complete_barrier(Context& context) {
    if (context.mixed_barrier || context.ended) complete_mixed_barrier(context);
    for (unsigned i = 0; i < context.count; ++i) {
        Thread* thread = context.threads[i];
        if (thread->state == State::Barrier) thread->state = State::Ready;
    }
    if (context.first_waiting) context.barrier_line = context.first_waiting->barrier_line;
    context.waiting = 0;
    context.mixed_barrier = false;
    if (machine.options.instrumented) {
        ++machine.epoch;
        ++context.record->barriers;
    }
}

void report_deadlock(Context& context) {
    // Groups of threads that wait at the same place, as "place|first-last,first-last".
    std::map<std::string, std::string> groups;
    const Thread* stuck = nullptr;
    for (unsigned i = 0; i < context.count;) {
        const std::string place = where_it_waits(context.threads[i]);
        unsigned end = i;
        while (end + 1 < context.count && where_it_waits(context.threads[end + 1]) == place) ++end;
        std::string& ranges = groups[place];
        if (ranges.size() < 200) {
            ranges += (ranges.empty() ? "" : ",") + std::to_string(i) + "-" + std::to_string(end);
        }
        for (unsigned j = i; j <= end && !stuck; ++j) {
            if (context.threads[j]->state == State::Collective) stuck = context.threads[j];
        }
        i = end + 1;
    }
    Diagnostic found = describe("deadlock", true, stuck ? stuck : context.threads[0]);
    found.line = stuck ? stuck->request.line : 0;
    for (const auto& [place, ranges] : groups) found.text += place + "|" + ranges + ";";
    report(found);
    machine.last_error = 702;
    machine.stopping = true;
}

namespace {

[[noreturn]] __attribute__((noinline)) void refuse_host(const char* what, int line) {
    Diagnostic found = describe("device function on the host", true, current);
    found.text = what;
    found.line = line;
    fail(found);
}

inline Thread* kernel_thread(const char* what, int line) {
    Thread* thread = current;
    if (!thread || thread->is_host) refuse_host(what, line);
    return thread;
}

std::uint64_t wait_for_warp(Thread* thread, const WarpRequest& request) {
    if (!(request.mask >> thread->lane & 1)) {
        Diagnostic found = describe("lane not in its mask", true, thread);
        found.line = request.line;
        found.text = std::to_string(request.mask);
        fail(found);
    }
    thread->request = request;
    thread->state = State::Collective;
    ++thread->context->at_collectives;
    yield_thread();
    return thread->request.result;
}

}  // namespace
}  // namespace emu

using namespace emu;

extern "C" int emu_barrier(int kind, int predicate, int line) {
    Thread* thread = kernel_thread("__syncthreads", line);
    thread->barrier_kind = kind;
    thread->barrier_value = predicate;
    thread->barrier_line = line;
    thread->state = State::Barrier;
    Context& context = *thread->context;
    if (context.waiting++ == 0) context.first_waiting = thread;
    context.mixed_barrier |= kind != EMU_BARRIER || line != context.first_waiting->barrier_line;
    leave(thread);
    return thread->barrier_value;
}

extern "C" void emu_warp_sync(unsigned mask, int line) {
    Thread* thread = kernel_thread("__syncwarp", line);
    wait_for_warp(thread, {Collective::Sync, 0, false, mask, line, 0, 32, 0, 0});
}

extern "C" std::uint64_t emu_shuffle(unsigned mask, std::uint64_t value, int kind, int operand,
                                     int width, int line) {
    Thread* thread = kernel_thread("a shuffle", line);
    if (width < 1 || width > 32 || (width & (width - 1)) || kind < 0 || kind > EMU_SHUFFLE_XOR) {
        Diagnostic found = describe("bad shuffle width", true, thread);
        found.line = line;
        found.text = std::to_string(width);
        fail(found);
    }
    return wait_for_warp(thread, {Collective::Shuffle, static_cast<std::uint8_t>(kind), false, mask,
                                  line, operand, width, value, 0});
}

extern "C" unsigned emu_vote(unsigned mask, int kind, int predicate, int line) {
    Thread* thread = kernel_thread("a vote", line);
    return static_cast<unsigned>(
        wait_for_warp(thread, {Collective::Vote, static_cast<std::uint8_t>(kind & 3), false, mask, line,
                               0, 32, predicate != 0, 0}));
}

extern "C" unsigned emu_match_any(unsigned mask, std::uint64_t value, int line) {
    Thread* thread = kernel_thread("__match_any_sync", line);
    return static_cast<unsigned>(
        wait_for_warp(thread, {Collective::Match, 0, false, mask, line, 0, 32, value, 0}));
}

extern "C" unsigned emu_warp_reduce(unsigned mask, int kind, unsigned value, int is_signed,
                                    int line) {
    Thread* thread = kernel_thread("__reduce_*_sync", line);
    return static_cast<unsigned>(
        wait_for_warp(thread, {Collective::Reduce, static_cast<std::uint8_t>(kind), is_signed != 0, mask,
                               line, 0, 32, value, 0}));
}

extern "C" unsigned emu_active_mask() {
    Thread* thread = kernel_thread("__activemask", 0);
    const std::uint32_t pc = pc_of(__builtin_return_address(0));
    const std::uint64_t place = rank_of(pc);
    return static_cast<unsigned>(wait_for_warp(
        thread, {Collective::Active, 0, false, 1u << thread->lane, 0, 0, 32, place, 0}));
}

extern "C" void emu_fence(int scope) {
    if (scope != EMU_FENCE_BLOCK) kernel_thread("__threadfence", 0)->fenced = true;
}
