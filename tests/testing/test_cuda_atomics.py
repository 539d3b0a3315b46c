"""Atomics are no way around limits on loads and stores."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import kernel_samples as samples

from autograder.testing import cuda

SNEAKY = samples.report(samples.launch("sneaky", [samples.line(7, "global_atomic", 8, 4, 4)]))


@pytest.mark.parametrize("count", ["global_load_sectors", "global_store_sectors"])
def test_an_atomic_counts_as_a_load_and_as_a_store(count):
    """`atomicAdd(p, 0)` is no free load, and `atomicExch` no free store; the message says so."""
    cuda.at_most(SNEAKY, count, 32, slack=1)
    with pytest.raises(AssertionError) as caught:
        cuda.at_most(SNEAKY, count, 31, slack=1)
    text = str(caught.value)
    assert "32 sectors of 32 bytes" in text
    assert "32 of them by atomics, which read and write" in text
    assert ":7  global atomic: 8 requests" in text
    assert "add up first" in text
    with pytest.raises(AssertionError):
        cuda.exactly(SNEAKY, count, 0)


def test_atomics_of_one_memory_are_no_accesses_of_the_other():
    cuda.at_most(SNEAKY, "shared_load_requests", 0)
    cuda.exactly(SNEAKY, "barriers", 0)
