// The emulated GPU's state: memory, modules, options, the threads of the block that runs now, and
// what was found. One Machine a process; one Context for each OS thread that runs blocks.
#pragma once

#include <atomic>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

#include "fiber.h"
#include "include/emulator_abi.h"

namespace emu {

using Address = std::uintptr_t;
constexpr unsigned WARP = 32;
constexpr unsigned MAX_THREADS = 1024;
constexpr std::size_t SHARED_STATIC = 48 * 1024;   // what may be declared or asked for by default
constexpr std::size_t SHARED_OPT_IN = 227 * 1024;  // with cudaFuncSetAttribute, on a big GPU
constexpr std::size_t SHARED_ARENA = 512 * 1024;   // with the gaps between variables
constexpr unsigned MAX_DEPTH = 128;
constexpr unsigned TURN = 65536;  // accesses and blocks of code after which a lane lets the others run
constexpr std::sig_atomic_t GRACE = 150;  // ticks of 20 ms in which hooks may end a launch that is late
constexpr unsigned FAST_TURN = 256;  // atomics, in fast mode

struct Thread;

enum class Access : std::uint8_t { Load, Store, Atomic, None };  // None: a step of control flow
enum class Space : std::uint8_t { Global, Shared, Device };  // Device: a __device__ variable
enum class State : std::uint8_t { Ready, Barrier, Collective, Done };
enum class Collective : std::uint8_t { Sync, Shuffle, Vote, Match, Reduce, Active };

// What a lane does, without the address: a memory access, or the start of a basic block.
struct Step {
    std::uint32_t pc;
    std::uint16_t depth;
    std::uint8_t size;
    std::uint8_t kind;  // Access | Space << 4
};

// A step of one lane, waiting to be merged with those of its warp.
struct Event {
    Address address;
    Step step;
};

// While the lanes of a warp do the same, their steps are kept once, as the first of them did them,
// and beside each the address of every lane. See record_event.
constexpr std::size_t MAX_WAITING = 4096;  // events of a lane that wait to be merged
struct Trace {
    const Thread* leader = nullptr;  // whose steps these are
    unsigned length = 0;
    Step steps[MAX_WAITING];
    Address addresses[MAX_WAITING][WARP];
};

// What a lane asks of a warp-wide operation, and what it gets.
struct WarpRequest {
    Collective kind;
    std::uint8_t sub;  // EmuShuffle, EmuVote, EmuReduce
    bool is_signed;
    unsigned mask;
    int line, operand, width;
    std::uint64_t value, result;
};

struct AsyncCopy {
    Address to, from;
    std::uint32_t size, zero_fill, pc;
};

struct Context;

// When something happened, for whoever asks what is ordered: by which thread of the launch; after how
// many barriers, of all blocks; synchronisations of its warp; releases.
struct Moment {
    std::uint32_t thread = 0, epoch = 0, clock = 0, stamp = 0;
};

// The first two lines of the cache have all that switches, barriers and the usual access look at.
struct alignas(64) Thread {
    void* stack_pointer = nullptr;
    Context* context = nullptr;
    State state = State::Done;
    bool is_host = false, yielded = false, fenced = false;
    int barrier_kind = 0, barrier_value = 0, barrier_line = 0;
    uint3 index{};
    unsigned linear = 0, lane = 0, depth = 0;
    unsigned steps_left = 0;  // before it lets the others run
    bool step_pending = false;  // the start of a block, not recorded yet
    std::uint16_t step_depth = 0;
    std::uint32_t step_pc = 0, step_rank = 0;
    // Its steps that wait to be merged: so many that it has in common with the warp's trace, then
    // events of its own. `following`: the trace's next step, as long as it has none of its own.
    unsigned following = 0, common = 0;
    Moment moment;  // as long as it runs
    Address stack_low = 0, stack_size = 0;
    Address user_top = 0;  // at and above it the stack is the emulator's
    WarpRequest request{};
    std::uint32_t clock[WARP];  // what this lane has seen of its warp's lanes
    std::vector<Event> events;
    std::size_t accesses_end = 0;  // behind the last access among the events
    std::vector<AsyncCopy> copies;
    std::vector<std::size_t> committed;  // ends of the committed groups in `copies`
    Stack stack;
    Address frames[MAX_DEPTH];  // where each function on the stack keeps its return address
};

// ---- Memory
// What is known of a word: four bits on which of its bytes were written, four on which of them belong
// to an allocation that was not freed, or to a shared variable.
constexpr std::uint8_t WRITTEN = 0x0f, OWNED = 0xf0;

struct Allocation {
    Address begin, end;
    bool live;
    int origin;  // the number of the freed one whose place it took; -1 for a new place
};

struct SharedVariable {
    const void* site;
    const char* name;
    std::size_t offset, size;
    int line;
};

// ---- What is counted, by the place in the code
struct LineCounts {
    std::uint64_t requests = 0, sectors = 0, sectors_min = 0, wavefronts = 0, wavefronts_min = 0,
                  bytes = 0, lanes = 0, partial = 0;
    double worst_degree = 0;
    std::int64_t sample[WARP];  // one request: offsets of the lanes' addresses, -1 for idle lanes
    std::uint64_t sample_weight = 0;
    unsigned sample_size = 0;
    // The last request of a whole warp and what it cost: the next one is often the same, further on.
    unsigned last_size = 0;
    Address last[WARP];
    std::uint64_t last_sectors = 0, last_sectors_min = 0, last_wavefronts = 0, last_wavefronts_min = 0;
};

struct LaunchRecord {
    std::string kernel;
    int line, module;
    uint3 grid, block;
    std::size_t shared_bytes;
    std::uint64_t serial = 0;  // tells this launch from all others
    std::uint64_t blocks, blocks_run = 0, barriers = 0, warp_syncs = 0, shuffles = 0;
    std::unordered_map<std::uint64_t, LineCounts> lines;  // pc << 8 | kind
};

// ---- What was found
struct Who {
    std::uint64_t block = 0;
    std::uint32_t thread = 0;
};

struct Diagnostic {
    std::string kind, text;  // text: what only the emulator knows; Python writes the sentence
    bool error;
    int module, launch;
    std::uint32_t pc = 0, other_pc = 0;
    int line = 0, other_line = 0;  // where given directly
    int barrier_line = 0;          // of a race: of the last barrier that both threads passed
    Who who, other;
    Space space = Space::Global;
    int allocation = -1;          // number, or -1
    std::string variable;         // of shared memory
    std::int64_t offset = 0;      // bytes from the start of it
    unsigned size = 0;
    Access access = Access::Load;
    std::uint64_t count = 1;
};

struct Module {
    std::string path;
    void* handle;
    Address base;
    struct Segment {
        Address begin, end;
        bool writable, executable;
    };
    std::vector<Segment> segments;
    std::vector<std::uint32_t> ranks;  // of each return address: its place in the program's order
    Address device_begin = 0, device_end = 0, constant_begin = 0, constant_end = 0;
};

struct Options {
    bool checks = true, counts = true, instrumented = true;
    std::uint64_t sample_blocks = 0;  // 0: all
    double seconds = 10;
    std::uint64_t steps = 2'000'000'000;
    int threads = 1;
};

struct Machine {
    Address arena = 0;
    std::size_t arena_size = 0, arena_used = 0;
    std::vector<Allocation> allocations;
    std::vector<std::uint32_t> owner;  // number of the allocation + 1, for each 256 bytes
    std::uint8_t* words = nullptr;     // what is known of each word: see WRITTEN
    std::unordered_map<std::size_t, std::vector<int>> freed;  // by size

    Options options;
    std::vector<Module> modules;
    int module = -1;  // of the call that runs now
    Address code_base = 0;  // of that module
    const std::uint32_t* ranks = nullptr;  // of its return addresses
    std::size_t rank_count = 0;
    std::vector<LaunchRecord> launches;
    std::vector<Diagnostic> diagnostics;
    std::unordered_map<std::string, std::size_t> known;  // diagnostics by kind and place
    std::string output;
    std::size_t errors = 0, dropped = 0;
    int last_error = 0;
    std::size_t allowed_shared = SHARED_STATIC;
    std::uint32_t epoch = 1, launch_epoch = 1, stamp = 0;  // stamp: releases so far
    std::uint64_t launch_steps = 0;
    bool race_pending = false;  // a second write to a word was made, and not yet looked at
    std::atomic<bool> stopping{false};  // a fatal fault: every context ends its block
    volatile std::sig_atomic_t expired = 0;  // ticks of the timer since the call's time is over
    Thread* volatile asked = nullptr;  // by the timer, to say at its next step where it is
    std::string unfinished;  // the task of a stub that was reached
};

// The block that an OS thread runs.
struct Context {
    void* scheduler = nullptr;  // stack pointer of what runs the fibers
    std::vector<Thread*> threads;
    unsigned count = 0;  // threads of the block
    unsigned waiting = 0, ended = 0;  // of them: at the barrier, at their end
    const Thread* first_waiting = nullptr;  // at the barrier: who came first
    int barrier_line = 0;  // of the last barrier that the block has passed; 0: none yet
    bool mixed_barrier = false;  // and whether others came by another line, or with a predicate
    // The round that runs: the lanes before `round_end` take turns. Afterwards: can any of them go on
    // at once, and did one give way because it had run for long?
    unsigned round_end = 0;
    bool again = false, spun = false;
    unsigned at_collectives = 0;  // of them, how many wait at a warp-wide operation
    std::vector<Event> streams[WARP];  // room for the events of the warp that runs
    Trace* trace = nullptr;
    const EmuLaunch* launch = nullptr;
    void (*body)(void*) = nullptr;
    std::vector<unsigned char> arguments;
    uint3 block{};
    std::uint64_t block_linear = 0;
    std::uint32_t block_epoch = 0;
    unsigned char* shared = nullptr;
    std::uint8_t* shared_words = nullptr;
    std::vector<SharedVariable> variables;
    std::vector<std::uint8_t> variable_of;  // number + 1, for each word
    std::size_t shared_used = 0, shared_packed = 0, dynamic_offset = 0;
    LaunchRecord* record = nullptr;
    bool fatal = false;
};

extern Machine machine;
// The thread whose code runs on this OS thread now: a CUDA thread's, or the host function's.
extern __thread Thread* current __attribute__((tls_model("initial-exec")));

// ---- launch.cpp
// Ends the call if there were too many launches, copies and sets since the last report.
void limit_launches();
// Goes on with the next thread of the round, after the last one with the scheduler.
void yield_thread();             // to be resumed
[[noreturn]] void end_thread();  // never to be resumed

// ---- diagnose.cpp
inline std::uint32_t pc_of(const void* return_address);  // below
Diagnostic describe(const char* kind, bool error, const Thread* thread);
void report(Diagnostic found);
// Reports, marks the launch as failed with the CUDA error, and ends the thread (or host call).
[[noreturn]] void fail(Diagnostic found, int error = 700);
std::string report_json();

// ---- memory.cpp
struct Place {
    Space space;
    std::size_t offset;  // in the arena, the shared arena or the module's device variables
};
// Who makes an access: the return address, and the caller's end of the stack, below which lie the
// frames of this library.
struct Caller {
    const void* pc;
    Address stack;
};
#define EMU_CALLER \
    (Caller{__builtin_return_address(0), reinterpret_cast<Address>(__builtin_dwarf_cfa())})
// Checks an access before it is made; what is no memory of this thread's kind does not return.
// False for memory that is neither checked further nor counted (own stack, arguments, constants).
bool locate(Thread* thread, Address address, unsigned size, Access access, const Caller& from,
            Place& place);
// `locate` and all that follows from it, for a function of the library that got an address.
void access_from_library(Address address, unsigned size, Access access, const Caller& from);
void write_bytes_valid(Address begin, std::size_t size);
void describe_place(Diagnostic& found, const Thread* thread, const Place& place);
void begin_block_memory(Context& context);
void begin_call_memory();
void end_call_memory();

inline std::uint32_t pc_of(const void* return_address) {
    return static_cast<std::uint32_t>(reinterpret_cast<Address>(return_address) - machine.code_base);
}

// The place of a return address in the program's order.
inline std::uint32_t rank_of(std::uint32_t pc) {
    return pc < machine.rank_count ? machine.ranks[pc] : pc;
}

// ---- races.cpp
void check_access(Thread* thread, const Place& place, unsigned size, Access access,
                  std::uint32_t pc);
void release_acquire(Thread* thread, Address address);  // at an atomic, for fences
void begin_launch_races();
void settle_pending();

// ---- services.cpp
void host_only(const char* what);  // ends the launch if a kernel calls it
// Ends the launch when its time is over, and that of finding out which loop took it.
void stop_if_late(Thread* thread);

// ---- loops.cpp
void begin_patience();  // of a call
// At the end of a thread's turn: does not return where a loop had its time; false if it goes on at
// once, since it is watched.
bool test_patience(Thread* thread, std::uint32_t pc);

// ---- counts.cpp
void merge_events(Context& context, unsigned warp, bool all);
void begin_block_events(Context& context);

// ---- watch.cpp
void start_watch();
void stop_watch();

}  // namespace emu
