"""Task 1.2: the element-wise operations and the reductions of the library, as parallel numba kernels.

Three pieces: `position_of` and `gather` read an array with any strides; the six kernels cut the
work into blocks, one `prange` iteration each, and hand every block to `block_operations`, which
does the arithmetic; at the end of the file, the given functions the library calls choose a kernel.

An array reaches a kernel as a one-dimensional `buffer` of float32, its `shape` and `strides` as
int64 arrays, counted in elements, and its `offset` (see `strides.Layout`): a kernel is so compiled
once, and not once for each number of dimensions.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from autodiff import block_operations, strides
from autodiff.block_operations import (
    BLOCK,
    combine,
    fold_block,
    fold_rows,
    map_block,
    zip_block,
)


@njit(cache=True)
def position_of(index: int, shape: np.ndarray, strides: np.ndarray, offset: int) -> int:
    """Where in the buffer the element number `index` in row-major order lies.

    Shape (2, 3): index 4 is element (1, 1), at offset + strides[0] + strides[1].
    """
    # BEGIN SOLUTION 1.2
    position = offset
    for dimension in range(len(shape) - 1, -1, -1):
        position += index % shape[dimension] * strides[dimension]
        index //= shape[dimension]
    return position
    # END SOLUTION


@njit(cache=True)
def gather(
    buffer: np.ndarray,
    shape: np.ndarray,
    strides: np.ndarray,
    offset: int,
    start: int,
    out: np.ndarray,
) -> None:
    """Copy the elements start, start + 1, … in row-major order to `out`, until it is full.

    `position_of` divides once for each dimension: call it once a row, not once an element. Within
    a row (along the last dimension) each element lies strides[-1] after the one before it. `start`
    may lie inside a row, and `out` may end inside one. A row of stride 1 is worth a loop of its own
    over a slice of the buffer, which is then a plain copy.
    """
    # BEGIN SOLUTION 1.2
    row, step = shape[-1], strides[-1]
    filled = 0
    while filled < out.size:
        position = position_of(start + filled, shape, strides, offset)
        count = min(row - (start + filled) % row, out.size - filled)
        target = out[filled : filled + count]
        if step == 1:
            source = buffer[position : position + count]
            for i in range(count):
                target[i] = source[i]
        else:
            for i in range(count):
                target[i] = buffer[position + i * step]
        filled += count
    # END SOLUTION


@njit(parallel=True, cache=True)
def map_contiguous(operation: int, x: np.ndarray, out: np.ndarray) -> None:
    """out = operation(x) for one-dimensional contiguous x and out of one size; in parallel.

    `prange` over blocks of BLOCK elements (the last one may be shorter), `map_block` on each.
    """
    # BEGIN SOLUTION 1.2
    for block in prange((out.size + BLOCK - 1) // BLOCK):
        start = block * BLOCK
        stop = min(start + BLOCK, out.size)
        map_block(operation, x[start:stop], out[start:stop])
    # END SOLUTION


@njit(parallel=True, cache=True)
def map_strided(
    operation: int,
    buffer: np.ndarray,
    shape: np.ndarray,
    strides: np.ndarray,
    offset: int,
    out: np.ndarray,
) -> None:
    """out = operation(x) for x of any strides and a one-dimensional out (x in row-major order).

    As `map_contiguous`, but each block of x is first gathered into an array of its own: made inside
    the `prange` loop, so that no two threads share it.
    """
    # BEGIN SOLUTION 1.2
    for block in prange((out.size + BLOCK - 1) // BLOCK):
        start = block * BLOCK
        target = out[start : min(start + BLOCK, out.size)]
        x = np.empty(target.size, np.float32)
        gather(buffer, shape, strides, offset, start, x)
        map_block(operation, x, target)
    # END SOLUTION


@njit(parallel=True, cache=True)
def zip_contiguous(operation: int, a: np.ndarray, b: np.ndarray, out: np.ndarray) -> None:
    """out = operation(a, b) for one-dimensional contiguous arrays of one size; in parallel."""
    # BEGIN SOLUTION 1.2
    for block in prange((out.size + BLOCK - 1) // BLOCK):
        start = block * BLOCK
        stop = min(start + BLOCK, out.size)
        zip_block(operation, a[start:stop], b[start:stop], out[start:stop])
    # END SOLUTION


@njit(parallel=True, cache=True)
def zip_strided(
    operation: int,
    a_buffer: np.ndarray,
    a_strides: np.ndarray,
    a_offset: int,
    b_buffer: np.ndarray,
    b_strides: np.ndarray,
    b_offset: int,
    shape: np.ndarray,
    out: np.ndarray,
) -> None:
    """out = operation(a, b) for a and b of any strides, broadcast to one shape before; in parallel.

    out is one-dimensional and takes the result in row-major order.
    """
    # BEGIN SOLUTION 1.2
    for block in prange((out.size + BLOCK - 1) // BLOCK):
        start = block * BLOCK
        target = out[start : min(start + BLOCK, out.size)]
        a = np.empty(target.size, np.float32)
        b = np.empty(target.size, np.float32)
        gather(a_buffer, shape, a_strides, a_offset, start, a)
        gather(b_buffer, shape, b_strides, b_offset, start, b)
        zip_block(operation, a, b, target)
    # END SOLUTION


@njit(parallel=True, cache=True)
def reduce_contiguous(operation: int, x: np.ndarray, length: int, out: np.ndarray) -> None:
    """out[r] = the sum or maximum of row r of x, which holds out.size rows of `length` one by one.

    length is at least 1. One long row must keep all threads busy too: cut every row into blocks of
    BLOCK elements, let `prange` run over all blocks of all rows, and keep what `fold_block` makes
    of each in a float64 array. Then `combine` the values of each row, and round only the result.
    Two threads may never add to the same element: one of the additions would be lost.
    """
    # BEGIN SOLUTION 1.2
    blocks = (length + BLOCK - 1) // BLOCK
    partial = np.empty(out.size * blocks, np.float64)
    for task in prange(out.size * blocks):
        start = task // blocks * length + task % blocks * BLOCK
        count = min(BLOCK, length - task % blocks * BLOCK)
        partial[task] = fold_block(operation, x[start : start + count])
    for row in range(out.size):
        value = partial[row * blocks]
        for block in range(1, blocks):
            value = combine(operation, value, partial[row * blocks + block])
        out[row] = value
    # END SOLUTION


@njit(parallel=True, cache=True)
def reduce_strided(
    operation: int,
    buffer: np.ndarray,
    shape: np.ndarray,
    strides: np.ndarray,
    offset: int,
    out: np.ndarray,
) -> None:
    """out[r] = the sum or maximum over the last dimension, for any strides; in parallel.

    r counts the other dimensions in row-major order; shape[-1] is at least 1. As in
    `reduce_contiguous`, with each block gathered before it is folded.
    """
    # BEGIN SOLUTION 1.2
    length = shape[-1]
    blocks = (length + BLOCK - 1) // BLOCK
    partial = np.empty(out.size * blocks, np.float64)
    for task in prange(out.size * blocks):
        start = task // blocks * length + task % blocks * BLOCK
        x = np.empty(min(BLOCK, length - task % blocks * BLOCK), np.float32)
        gather(buffer, shape, strides, offset, start, x)
        partial[task] = fold_block(operation, x)
    for row in range(out.size):
        value = partial[row * blocks]
        for block in range(1, blocks):
            value = combine(operation, value, partial[row * blocks + block])
        out[row] = value
    # END SOLUTION


def map_array(name: str, a: np.ndarray) -> np.ndarray:
    """neg, exp, log, tanh, relu or gelu of every element of a float32 array; a new array. Given.

    Waking the threads takes 0.1 ms: what fits one block is done on the spot, here and below.
    """
    operation = _operation(block_operations.MAPS, name)
    _check_float32(a)
    out = np.empty(a.shape, np.float32)
    if out.size <= BLOCK:
        map_block(operation, _in_a_row(a), out.reshape(-1))
    else:
        run_map(operation, a, out)
    return out


def zip_arrays(name: str, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """add, sub, mul, div or maximum of two float32 arrays; a new array. Given.

    The arrays are broadcast against each other; ValueError if that can't be.
    """
    operation = _operation(block_operations.ZIPS, name)
    _check_float32(a, b)
    out = np.empty(np.broadcast_shapes(a.shape, b.shape), np.float32)
    a, b = (x if x.shape == out.shape else np.broadcast_to(x, out.shape) for x in (a, b))
    if out.size <= BLOCK:
        zip_block(operation, _in_a_row(a), _in_a_row(b), out.reshape(-1))
    else:
        run_zip(operation, a, b, out)
    return out


def reduce_array(name: str, a: np.ndarray, axis: int, keepdims: bool = False) -> np.ndarray:
    """sum or max of a float32 array over one axis; a new array. Given.

    keepdims: the axis stays, with size 1. The sum of no elements is 0, their maximum a ValueError.
    """
    operation = _operation(block_operations.REDUCTIONS, name)
    _check_float32(a)
    if not -a.ndim <= axis < a.ndim:
        raise ValueError(f"axis {axis} does not exist in an array of shape {a.shape}")
    axis %= a.ndim
    rows = np.moveaxis(a, axis, -1)
    out = np.zeros(rows.shape[:-1], np.float32)
    if out.size and rows.shape[-1] == 0 and name == "max":
        raise ValueError("the maximum of no elements does not exist")
    if 0 < rows.size <= BLOCK:
        fold_rows(operation, _in_a_row(rows), rows.shape[-1], out.reshape(-1))
    elif rows.size:
        run_reduce(operation, rows, out)
    return np.expand_dims(out, axis) if keepdims else out


def run_map(operation: int, a: np.ndarray, out: np.ndarray) -> None:
    """The parallel kernel for an array of any size and strides. Given."""
    if a.flags.c_contiguous:
        map_contiguous(operation, _in_a_row(a), out.reshape(-1))
    else:
        map_strided(operation, *_kernel_layout(a), out.reshape(-1))


def run_zip(operation: int, a: np.ndarray, b: np.ndarray, out: np.ndarray) -> None:
    """The parallel kernel for two arrays of one shape and any strides. Given."""
    if a.flags.c_contiguous and b.flags.c_contiguous:
        zip_contiguous(operation, _in_a_row(a), _in_a_row(b), out.reshape(-1))
        return
    a_buffer, shape, a_strides, a_offset = _kernel_layout(a)
    b_buffer, _, b_strides, b_offset = _kernel_layout(b)
    zip_strided(
        operation, a_buffer, a_strides, a_offset, b_buffer, b_strides, b_offset, shape,
        out.reshape(-1),
    )  # fmt: skip


def run_reduce(operation: int, rows: np.ndarray, out: np.ndarray) -> None:
    """The parallel kernel for the last axis of an array with elements, any strides. Given."""
    if rows.flags.c_contiguous:
        reduce_contiguous(operation, _in_a_row(rows), rows.shape[-1], out.reshape(-1))
    else:
        reduce_strided(operation, *_kernel_layout(rows), out.reshape(-1))


def _operation(table: dict[str, int], name: str) -> int:
    if name not in table:
        raise ValueError(f"no operation {name!r}; there are {', '.join(table)}")
    return table[name]


def _check_float32(*arrays: np.ndarray) -> None:
    for array in arrays:
        if array.dtype != np.float32:
            raise TypeError(f"the kernels take float32, not {array.dtype}")


class _Memory:
    """Read-only memory in a guise that is not: numba would compile every kernel once more for it."""

    def __init__(self, row: np.ndarray) -> None:
        self.owner = row
        self.__array_interface__ = {**row.__array_interface__, "data": (row.ctypes.data, False)}


def _kernel_buffer(row: np.ndarray) -> np.ndarray:
    return row if row.flags.writeable else np.asarray(_Memory(row))


def _kernel_layout(array: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """buffer, shape, strides and offset of an array with elements, as the kernels take them."""
    buffer, layout = strides.layout_of(array[np.newaxis] if array.ndim == 0 else array)
    return (
        _kernel_buffer(buffer), np.array(layout.shape), np.array(layout.strides), layout.offset
    )  # fmt: skip


def _in_a_row(array: np.ndarray) -> np.ndarray:
    """The elements as a one-dimensional contiguous array: over the same memory where it can be."""
    if array.flags.c_contiguous:
        return _kernel_buffer(array.reshape(-1))
    row = np.empty(array.size, np.float32)
    gather(*_kernel_layout(array), 0, row)
    return row
