"""Task 3.2: documents of any length in rows of one length, without waste and without mixing."""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

IGNORE = -100
"""The target of a position that has nothing to predict."""

Row = list[np.ndarray]
"""What shares a row: the tokens of its documents, (length,) each, in order."""


@dataclass(frozen=True)
class PackedBatch:
    """Rows as a model takes them; each (rows, row_length) int64.

    ids: tokens, then padding. targets: the next token of the same document, else IGNORE.
    documents: 0, 1, 2, … within a row, -1 in the padding. positions: from 0 in each document, and 0
    in the padding.
    """

    ids: np.ndarray
    targets: np.ndarray
    documents: np.ndarray
    positions: np.ndarray


class Packer:
    """Packs a stream of documents into rows, looking at no more than `window` of them at once.

    Best fit, longest first: the longest waiting piece opens a row, then whatever is the longest
    that still fits joins it, until nothing fits. Of equally long ones the earliest goes first.
    A document longer than a row is split into pieces of `row_length` and a rest, each a document of
    its own from then on. Empty documents vanish. Raises ValueError if row_length or window < 1.
    """

    def __init__(self, row_length: int, window: int = 1024) -> None:
        raise NotImplementedError("task 3.2: Packer.__init__")

    def add(self, document: np.ndarray) -> list[Row]:
        """Take a document, (length,) integers; the rows that are now full, often none.

        Afterwards at most `window` pieces wait. The tokens are copied: the caller may write over
        its array, or close the file that is mapped there.
        """
        raise NotImplementedError("task 3.2: Packer.add")

    def flush(self) -> list[Row]:
        """The rows of all that still waits; the packer is empty then, and can be used again."""
        raise NotImplementedError("task 3.2: Packer.flush")

    def _next_row(self) -> Row:
        """Take one row out of what waits. A helper you may use, or leave."""
        raise NotImplementedError("task 3.2: Packer._next_row")


def collate(rows: Sequence[Row], row_length: int, pad_id: int = 0) -> PackedBatch:
    """Rows, each a list of documents, as arrays of (len(rows), row_length); see PackedBatch.

    A row may have no documents (then it is all padding), and there may be no rows; empty documents
    get no number. Raises ValueError if a row's documents are longer than `row_length` together.
    """
    raise NotImplementedError("task 3.2: collate")
