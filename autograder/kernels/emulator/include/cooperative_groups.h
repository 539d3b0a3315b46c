// Cooperative groups within a block: thread_block, tiles of up to 32 threads, coalesced groups.
// Follows the CUDA C++ Programming Guide, "Cooperative Groups". Sums and other reductions are in
// <cooperative_groups/reduce.h>, asynchronous copies in <cooperative_groups/memcpy_async.h>.
// There is no synchronisation of a grid: blocks run one after another here.
#pragma once

#include "caller_line.h"

namespace cooperative_groups {

namespace emu_details {

EMU_INLINE unsigned rank_in_block() {
    return (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
}
EMU_INLINE unsigned threads_in_block() { return blockDim.x * blockDim.y * blockDim.z; }

// The position of the set bit that has `rank` set bits below it; 32 if there is none.
EMU_PURE unsigned nth_bit(unsigned mask, unsigned rank) {
    for (; rank && mask; --rank) mask &= mask - 1;
    return mask ? static_cast<unsigned>(__builtin_ctz(mask)) : 32u;
}

// Bits of lanes, moved to the places of the lanes' ranks.
EMU_PURE unsigned packed(unsigned lanes, unsigned mask) {
    unsigned result = 0, rank = 0;
    for (unsigned left = mask; left; left &= left - 1, ++rank) {
        if (lanes & left & (0u - left)) result |= 1u << rank;
    }
    return result;
}

// A value of any size moved between lanes, in words of what a shuffle takes.
template <class T>
EMU_INLINE T shuffled(unsigned mask, const T& value, unsigned lane, emu::Line line) {
    static_assert(emu::is_plain<T>::value, "a shuffled value is copied bit by bit");
    constexpr std::size_t words = (sizeof(T) + 7) / 8;
    std::uint64_t sent[words] = {}, received[words];
    __builtin_memcpy(sent, static_cast<const void*>(&value), sizeof(T));
    for (std::size_t i = 0; i < words; ++i) {
        received[i] = emu_shuffle(mask, sent[i], EMU_SHUFFLE, static_cast<int>(lane), 32,
                                  line.number);
    }
    T result;
    __builtin_memcpy(static_cast<void*>(&result), received, sizeof(T));
    return result;
}

// Lanes of one warp that act together: what a tile and a coalesced group have in common. A lane's
// rank is its place among the set bits of the mask.
class WarpGroup {
public:
    EMU_INLINE unsigned thread_rank() const {
        return static_cast<unsigned>(__popc(mask_ & ((1u << emu_lane()) - 1u)));
    }
    EMU_INLINE unsigned num_threads() const {
        return static_cast<unsigned>(__popc(mask_));
    }
    EMU_INLINE unsigned size() const { return num_threads(); }
    EMU_INLINE void sync(EMU_HERE) const { emu_warp_sync(mask_, line.number); }

    // From the thread of that rank, which is taken modulo the group's size.
    template <class T>
    EMU_INLINE T shfl(T value, int rank, EMU_HERE) const {
        return from(value, static_cast<unsigned>(rank) % num_threads(), line);
    }
    // Threads that have no partner keep their value.
    template <class T>
    EMU_INLINE T shfl_down(T value, unsigned delta, EMU_HERE) const {
        const unsigned rank = thread_rank();
        return from(value, delta < num_threads() - rank ? rank + delta : rank, line);
    }
    template <class T>
    EMU_INLINE T shfl_up(T value, unsigned delta, EMU_HERE) const {
        const unsigned rank = thread_rank();
        return from(value, delta <= rank ? rank - delta : rank, line);
    }

    EMU_INLINE int any(int predicate, EMU_HERE) const {
        return static_cast<int>(emu_vote(mask_, EMU_ANY, predicate, line.number));
    }
    EMU_INLINE int all(int predicate, EMU_HERE) const {
        return static_cast<int>(emu_vote(mask_, EMU_ALL, predicate, line.number));
    }
    EMU_INLINE unsigned ballot(int predicate, EMU_HERE) const {
        return by_rank(emu_vote(mask_, EMU_BALLOT, predicate, line.number));
    }
    template <class T>
    EMU_INLINE unsigned match_any(T value, EMU_HERE) const {
        return by_rank(emu_match_any(mask_, emu::to_bits(value), line.number));
    }
    template <class T>
    EMU_INLINE unsigned match_all(T value, int& predicate, EMU_HERE) const {
        const unsigned same = emu_match_any(mask_, emu::to_bits(value), line.number);
        predicate = same == mask_;
        return predicate ? by_rank(mask_) : 0u;
    }

protected:
    EMU_INLINE explicit WarpGroup(unsigned mask) : mask_(mask) {}
    template <class T>
    EMU_INLINE T from(const T& value, unsigned rank, emu::Line line) const {
        return shuffled(mask_, value, nth_bit(mask_, rank), line);
    }
    EMU_INLINE unsigned by_rank(unsigned lanes) const { return packed(lanes, mask_); }
    unsigned mask_;
    friend struct Lanes;
};

// For functions that need a group's lanes.
struct Lanes {
    static EMU_INLINE unsigned of(const WarpGroup& group) { return group.mask_; }
};
struct Partition;

}  // namespace emu_details

class thread_block {
public:
    using arrival_token = int;
    static EMU_INLINE void sync(EMU_HERE) { emu_barrier(EMU_BARRIER, 0, line.number); }
    static EMU_INLINE unsigned thread_rank() { return emu_details::rank_in_block(); }
    static EMU_INLINE unsigned num_threads() { return emu_details::threads_in_block(); }
    static EMU_INLINE unsigned size() { return num_threads(); }
    static EMU_INLINE dim3 group_index() { return blockIdx; }
    static EMU_INLINE dim3 thread_index() { return threadIdx; }
    static EMU_INLINE dim3 dim_threads() { return blockDim; }
    static EMU_INLINE dim3 group_dim() { return blockDim; }

private:
    thread_block() = default;
    friend thread_block this_thread_block();
};
EMU_INLINE thread_block this_thread_block() { return thread_block(); }

class grid_group {
public:
    template <class T = void>
    void sync() const {
        static_assert(!std::is_void<T>::value,
                      "a grid can't be synchronised here: end the kernel and launch another");
    }
    static EMU_INLINE bool is_valid() { return false; }
    static EMU_INLINE dim3 group_dim() { return gridDim; }
    static EMU_INLINE dim3 dim_blocks() { return gridDim; }
    static EMU_INLINE dim3 block_index() { return blockIdx; }
    static EMU_INLINE unsigned long long num_blocks() {
        return 1ull * gridDim.x * gridDim.y * gridDim.z;
    }
    static EMU_INLINE unsigned long long block_rank() {
        return (1ull * blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
    }
    static EMU_INLINE unsigned long long thread_rank() {
        return block_rank() * emu_details::threads_in_block() + emu_details::rank_in_block();
    }
    static EMU_INLINE unsigned long long num_threads() {
        return num_blocks() * emu_details::threads_in_block();
    }
    static EMU_INLINE unsigned long long size() { return num_threads(); }

private:
    grid_group() = default;
    friend grid_group this_grid();
};
EMU_INLINE grid_group this_grid() { return grid_group(); }

// `Size` neighbouring lanes of a warp.
template <unsigned Size, class Parent = void>
class thread_block_tile : public emu_details::WarpGroup {
    static_assert(Size >= 1 && Size <= 32 && (Size & (Size - 1)) == 0,
                  "a tile has 1, 2, 4, 8, 16 or 32 threads here");

public:
    template <class Other>
    EMU_INLINE thread_block_tile(const thread_block_tile<Size, Other>& other)
        : WarpGroup(other.mask_), rank_(other.rank_), groups_(other.groups_) {}
    static EMU_INLINE unsigned thread_rank() { return emu_lane() % Size; }
    static constexpr unsigned num_threads() { return Size; }
    static constexpr unsigned size() { return Size; }
    EMU_INLINE unsigned meta_group_rank() const { return rank_; }
    EMU_INLINE unsigned meta_group_size() const { return groups_; }

    template <class T>
    EMU_INLINE T shfl(T value, int rank, EMU_HERE) const {
        return across(value, static_cast<unsigned>(rank) % Size, line);
    }
    template <class T>
    EMU_INLINE T shfl_down(T value, unsigned delta, EMU_HERE) const {
        const unsigned rank = thread_rank();
        return across(value, delta < Size - rank ? rank + delta : rank, line);
    }
    template <class T>
    EMU_INLINE T shfl_up(T value, unsigned delta, EMU_HERE) const {
        const unsigned rank = thread_rank();
        return across(value, delta <= rank ? rank - delta : rank, line);
    }
    template <class T>
    EMU_INLINE T shfl_xor(T value, unsigned lane_mask, EMU_HERE) const {
        const unsigned partner = thread_rank() ^ lane_mask;
        return across(value, partner < Size ? partner : thread_rank(), line);
    }

private:
    EMU_INLINE thread_block_tile(unsigned rank, unsigned groups)
        : WarpGroup(Size == 32 ? ~0u : ((1u << (Size % 32)) - 1u) << (emu_lane() & ~(Size - 1))),
          rank_(rank), groups_(groups) {}
    template <class T>
    EMU_INLINE T across(const T& value, unsigned rank, emu::Line line) const {
        return emu_details::shuffled(mask_, value, (emu_lane() & ~(Size - 1)) + rank, line);
    }
    unsigned rank_, groups_;
    template <unsigned Tile, class Group>
    friend thread_block_tile<Tile, Group> tiled_partition(const Group&);
    template <unsigned, class>
    friend class thread_block_tile;
};

template <unsigned Size, class Group>
EMU_INLINE thread_block_tile<Size, Group> tiled_partition(const Group& group) {
    static_assert(Size <= 32, "a tile is part of one warp here");
    return {group.thread_rank() / Size, (group.num_threads() + Size - 1) / Size};
}

// The lanes that are here together now.
class coalesced_group : public emu_details::WarpGroup {
public:
    EMU_INLINE unsigned meta_group_rank() const { return rank_; }
    EMU_INLINE unsigned meta_group_size() const { return groups_; }

private:
    EMU_INLINE explicit coalesced_group(unsigned mask, unsigned rank = 0, unsigned groups = 1)
        : WarpGroup(mask), rank_(rank), groups_(groups) {}
    unsigned rank_, groups_;
    friend coalesced_group coalesced_threads();
    friend struct emu_details::Partition;
};
EMU_INLINE coalesced_group coalesced_threads() { return coalesced_group(emu_active_mask()); }

namespace emu_details {
struct Partition {
    static EMU_INLINE coalesced_group of(unsigned lanes, bool predicate, emu::Line line) {
        const unsigned yes = emu_vote(lanes, EMU_BALLOT, predicate, line.number);
        return coalesced_group(predicate ? yes : lanes & ~yes, predicate ? 1u : 0u, 2u);
    }
};
}  // namespace emu_details

// Those whose predicate is true, and the others.
template <class Group>
EMU_INLINE coalesced_group binary_partition(const Group& group, bool predicate, EMU_HERE) {
    return emu_details::Partition::of(emu_details::Lanes::of(group), predicate, line);
}

// A group whose kind is known only when the kernel runs.
class thread_group {
public:
    EMU_INLINE thread_group(const thread_block&) : mask_(0) {}
    EMU_INLINE thread_group(const emu_details::WarpGroup& group)
        : mask_(emu_details::Lanes::of(group)) {}
    EMU_INLINE unsigned thread_rank() const {
        if (!mask_) return emu_details::rank_in_block();
        return static_cast<unsigned>(__popc(mask_ & ((1u << emu_lane()) - 1u)));
    }
    EMU_INLINE unsigned num_threads() const {
        return mask_ ? static_cast<unsigned>(__popc(mask_))
                     : emu_details::threads_in_block();
    }
    EMU_INLINE unsigned size() const { return num_threads(); }
    EMU_INLINE void sync(EMU_HERE) const {
        if (mask_) emu_warp_sync(mask_, line.number);
        else emu_barrier(EMU_BARRIER, 0, line.number);
    }

private:
    unsigned mask_;  // 0: the whole block
};

template <class Group>
EMU_INLINE void sync(const Group& group, EMU_HERE) {
    group.sync(line);
}

}  // namespace cooperative_groups
