// What Python calls, through ctypes. One call at a time.
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <link.h>
#include <new>
#include <sys/mman.h>

#include "machine.h"

namespace emu {

void forget_blocks();

namespace {

std::string text;  // what the last call returned
Context host_context;
Thread host;
void (*entry_point)(void**);

void host_main() {
    host.user_top = reinterpret_cast<Address>(__builtin_frame_address(0));
    entry_point(reinterpret_cast<void**>(host_context.arguments.data()));
    end_thread();
}

// Copies the values to where the host function may read them: pointers first, then the values.
void pack_arguments(void** arguments, const std::size_t* sizes, int count) {
    const auto number = static_cast<std::size_t>(count);
    std::size_t end = (number * sizeof(void*) + 15) / 16 * 16;
    std::vector<std::size_t> places;
    for (std::size_t i = 0; i < number; ++i) {
        places.push_back(end);
        end = (end + sizes[i] + 15) / 16 * 16;
    }
    std::vector<unsigned char>& packed = host_context.arguments;
    packed.assign(end + 16, 0);
    for (std::size_t i = 0; i < number; ++i) {
        unsigned char* value = packed.data() + places[i];
        std::memcpy(value, arguments[i], sizes[i]);
        std::memcpy(packed.data() + i * sizeof(void*), &value, sizeof value);
    }
}

void* map(std::size_t size) {
    void* place = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return place == MAP_FAILED ? nullptr : place;
}

int add_segments(dl_phdr_info* info, std::size_t, void* data) {
    auto& module = *static_cast<Module*>(data);
    if (!info->dlpi_name || module.path != info->dlpi_name) return 0;
    module.base = info->dlpi_addr;
    for (int i = 0; i < info->dlpi_phnum; ++i) {
        const auto& part = info->dlpi_phdr[i];
        if (part.p_type == PT_LOAD) {
            const Address begin = info->dlpi_addr + part.p_vaddr;
            module.segments.push_back({begin, begin + part.p_memsz, (part.p_flags & PF_W) != 0,
                                       (part.p_flags & PF_X) != 0});
        }
    }
    return 1;
}

}  // namespace
}  // namespace emu

using namespace emu;

extern "C" {

// Without memory the launch ends, not the process; the reserve is for saying so.
static char* reserve = nullptr;
static void out_of_memory() {
    delete[] reserve;
    reserve = nullptr;
    if (!current) std::abort();
    fail(describe("out of memory", true, current), 2);
}

// Sets up device memory of so many bytes; 0, or an error of cudaError_t.
int emu_initialise(std::size_t arena_bytes) {
    if (machine.arena) return 0;
    arena_bytes = (arena_bytes + 0xffff) & ~std::size_t{0xffff};
    void* arena = map(arena_bytes);
    void* words = map(arena_bytes / 4);
    host.stack = make_stack(HOST_STACK);
    if (!arena || !words || !host.stack.size) return 2;
    machine.arena = reinterpret_cast<Address>(arena);
    machine.arena_size = arena_bytes;
    machine.words = static_cast<std::uint8_t*>(words);
    machine.owner.assign(arena_bytes / 256, 0);
    host.is_host = true;
    reserve = new char[1 << 20];
    std::set_new_handler(out_of_memory);
    host.context = &host_context;
    host.stack_low = host.stack.low;
    host.stack_size = host.stack.size;
    return 0;
}

void emu_configure(int instrumented, int checks, int counts, std::uint64_t sample_blocks,
                   double seconds, std::uint64_t steps, int threads) {
    machine.options.instrumented = instrumented != 0;
    machine.options.checks = instrumented && checks;
    machine.options.counts = instrumented && counts;
    machine.options.sample_blocks = sample_blocks;
    machine.options.seconds = seconds;
    machine.options.steps = steps;
    machine.options.threads = threads;
}

// Loads a module; its number, or -1 with the reason in emu_text().
int emu_open_module(const char* path) {
    Module module;
    module.path = path;
    module.handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!module.handle) {
        text = dlerror();
        return -1;
    }
    dl_iterate_phdr(add_segments, &module);
    if (module.segments.empty()) {
        text = "the loaded module is not in the list of modules";
        return -1;
    }
    if (auto* sections = static_cast<Address*>(dlsym(module.handle, "emu_module_sections"))) {
        module.device_begin = sections[0];
        module.device_end = sections[1];
        module.constant_begin = sections[2];
        module.constant_end = sections[3];
    }
    if (module.constant_end - module.constant_begin > 64 * 1024) {
        text = "its __constant__ variables have more than 64 kB";
        return -1;
    }
    machine.modules.push_back(std::move(module));
    return static_cast<int>(machine.modules.size()) - 1;
}

// The ranks of `count` return addresses, as offsets in the module.
void emu_set_order(int module, const std::uint32_t* offsets, const std::uint32_t* ranks, std::size_t count) {
    std::vector<std::uint32_t>& all = machine.modules[static_cast<std::size_t>(module)].ranks;
    for (std::size_t i = 0; i < count; ++i) {
        if (offsets[i] >= all.size()) all.resize(offsets[i] + 1);
        all[offsets[i]] = ranks[i];
    }
}

// Where a module's exported symbol lies, or null.
void* emu_symbol(int module, const char* name) {
    return dlsym(machine.modules[static_cast<std::size_t>(module)].handle, name);
}

// Calls a host function with the values that `arguments` point to, of `sizes` bytes each; the
// launches in it have ended when it returns. 0, or an error.
int emu_call(int module, void* entry, void** arguments, const std::size_t* sizes, int count) {
    machine.module = module;
    const Module& loaded = machine.modules[static_cast<std::size_t>(module)];
    machine.code_base = loaded.base;
    machine.ranks = loaded.ranks.data();
    machine.rank_count = loaded.ranks.size();
    machine.stopping = false;
    machine.last_error = 0;
    machine.unfinished.clear();
    entry_point = reinterpret_cast<void (*)(void**)>(entry);
    pack_arguments(arguments, sizes, count);
    begin_call_memory();
    host.state = State::Ready;
    host.depth = 0;
    host.steps_left = TURN;
    host.user_top = host.stack_low + host.stack_size;
    host.stack_pointer = prepare_fiber(host.stack, host_main);
    start_watch();
    current = &host;
    emu_switch_fiber(&host_context.scheduler, host.stack_pointer);
    current = nullptr;
    stop_watch();
    forget_blocks();
    end_call_memory();
    machine.module = -1;
    return machine.last_error;
}

// Copies between the host and device memory, on behalf of Python.
void emu_write(void* device, const void* from, std::size_t size) {
    std::memcpy(device, from, size);
    write_bytes_valid(reinterpret_cast<Address>(device), size);
}
void emu_read(void* to, const void* device, std::size_t size) { std::memcpy(to, device, size); }

// The number of the allocation that begins there, as diagnostics name it; -1 if none does.
int emu_allocation(const void* device) {
    const Address address = reinterpret_cast<Address>(device);
    if (address - machine.arena >= machine.arena_size) return -1;
    const std::uint32_t number = machine.owner[(address - machine.arena) / 256];
    return number && machine.allocations[number - 1].begin == address ? static_cast<int>(number) - 1 : -1;
}

const char* emu_text() { return text.c_str(); }

// Everything since the last call, as JSON; then forgotten.
const char* emu_take_report() {
    text = report_json();
    machine.launches.clear();
    machine.diagnostics.clear();
    machine.known.clear();
    machine.output.clear();
    machine.errors = machine.dropped = 0;
    return text.c_str();
}

// Seconds for `count` switches there and back.
double emu_benchmark_switches(std::uint64_t count) {
    static Stack stack = make_stack(THREAD_STACK);
    static void *here, *there;
    there = prepare_fiber(stack, [] {
        for (;;) emu_switch_fiber(&there, here);
    });
    const auto start = std::chrono::steady_clock::now();
    for (std::uint64_t i = 0; i < count; ++i) emu_switch_fiber(&here, there);
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // extern "C"
