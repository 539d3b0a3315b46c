"""Task 1.1: an array is a piece of memory plus a rule that says where each element lies.

The rule is a `Layout`. Broadcasting, permuting, viewing and slicing compute a new rule and never
touch the memory, so they cost the same for ten elements and for ten million:

    element (i, j, …) lies at   offset + i * strides[0] + j * strides[1] + …

Strides and offsets count elements, not bytes (numpy's own `strides` count bytes). A stride may be
negative (a reversed axis) or 0 (the same element again and again: a broadcast axis).
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided


@dataclass(frozen=True)
class Layout:
    """Where the elements of an array lie in a buffer. Given.

    shape: the size of each dimension. strides: how many elements further in the buffer the next
    index of that dimension lies. offset: where the element (0, 0, …) lies.
    """

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int = 0

    def __post_init__(self) -> None:
        if len(self.shape) != len(self.strides):
            raise ValueError(
                f"shape {self.shape} has {len(self.shape)} dimensions, "
                f"strides {self.strides} has {len(self.strides)}"
            )

    @property
    def ndim(self) -> int:
        """The number of dimensions."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """The number of elements; 1 for an array without dimensions."""
        return math.prod(self.shape)


def contiguous_strides(shape: Sequence[int]) -> tuple[int, ...]:
    """Strides of an array whose elements lie one after the other in row-major order.

    The last dimension has stride 1; each dimension before it steps over everything behind it:
    (2, 3, 4) -> (12, 4, 1). () -> (). Dimensions of size 0 or 1 may get any stride.
    """
    raise NotImplementedError("task 1.1: contiguous_strides")


def is_contiguous(layout: Layout) -> bool:
    """Whether the elements lie one after the other in row-major order, wherever the first one lies.

    The stride of a dimension of size 1 is never used, so it does not matter. An array without
    elements is contiguous, whatever its strides.
    """
    raise NotImplementedError("task 1.1: is_contiguous")


def broadcast_to(layout: Layout, shape: Sequence[int]) -> Layout:
    """The layout stretched to `shape` by numpy's rules, without copying.

    Dimensions are compared from the last one backwards. A dimension of size 1 may become any size,
    0 included: it is then read again and again, with stride 0. Dimensions that `shape` has in front
    are new ones of the same kind. Every other dimension keeps its size and stride.

    Raises ValueError if another dimension would change its size, or if `shape` has fewer dimensions.
    """
    raise NotImplementedError("task 1.1: broadcast_to")


def permute(layout: Layout, axes: Sequence[int]) -> Layout:
    """The layout with its dimensions in another order: dimension i of the result is axes[i].

    A negative axis counts from the end: permute(layout, (-1, 0)) transposes a matrix.
    Raises ValueError unless `axes` names every dimension exactly once.
    """
    raise NotImplementedError("task 1.1: permute")


def view(layout: Layout, shape: Sequence[int]) -> Layout:
    """The same elements in the same row-major order under another shape, without copying.

    At most one size may be -1: it is worked out from the others. The number of elements must not
    change. A view of an array without elements, or of one element, always exists.

    The rest is a question of which dimensions may be merged. Two neighbours can be walked as one
    if going to the end of the inner one and one further arrives where the outer one steps to:
    strides[i] == shape[i + 1] * strides[i + 1]; dimensions of size 1 are in nobody's way. Merge
    what can be merged into runs, and cut each run into dimensions of the new shape, from the last
    one backwards. A new dimension that would lie across two runs has no stride: no view exists.
    Worked example: (2, 3, 4) with strides (24, 4, 1) has the runs 2 (stride 24) and 12 (stride 1).
    (2, 6, 2) is a view, with strides (24, 2, 1); (6, 4) is not.

    Raises ValueError if the sizes do not fit or no strides express the new shape. Numpy would then
    copy; here the caller decides.
    Source: the rule is that of numpy's reshape(…, copy=False) and of torch's Tensor.view.
    """
    raise NotImplementedError("task 1.1: view")


def _resolved(layout: Layout, shape: Sequence[int]) -> tuple[int, ...]:
    """`shape` with -1 replaced by the size it stands for.

    Raises ValueError if there are two of them, if a size is below -1, if the number of elements
    does not fit, or if any size would do (an array without elements as (0, -1)).
    """
    raise NotImplementedError("task 1.1: _resolved")


def _runs(layout: Layout) -> list[tuple[int, int]]:
    """(size, stride) of each longest group of neighbouring dimensions that can be walked as one.

    The stride is that of the group's last dimension. Dimensions of size 1 are left out.
    (2, 3, 1, 4) with strides (24, 4, 99, 1) -> [(2, 24), (12, 1)].
    """
    raise NotImplementedError("task 1.1: _runs")


def slice_layout(layout: Layout, key: Any) -> Layout:
    """The layout of array[key], for integers, slices, `...` and None, alone or in a tuple.

    An integer (negative: from the end) picks one index and removes the dimension. A slice may have
    a negative step; `slice.indices(size)` gives the start, stop and step it stands for, and `range`
    of those its length. None makes a new dimension of size 1. `...` stands for all dimensions the
    rest of the key does not name; without it, they follow at the end.

    Only the offset and the strides change. The offset of a result without elements does not matter,
    but must stay inside the buffer: leave it as it is.
    Raises IndexError for an integer out of range, more indices than dimensions, a second `...`, or
    an entry of another type (True and False too: numpy would take them for a mask); ValueError for
    a slice of step 0.
    """
    raise NotImplementedError("task 1.1: slice_layout")


def _expanded(layout: Layout, key: Any) -> list[Any]:
    """`key` as a list of integers, slices and Nones, in which every dimension has its entry.

    Raises IndexError as `slice_layout` says, all but integers out of range.
    """
    raise NotImplementedError("task 1.1: _expanded")


def as_array(buffer: np.ndarray, layout: Layout) -> np.ndarray:
    """The array that `layout` describes over the one-dimensional `buffer`; shares its memory. Given.

    Raises IndexError, with the first such index, if an element would lie outside the buffer.
    """
    if layout.size:
        for end, reach in (("first", min), ("last", max)):
            # The element that lies furthest in this direction: per dimension, one end or the other.
            index = tuple(
                reach((0, size - 1), key=lambda i, stride=stride: i * stride)
                for size, stride in zip(layout.shape, layout.strides, strict=True)
            )
            steps = zip(index, layout.strides, strict=True)
            place = layout.offset + sum(i * stride for i, stride in steps)
            if not 0 <= place < buffer.size:
                raise IndexError(
                    f"element {index} of {layout} would lie at {place}, outside the buffer of "
                    f"{buffer.size} elements (it lies {end} in memory)"
                )
    byte_strides = tuple(stride * buffer.itemsize for stride in layout.strides)
    start = layout.offset if layout.size else 0
    return as_strided(buffer[start:], shape=layout.shape, strides=byte_strides)


def layout_of(array: np.ndarray) -> tuple[np.ndarray, Layout]:
    """A one-dimensional buffer over the memory that `array` uses, and its layout in there. Given.

    The buffer shares memory with `array`. It begins at the element that lies first in memory, which
    is not element (0, 0, …) where a stride is negative.
    Raises ValueError if a stride is no whole number of elements (a field of a structured array).
    """
    itemsize = array.itemsize
    if any(stride % itemsize for stride in array.strides):
        raise ValueError(f"byte strides {array.strides} are no multiples of {itemsize}")
    strides = tuple(stride // itemsize for stride in array.strides)
    if array.size == 0:
        return np.empty(0, array.dtype), Layout(array.shape, strides, 0)
    reaches = [(size - 1) * stride for size, stride in zip(array.shape, strides, strict=True)]
    offset = -sum(reach for reach in reaches if reach < 0)
    length = offset + sum(reach for reach in reaches if reach > 0) + 1
    flips = (slice(None, None, -1 if stride < 0 else 1) for stride in strides)
    first = array[(..., *flips)]
    buffer = as_strided(first, shape=(length,), strides=(itemsize,))
    return buffer, Layout(array.shape, strides, offset)
