"""A fault in a helper: where the helper is called is named too, as far as the text tells."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import kernel_samples as samples

from autograder.reporting.kernel_panel import panel_of
from autograder.sandbox.failures import WorkerRaised
from autograder.testing import cuda
from autograder.testing.frames import call_lines, called_from
from autograder.testing.student import Student

SOURCE = """\
// Sums over a warp; half_sum(x) of half of one.
template <int N>
__device__ float half_sum(float x) {
    for (int d = N; d > 0; d /= 2) x += __shfl_xor_sync(FULL_MASK, x, d);
    return x;
}

__global__ void of_rows(const float* x, float* y) {
    float sum = x[threadIdx.x];
    // half_sum<16>(sum) for all lanes would do.
    if (threadIdx.x < 16) sum = half_sum<16>(sum);
    y[threadIdx.x] = sum;
}

__global__ void others(float* y) {
    y[0] = half_sum<16>(y[0]);
    y[1] = not_half_sum(y[1]);
    y[2] = half_sum < 3 ? 1 : (2);
}
"""


@pytest.fixture
def overlay(tmp_path):
    (tmp_path / "cuda_kernels").mkdir()
    (tmp_path / "cuda_kernels" / "sums.cu").write_text(SOURCE)
    token = cuda.RUNNING.set(cuda.Running(None, tmp_path))
    yield tmp_path
    cuda.RUNNING.reset(token)


def deadlock(**more: Any) -> dict[str, Any]:
    found = {
        "kind": "deadlock", "severity": "error", "kernel": "of_rows", "file": "sums.cu", "line": 4,
        "message": "threads 0-15 wait at __shfl_xor_sync", "other_line": 0, "count": 1,
    }  # fmt: skip
    return samples.report(diagnostics=(found | more,))


def caught(report: dict[str, Any]) -> cuda.KernelDiagnosed:
    with pytest.raises(cuda.KernelDiagnosed) as caught:
        cuda.check(report)
    return caught.value


def test_the_call_in_the_launched_kernel_is_named_with_its_source(overlay):
    error = caught(deadlock())
    assert "half_sum is called in line 11" in error.message
    assert "11 | if (threadIdx.x < 16) sum = half_sum<16>(sum);" in error.message
    assert [(f.line, f.function) for f in error.frames] == [(11, "of_rows"), (4, "half_sum")]
    kept: list[dict[str, Any]] = []
    cuda.attach(lambda **fields: kept.append(fields), deadlock())
    (finding,) = panel_of(kept[0]["data"], pictures=False).findings
    assert finding.called.startswith("half_sum is called in line 11:")


def test_a_kernel_that_does_not_call_it_itself_gets_every_call(overlay):
    assert "half_sum is called in lines 11 and 16" in caught(deadlock(kernel="through_another")).message


def test_nothing_is_added_to_a_fault_in_the_kernel_or_without_source(overlay):
    for report in (deadlock(line=11), deadlock(kernel="a::half_sum<16>"), deadlock(line=0),
                   deadlock(file="gone.cu")):  # fmt: skip
        assert "is called in" not in caught(report).message


def test_a_kernel_that_ended_the_call_tells_it_too(overlay):
    """An endless wait raises in the worker; here is what its report of that becomes."""
    student = Student(lambda: None, overlay, seed=0, forbid_blas=False)
    frames = [["cuda_kernels/sums.cu", 4, "of_rows"]]
    for kind, told in (("KernelError", True), ("ValueError", False)):
        error = {"type": kind, "message": "deadlock in block (0)", "frames": frames, "bases": []}
        raised = student._translate(WorkerRaised(error))
        assert ("half_sum is called in line 11" in str(raised)) is told
        assert raised.message.startswith(f"{kind}: deadlock in block (0)")
    for frames in ([], [["cuda_kernels/sums.cu", 11, "of_rows"]], [["../x.cu", 4, 5]], None, [[4]]):
        assert called_from(frames, overlay) == ""


def test_of_many_calls_none_is_named(overlay):
    lines = SOURCE + "\n".join(f"    y[{n}] = half_sum<8>(y[{n}]);" for n in range(5))
    (overlay / "cuda_kernels" / "sums.cu").write_text(lines)
    assert "is called in" not in caught(deadlock(kernel="through_another")).message


def test_comments_names_that_end_alike_and_comparisons_are_no_calls():
    assert call_lines(SOURCE, "half_sum", "others") == [16]
    assert call_lines(SOURCE, "nobody", "others") == []
