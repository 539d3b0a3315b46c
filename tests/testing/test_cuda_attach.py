"""What is attached to a record for the report: bounded, with sources, flops, and what was left out."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import kernel_samples as samples

from autograder.testing import cuda
from autograder.testing.kernel_report import COUNTS, read_report
from autograder.testing.kernel_words import COUNTED


@pytest.fixture
def running(tmp_path):
    """A test that is running over an overlay with a transpose.cu of forty lines."""
    (tmp_path / "cuda_kernels").mkdir()
    text = "\n".join(f"line_{number}();" for number in range(1, 41))
    (tmp_path / "cuda_kernels" / "transpose.cu").write_text(text)
    token = cuda.RUNNING.set(cuda.Running(None, tmp_path))
    yield
    cuda.RUNNING.reset(token)


def test_attached_data_are_a_small_report_again(running):
    kept: list[dict[str, Any]] = []
    lines = [samples.line(n, "global_load", n, 4, 4) for n in range(1, 41)]
    big = samples.report(*[samples.launch(f"k{n % 20}", lines) for n in range(60)],
                         diagnostics=(samples.race(),) * 90)  # fmt: skip
    big |= {"output": "printed\n" * 1_000, "dropped": 7}
    cuda.attach(lambda **fields: kept.append(fields), big, title="t", flops={"k0": 5})
    (one,) = kept
    assert (one["kind"], one["title"], one["data"]["flops"]) == ("kernels", "t", {"k0": 5})
    again = read_report(one["data"])
    assert (len(again.launches), len(again.diagnostics)) == (16, 20)
    assert (one["data"]["more_kernels"], one["data"]["more_diagnostics"]) == (4, 70)
    assert again.dropped == 7
    assert (len(again.output), again.output[0]) == (4_000, "p")
    assert again.launches[0].launches == 3
    assert again.launches[0].counts["global_load_requests"] == 3 * sum(range(1, 41))
    assert [line.line for line in again.launches[0].lines] == list(range(17, 41))
    assert one["data"]["sources"]["transpose.cu:38"] == "line_38();"


def test_every_count_has_words():
    assert set(COUNTED) == set(COUNTS)


def test_findings_that_were_not_kept_are_told_of(running):
    report = samples.report(samples.tiled(), diagnostics=(samples.race(),)) | {"dropped": 1_200}
    with pytest.raises(cuda.KernelDiagnosed, match="wrong in other places, 1,200 times"):
        cuda.check(report)
    with pytest.raises(cuda.MalformedReport):
        cuda.check(report | {"dropped": -1})


def test_flops_are_of_the_call_or_of_a_kernel():
    kept: list[dict[str, Any]] = []
    for flops in (7, {"k": 5}):
        cuda.attach(lambda **fields: kept.append(fields), samples.report(), flops=flops)
    assert [one["data"]["flops"] for one in kept] == [{"": 7}, {"k": 5}]
