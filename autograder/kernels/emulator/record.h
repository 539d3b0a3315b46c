// Recording what a lane does, for counts.cpp to merge.
#pragma once

#include <cstring>

#include "machine.h"

namespace emu {

constexpr auto STEP = static_cast<std::uint8_t>(Access::None);

// Adds a step that does not continue the trace: the leader's, or one of a lane that is apart.
void record_apart(Thread* thread, Address address, Step step);

inline std::uint64_t bits_of(const Step& step) {
    std::uint64_t bits;
    std::memcpy(&bits, &step, sizeof bits);
    return bits;
}

inline Step step_of(const Thread* thread, unsigned size, Access access, Space space, std::uint32_t pc) {
    return {pc, static_cast<std::uint16_t>(thread->depth), static_cast<std::uint8_t>(size),
            static_cast<std::uint8_t>(static_cast<unsigned>(access) | static_cast<unsigned>(space) << 4)};
}

// Is this what the leader of the trace did next, too? Then the address is all there is to keep.
inline bool follow(Thread* thread, Address address, const Step& step) {
    Trace& trace = *thread->context->trace;
    const unsigned at = thread->following;
    if (at >= trace.length || bits_of(trace.steps[at]) != bits_of(step)) return false;
    trace.addresses[at][thread->lane] = address;
    thread->following = at + 1;
    return true;
}

// A block's start matters only if the lane goes back with it, or to another function: on the way
// ahead the next step says as well where the lane is.
inline bool matters(const Thread* thread, std::uint32_t rank) {
    return thread->step_pending && (thread->step_depth != thread->depth || rank < thread->step_rank);
}

inline void record_block_start(Thread* thread) {
    const Step step{thread->step_pc, thread->step_depth, 1, STEP};
    if (!follow(thread, 0, step)) record_apart(thread, 0, step);
}

// An access, in the two halves that a hook needs: true if it is recorded; else `record_late` is to come.
inline bool record_quick(Thread* thread, Address address, const Step& step) {
    if (thread->step_pending) {
        if (matters(thread, rank_of(step.pc))) return false;
        thread->step_pending = false;
    }
    return follow(thread, address, step);
}

inline void record_late(Thread* thread, Address address, const Step& step) {
    if (matters(thread, rank_of(step.pc))) record_block_start(thread);
    thread->step_pending = false;
    if (!follow(thread, address, step)) record_apart(thread, address, step);
}

inline void record_event(Thread* thread, Address address, unsigned size, Access access, Space space,
                         std::uint32_t pc) {
    record_late(thread, address, step_of(thread, size, access, space, pc));
}

// The start of a basic block.
inline void record_step(Thread* thread, std::uint32_t pc) {
    const std::uint32_t rank = rank_of(pc);
    if (__builtin_expect(matters(thread, rank), false)) record_block_start(thread);
    thread->step_pending = true;
    thread->step_pc = pc;
    thread->step_rank = rank;
    thread->step_depth = static_cast<std::uint16_t>(thread->depth);
}

}  // namespace emu
