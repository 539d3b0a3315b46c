// Runs entry points of a kernel library on the emulator: `run LIBRARY NAME…` prints four results each.
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>

extern "C" {
int emu_initialise(std::size_t);
void emu_configure(int, int, int, std::uint64_t, double, std::uint64_t, int);
int emu_open_module(const char*);
void* emu_symbol(int, const char*);
int emu_call(int, void*, void**, const std::size_t*, int);
int emu_malloc(void**, std::size_t);
void emu_write(void*, const void*, std::size_t);
void emu_read(void*, const void*, std::size_t);
const char* emu_take_report();
}

int main(int count, char** words) {
    const int zeros[32] = {};
    int results[32];
    if (emu_initialise(16 << 20)) return 2;
    const int module = emu_open_module(words[1]);
    if (module < 0) return 3;
    for (int i = 2; i < count; ++i) {
        void* out = nullptr;
        emu_malloc(&out, sizeof results);
        emu_write(out, zeros, sizeof zeros);
        void* arguments[] = {&out};
        const std::size_t sizes[] = {sizeof out};
        emu_configure(1, 1, 1, 0, 20, 1 << 30, 1);
        void* entry = emu_symbol(module, ("emu_entry_" + std::string(words[i])).c_str());
        const int error = emu_call(module, entry, arguments, sizes, 1);
        if (error) std::fprintf(stderr, "%s\n", emu_take_report());
        if (error) return 4;
        emu_take_report();
        emu_read(results, out, sizeof results);
        std::printf("%s %d %d %d %d\n", words[i], results[0], results[1], results[2], results[3]);
    }
}
