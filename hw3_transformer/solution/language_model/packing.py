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
        # BEGIN SOLUTION 3.2
        if row_length < 1 or window < 1:
            raise ValueError(f"row_length {row_length} and window {window} must be at least 1")
        self.row_length, self.window = row_length, window
        self._added = 0
        # Ascending by (length, -order): the last is the longest, of equal ones the earliest.
        self._waiting: list[tuple[int, int]] = []
        self._tokens: dict[int, np.ndarray] = {}
        # END SOLUTION

    def add(self, document: np.ndarray) -> list[Row]:
        """Take a document, (length,) integers; the rows that are now full, often none.

        Afterwards at most `window` pieces wait. The tokens are copied: the caller may write over
        its array, or close the file that is mapped there.
        """
        # BEGIN SOLUTION 3.2
        for start in range(0, len(document), self.row_length):
            piece = np.array(document[start : start + self.row_length])
            self._tokens[self._added] = piece
            insort(self._waiting, (len(piece), -self._added))
            self._added += 1
        rows = []
        while len(self._waiting) > self.window:
            rows.append(self._next_row())
        return rows
        # END SOLUTION

    def flush(self) -> list[Row]:
        """The rows of all that still waits; the packer is empty then, and can be used again."""
        # BEGIN SOLUTION 3.2
        rows = []
        while self._waiting:
            rows.append(self._next_row())
        return rows
        # END SOLUTION

    def _next_row(self) -> Row:
        """Take one row out of what waits. A helper you may use, or leave."""
        # BEGIN SOLUTION 3.2
        row: Row = []
        room = self.row_length
        while room:
            place = bisect_right(self._waiting, (room, 1)) - 1  # the longest of at most `room`
            if place < 0:
                break
            length, order = self._waiting.pop(place)
            row.append(self._tokens.pop(-order))
            room -= length
        return row
        # END SOLUTION


def collate(rows: Sequence[Row], row_length: int, pad_id: int = 0) -> PackedBatch:
    """Rows, each a list of documents, as arrays of (len(rows), row_length); see PackedBatch.

    A row may have no documents (then it is all padding), and there may be no rows; empty documents
    get no number. Raises ValueError if a row's documents are longer than `row_length` together.
    """
    # BEGIN SOLUTION 3.2
    shape = (len(rows), row_length)
    ids, targets = np.full(shape, pad_id, np.int64), np.full(shape, IGNORE, np.int64)
    documents, positions = np.full(shape, -1, np.int64), np.zeros(shape, np.int64)
    for r, row in enumerate(rows):
        start = 0
        for number, tokens in enumerate(tokens for tokens in row if len(tokens)):
            stop = start + len(tokens)
            if stop > row_length:
                raise ValueError(f"row {r} has {sum(map(len, row))} tokens, more than {row_length}")
            ids[r, start:stop] = tokens
            targets[r, start : stop - 1] = tokens[1:]
            documents[r, start:stop] = number
            positions[r, start:stop] = np.arange(len(tokens))
            start = stop
    return PackedBatch(ids, targets, documents, positions)
    # END SOLUTION
