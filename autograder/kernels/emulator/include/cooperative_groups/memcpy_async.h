// cooperative_groups::memcpy_async: a group copies from global to shared memory without waiting.
// Follows the CUDA C++ Programming Guide, "Cooperative Groups", section "memcpy_async". As with
// cp.async, nothing has arrived before `wait` or `wait_prior`.
#pragma once

#include "../cooperative_groups.h"

namespace cooperative_groups {

namespace emu_details {
// Pieces of `size` bytes, dealt out to the group's threads in turn.
template <std::size_t size, class Group>
EMU_INLINE void copy_pieces(const Group& group, char* to, const char* from, std::size_t count) {
    for (std::size_t i = group.thread_rank() * size; i + size <= count;
         i += group.num_threads() * size) {
        emu_async_copy(to + i, from + i, size, 0);
    }
}
}  // namespace emu_details

template <class Group, class To, class From>
EMU_INLINE void memcpy_async(const Group& group, To* to, const From* from, std::size_t bytes) {
    char* target = reinterpret_cast<char*>(to);
    const char* source = reinterpret_cast<const char*>(from);
    const std::uintptr_t places = reinterpret_cast<std::uintptr_t>(target) |
                                  reinterpret_cast<std::uintptr_t>(source) | bytes;
    if (places % 16 == 0) emu_details::copy_pieces<16>(group, target, source, bytes);
    else if (places % 8 == 0) emu_details::copy_pieces<8>(group, target, source, bytes);
    else if (places % 4 == 0) emu_details::copy_pieces<4>(group, target, source, bytes);
    else  // too fine for cp.async: an ordinary copy, as on a GPU
        for (std::size_t i = group.thread_rank(); i < bytes; i += group.num_threads()) {
            target[i] = source[i];
        }
    emu_async_commit();
}
// In elements, with the space there is on both sides.
template <class Group, class T>
EMU_INLINE void memcpy_async(const Group& group, T* to, std::size_t to_count, const T* from,
                             std::size_t from_count) {
    memcpy_async(group, to, from, sizeof(T) * (to_count < from_count ? to_count : from_count));
}

template <class Group>
EMU_INLINE void wait(const Group& group, EMU_HERE) {
    emu_async_wait(0);
    group.sync(line);
}
template <unsigned Left, class Group>
EMU_INLINE void wait_prior(const Group& group, EMU_HERE) {
    emu_async_wait(Left);
    group.sync(line);
}

}  // namespace cooperative_groups
