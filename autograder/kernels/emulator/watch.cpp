// What no hook sees: endless loops without an access, stacks that overflow, and in fast mode
// addresses that are not there. Signals end the thread that runs; the process goes on.
#include <csignal>
#include <cstring>
#include <pthread.h>
#include <sys/time.h>
#include <ucontext.h>

#include "machine.h"

namespace emu {

namespace {

constexpr int FAULTS[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL};
struct sigaction old_faults[4], old_timer;
stack_t old_stack;
alignas(16) char signal_stack[64 * 1024];

const void* interrupted_at(void* context) {
    auto* machine_context = &static_cast<ucontext_t*>(context)->uc_mcontext;
#if defined(__x86_64__)
    return reinterpret_cast<const void*>(machine_context->gregs[REG_RIP]);
#elif defined(__aarch64__)
    return reinterpret_cast<const void*>(machine_context->pc);
#else
    (void)machine_context;
    return nullptr;
#endif
}

bool in_module(const void* address) {
    if (machine.module < 0) return false;
    const auto place = reinterpret_cast<Address>(address);
    for (const Module::Segment& segment : machine.modules[static_cast<std::size_t>(machine.module)].segments) {
        if (segment.executable && place >= segment.begin && place < segment.end) return true;
    }
    return false;
}

// A place in the kernel's code: where it was interrupted or, in a function of the emulator's that it
// called, the return address of the innermost function known.
std::uint32_t line_of(const Thread* thread, const void* interrupted) {
    if (in_module(interrupted)) return pc_of(static_cast<const char*>(interrupted) + 1);
    if (thread->depth == 0) return 0;
    const auto* frame = reinterpret_cast<void* const*>(thread->frames[thread->depth - 1]);
    return in_module(frame[1]) ? pc_of(frame[1]) : 0;
}

void unblock(int signal) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, signal);
    pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
}

void on_fault(int signal, siginfo_t* info, void* context) {
    Thread* thread = current;
    if (!thread) {  // not a kernel's doing: let it end the process
        ::signal(signal, SIG_DFL);
        return;
    }
    const auto address = reinterpret_cast<Address>(info->si_addr);
    const bool overflow = address + GUARD >= thread->stack_low && address < thread->stack_low;
    Diagnostic found = describe(overflow ? "stack overflow" : signal == SIGFPE ? "division by zero" : "illegal address", true, thread);
    found.pc = line_of(thread, interrupted_at(context));
    unblock(signal);
    fail(found);  // leaves the signal's stack for the scheduler's
}

void on_timer(int signal, siginfo_t*, void* context) {
    machine.expired = machine.expired + 1;
    Thread* thread = current;
    if (!thread) return;
    const void* place = interrupted_at(context);
    if (machine.options.instrumented && machine.expired < GRACE) {
        const bool no_step = machine.asked == thread && in_module(place);  // of an empty loop
        machine.asked = thread;
        thread->steps_left = 1;  // its next step looks which loop it is
        if (!no_step) return;
    }
    if (!in_module(place)) return;  // in the emulator or the C library: soon again
    Diagnostic found = describe("time limit", true, thread);
    found.pc = pc_of(static_cast<const char*>(place) + 1);
    char text[32];
    std::snprintf(text, sizeof text, "%g", machine.options.seconds);
    found.text = text;
    unblock(signal);
    fail(found, 702);
}

void set_timer(double seconds) {
    itimerval timer{};
    timer.it_value.tv_sec = static_cast<time_t>(seconds);
    timer.it_value.tv_usec = static_cast<suseconds_t>((seconds - static_cast<double>(timer.it_value.tv_sec)) * 1e6);
    timer.it_interval.tv_usec = seconds > 0 ? 20'000 : 0;
    setitimer(ITIMER_PROF, &timer, nullptr);
}

}  // namespace

void start_watch() {
    stack_t stack{};
    stack.ss_sp = signal_stack;
    stack.ss_size = sizeof signal_stack;
    sigaltstack(&stack, &old_stack);
    struct sigaction action{};
    action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
    sigemptyset(&action.sa_mask);
    action.sa_sigaction = on_fault;
    for (int i = 0; i < 4; ++i) sigaction(FAULTS[i], &action, &old_faults[i]);
    action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART;
    action.sa_sigaction = on_timer;
    sigaction(SIGPROF, &action, &old_timer);
    machine.expired = 0;
    machine.asked = nullptr;
    begin_patience();
    set_timer(machine.options.seconds);
}

void stop_watch() {
    set_timer(0);
    for (int i = 0; i < 4; ++i) sigaction(FAULTS[i], &old_faults[i], nullptr);
    sigaction(SIGPROF, &old_timer, nullptr);
    if (!(old_stack.ss_flags & SS_ONSTACK)) sigaltstack(&old_stack, nullptr);
}

}  // namespace emu
