// cooperative_groups::reduce and its operators: every thread of a group gets the result. Follows
// the CUDA C++ Programming Guide, "Cooperative Groups", section "reduce".
#pragma once

#include "../cooperative_groups.h"

namespace cooperative_groups {

template <class T>
struct plus {
    EMU_INLINE T operator()(T a, T b) const { return a + b; }
};
template <class T>
struct less {  // the lesser of the two
    EMU_INLINE T operator()(T a, T b) const { return b < a ? b : a; }
};
template <class T>
struct greater {
    EMU_INLINE T operator()(T a, T b) const { return a < b ? b : a; }
};
template <class T>
struct bit_and {
    EMU_INLINE T operator()(T a, T b) const { return a & b; }
};
template <class T>
struct bit_or {
    EMU_INLINE T operator()(T a, T b) const { return a | b; }
};
template <class T>
struct bit_xor {
    EMU_INLINE T operator()(T a, T b) const { return a ^ b; }
};

// A butterfly: log2(Size) exchanges, the same result in each thread.
template <unsigned Size, class Parent, class T, class Operation>
EMU_INLINE T reduce(const thread_block_tile<Size, Parent>& tile, T value, Operation&& operation,
                    EMU_HERE) {
    for (unsigned step = Size / 2; step > 0; step /= 2) {
        value = operation(value, tile.shfl_xor(value, step, line));
    }
    return value;
}

// Any number of lanes: a tree towards rank 0, then the result goes to all.
template <class T, class Operation>
EMU_INLINE T reduce(const coalesced_group& group, T value, Operation&& operation, EMU_HERE) {
    const unsigned rank = group.thread_rank(), count = group.num_threads();
    for (unsigned step = 1; step < count; step *= 2) {
        const T other = group.shfl_down(value, step, line);
        if (rank + step < count) value = operation(value, other);
    }
    return group.shfl(value, 0, line);
}

}  // namespace cooperative_groups
