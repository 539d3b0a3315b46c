"""Entry points by odd names and parameters; device memory behind a kernel that ended in a fault."""

from __future__ import annotations

import ctypes
from pathlib import Path

import numpy as np
import pytest

from autograder import kernels

SOURCE = Path(__file__).parent / "cuda" / "entries.cu"


class Range(ctypes.Structure):
    """As in entries.cu."""

    _fields_ = [("first", ctypes.c_int), ("count", ctypes.c_int)]


@pytest.fixture(scope="module")
def module():
    return kernels.Device("emulator", "full").load(SOURCE)


@pytest.mark.parametrize(
    ("name", "arguments", "filled", "value"),
    [
        ("a", (5,), slice(0, 5), 1.0),
        ("emulated", (5,), slice(0, 5), 2.0),
        ("by_alias", (4, 3.0), slice(0, 4), 3.0),  # four bytes of zeros once came of bytes(4)
        ("by_alias_of_alias", (4,), slice(0, 4), 4.0),
        ("waits", (6,), slice(0, 6), 1.0),  # the handout says that a host function may wait
        ("by_struct", (Range(2, 6),), slice(2, 8), 5.0),
        ("by_hidden_alias", (np.int32(4),), slice(0, 4), 6.0),
        ("by_hidden_alias", (ctypes.c_int(4),), slice(0, 4), 6.0),
    ],
)
def test_values_arrive(module, name, arguments, filled, value):
    x = module.device.zeros(16)
    module.launch(name, x, *arguments)
    expected = np.zeros(16, np.float32)
    expected[filled] = value
    np.testing.assert_array_equal(x.numpy(), expected)


@pytest.mark.parametrize("argument", [4, 4.0, True, np.int64(4)])
def test_a_number_for_a_type_that_is_not_known_is_refused(module, argument):
    """An int is not passed as so many bytes of 0."""
    with pytest.raises(TypeError, match="by_hidden_alias: n is Hidden"):
        module.launch("by_hidden_alias", module.device.zeros(16), argument)


def test_a_number_for_a_struct_is_refused(module):
    with pytest.raises(TypeError, match="by_struct: range is Range"):
        module.launch("by_struct", module.device.zeros(16), 8)


def test_memory_behind_a_trap_holds_what_was_written_before(module):
    """Blocks run in order here: what came before the fault is there, what would have followed is not."""
    x, other = module.device.zeros(4), module.device.array(np.arange(100, dtype=np.float32))
    with pytest.raises(kernels.KernelError, match="__trap"):
        module.launch("traps", x)
    assert x.numpy().tolist() == [7, 7, 0, 0]
    assert other.numpy().tolist() == list(range(100))
    module.device.report()
    module.launch("a", x, 3)
    assert x.numpy().tolist() == [1, 1, 1, 0], "a fault ends its own call only"
    assert module.device.report()["diagnostics"] == []


def test_a_store_outside_of_an_array_changes_nothing(module):
    x, behind = module.device.zeros(32), module.device.zeros(32)
    with pytest.raises(kernels.KernelError, match="x has 32 elements"):
        module.launch("writes_outside", x, 32)
    assert not x.numpy().any() and not behind.numpy().any()
    module.device.report()


def test_what_a_call_that_ended_in_a_fault_had_allocated_is_free_again(module):
    """64 MB each of 256: the fifth would find none left. Freed memory is no longer to be read."""
    x = module.device.zeros(4)
    for _ in range(8):
        with pytest.raises(kernels.KernelError, match="__trap"):
            module.launch("allocates_and_traps", x)
    module.device.report()


def test_too_many_copies_are_told_from_copies_that_are_wrong(module):
    x = module.device.zeros(32)
    with pytest.raises(kernels.KernelError, match=r"4,096 asynchronous copies under way"):
        module.launch("copies_without_a_wait", x)
    module.device.report()
    with pytest.raises(kernels.KernelError, match="copies 4, 8 or 16 bytes from global to shared"):
        module.launch("copies_to_global", x)
    module.device.report()
