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
    # BEGIN SOLUTION 1.1
    strides = []
    step = 1
    for size in reversed(shape):
        strides.append(step)
        step *= size
    return tuple(reversed(strides))
    # END SOLUTION


def is_contiguous(layout: Layout) -> bool:
    """Whether the elements lie one after the other in row-major order, wherever the first one lies.

    The stride of a dimension of size 1 is never used, so it does not matter. An array without
    elements is contiguous, whatever its strides.
    """
    # BEGIN SOLUTION 1.1
    if layout.size == 0:
        return True
    expected = contiguous_strides(layout.shape)
    return all(
        size == 1 or stride == wanted
        for size, stride, wanted in zip(layout.shape, layout.strides, expected, strict=True)
    )
    # END SOLUTION


def broadcast_to(layout: Layout, shape: Sequence[int]) -> Layout:
    """The layout stretched to `shape` by numpy's rules, without copying.

    Dimensions are compared from the last one backwards. A dimension of size 1 may become any size,
    0 included: it is then read again and again, with stride 0. Dimensions that `shape` has in front
    are new ones of the same kind. Every other dimension keeps its size and stride.

    Raises ValueError if another dimension would change its size, or if `shape` has fewer dimensions.
    """
    # BEGIN SOLUTION 1.1
    shape = tuple(shape)
    new = len(shape) - layout.ndim
    if new < 0:
        raise ValueError(f"{layout.shape} has more dimensions than {shape}")
    strides = [0] * new
    for old, stride, size in zip(layout.shape, layout.strides, shape[new:], strict=True):
        if old != size and old != 1:
            raise ValueError(f"{layout.shape} can't be broadcast to {shape}: {old} is not {size}")
        strides.append(stride if old == size else 0)
    return Layout(shape, tuple(strides), layout.offset)
    # END SOLUTION


def permute(layout: Layout, axes: Sequence[int]) -> Layout:
    """The layout with its dimensions in another order: dimension i of the result is axes[i].

    A negative axis counts from the end: permute(layout, (-1, 0)) transposes a matrix.
    Raises ValueError unless `axes` names every dimension exactly once.
    """
    # BEGIN SOLUTION 1.1
    if any(not -layout.ndim <= axis < layout.ndim for axis in axes):
        raise ValueError(f"axes {tuple(axes)} do not exist in an array of {layout.ndim} dimensions")
    axes = [axis % layout.ndim for axis in axes]
    if sorted(axes) != list(range(layout.ndim)):
        raise ValueError(f"{tuple(axes)} does not name each of {layout.ndim} dimensions once")
    return Layout(
        tuple(layout.shape[axis] for axis in axes),
        tuple(layout.strides[axis] for axis in axes),
        layout.offset,
    )
    # END SOLUTION


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
    # BEGIN SOLUTION 1.1
    shape = _resolved(layout, shape)
    if layout.size == 0:
        return Layout(shape, contiguous_strides(shape), layout.offset)
    runs = _runs(layout)
    size, stride = 1, 1
    strides = []
    for extent in reversed(shape):
        if size == 1 and extent != 1:
            size, stride = runs.pop()
        if size % extent:
            raise ValueError(
                f"no view of shape {shape} exists over shape {layout.shape} with strides "
                f"{layout.strides}: copy the elements to row-major order first"
            )
        strides.append(stride)
        size //= extent
        stride *= extent
    return Layout(shape, tuple(reversed(strides)), layout.offset)
    # END SOLUTION


def _resolved(layout: Layout, shape: Sequence[int]) -> tuple[int, ...]:
    """`shape` with -1 replaced by the size it stands for.

    Raises ValueError if there are two of them, if a size is below -1, if the number of elements
    does not fit, or if any size would do (an array without elements as (0, -1)).
    """
    # BEGIN SOLUTION 1.1
    shape = tuple(shape)
    wrong = ValueError(f"{layout.size} elements of shape {layout.shape} do not fit shape {shape}")
    if min(shape, default=0) < -1 or shape.count(-1) > 1:
        raise wrong
    if -1 in shape:
        known = -math.prod(shape)
        if known == 0 or layout.size % known:
            raise wrong
        shape = tuple(layout.size // known if size == -1 else size for size in shape)
    if math.prod(shape) != layout.size:
        raise wrong
    return shape
    # END SOLUTION


def _runs(layout: Layout) -> list[tuple[int, int]]:
    """(size, stride) of each longest group of neighbouring dimensions that can be walked as one.

    The stride is that of the group's last dimension. Dimensions of size 1 are left out.
    (2, 3, 1, 4) with strides (24, 4, 99, 1) -> [(2, 24), (12, 1)].
    """
    # BEGIN SOLUTION 1.1
    runs: list[tuple[int, int]] = []
    for size, stride in zip(layout.shape, layout.strides, strict=True):
        if size == 1:
            continue
        if runs and runs[-1][1] == size * stride:
            runs[-1] = (runs[-1][0] * size, stride)
        else:
            runs.append((size, stride))
    return runs
    # END SOLUTION


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
    # BEGIN SOLUTION 1.1
    entries = _expanded(layout, key)
    shape: list[int] = []
    strides: list[int] = []
    offset = layout.offset
    dimension = 0
    for entry in entries:
        if entry is None:
            shape.append(1)
            strides.append(0)
            continue
        size, stride = layout.shape[dimension], layout.strides[dimension]
        dimension += 1
        if isinstance(entry, slice):
            start, stop, step = entry.indices(size)
            length = len(range(start, stop, step))
            shape.append(length)
            strides.append(stride * step)
            offset += start * stride if length else 0
        else:
            if not -size <= entry < size:
                raise IndexError(f"index {entry} is out of range for a dimension of size {size}")
            offset += (entry % size) * stride
    return Layout(tuple(shape), tuple(strides), offset if math.prod(shape) else layout.offset)
    # END SOLUTION


def _expanded(layout: Layout, key: Any) -> list[Any]:
    """`key` as a list of integers, slices and Nones, in which every dimension has its entry.

    Raises IndexError as `slice_layout` says, all but integers out of range.
    """
    # BEGIN SOLUTION 1.1
    entries = list(key) if isinstance(key, tuple) else [key]
    checked: list[Any] = []
    for entry in entries:
        if entry is None or entry is Ellipsis or isinstance(entry, slice):
            checked.append(entry)
        elif isinstance(entry, (bool, np.bool_)) or not hasattr(entry, "__index__"):
            raise IndexError(f"an index is an integer, a slice, ... or None, not {entry!r}")
        else:
            checked.append(operator.index(entry))
    named = sum(entry is not None and entry is not Ellipsis for entry in checked)
    if named > layout.ndim:
        raise IndexError(f"{named} indices for an array of {layout.ndim} dimensions")
    places = [place for place, entry in enumerate(checked) if entry is Ellipsis]
    if len(places) > 1:
        raise IndexError("`...` may stand in an index only once")
    place = places[0] if places else len(checked)
    rest = [slice(None)] * (layout.ndim - named)
    return checked[:place] + rest + checked[place + 1 :]
    # END SOLUTION


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
