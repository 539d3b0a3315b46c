"""The function around a line of a kernel file, read from its text."""

from __future__ import annotations

import pytest

from autograder.testing.frames import enclosing_kernel, with_stub

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


def test_a_stub_of_a_kernel_file_is_the_last_frame(tmp_path):
    """The worker's frames end in the given Python that launched it."""
    (tmp_path / "package").mkdir()
    text = '__device__ float add(float x) {\n    LLM_NOT_IMPLEMENTED("task 2.5: add");\n}\n'
    (tmp_path / "package" / "softmax.cu").write_text(text)
    (frame,) = with_stub([], "task 2.5: add", tmp_path)
    assert (frame.file, frame.line, frame.function) == ("package/softmax.cu", 2, "add")
    assert with_stub([], "task 2.5: other", tmp_path) == []
