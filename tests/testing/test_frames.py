"""The function around a line of a kernel file, read from its text."""

from __future__ import annotations

import pytest

from autograder.testing.frames import enclosing_kernel

TEXT = """\
#include "common.cuh"
__device__ float twice(float x) {
    return 2 * x;
}
template <int N>
__global__ void __launch_bounds__(256)
scale(const float* x,
      float* y) {
    if (x[0] > twice(y[0])) y[0] = N;
}
extern "C" void run(const float* x, float* y) { scale<2><<<1, 1>>>(x, y); }
"""


@pytest.mark.parametrize(("line", "name"), [(1, "<file>"), (3, "twice"), (9, "scale"), (11, "run")])
def test_the_function_around_a_line_of_a_kernel_file(line, name):
    """The last head at the left margin, also where its name begins a line of its own."""
    assert enclosing_kernel(TEXT, line) == name
