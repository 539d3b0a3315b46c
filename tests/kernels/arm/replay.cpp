// Repeats recorded calls of kernels on another processor, and prints the reports, one a line.
//
// The script is a line for each step, some followed by raw bytes:
//   module PATH COUNT      then COUNT offsets and COUNT ranks of 32 bits
//   array ID BYTES         then its bytes
//   call MODULE ENTRY N    then for each of N arguments: `array ID`, `null`, or `value BYTES` and bytes
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>
#include <vector>

extern "C" {
int emu_initialise(std::size_t);
void emu_configure(int, int, int, std::uint64_t, double, std::uint64_t, int);
int emu_open_module(const char*);
void emu_set_order(int, const std::uint32_t*, const std::uint32_t*, std::size_t);
void* emu_symbol(int, const char*);
int emu_call(int, void*, void**, const std::size_t*, int);
int emu_malloc(void**, std::size_t);
void emu_write(void*, const void*, std::size_t);
const char* emu_text();
const char* emu_take_report();
}

namespace {

std::FILE* script;

[[noreturn]] void stop(const std::string& why) {
    std::fprintf(stderr, "replay: %s\n", why.c_str());
    std::exit(1);
}

std::vector<char> bytes(std::size_t count) {
    std::vector<char> data(count + 1);
    if (std::fread(data.data(), 1, count, script) != count) stop("the script ends early");
    return data;
}

std::vector<std::string> words() {
    char line[4096];
    if (!std::fgets(line, sizeof line, script)) return {};
    std::vector<std::string> found;
    for (char* word = std::strtok(line, " \n"); word; word = std::strtok(nullptr, " \n")) {
        found.push_back(word);
    }
    return found;
}

void open_module(const std::vector<std::string>& step) {
    const int module = emu_open_module(step[1].c_str());
    if (module < 0) stop(emu_text());
    const std::size_t count = std::stoul(step[2]);
    const std::vector<char> offsets = bytes(4 * count), ranks = bytes(4 * count);
    emu_set_order(module, reinterpret_cast<const std::uint32_t*>(offsets.data()),
                  reinterpret_cast<const std::uint32_t*>(ranks.data()), count);
}

std::map<int, void*> arrays;

void call(const std::vector<std::string>& step) {
    const int module = std::stoi(step[1]), count = std::stoi(step[3]);
    std::vector<std::vector<char>> values;
    std::vector<std::size_t> sizes;
    for (int i = 0; i < count; ++i) {
        const std::vector<std::string> argument = words();
        std::vector<char> value(sizeof(void*));
        if (argument[0] == "array") {
            void* address = arrays.at(std::stoi(argument[1]));
            std::memcpy(value.data(), &address, sizeof address);
            sizes.push_back(sizeof address);
        } else if (argument[0] == "null") {
            sizes.push_back(sizeof(void*));
        } else {
            sizes.push_back(std::stoul(argument[1]));
            value = bytes(sizes.back());
        }
        values.push_back(std::move(value));
    }
    std::vector<void*> pointers;
    for (std::vector<char>& value : values) pointers.push_back(value.data());
    void* entry = emu_symbol(module, ("emu_entry_" + step[2]).c_str());
    if (!entry) stop("no entry point " + step[2]);
    emu_configure(1, 1, 1, 0, 600, 2'000'000'000, 1);
    emu_call(module, entry, pointers.data(), sizes.data(), count);
    std::puts(emu_take_report());
}

}  // namespace

int main(int, char** arguments) {
    script = std::fopen(arguments[1], "rb");
    if (!script || emu_initialise(std::size_t{256} << 20)) stop("no script or no memory");
    for (std::vector<std::string> step = words(); !step.empty(); step = words()) {
        if (step[0] == "module") {
            open_module(step);
        } else if (step[0] == "array") {
            const std::size_t size = std::stoul(step[2]);
            void* address = nullptr;
            if (emu_malloc(&address, size ? size : 1)) stop("no device memory");
            const std::vector<char> data = bytes(size);
            emu_write(address, data.data(), size);
            arrays[std::stoi(step[1])] = address;
        } else {
            call(step);
        }
    }
    return 0;
}
