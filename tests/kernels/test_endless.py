"""A loop without an end is ended by the emulator, which names its line, kernel and thread."""

from __future__ import annotations

import re
import shutil
import time
from pathlib import Path

import numpy as np
import pytest

from autograder import kernels
from autograder.kernels.loops import endless_loop, loops

SOURCE = Path(__file__).parent / "cuda" / "endless.cu"
MARKED = {
    found[1]: number
    for number, line in enumerate(SOURCE.read_text().splitlines(), 1)
    if (found := re.search(r"// HERE (\w+)$", line))
}


@pytest.fixture(scope="module")
def module():
    """The kernels, with a second of CPU time for each call."""
    assert shutil.which("g++"), "these lines are g++'s"
    device = kernels.Device("emulator", "full", seconds=1.0)
    return device.load(SOURCE)


@pytest.mark.parametrize("name", MARKED)
def test_the_loop_that_does_not_end_is_named(module, name):
    """The outermost loop that still turns, whatever loops inside of it end."""
    device = module.device
    out, x = device.zeros(128), device.array(np.arange(128, dtype=np.float32))
    begin = time.process_time()
    with pytest.raises(kernels.KernelError) as raised:
        module.launch(f"run_{name}", out, x, 100)
    assert time.process_time() - begin < 5
    found = raised.value.diagnostics[-1]
    assert found["kind"] in ("time limit", "step limit")
    assert found["line"] == MARKED[name], found["message"]
    assert f"[kernel {name}]" in found["message"]
    assert re.search(r"thread \(\d+\) of block \(\d\) was stopped after", found["message"])


TEXT = """\
__global__ void k(int n) {
    for (int i = 0; i < n; ++i) {  // for (;;)
        if (i)
            while (n) n -= 1;
        else do { --n; } while (n > "}"[0]);
    }
    for (;;)
        for (;;) { f(n, [] { return '{'; }); }
    int whileaway = 1;
}
"""


def test_loops_are_read_from_the_text():
    """With and without braces, nested, and not from comments, strings or names."""
    assert loops(TEXT) == [(2, 6), (4, 4), (5, 5), (5, 5), (7, 8), (8, 8)]
    assert loops("for (") == [(1, 1)], "a file that breaks off"


@pytest.mark.parametrize(
    ("seen", "line"), [([3], 2), ([4], 4), ([4, 6], 2), ([8], 8), ([7, 8], 7), ([9], 0), ([], 0)]
)
def test_the_innermost_loop_around_all_lines_is_chosen(seen, line):
    """Of what was seen again and again, the loop around it all."""
    assert endless_loop(TEXT, seen) == line
