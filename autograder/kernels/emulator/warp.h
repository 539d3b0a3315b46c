// Barriers and warp-wide operations, as the scheduler uses them.
#pragma once

#include "machine.h"

namespace emu {

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
