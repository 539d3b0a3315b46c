"""Hints fit what was found: between blocks no barrier helps, a pad keeps float4s aligned."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import kernel_samples as samples

from autograder.kernels.sentences import sentence
from autograder.testing import cuda
from autograder.testing.kernel_report import Diagnostic
from autograder.testing.kernel_words import hint_for_diagnostic

FOUND = {
    "kind": "race", "file": "k.cu", "line": 3, "other_line": 4, "kernel": "k", "text": "write",
    "thread": [1, 0, 0], "block": [0, 0, 0], "other_thread": [2, 0, 0], "other_block": [0, 0, 0],
    "access": 0, "space": 1, "variable": "tile", "offset": 0, "allocation": -1, "name": None,
    "size": 4, "ahead": 0, "barrier": 0,
}  # fmt: skip


def hint(**changes) -> str:
    """The hint for a fault as the emulator would tell of it."""
    found = FOUND | changes
    return hint_for_diagnostic(Diagnostic(found["kind"], "error", sentence(found)))


def test_no_barrier_is_advised_where_two_blocks_race():
    within, between = hint(), hint(other_block=[1, 0, 0], variable="", space=0)
    assert "barrier between the two lines" in within
    assert "barrier between" not in between
    for way in ("atomicAdd", "second kernel", "no barrier"):
        assert way in between


def test_a_copy_that_is_not_waited_for_has_a_hint_of_its_own():
    text = hint(kind="uninitialised", text="not waited for")
    assert "__pipeline_wait_prior" in text and "barrier" in text and "edge" not in text
    assert "__pipeline_commit" in hint(kind="uninitialised", text="not committed")


def test_the_edge_of_a_tile_is_of_shared_memory_only():
    assert "edge of the tile" in hint(kind="uninitialised", text="")
    text = hint(kind="uninitialised", text="", variable="", space=0)
    assert "tile" not in text and "first value" in text


@pytest.mark.parametrize(("size", "advice"), [(4, "[32][33]"), (16, "4 floats")])
def test_a_pad_keeps_vectors_aligned(size, advice):
    line = samples.line(3, "shared_load", 8, 8, 1, worst_degree=8, sample_size=size)
    report = samples.report(samples.launch("k", [line]))
    with pytest.raises(AssertionError) as caught:
        cuda.at_most(report, "worst_bank_degree", 1, slack=1)
    assert advice in str(caught.value)
    assert ("[33]" in str(caught.value)) == (size == 4)
