// Fibers: one stack for each CUDA thread, and a switch between them that costs a few nanoseconds.
#pragma once

#include <cstddef>
#include <cstdint>

namespace emu {

// A stack with a guard below it. Addresses: [low, low + size).
struct Stack {
    std::uintptr_t low = 0;
    std::size_t size = 0;
};

constexpr std::size_t PAGE = 4096;
constexpr std::size_t GUARD = 16 * PAGE;
// A kernel's functions may use 64 kB of their thread's stack; below are the library's own frames.
constexpr std::size_t LIBRARY_STACK = 16 * 1024;
constexpr std::size_t THREAD_STACK = 64 * 1024 + LIBRARY_STACK;
constexpr std::size_t HOST_STACK = 512 * 1024;

// Maps a stack; {0, 0} when there is no memory.
Stack make_stack(std::size_t size);

// The stack pointer from which `switch_fiber` begins `entry` on an unused stack.
void* prepare_fiber(const Stack& stack, void (*entry)());

// Leaves this fiber, whose stack pointer goes to *saved, for the one whose pointer is `next`.
extern "C" void emu_switch_fiber(void** saved, void* next);

}  // namespace emu
