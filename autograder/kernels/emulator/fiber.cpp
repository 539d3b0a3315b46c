// The switch saves what a function call must keep (the System V and AAPCS64 rules) on the stack it
// leaves, and takes the same from the stack it enters.
#include "fiber.h"

#include <sys/mman.h>

#if defined(__x86_64__)
__asm__(R"(
    .text
    .globl emu_switch_fiber
    .hidden emu_switch_fiber
    .type emu_switch_fiber, @function
emu_switch_fiber:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
    .size emu_switch_fiber, .-emu_switch_fiber
)");
#elif defined(__aarch64__)
__asm__(R"(
    .text
    .globl emu_switch_fiber
    .hidden emu_switch_fiber
    .type emu_switch_fiber, %function
emu_switch_fiber:
    sub sp, sp, #160
    stp x19, x20, [sp, #0]
    stp x21, x22, [sp, #16]
    stp x23, x24, [sp, #32]
    stp x25, x26, [sp, #48]
    stp x27, x28, [sp, #64]
    stp x29, x30, [sp, #80]
    stp d8, d9, [sp, #96]
    stp d10, d11, [sp, #112]
    stp d12, d13, [sp, #128]
    stp d14, d15, [sp, #144]
    mov x9, sp
    str x9, [x0]
    mov sp, x1
    ldp x19, x20, [sp, #0]
    ldp x21, x22, [sp, #16]
    ldp x23, x24, [sp, #32]
    ldp x25, x26, [sp, #48]
    ldp x27, x28, [sp, #64]
    ldp x29, x30, [sp, #80]
    ldp d8, d9, [sp, #96]
    ldp d10, d11, [sp, #112]
    ldp d12, d13, [sp, #128]
    ldp d14, d15, [sp, #144]
    add sp, sp, #160
    ret
    .size emu_switch_fiber, .-emu_switch_fiber
)");
#else
#include <ucontext.h>
#endif

namespace emu {

Stack make_stack(std::size_t size) {
    void* place = mmap(nullptr, size + GUARD, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (place == MAP_FAILED) return {};
    mprotect(place, GUARD, PROT_NONE);
    return {reinterpret_cast<std::uintptr_t>(place) + GUARD, size};
}

#if defined(__x86_64__)
void* prepare_fiber(const Stack& stack, void (*entry)()) {
    // Six saved registers, the address that `ret` takes, and a null return address for `entry`.
    auto* top = reinterpret_cast<std::uintptr_t*>(stack.low + stack.size);
    top[-1] = 0;
    top[-2] = reinterpret_cast<std::uintptr_t>(entry);
    for (int i = 3; i <= 8; ++i) top[-i] = 0;
    return top - 8;
}
#elif defined(__aarch64__)
void* prepare_fiber(const Stack& stack, void (*entry)()) {
    auto* frame = reinterpret_cast<std::uintptr_t*>(stack.low + stack.size - 160);
    for (int i = 0; i < 20; ++i) frame[i] = 0;
    frame[11] = reinterpret_cast<std::uintptr_t>(entry);  // x30
    return frame;
}
#else
// Elsewhere: ucontext, ten times slower (it saves the signal mask by a system call).
namespace {
thread_local void (*starting)();
void begin() { starting(); }
}  // namespace

void* prepare_fiber(const Stack& stack, void (*entry)()) {
    auto* context = reinterpret_cast<ucontext_t*>(stack.low + stack.size - sizeof(ucontext_t) - 64);
    getcontext(context);
    context->uc_stack.ss_sp = reinterpret_cast<void*>(stack.low);
    context->uc_stack.ss_size = stack.size - sizeof(ucontext_t) - 128;
    context->uc_link = nullptr;
    starting = entry;
    makecontext(context, begin, 0);
    return context;
}

extern "C" void emu_switch_fiber(void** saved, void* next) {
    ucontext_t here;
    *saved = &here;
    swapcontext(&here, static_cast<ucontext_t*>(next));
}
#endif

}  // namespace emu
