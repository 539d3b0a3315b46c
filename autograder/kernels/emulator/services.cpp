// The rest of what a kernel file may call: printf, cp.async, the runtime library.
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <mutex>

#include "record.h"

namespace emu {

namespace {

constexpr std::size_t MAX_OUTPUT = 64 * 1024;
constexpr std::size_t MAX_TEXT = 256;

// Text is read only where the module keeps its constants: no other memory can be printed.
std::string readable_text(Address address) {
    if (machine.module < 0) return "";
    for (const Module::Segment& segment : machine.modules[static_cast<std::size_t>(machine.module)].segments) {
        if (segment.writable || address < segment.begin || address >= segment.end) continue;
        const char* text = reinterpret_cast<const char*>(address);
        return {text, strnlen(text, std::min<std::size_t>(MAX_TEXT, segment.end - address))};
    }
    return "(text that is no constant of this file)";
}

int longest_number(const std::string& text) {
    int longest = 0, number = 0;
    for (char c : text) {
        number = c >= '0' && c <= '9' ? std::min(number * 10 + (c - '0'), 1000) : 0;
        longest = std::max(longest, number);
    }
    return longest;
}

// One conversion such as %8.3f, with a value of its own kind whatever the letter says.
std::string convert(std::string directive, const EmuValue& value) {
    char out[512];
    const char letter = directive.back();
    std::string flags;
    for (char c : directive.substr(1, directive.size() - 2)) {
        if (std::strchr("-+ #0123456789.", c)) flags += c;
    }
    // No wide fields: they cost time, and none is useful.
    if (flags.size() > 12 || longest_number(flags) > 99) flags.clear();
    const bool real = std::strchr("fFeEgGaA", letter) != nullptr;
    double number;
    std::memcpy(&number, &value.bits, sizeof number);
    if (value.type == 's') {
        std::snprintf(out, sizeof out, ("%" + flags + "s").c_str(), readable_text(value.bits).c_str());
    } else if (value.type == 'f') {
        std::snprintf(out, sizeof out, ("%" + flags + (real ? letter : 'g')).c_str(), number);
    } else if (value.type == 'p') {
        std::snprintf(out, sizeof out, "0x%llx",
                      static_cast<unsigned long long>(value.bits - machine.arena));
    } else if (letter == 'c') {
        out[0] = static_cast<char>(value.bits);
        out[1] = 0;
    } else {
        const char kind = std::strchr("xXo", letter) ? letter : value.type == 'u' || letter == 'u' ? 'u' : 'd';
        std::snprintf(out, sizeof out, ("%" + flags + "ll" + kind).c_str(),
                      static_cast<unsigned long long>(value.bits));
    }
    return out;
}

std::string formatted(const char* format, const EmuValue* values, int count) {
    const std::string text = readable_text(reinterpret_cast<Address>(format));
    std::string out;
    int next = 0;
    for (std::size_t i = 0; i < text.size(); ++i) {
        if (text[i] != '%') {
            out += text[i];
        } else if (i + 1 < text.size() && text[i + 1] == '%') {
            out += '%';
            ++i;
        } else {
            std::size_t end = text.find_first_of("diouxXcspfFeEgGaAn", i);
            if (end == std::string::npos) break;
            out += next < count ? convert(text.substr(i, end - i + 1), values[next++]) : "(no value)";
            i = end;
        }
    }
    return out;
}

std::mutex output_lock;

Thread* kernel_or_fail(const char* what) {
    Thread* thread = current;
    if (!thread->is_host) return thread;
    Diagnostic found = describe("device function on the host", true, thread);
    found.text = what;
    fail(found);
}

void finish_copy(const AsyncCopy& copy) {
    Thread* thread = current;
    const std::uint32_t copied = copy.size - copy.zero_fill;
    Place place;
    const Caller from{nullptr, 0};
    if (machine.options.instrumented) {
        if (!locate(thread, copy.to, copy.size, Access::Store, from, place)) return;
        if (machine.options.checks) check_access(thread, place, copy.size, Access::Store, copy.pc);
        if (machine.options.counts) {
            record_event(thread, copy.to, copy.size, Access::Store, place.space, copy.pc);
        }
    }
    std::memcpy(reinterpret_cast<void*>(copy.to), reinterpret_cast<void*>(copy.from), copied);
    std::memset(reinterpret_cast<char*>(copy.to) + copied, 0, copy.zero_fill);
}

constexpr std::size_t MAX_COPIES = 4096;  // waiting, of one thread

}  // namespace

void host_only(const char* what) {
    stop_if_late(current);
    if (!current || current->is_host) return;
    Diagnostic found = describe("host function in a kernel", true, current);
    found.text = what;
    fail(found);
}

void stop_if_late(Thread* thread) {
    if (!machine.expired || !thread) return;
    const bool hooked = machine.options.instrumented && !thread->is_host;
    if (hooked && machine.expired < GRACE) return;
    Diagnostic found = describe("time limit", true, thread);
    char text[32];
    std::snprintf(text, sizeof text, "%g", machine.options.seconds);
    found.text = text;
    fail(found, 702);
}

namespace {

// A copy or a set of device memory, reported like a kernel that does it as well as one can.
void record_transfer(const char* name, std::size_t size, bool reads, std::uint32_t pc) {
    if (!machine.options.counts) return;
    LaunchRecord record;
    record.kernel = name;
    record.line = 0;
    record.module = machine.module;
    record.grid = record.block = {1, 1, 1};
    record.shared_bytes = 0;
    record.blocks = record.blocks_run = 1;
    LineCounts line;
    line.requests = (size + 127) / 128;
    line.sectors = line.sectors_min = (size + 31) / 32;
    line.bytes = size;
    line.lanes = (size + 3) / 4;
    std::fill(line.sample, line.sample + WARP, -1);
    line.sample_size = 4;
    const std::uint64_t key = static_cast<std::uint64_t>(pc) << 8;
    if (reads) record.lines[key | static_cast<unsigned>(Access::Load)] = line;
    record.lines[key | static_cast<unsigned>(Access::Store)] = line;
    machine.launches.push_back(std::move(record));
}

// Is [address, address + size) in live device memory? Else reports and says which error it is.
bool device_range(Address address, std::size_t size, const char* what) {
    const std::size_t offset = address - machine.arena;
    if (offset < machine.arena_size) {
        const std::uint32_t number = machine.owner[offset / 256];
        if (number && machine.allocations[number - 1].live &&
            address + size <= machine.allocations[number - 1].end && address + size >= address) {
            return true;
        }
    }
    Diagnostic found = describe("bad copy", true, current);
    found.text = what;
    found.size = static_cast<unsigned>(std::min<std::size_t>(size, 0xffffffffu));
    report(found);
    machine.last_error = 1;
    return false;
}

// A host function's own memory, read or written on its behalf.
void host_range(Address address, std::size_t size, Access access, const Caller& from) {
    for (std::size_t done = 0; done < size; ++done) access_from_library(address + done, 1, access, from);
}

}  // namespace
}  // namespace emu

using namespace emu;

extern "C" int emu_print(const char* format, const EmuValue* values, int count) {
    // The values lie on the caller's stack; they are looked at like any of its memory.
    const auto begin = reinterpret_cast<Address>(values);
    const Thread* thread = current;
    const std::size_t size = static_cast<std::size_t>(count) * sizeof(EmuValue);
    if (count < 0 || count > 64 || begin < thread->stack_low || begin + size > thread->stack_low + thread->stack_size) {
        return -1;
    }
    stop_if_late(current);
    const std::string text = formatted(format, values, count);
    const std::lock_guard<std::mutex> guard(output_lock);
    if (machine.output.size() < MAX_OUTPUT) machine.output += text;
    return static_cast<int>(text.size());
}

extern "C" void emu_not_implemented(const char* what) {
    const std::lock_guard<std::mutex> guard(output_lock);
    machine.unfinished = readable_text(reinterpret_cast<Address>(what));
    machine.stopping = true;
    end_thread();
}

extern "C" void emu_trap(const char* what, int line) {
    Diagnostic found = describe("trap", true, current);
    found.text = readable_text(reinterpret_cast<Address>(what));
    found.line = line;
    fail(found, 710);
}

extern "C" void emu_async_copy(void* shared, const void* global, std::size_t size, std::size_t zero_fill) {
    Thread* thread = kernel_or_fail("cp.async");
    const Caller caller = EMU_CALLER;
    const auto to = reinterpret_cast<Address>(shared), from = reinterpret_cast<Address>(global);
    const bool sized = size == 4 || size == 8 || size == 16;
    const bool placed = to - reinterpret_cast<Address>(thread->context->shared) < SHARED_ARENA;
    stop_if_late(thread);
    if (!sized || !placed || thread->copies.size() >= MAX_COPIES || zero_fill > size || to % size || from % size) {
        Diagnostic found = describe("bad cp.async", true, thread);
        found.pc = pc_of(caller.pc);
        found.size = static_cast<unsigned>(size);
        if (thread->copies.size() >= MAX_COPIES) found.text = std::to_string(MAX_COPIES);
        fail(found);
    }
    Place place;
    if (machine.options.instrumented) {
        locate(thread, to, static_cast<unsigned>(size), Access::Store, caller, place);
        for (std::size_t done = 0, part = size; done < size - zero_fill; done += part) {
            while (part > size - zero_fill - done) part /= 2;
            access_from_library(from + done, static_cast<unsigned>(part), Access::Load, caller);
        }
    }
    thread->copies.push_back({to, from, static_cast<std::uint32_t>(size),
                              static_cast<std::uint32_t>(zero_fill), pc_of(caller.pc)});
}

extern "C" void emu_async_commit() {
    Thread* thread = kernel_or_fail("cp.async");
    stop_if_late(thread);
    if (thread->committed.size() < MAX_COPIES) thread->committed.push_back(thread->copies.size());
}

extern "C" void emu_async_wait(int groups_left) {
    Thread* thread = kernel_or_fail("cp.async");
    const auto left = static_cast<std::size_t>(std::max(0, groups_left));
    if (thread->committed.size() <= left) return;
    const std::size_t groups = thread->committed.size() - left;
    const std::size_t end = thread->committed[groups - 1];
    for (std::size_t i = 0; i < end; ++i) finish_copy(thread->copies[i]);
    thread->copies.erase(thread->copies.begin(), thread->copies.begin() + static_cast<std::ptrdiff_t>(end));
    thread->committed.erase(thread->committed.begin(),
                            thread->committed.begin() + static_cast<std::ptrdiff_t>(groups));
    for (std::size_t& place : thread->committed) place -= end;
}

extern "C" int emu_copy(void* to, const void* from, std::size_t size, int kind) {
    host_only("cudaMemcpy");
    limit_launches();
    const auto target = reinterpret_cast<Address>(to), source = reinterpret_cast<Address>(from);
    const bool inside = target - machine.arena < machine.arena_size && source - machine.arena < machine.arena_size;
    if (kind != 3 && !(kind == 4 && inside)) {
        Diagnostic found = describe("copy with the host", true, current);
        fail(found, 1);
    }
    if (!device_range(target, size, "its target") || !device_range(source, size, "its source")) return 1;
    record_transfer("cudaMemcpy", size, true, pc_of(__builtin_return_address(0)));
    std::memmove(to, from, size);
    write_bytes_valid(target, size);
    return 0;
}

extern "C" int emu_copy_symbol(void* symbol, const void* from, std::size_t size, std::size_t offset) {
    host_only("cudaMemcpyToSymbol");
    const Address target = reinterpret_cast<Address>(symbol) + offset;
    const Module& module = machine.modules[static_cast<std::size_t>(machine.module)];
    const bool constant = target >= module.constant_begin && target + size <= module.constant_end;
    const bool device = target >= module.device_begin && target + size <= module.device_end;
    if ((!constant && !device) || target + size < target) return machine.last_error = 1;
    host_range(reinterpret_cast<Address>(from), size, Access::Load, EMU_CALLER);
    std::memcpy(reinterpret_cast<void*>(target), from, size);
    return 0;
}

extern "C" int emu_set(void* pointer, int value, std::size_t size) {
    host_only("cudaMemset");
    limit_launches();
    const auto address = reinterpret_cast<Address>(pointer);
    if (size == 0) return 0;
    record_transfer("cudaMemset", size, false, pc_of(__builtin_return_address(0)));
    if (!device_range(address, size, "its target")) return 1;
    std::memset(pointer, value, size);
    write_bytes_valid(address, size);
    return 0;
}

extern "C" int emu_last_error(int clear) {
    const int error = machine.last_error;
    if (clear && error < 700) machine.last_error = 0;
    return error;
}

extern "C" int emu_synchronize() { return machine.last_error; }

extern "C" int emu_allow_shared(int bytes) {
    host_only("cudaFuncSetAttribute");
    if (bytes < 0 || static_cast<std::size_t>(bytes) > SHARED_OPT_IN) return machine.last_error = 1;
    machine.allowed_shared = std::max(machine.allowed_shared, static_cast<std::size_t>(bytes));
    return 0;
}

extern "C" int emu_attribute(int attribute) {
    switch (attribute) {  // of an H100
        case 1: return 1024;
        case 8: return static_cast<int>(SHARED_STATIC);
        case 10: return 32;
        case 16: return 132;
        case 97: return static_cast<int>(SHARED_OPT_IN);
        default: return -1;
    }
}
