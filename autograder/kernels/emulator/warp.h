// Barriers and warp-wide operations, as the scheduler uses them.
#pragma once

#include "machine.h"

namespace emu {

// Makes a thread the one that runs now.
inline void enter(Thread* thread) {
    thread->yielded = false;
    if (machine.options.checks) {
        thread->moment.epoch = machine.epoch;
        thread->moment.clock = thread->clock[thread->lane];
        thread->moment.stamp = machine.stamp;
    }
    current = thread;
}

// Leaves the thread for the next one of the round that can run, without a detour by the scheduler:
// that is half the switches, and the processor foresees where a switch returns to.
inline void leave(Thread* thread) {
    Context& context = *thread->context;
    if (machine.race_pending) settle_pending();
    if (!machine.stopping.load(std::memory_order_relaxed)) {
        for (unsigned i = thread->linear + 1; i < context.round_end; ++i) {
            Thread* next = context.threads[i];
            if (next->state != State::Ready) continue;
            enter(next);
            // What the next one will look at when it leaves in its turn.
            if (i + 1 < context.round_end) {
                const auto* after = static_cast<const char*>(context.threads[i + 1]->stack_pointer);
                __builtin_prefetch(after);
                __builtin_prefetch(after + 64);
                __builtin_prefetch(after + 128);
                __builtin_prefetch(after + 192);
            }
            emu_switch_fiber(&thread->stack_pointer, next->stack_pointer);
            return;
        }
    }
    emu_switch_fiber(&thread->stack_pointer, context.scheduler);
}

// Completes each warp-wide operation at which all living lanes of its mask wait; true if one was.
bool complete_collectives(Context& context, unsigned warp);

// No lane of the warp can run: those that asked for the active mask in the same place, the first in
// the program's order, are together. True if there were any.
bool complete_active_mask(Context& context, unsigned warp);

// All living threads wait at a barrier: lets them go on, and reports what is wrong about it.
void complete_barrier(Context& context);

// Nothing can run and not all have ended: reports who waits where, and stops the launch.
void report_deadlock(Context& context);

}  // namespace emu
