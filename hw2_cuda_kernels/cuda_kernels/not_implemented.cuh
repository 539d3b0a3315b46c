// What an unfinished task does: ends the call and names the task, in host and in device code.
//
//     LLM_NOT_IMPLEMENTED("task 2.3: transpose");
//
// On the host it throws, so that a caller sees the message. On the device one thread's message is
// enough: every thread prints and traps, the launch fails, and the next synchronisation reports it.
// On the emulator the launch ends at the first thread.
// Neither returns, so a function with a return value compiles without a return statement.
#pragma once

#if !defined(LLM_SYSTEMS_EMULATOR)
#include <cstdio>
#include <stdexcept>
#endif

#if defined(LLM_SYSTEMS_EMULATOR)
#define LLM_NOT_IMPLEMENTED(what) ::emu_not_implemented(what)
#elif defined(__CUDA_ARCH__)
#define LLM_NOT_IMPLEMENTED(what)                \
    do {                                         \
        printf("not implemented: %s\n", what);   \
        __trap();                                \
        __builtin_unreachable();                 \
    } while (0)
#else
#define LLM_NOT_IMPLEMENTED(what)                                   \
    do {                                                            \
        throw std::logic_error("not implemented: " what);           \
    } while (0)
#endif
