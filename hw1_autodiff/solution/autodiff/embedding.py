"""Task 1.8: looking rows up in a table, and a gradient that holds only the rows that were used.

A vocabulary has tens of thousands of rows and a batch touches a few hundred of them. A dense
gradient is as large as the table and almost all zeros; a row-sparse one is as large as the batch.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from autodiff.function import Context, Function
from autodiff.tensor import Tensor


class RowSparseGradient:
    """The gradient of a table of which only some rows are not zero.

    rows: (n,) int64, strictly increasing; values: (n, *shape[1:]), values[i] belongs to row
    rows[i]; shape: the table's shape. Every other row is zero and takes no memory.

    Supports what `backward` does with a gradient: `a + b`, `.copy()`, `.shape`, `.dtype`. There is
    no `+=`: gradients are shared, so a sum is always a new object.
    """

    # numpy must leave `array + gradient` to __radd__ rather than add element by element.
    __array_ufunc__ = None

    def __init__(self, rows: np.ndarray, values: np.ndarray, shape: tuple[int, ...]) -> None:
        rows, shape = np.asarray(rows, np.int64), tuple(shape)
        if rows.ndim != 1 or values.shape != (len(rows), *shape[1:]):
            raise ValueError(
                f"{rows.shape} rows and {values.shape} values do not fit a table of shape {shape}"
            )
        if len(rows) and (rows[0] < 0 or rows[-1] >= shape[0] or (np.diff(rows) <= 0).any()):
            raise ValueError(f"rows must be strictly increasing within 0..{shape[0] - 1}")
        self.rows = rows
        self.values = values
        self.shape = shape

    @classmethod
    def from_lookups(
        cls, ids: np.ndarray, values: np.ndarray, shape: tuple[int, ...]
    ) -> RowSparseGradient:
        """The gradient of a table of `shape` of which row ids[i] received values[i].

        ids: (n,) integers in 0..shape[0]-1, in any order; values: (n, *shape[1:]), not changed.
        A row that was looked up more than once gets the sum of all its values.

        Cost: O(n log n + n·dim) time, O(n·dim) memory, neither dependent on the table's size.
        One way: bring equal ids together with a stable argsort, and sum each run with
        np.add.reduceat.
        """
        # BEGIN SOLUTION 1.8
        order = np.argsort(ids, kind="stable")
        ordered = np.asarray(ids, np.int64)[order]
        is_first = np.ones(len(ordered), bool)
        is_first[1:] = ordered[1:] != ordered[:-1]
        starts = np.flatnonzero(is_first)
        return cls(ordered[starts], np.add.reduceat(values[order], starts, axis=0), shape)
        # END SOLUTION

    @property
    def dtype(self) -> np.dtype:
        """The dtype of the values."""
        return self.values.dtype

    @property
    def ndim(self) -> int:
        """The number of axes of the table."""
        return len(self.shape)

    @property
    def nbytes(self) -> int:
        """The memory held, in bytes."""
        return self.rows.nbytes + self.values.nbytes

    def copy(self) -> RowSparseGradient:
        """The same gradient in arrays of its own."""
        return RowSparseGradient(self.rows.copy(), self.values.copy(), self.shape)

    def to_dense(self) -> np.ndarray:
        """The whole gradient, zeros included: a new array of `shape`."""
        # BEGIN SOLUTION 1.8
        dense = np.zeros(self.shape, self.dtype)
        dense[self.rows] = self.values
        return dense
        # END SOLUTION

    def __add__(self, other: Any) -> RowSparseGradient | np.ndarray:
        """The sum, as a new object; neither operand is changed.

        other: a RowSparseGradient of the same shape, then the sum is row-sparse too (its rows are
        the union); or a dense array of the same shape, then the sum is a dense array.
        Raises ValueError if the shapes differ; returns NotImplemented for anything else.
        """
        # BEGIN SOLUTION 1.8
        if not isinstance(other, (RowSparseGradient, np.ndarray)):
            return NotImplemented
        if self.shape != other.shape:
            raise ValueError(f"gradients of shapes {self.shape} and {other.shape} can't be added")
        if isinstance(other, RowSparseGradient):
            ids = np.concatenate([self.rows, other.rows])
            values = np.concatenate([self.values, other.values])
            return RowSparseGradient.from_lookups(ids, values, self.shape)
        total = other.copy()
        total[self.rows] += self.values
        return total
        # END SOLUTION

    __radd__ = __add__

    def __repr__(self) -> str:
        return f"RowSparseGradient({len(self.rows)} rows of {self.shape}, {self.dtype})"


class Gather(Function):
    """table[ids]: for each id the row of the table, of shape ids.shape + table.shape[1:]."""

    @staticmethod
    def forward(context: Context, table: np.ndarray, *, ids: np.ndarray) -> np.ndarray:
        """ids: integers of any dtype and shape (0-D, nested, empty), each in 0..len(table)-1.

        Raises TypeError if ids are not integers, and IndexError that names the first id out of
        range. A negative id is out of range: numpy would count it from the end, and a padding id of
        -1 would train the last row without a word.
        The caller may reuse its array of ids before backward runs: keep a copy of it.
        """
        # BEGIN SOLUTION 1.8
        if ids.dtype.kind not in "iu":
            raise TypeError(f"ids must be integers, not {ids.dtype}")
        flat = ids.reshape(-1).astype(np.int64)  # a copy
        out_of_range = (flat < 0) | (flat >= len(table))
        if out_of_range.any():
            first = int(flat[out_of_range.argmax()])
            raise IndexError(f"id {first} is out of range for a table of {len(table)} rows")
        context.ids, context.shape = flat, table.shape
        return table[flat].reshape(ids.shape + table.shape[1:])
        # END SOLUTION

    @staticmethod
    def backward(context: Context, upstream: np.ndarray) -> tuple[Any, ...]:
        """A RowSparseGradient; nothing of the table's size may be made on the way."""
        # BEGIN SOLUTION 1.8
        values = upstream.reshape(len(context.ids), *context.shape[1:])
        return (RowSparseGradient.from_lookups(context.ids, values, context.shape),)
        # END SOLUTION


def embedding(table: Tensor, ids: Any) -> Tensor:
    """The rows of `table` (rows, dim) at `ids`, of shape (*ids.shape, dim).

    ids: an integer array or nested list; see Gather.forward for what is refused.
    """
    ids = np.asarray(ids)
    return Gather.apply(table, ids=ids.astype(np.int64) if ids.size == 0 else ids)
