// The pipeline primitives for asynchronous copies from global to shared memory. Follows the CUDA
// C++ Programming Guide, "Pipeline Primitives Interface". A copy is queued by the call and done by
// the wait: a missing wait reads memory that was never written.
#pragma once

#include "caller_line.h"

EMU_INLINE void __pipeline_memcpy_async(void* shared, const void* global, std::size_t size,
                                        std::size_t zero_fill = 0, EMU_HERE) {
    if (size != 4 && size != 8 && size != 16) {
        emu_trap("__pipeline_memcpy_async copies 4, 8 or 16 bytes", line.number);
    }
    if (zero_fill > size) {
        emu_trap("__pipeline_memcpy_async: zero_fill is larger than the size", line.number);
    }
    if (reinterpret_cast<std::uintptr_t>(shared) % size ||
        reinterpret_cast<std::uintptr_t>(global) % size) {
        emu_trap("__pipeline_memcpy_async: both addresses must be multiples of the size",
                 line.number);
    }
    emu_async_copy(shared, global, size, zero_fill);
}
EMU_INLINE void __pipeline_commit() { emu_async_commit(); }
EMU_INLINE void __pipeline_wait_prior(int groups_left) { emu_async_wait(groups_left); }
