// What a kernel file's object calls in the emulator's library: the only symbols it may use besides
// the C library's mathematics. Both sides include this file.
//
// Functions with a `line` argument are called through inline wrappers that fill it in
// (`__builtin_LINE()`), so that a report names the student's line. Memory that these functions get
// is checked like any other access.
#pragma once

#include <cstddef>
#include <cstdint>

struct uint3 {
    unsigned x, y, z;
};

extern "C" {

// ---- Where this thread is: axis 0, 1, 2 of each. Constant for a thread, so the compiler may call
// them once (they return no struct: gcc would call again for each member).
__attribute__((const)) unsigned emu_thread_index(int axis);
__attribute__((const)) unsigned emu_block_index(int axis);
__attribute__((const)) unsigned emu_block_dim(int axis);
__attribute__((const)) unsigned emu_grid_dim(int axis);
__attribute__((const)) unsigned emu_lane();

// ---- Shared memory. `site` is an address of its own for each declaration.
void* emu_shared(const void* site, std::size_t size, std::size_t align, const char* name, int line);
void* emu_dynamic_shared(const char* name, int line);

// ---- Launches
struct EmuLaunch {
    uint3 grid, block;
    std::size_t shared_bytes;
    const char* kernel;
    int line;
};
// Runs `body(arguments)` in each thread; the arguments are copied first.
void emu_launch(const EmuLaunch* launch, void (*body)(void*), const void* arguments,
                std::size_t size);

// ---- Barriers and warp-wide operations
enum EmuBarrier { EMU_BARRIER, EMU_BARRIER_COUNT, EMU_BARRIER_AND, EMU_BARRIER_OR };
int emu_barrier(int kind, int predicate, int line);
void emu_warp_sync(unsigned mask, int line);
enum EmuShuffle { EMU_SHUFFLE, EMU_SHUFFLE_UP, EMU_SHUFFLE_DOWN, EMU_SHUFFLE_XOR };
// Values of up to 8 bytes, as bits; `width` is a power of two up to 32.
std::uint64_t emu_shuffle(unsigned mask, std::uint64_t value, int kind, int operand, int width,
                          int line);
enum EmuVote { EMU_BALLOT, EMU_ANY, EMU_ALL };
unsigned emu_vote(unsigned mask, int kind, int predicate, int line);
unsigned emu_match_any(unsigned mask, std::uint64_t value, int line);
enum EmuReduce { EMU_ADD, EMU_MIN, EMU_MAX, EMU_AND, EMU_OR, EMU_XOR };
// Of 32-bit values; `is_signed` matters for min and max.
unsigned emu_warp_reduce(unsigned mask, int kind, unsigned value, int is_signed, int line);
unsigned emu_active_mask();
enum EmuFence { EMU_FENCE_BLOCK, EMU_FENCE_DEVICE, EMU_FENCE_SYSTEM };
void emu_fence(int scope);

// ---- Atomics. Values as bits; the old value comes back.
enum EmuAtomic {
    EMU_ATOMIC_ADD, EMU_ATOMIC_MIN, EMU_ATOMIC_MAX, EMU_ATOMIC_AND, EMU_ATOMIC_OR, EMU_ATOMIC_XOR,
    EMU_ATOMIC_EXCHANGE, EMU_ATOMIC_COMPARE, EMU_ATOMIC_INCREMENT, EMU_ATOMIC_DECREMENT
};
enum EmuType {
    EMU_INT32, EMU_UINT32, EMU_INT64, EMU_UINT64, EMU_FLOAT32, EMU_FLOAT64, EMU_FLOAT16,
    EMU_BFLOAT16
};
std::uint64_t emu_atomic(int operation, int type, void* address, std::uint64_t value,
                         std::uint64_t compare);

// ---- cp.async: queued at the call, done when waited for
void emu_async_copy(void* shared, const void* global, std::size_t size, std::size_t zero_fill);
void emu_async_commit();
void emu_async_wait(int groups_left);  // waits until at most so many committed groups are unfinished

// ---- printf, and the end of an unfinished task
struct EmuValue {
    int type;  // 'i' signed, 'u' unsigned, 'f' double, 's' text, 'p' pointer
    std::uint64_t bits;
};
int emu_print(const char* format, const EmuValue* values, int count);
[[noreturn]] void emu_not_implemented(const char* what);
[[noreturn]] void emu_trap(const char* what, int line);  // __trap(), assert()

// ---- The runtime library; errors are cudaError_t as int
int emu_malloc(void** pointer, std::size_t size);
int emu_free(void* pointer);
// kinds as cudaMemcpyKind; symbols are variables of the module
int emu_copy(void* to, const void* from, std::size_t size, int kind);
int emu_copy_symbol(void* symbol, const void* from, std::size_t size, std::size_t offset);
int emu_set(void* pointer, int value, std::size_t size);
int emu_last_error(int clear);
int emu_synchronize();
int emu_allow_shared(int bytes);  // cudaFuncSetAttribute(MaxDynamicSharedMemorySize)
int emu_attribute(int attribute);

}  // extern "C"
