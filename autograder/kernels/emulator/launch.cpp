// Launches: the threads of a block as fibers, run in order up to the next point where they wait.
//
// Lanes of a warp run one after the other; a warp goes on until all its lanes wait at the block's
// barrier or have ended. What waits for ever is reported with the lines it waits at.
#include <algorithm>
#include <cstring>
#include <pthread.h>

#include "warp.h"

namespace emu {

void yield_thread() {
    Thread* thread = current;
    Context& context = *thread->context;
    context.again |= thread->state == State::Ready;
    context.spun |= thread->yielded;
    leave(thread);
}

void end_thread() {
    Thread* thread = current;
    thread->state = State::Done;
    ++thread->context->ended;
    leave(thread);
    __builtin_unreachable();
}

namespace {

Context contexts[2];

void thread_main() {
    Thread* thread = current;
    thread->user_top = reinterpret_cast<Address>(__builtin_frame_address(0));
    thread->context->body(thread->context->arguments.data());
    end_thread();
}

// Runs the threads [first, end) that can run, one after the other; false if there is none.
bool run_round(Context& context, unsigned first, unsigned end) {
    context.again = context.spun = false;
    while (first < end && context.threads[first]->state != State::Ready) ++first;
    if (first == end) return false;
    context.round_end = end;
    Thread* before = current;
    enter(context.threads[first]);
    emu_switch_fiber(&context.scheduler, current->stack_pointer);
    current = before;
    return true;
}

bool grow(Context& context, unsigned count) {
    while (context.threads.size() < count) {
        auto* thread = new Thread;
        thread->stack = make_stack(THREAD_STACK);
        if (!thread->stack.size) {
            delete thread;
            return false;
        }
        // Stacks begin at different cache lines: they are entered one after the other.
        thread->stack.size -= context.threads.size() * 192 % PAGE;
        thread->stack_low = thread->stack.low;
        thread->stack_size = thread->stack.size;
        thread->context = &context;
        context.threads.push_back(thread);
    }
    return true;
}

void begin_block(Context& context) {
    begin_block_memory(context);
    begin_block_events(context);
    context.at_collectives = context.waiting = context.ended = 0;
    context.mixed_barrier = false;
    context.barrier_line = 0;
    if (machine.options.instrumented) context.block_epoch = ++machine.epoch;
    const uint3 block = context.launch->block;
    for (unsigned i = 0; i < context.count; ++i) {
        Thread* thread = context.threads[i];
        thread->state = State::Ready;
        thread->index = {i % block.x, i / block.x % block.y, i / (block.x * block.y)};
        thread->linear = i;
        thread->moment.thread = static_cast<std::uint32_t>(context.block_linear) * context.count + i;
        thread->lane = i % WARP;
        thread->depth = 0;
        thread->steps_left = machine.options.instrumented ? TURN : FAST_TURN;
        thread->fenced = false;
        thread->user_top = thread->stack_low + thread->stack_size;
        std::memset(thread->clock, 0, sizeof thread->clock);
        thread->clock[thread->lane] = 1;
        thread->copies.clear();
        thread->committed.clear();
        thread->stack_pointer = prepare_fiber(thread->stack, thread_main);
    }
}

// Lends a warp's lanes the room for their events, and takes it back: the same memory for each warp
// stays in the cache. A lane with events left keeps its own.
void lend_streams(Context& context, unsigned first, unsigned last) {
    for (unsigned i = first; i < last; ++i) {
        std::vector<Event>& own = context.threads[i]->events;
        if (own.empty()) own.swap(context.streams[i - first]);
    }
}

bool run_lanes(Context& context, unsigned warp);

// Runs every lane of a warp that can run, until none can; true if any did.
bool run_warp(Context& context, unsigned warp) {
    if (!machine.options.counts) return run_lanes(context, warp);
    const unsigned first = warp * WARP, last = std::min(context.count, first + WARP);
    lend_streams(context, first, last);
    const bool any = run_lanes(context, warp);
    lend_streams(context, first, last);
    return any;
}

bool run_lanes(Context& context, unsigned warp) {
    const unsigned first = warp * WARP, last = std::min(context.count, first + WARP);
    bool any = false;
    for (;;) {
        bool ran = run_round(context, first, last);
        if (machine.stopping) return true;
        bool again = context.again;
        if (machine.options.counts) merge_events(context, warp, false);
        if (context.at_collectives > 0) {
            const bool completed = complete_collectives(context, warp) ||
                                   (!again && complete_active_mask(context, warp));
            again |= completed;
            ran |= completed;
        }
        any |= ran;
        if (!again) break;
        if (context.spun) return true;
    }
    if (any && machine.options.counts) merge_events(context, warp, true);
    return any;
}

void run_block(Context& context) {
    begin_block(context);
    const unsigned warps = (context.count + WARP - 1) / WARP;
    for (;;) {
        bool progress = false;
        for (unsigned warp = 0; warp < warps; ++warp) {
            progress |= run_warp(context, warp);
            if (machine.stopping) return;
        }
        if (context.ended == context.count) return;
        if (context.ended + context.waiting == context.count) {
            complete_barrier(context);
        } else if (!progress) {
            report_deadlock(context);
            return;
        }
    }
}

// Hands out the blocks that are run: all of them, or an even sample.
struct Blocks {
    std::uint64_t total, chosen;
    std::atomic<std::uint64_t> next{0};

    bool take(std::uint64_t& block) {
        std::uint64_t place = next.fetch_add(1, std::memory_order_relaxed);
        if (place >= chosen) return false;
        block = chosen == total ? place
                                : static_cast<std::uint64_t>(static_cast<__uint128_t>(place) *
                                                             (total - 1) / std::max<std::uint64_t>(1, chosen - 1));
        return true;
    }
};

void run_blocks(Context& context, Blocks& blocks) {
    const uint3 grid = context.launch->grid;
    std::uint64_t block;
    while (!machine.stopping && blocks.take(block)) {
        const bool spent = machine.launch_steps > machine.options.steps;
        if ((machine.expired || spent) && &context == &contexts[0]) {
            Diagnostic found = describe(machine.expired ? "time limit" : "step limit", true, nullptr);
            found.launch = static_cast<int>(machine.launches.size()) - 1;
            found.line = context.launch->line;
            found.who.block = block;
            found.variable = std::to_string(blocks.total);
            found.text = machine.expired ? std::to_string(static_cast<int>(machine.options.seconds))
                                         : std::to_string(machine.options.steps);
            report(found);
            machine.last_error = 702;
            machine.stopping = true;
            return;
        }
        context.block_linear = block;
        context.block = {static_cast<unsigned>(block % grid.x),
                         static_cast<unsigned>(block / grid.x % grid.y),
                         static_cast<unsigned>(block / (static_cast<std::uint64_t>(grid.x) * grid.y))};
        run_block(context);
    }
}

void prepare(Context& context, const EmuLaunch* launch, void (*body)(void*), const void* arguments,
             std::size_t size) {
    context.launch = launch;
    context.body = body;
    context.count = launch->block.x * launch->block.y * launch->block.z;
    const auto* bytes = static_cast<const unsigned char*>(arguments);
    context.arguments.assign(bytes, bytes + size);
}

// The sentence on why CUDA would refuse this configuration; "" if it would not.
std::string problem_of(const EmuLaunch& launch) {
    const uint3 g = launch.grid, b = launch.block;
    const std::uint64_t threads = static_cast<std::uint64_t>(b.x) * b.y * b.z;
    if (!g.x || !g.y || !g.z) return "the grid has no block (a size of 0)";
    if (!threads) return "the block has no thread (a size of 0)";
    if (threads > MAX_THREADS) {
        return "the block has " + std::to_string(threads) + " threads, at most 1024 are possible";
    }
    if (b.z > 64) return "block.z is " + std::to_string(b.z) + ", at most 64 is possible";
    if (g.x > 0x7fffffffu || g.y > 65535 || g.z > 65535) {
        return "the grid is larger than 2147483647 x 65535 x 65535";
    }
    if (launch.shared_bytes > machine.allowed_shared) {
        return std::to_string(launch.shared_bytes) + " bytes of dynamic shared memory, at most " +
               std::to_string(machine.allowed_shared) + " are possible here" +
               (launch.shared_bytes <= SHARED_OPT_IN
                    ? " (more with cudaFuncSetAttribute(…MaxDynamicSharedMemorySize))"
                    : "");
    }
    return "";
}

bool refuse_launch(const EmuLaunch& launch, const std::string& problem) {
    Diagnostic found = describe("invalid launch", true, nullptr);
    found.line = launch.line;
    found.variable = launch.kernel;
    found.text = problem;
    report(found);
    machine.last_error = 9;
    return false;
}

bool in_code(Address address) {
    for (const Module::Segment& segment : machine.modules[static_cast<std::size_t>(machine.module)].segments) {
        if (segment.executable && address >= segment.begin && address < segment.end) return true;
    }
    return false;
}

bool begin_launch(const EmuLaunch* launch) {
    stop_if_late(current);
    limit_launches();
    std::string problem = problem_of(*launch);
    if (!problem.empty()) return refuse_launch(*launch, problem);
    static std::uint64_t serial = 0;
    LaunchRecord record;
    record.serial = ++serial;
    record.kernel = launch->kernel;
    record.line = launch->line;
    record.module = machine.module;
    record.grid = launch->grid;
    record.block = launch->block;
    record.shared_bytes = launch->shared_bytes;
    record.blocks = static_cast<std::uint64_t>(launch->grid.x) * launch->grid.y * launch->grid.z;
    machine.launches.push_back(std::move(record));
    machine.launch_epoch = ++machine.epoch;
    begin_launch_races();
    return true;
}

// Runs blocks in the second context: one OS thread beside ours, in fast mode only.
void* help(void* blocks) {
    current = nullptr;
    run_blocks(contexts[1], *static_cast<Blocks*>(blocks));
    return nullptr;
}

}  // namespace

void limit_launches() {
    constexpr std::size_t MAX_LAUNCHES = 10'000;
    if (machine.launches.size() >= MAX_LAUNCHES) fail(describe("too many launches", true, nullptr), 2);
}

void forget_blocks() {
    for (Context& context : contexts) context.record = nullptr;
}

}  // namespace emu

using namespace emu;

extern "C" void emu_launch(const EmuLaunch* launch, void (*body)(void*), const void* arguments,
                           std::size_t size) {
    if (!current || !current->is_host) {
        Diagnostic found = describe("launch from a kernel", true, current);
        found.line = launch->line;
        fail(found);
    }
    if (machine.stopping || !begin_launch(launch)) return;
    if (!in_code(reinterpret_cast<Address>(body))) {
        refuse_launch(*launch, "its kernel is no code of this file");
        return;
    }
    LaunchRecord& record = machine.launches.back();
    Blocks blocks;
    blocks.total = record.blocks;
    blocks.chosen = machine.options.sample_blocks
                        ? std::min(machine.options.sample_blocks, record.blocks)
                        : record.blocks;
    const bool two = !machine.options.instrumented && machine.options.threads > 1 &&
                     blocks.chosen >= 8;
    for (Context* context : {&contexts[0], &contexts[1]}) {
        if (context == &contexts[1] && !two) break;
        prepare(*context, launch, body, arguments, size);
        context->record = &record;
        if (!grow(*context, context->count)) {
            refuse_launch(*launch, "there is no memory for the stacks of its threads");
            return;
        }
    }
    machine.launch_steps = 0;
    pthread_t helper;  // where no further thread is to be had, one is enough
    const bool helped = two && pthread_create(&helper, nullptr, help, &blocks) == 0;
    run_blocks(contexts[0], blocks);
    if (helped) pthread_join(helper, nullptr);
    record.blocks_run = blocks.chosen;
    record.shared_bytes = std::max(record.shared_bytes, contexts[0].shared_packed);
    if (machine.stopping) end_thread();  // the host function ends with its launch
}

namespace {
unsigned on_axis(uint3 index, int axis) { return axis == 0 ? index.x : axis == 1 ? index.y : index.z; }
}  // namespace

extern "C" unsigned emu_thread_index(int axis) { return on_axis(current->index, axis); }
extern "C" unsigned emu_block_index(int axis) { return on_axis(current->context->block, axis); }
extern "C" unsigned emu_block_dim(int axis) {
    const EmuLaunch* launch = current->context->launch;
    return launch ? on_axis(launch->block, axis) : 0;
}
extern "C" unsigned emu_grid_dim(int axis) {
    const EmuLaunch* launch = current->context->launch;
    return launch ? on_axis(launch->grid, axis) : 0;
}
extern "C" unsigned emu_lane() { return current->lane; }
