// Device memory, shared memory, and what an address may be.
//
// Every access of a kernel or a host function comes here before it is made. What is not that
// thread's to touch ends the launch, so a kernel can't damage the process it runs in.
#include <algorithm>
#include <cstring>

#include "machine.h"

namespace emu {

Machine machine;
__thread Thread* current __attribute__((tls_model("initial-exec"))) = nullptr;

namespace {

constexpr std::size_t GRANULE = 256;
constexpr std::size_t MAX_ALLOCATIONS = 100'000;  // of one call

bool owns(const Module::Segment& segment, Address address, unsigned size) {
    return address >= segment.begin && address + size <= segment.end;
}

[[noreturn]] void refuse(Thread* thread, const char* kind, std::string text, Address address,
                         unsigned size, Access access, const Caller& from, int allocation = -1) {
    Diagnostic found = describe(kind, true, thread);
    found.pc = pc_of(from.pc);
    found.text = std::move(text);
    found.size = size;
    found.access = access;
    found.allocation = allocation;
    if (allocation >= 0) {
        const Allocation& memory = machine.allocations[static_cast<std::size_t>(allocation)];
        found.offset = static_cast<std::int64_t>(address - memory.begin);
    }
    fail(found);
}

// Is it among the constants of the module that runs?
bool in_constants(Address address) {
    if (machine.module < 0) return false;
    for (const Module::Segment& segment : machine.modules[static_cast<std::size_t>(machine.module)].segments) {
        if (!segment.writable && address >= segment.begin && address < segment.end) return true;
    }
    return false;
}

// The allocation that an address in the arena is in or, past its end, behind.
int nearest_allocation(Address address) {
    std::size_t granule = (address - machine.arena) / GRANULE;
    for (std::size_t back = 0; back <= granule && back < 4096; ++back) {
        if (std::uint32_t number = machine.owner[granule - back]) return static_cast<int>(number) - 1;
    }
    return -1;
}

void locate_global(Thread* thread, Address address, unsigned size, Access access, const Caller& from,
                   Place& place) {
    if (thread->is_host) {
        refuse(thread, "device pointer", "", address, size, access, from, nearest_allocation(address));
    }
    std::size_t offset = address - machine.arena;
    std::uint32_t number = machine.owner[offset / GRANULE];
    const Allocation* memory = number ? &machine.allocations[number - 1] : nullptr;
    if (!memory || address + size > memory->end || !memory->live) {
        bool dead = memory && !memory->live;
        refuse(thread, dead ? "use after free" : "out of bounds", "", address, size, access, from,
               nearest_allocation(address));
    }
    place = {Space::Global, offset};
}

void locate_shared(Thread* thread, Address address, unsigned size, Access access, const Caller& from,
                   Place& place) {
    Context& context = *thread->context;
    std::size_t offset = address - reinterpret_cast<Address>(context.shared);
    unsigned number = context.variable_of[offset / 4];
    const SharedVariable* variable = number ? &context.variables[number - 1] : nullptr;
    if (!variable || offset < variable->offset || offset + size > variable->offset + variable->size) {
        Diagnostic found = describe("out of bounds", true, thread);
        found.pc = pc_of(from.pc);
        found.size = size;
        found.access = access;
        found.space = Space::Shared;
        const SharedVariable* nearest = nullptr;
        for (const SharedVariable& each : context.variables) {
            if (each.offset <= offset && (!nearest || each.offset > nearest->offset)) nearest = &each;
        }
        if (nearest) {
            found.variable = nearest->name;
            found.offset = static_cast<std::int64_t>(offset - nearest->offset);
            found.text = std::to_string(nearest->size);
        }
        fail(found);
    }
    place = {Space::Shared, offset};
}

// What is neither on this thread's stack nor device or shared memory.
bool locate_other(Thread* thread, Address address, unsigned size, Access access, const Caller& from,
                  Place& place) {
    Context& context = *thread->context;
    Address arguments = reinterpret_cast<Address>(context.arguments.data());
    if (access == Access::Load && address >= arguments &&
        address + size <= arguments + context.arguments.size()) {
        return false;  // each function has copies of its own; these are shared
    }
    if (machine.module >= 0) {
        const Module& module = machine.modules[static_cast<std::size_t>(machine.module)];
        if (address >= module.constant_begin && address + size <= module.constant_end) {
            if (access == Access::Load || thread->is_host) return false;
            refuse(thread, "constant written", "", address, size, access, from);
        }
        if (address >= module.device_begin && address + size <= module.device_end) {
            if (thread->is_host) refuse(thread, "device variable", "", address, size, access, from);
            place = {Space::Device, address - module.device_begin};
            return true;
        }
        for (const Module::Segment& segment : module.segments) {
            if (!owns(segment, address, size)) continue;
            if (access == Access::Load && !segment.writable) return false;
            // Host functions keep nothing between calls, so they have nothing to write there.
            if (thread->is_host && access == Access::Load) return false;
            refuse(thread, segment.writable ? "host variable" : "constant written", "", address,
                   size, access, from);
        }
    }
    if (address < PAGE) refuse(thread, "null pointer", "", address, size, access, from);
    for (const Thread* other : context.threads) {
        if (address - other->stack_low < other->stack_size) {
            refuse(thread, "another thread's variable", "", address, size, access, from);
        }
    }
    refuse(thread, "host pointer", "", address, size, access, from);
}

// The own stack between the emulator's parts of it, without the places of return addresses.
void check_stack(Thread* thread, Address address, unsigned size, Access access, const Caller& from) {
    bool bad = address < from.stack || address + size > thread->user_top;
    for (unsigned i = 0; i < thread->depth && !bad; ++i) {
        Address frame = thread->frames[i];
        bad = address < frame + 2 * sizeof(void*) && address + size > frame;
    }
    if (bad) {
        refuse(thread, "out of bounds", "the stack outside of a local variable", address, size,
               access, from);
    }
}

}  // namespace

bool locate(Thread* thread, Address address, unsigned size, Access access, const Caller& from,
            Place& place) {
    if (address - thread->stack_low < thread->stack_size) {
        check_stack(thread, address, size, access, from);
        return false;
    }
    if (size <= 16 && (address & (size - 1)) && address >= PAGE) {
        refuse(thread, "misaligned address", "", address, size, access, from);
    }
    if (address - machine.arena < machine.arena_size) {
        locate_global(thread, address, size, access, from, place);
        return true;
    }
    if (address - reinterpret_cast<Address>(thread->context->shared) < SHARED_ARENA &&
        !thread->is_host) {
        locate_shared(thread, address, size, access, from, place);
        return true;
    }
    return locate_other(thread, address, size, access, from, place);
}

void describe_place(Diagnostic& found, const Thread* thread, const Place& place) {
    found.space = place.space;
    if (place.space == Space::Global) {
        found.allocation = nearest_allocation(machine.arena + place.offset);
        if (found.allocation >= 0) {
            Address begin = machine.allocations[static_cast<std::size_t>(found.allocation)].begin;
            found.offset = static_cast<std::int64_t>(machine.arena + place.offset - begin);
        }
    } else if (place.space == Space::Shared) {
        const Context& context = *thread->context;
        if (unsigned number = context.variable_of[place.offset / 4]) {
            const SharedVariable& variable = context.variables[number - 1];
            found.variable = variable.name;
            found.offset = static_cast<std::int64_t>(place.offset - variable.offset);
        }
    } else {
        found.offset = static_cast<std::int64_t>(place.offset);
    }
}

void begin_block_memory(Context& context) {
    if (!context.shared) {
        context.shared = static_cast<unsigned char*>(std::aligned_alloc(PAGE, SHARED_ARENA));
        context.shared_words = static_cast<std::uint8_t*>(std::calloc(SHARED_ARENA / 4, 1));
        context.variable_of.assign(SHARED_ARENA / 4, 0);
        std::memset(context.shared, 0xff, SHARED_ARENA);
    }
    // Fresh, uninitialised memory for every block; its variables are found as they are declared.
    std::memset(context.shared, 0xff, context.shared_used);
    std::memset(context.shared_words, 0, context.shared_used / 4 + 1);
    std::memset(context.variable_of.data(), 0, context.shared_used / 4 + 1);
    context.variables.clear();
    context.shared_used = context.shared_packed = 0;
}

namespace {

// Sets bits of the words that hold the bytes [begin, end): of a whole word `all`, of a byte its one.
void mark(std::uint8_t* words, std::size_t begin, std::size_t end, std::uint8_t all) {
    while (begin < end && begin % 4) words[begin / 4] |= all & (0x11 << begin % 4), ++begin;
    for (; begin + 4 <= end; begin += 4) words[begin / 4] |= all;
    for (; begin < end; ++begin) words[begin / 4] |= all & (0x11 << begin % 4);
}

}  // namespace

void write_bytes_valid(Address begin, std::size_t size) {
    const std::size_t offset = begin - machine.arena;
    mark(machine.words, offset, offset + size, WRITTEN);
}

namespace {

// Places a variable where the compiler of a GPU would (packed, in order of declaration), modulo
// 128 bytes, so that it has the same banks; a gap behind it shows what runs over its end.
SharedVariable& add_variable(Context& context, const void* site, const char* name, int line,
                             std::size_t size, std::size_t align) {
    std::size_t packed = (context.shared_packed + align - 1) / align * align;
    context.shared_packed = packed + size;
    std::size_t offset = (context.shared_used + 127) / 128 * 128 + packed % 128;
    context.shared_used = (offset + size + 32 + 127) / 128 * 128;
    context.variables.push_back({site, name, offset, size, line});
    auto number = static_cast<std::uint8_t>(context.variables.size());
    std::fill(context.variable_of.begin() + static_cast<std::ptrdiff_t>(offset / 4),
              context.variable_of.begin() + static_cast<std::ptrdiff_t>((offset + size + 3) / 4),
              number);
    mark(context.shared_words, offset, offset + size, OWNED);
    return context.variables.back();
}

void* declare(const void* site, std::size_t size, std::size_t align, const char* name, int line,
              std::size_t limit) {
    Thread* thread = current;
    if (!thread || thread->is_host) {
        Diagnostic found = describe("shared memory on the host", true, thread);
        found.line = line;
        fail(found);
    }
    Context& context = *thread->context;
    for (const SharedVariable& variable : context.variables) {
        if (variable.site == site) return context.shared + variable.offset;
    }
    if (size > limit || context.shared_packed + size > limit || context.variables.size() == 255) {
        Diagnostic found = describe("too much shared memory", true, thread);
        found.line = line;
        found.variable = name;
        found.offset = static_cast<std::int64_t>(context.shared_packed + size);
        found.text = std::to_string(limit);
        fail(found);
    }
    if (!in_constants(reinterpret_cast<Address>(name))) name = "?";
    return context.shared + add_variable(context, site, name, line, size, align).offset;
}

std::size_t allocations_before = 0, used_before = 0;  // the call that runs now

std::size_t whole_size(const Allocation& memory) {
    return (memory.end - memory.begin + GRANULE - 1) / GRANULE * GRANULE;
}

void forget_words(const Allocation& memory) {
    std::memset(machine.words + (memory.begin - machine.arena) / 4, 0, whole_size(memory) / 4);
}

void own(const Allocation& memory, std::uint32_t number) {
    const std::size_t granule = (memory.begin - machine.arena) / GRANULE;
    std::fill_n(machine.owner.begin() + static_cast<std::ptrdiff_t>(granule),
                whole_size(memory) / GRANULE, number);
}

}  // namespace

void begin_call_memory() {
    allocations_before = machine.allocations.size();
    used_before = machine.arena_used;
}

// A call keeps no memory: what it made and did not give back is given back, and all is as before.
void end_call_memory() {
    for (auto& [size, numbers] : machine.freed) {
        numbers.erase(std::remove_if(numbers.begin(), numbers.end(),
                                     [](int n) { return static_cast<std::size_t>(n) >= allocations_before; }),
                      numbers.end());
    }
    for (std::size_t number = machine.allocations.size(); number-- > allocations_before;) {
        const Allocation& memory = machine.allocations[number];
        forget_words(memory);
        if (memory.origin < 0) {
            own(memory, 0);
        } else if (static_cast<std::size_t>(memory.origin) < allocations_before) {
            own(memory, static_cast<std::uint32_t>(memory.origin) + 1);
            machine.freed[whole_size(memory)].push_back(memory.origin);
        }
    }
    machine.allocations.erase(machine.allocations.begin() + static_cast<std::ptrdiff_t>(allocations_before),
                              machine.allocations.end());
    machine.arena_used = used_before;
}

}  // namespace emu

using namespace emu;

extern "C" void* emu_shared(const void* site, std::size_t size, std::size_t align,
                            const char* name, int line) {
    return declare(site, size, align, name, line, SHARED_STATIC);
}

extern "C" void* emu_dynamic_shared(const char* name, int line) {
    // All `extern __shared__` arrays are the same memory.
    static const char site = 0;
    Thread* thread = current;
    std::size_t size = thread && thread->context->launch ? thread->context->launch->shared_bytes : 0;
    return declare(&site, size, 16, name, line, SHARED_OPT_IN);
}

extern "C" int emu_malloc(void** pointer, std::size_t size) {
    *pointer = nullptr;
    if (current) host_only("cudaMalloc");
    if (size == 0) return 0;
    if (current && machine.allocations.size() >= allocations_before + MAX_ALLOCATIONS) {
        return machine.last_error = 2;
    }
    std::size_t whole = (size + GRANULE - 1) / GRANULE * GRANULE;
    Address begin = 0;
    int origin = -1;
    auto old = machine.freed.find(whole);
    if (old != machine.freed.end() && !old->second.empty()) {
        origin = old->second.back();
        begin = machine.allocations[static_cast<std::size_t>(origin)].begin;
        old->second.pop_back();
    } else {
        if (size > machine.arena_size || machine.arena_used + whole + GRANULE > machine.arena_size) {
            return machine.last_error = 2;
        }
        begin = machine.arena + machine.arena_used;
        machine.arena_used += whole + GRANULE;  // the gap behind belongs to nobody
    }
    machine.allocations.push_back({begin, begin + size, true, origin});
    auto number = static_cast<std::uint32_t>(machine.allocations.size());
    std::size_t granule = (begin - machine.arena) / GRANULE;
    std::fill_n(machine.owner.begin() + static_cast<std::ptrdiff_t>(granule), whole / GRANULE, number);
    std::memset(reinterpret_cast<void*>(begin), 0xff, whole);
    std::memset(machine.words + (begin - machine.arena) / 4, 0, whole / 4);
    mark(machine.words, begin - machine.arena, begin - machine.arena + size, OWNED);
    *pointer = reinterpret_cast<void*>(begin);
    return 0;
}

extern "C" int emu_free(void* pointer) {
    if (current) host_only("cudaFree");
    if (!pointer) return 0;
    Address address = reinterpret_cast<Address>(pointer);
    if (address - machine.arena >= machine.arena_size) return machine.last_error = 1;
    std::uint32_t number = machine.owner[(address - machine.arena) / GRANULE];
    if (!number || machine.allocations[number - 1].begin != address ||
        !machine.allocations[number - 1].live) {
        return machine.last_error = 1;
    }
    Allocation& memory = machine.allocations[number - 1];
    memory.live = false;
    forget_words(memory);
    machine.freed[whole_size(memory)].push_back(static_cast<int>(number) - 1);
    return 0;
}
