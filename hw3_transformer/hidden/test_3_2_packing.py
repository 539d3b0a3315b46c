"""Task 3.2, hidden: edges of packing: windows, empty and long documents, the fewest rows."""

from __future__ import annotations

import drivers_data as drivers
import numpy as np
from data_cases import Ledger, check_batch, documents_of, fewest_rows, natural_lengths, pack
from gradescope_utils.autograder_utils.decorators import number, weight

from autograder.testing import assert_close


@number("3.2")
@weight(0.75)
def test_packing_with_any_window(student, rng):
    """Small and large windows, empty documents, a packer used twice; few rows for few documents."""
    lengths = rng.permutation(np.r_[natural_lengths(rng, 200, 60), np.zeros(40, int)])
    for row_length, window in ((1, 1), (128, 1), (128, 7), (100, 10_000)):
        documents = documents_of(lengths)
        ledger = Ledger(row_length)
        session = student.session(drivers.packer, row_length=row_length, window=window)
        for _ in range(2):
            ledger.give([d for d in documents if len(d)])
            sizes = [len(d) for d in documents]
            ledger.take(session.call("add", tokens=np.concatenate(documents), lengths=sizes))
            assert len(ledger.waiting) <= window, f"{len(ledger.waiting)} wait, window {window}"
            ledger.take(session.call("flush"))
            assert not ledger.waiting, f"{len(ledger.waiting)} pieces were lost"
            assert session.call("flush")["counts"] == [], "an empty packer gave rows"
    for _ in range(12):
        row_length = int(rng.integers(10, 40))
        few = rng.integers(1, row_length + 1, int(rng.integers(4, 11)))
        rows = pack(student, documents_of(few), row_length, 64, chunk=3).rows
        best = fewest_rows(few.tolist(), row_length)
        # Longest first needs at most 11/9 of the fewest rows and 6/9 of one (Dósa, 2007).
        assert rows <= (11 * best + 6) // 9, (
            f"documents of lengths {few.tolist()} need {best} rows of {row_length}; {rows} came"
        )
    student.raises(drivers.packer_refused, "ValueError", row_length=0, window=4)
    student.raises(drivers.packer_refused, "ValueError", row_length=4, window=0)


@number("3.2")
@weight(0.25)
def test_batches_of_odd_rows(student, rng):
    """No rows, rows without documents, documents of one token and of none, one token too many."""
    check_batch(student, [], 8, 3)
    check_batch(student, [[]], 4, 3)
    check_batch(student, [[[5], [6], [7]], [[], [1, 2], [], [3]], [], [[9] * 4]], 4, 9)
    check_batch(student, [[rng.integers(0, 9, 1)]], 1, 0)
    student.raises(
        drivers.collated, "ValueError", tokens=np.arange(5), lengths=[2, 3], counts=[2],
        row_length=4, pad_id=0,
    )  # fmt: skip
    lengths = np.r_[np.full(400, 40), np.full(400, 24)]  # pairs fill rows of 64 exactly
    ledger = pack(student, documents_of(rng.permutation(lengths)), 64, 800, chunk=100)
    assert_close(ledger.efficiency, 1.0, rtol=0, name="packing efficiency where all can be full")
