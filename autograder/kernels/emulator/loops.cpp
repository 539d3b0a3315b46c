// Which loop does not end: when a call has had its time or its steps, one thread is watched for a
// while longer, and every place that it comes to more than once is named. Python finds the outermost
// loop around them.
#include <algorithm>
#include <cstdio>
#include <ctime>

#include "machine.h"

namespace emu {

namespace {

constexpr unsigned MOST_NOTES = 200'000;  // places that the watched thread comes to
constexpr unsigned NOTES_A_TURN = 512;    // before the other threads run: it may wait for them
constexpr double MOST_SECONDS = 1.2, IDLE_SECONDS = 0.3;  // CPU time, of all and since its last note
constexpr double MOST_WALL_SECONDS = 1.5;
constexpr std::size_t MOST_PLACES = 64;  // that are named
// By the clock on the wall, where the machine has others to run; of CPU time this part is due then.
constexpr double BUSY_SECONDS = 12, BUSY_PART = 0.3;

struct Watch {
    Thread* thread = nullptr;
    std::string kind, limit;
    double begin = 0, wall_begin = 0, last = 0;
    std::uint32_t pc = 0;
    unsigned notes = 0;
    std::unordered_map<std::uint64_t, unsigned> seen;  // depth << 32 | pc
} watch;

double seconds_of(clockid_t clock) {
    timespec now{};
    clock_gettime(clock, &now);
    return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

double cpu_begin, wall_begin;  // of the call

void watch_from_here(Thread* thread, double now) {
    watch.thread = thread;
    watch.last = now;
    watch.notes = 0;
    watch.seen.clear();
}

// The places of its outermost loop: repeated, and in the function that called all the others.
std::string repeated() {
    std::uint64_t depth = ~std::uint64_t{0};
    for (const auto& [place, count] : watch.seen) {
        if (count > 1) depth = std::min(depth, place >> 32);
    }
    std::string places;
    std::size_t named = 0;
    for (const auto& [place, count] : watch.seen) {
        if (count < 2 || place >> 32 != depth || ++named > MOST_PLACES) continue;
        places += ";" + std::to_string(place & 0xffffffffu);
    }
    return places;
}

[[noreturn]] void give_up() {
    Diagnostic found = describe(watch.kind.c_str(), true, watch.thread);
    found.pc = watch.pc;
    found.text = watch.limit + repeated();
    fail(found, 702);
}

void begin_watch(Thread* thread, double now) {
    char seconds[32];
    std::snprintf(seconds, sizeof seconds, "%.1f", now - cpu_begin);
    watch.kind = machine.expired ? "time limit" : "step limit";
    watch.limit = machine.expired ? seconds : std::to_string(machine.options.steps);
    watch.begin = now;
    watch.wall_begin = seconds_of(CLOCK_MONOTONIC);
    watch_from_here(thread, now);
}

// Is it time to ask, before the timer says so? On a busy machine CPU time passes slowly.
bool is_overdue() {
    if (machine.expired || machine.launch_steps > machine.options.steps) return true;
    if (seconds_of(CLOCK_MONOTONIC) - wall_begin < BUSY_SECONDS) return false;
    const double used = seconds_of(CLOCK_PROCESS_CPUTIME_ID) - cpu_begin;
    if (used < machine.options.seconds * BUSY_PART) return false;
    machine.expired = 1;
    return true;
}

}  // namespace

void begin_patience() {
    watch.thread = nullptr;
    cpu_begin = seconds_of(CLOCK_PROCESS_CPUTIME_ID);
    wall_begin = seconds_of(CLOCK_MONOTONIC);
}

bool test_patience(Thread* thread, std::uint32_t pc) {
    machine.asked = nullptr;
    if (!watch.thread) {
        if (!is_overdue()) return true;
        begin_watch(thread, seconds_of(CLOCK_PROCESS_CPUTIME_ID));
    }
    if (watch.thread == thread) {
        ++watch.seen[static_cast<std::uint64_t>(thread->depth) << 32 | pc];
        watch.pc = pc;
        thread->steps_left = 1;
        if (++watch.notes % NOTES_A_TURN) return false;
    }
    const double now = seconds_of(CLOCK_PROCESS_CPUTIME_ID);
    const bool long_enough = watch.notes >= NOTES_A_TURN &&
                             seconds_of(CLOCK_MONOTONIC) - watch.wall_begin > MOST_WALL_SECONDS;
    if (watch.notes >= MOST_NOTES || now - watch.begin > MOST_SECONDS || long_enough) give_up();
    if (watch.thread == thread) {
        watch.last = now;
    } else if (watch.thread->state == State::Done || now - watch.last > IDLE_SECONDS) {
        watch_from_here(thread, now);  // the loop is this one's
        thread->steps_left = 1;
    }
    return true;
}

}  // namespace emu
