"""`make kernels`: operations chosen by name, run in the sandbox, counted, drawn; failures shown."""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "testing"))
import batch_samples
import kernel_samples

from autograder import cli as command_line
from autograder.batch import kernels as batch_kernels
from autograder.batch import resources
from autograder.batch.run import default_confinement
from autograder.course.assignment import load_assignment
from autograder.kernels import nvcc
from autograder.testing.grading import Run

DRIVERS = f'''
REPORT = {kernel_samples.report(kernel_samples.tiled(padded=False),
                                diagnostics=(kernel_samples.race(),))!r}

def counted(x):
    """The report of a device, once the student's function has run."""
    from tiny import ops
    return {{"out": ops.double(x), "report": REPORT}}

def listed(cases):
    from tiny import ops
    return [{{"out": ops.double(case), "report": {{**REPORT, "diagnostics": []}}}} for case in cases]

def negated(x):
    from tiny import ops
    return {{"report": ops.negate(x)}}
'''
INPUTS = '''
from dataclasses import dataclass
from typing import Any

@dataclass(frozen=True)
class Case:
    label: str
    driver: str
    arguments: Any

@dataclass(frozen=True)
class Operation:
    name: str
    task: str
    file: str
    input: str
    cases: tuple
    flops: float = 0.0

OPERATIONS = (
    Operation("twice", "9.1", "ops", "three", (
        Case("plain", "counted", lambda: {"x": 3.0}),
        Case("listed", "listed", lambda: {"cases": [3.0]}),
    ), 1e6),
    Operation("twice_backward", "9.1", "ops", "three", (Case("one", "counted", dict),)),
    Operation("minus", "9.3", "ops", "four", (Case("only", "negated", lambda: {"x": 4.0}),)),
)
'''


def call(*arguments: object) -> Result:
    return CliRunner().invoke(command_line.cli, ["kernels", *map(str, arguments)])


@pytest.fixture
def homework(tmp_path):
    extra = {"solution/tiny/ops.py": batch_samples.REFERENCE, "tests/standard_inputs.py": INPUTS}
    return batch_samples.make_homework(tmp_path, drivers=DRIVERS, extra=extra)


def solve(homework, text: str = batch_samples.REFERENCE) -> None:
    homework.stub_path("tiny/ops.py").write_text(text)


def test_counts_and_diagnostics_of_every_version_are_printed_and_drawn(homework, tmp_path):
    solve(homework)
    result = call(homework.root, "twice", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert re.search(r"shared load +128 +32 +1 pass +32", result.output)
    assert "error: race in transpose_tiled" in result.output
    ladder = result.output[result.output.index("× least") :]
    assert re.search(r"plain +256 +1,024 +1 +4,224 +16.5 +4 .*s  wrong: race\n", ladder)
    assert "listed" in ladder
    assert "twice_backward" not in result.output  # the name itself was meant
    page = (tmp_path / "out" / "kernels_twice.html").read_text()
    assert "Under the roofs" in page
    assert "race in transpose_tiled" in page
    assert f"make kernels HW={homework.name} K=twice" in page


@pytest.mark.parametrize(
    ("keyword", "chosen"),
    [("backw", ["twice_backward"]), ("9.3", ["minus"]), ("9_3_", ["minus"]),
     ("ops", ["twice", "twice_backward", "minus"]), ("", ["twice", "twice_backward", "minus"])],
)  # fmt: skip
def test_an_operation_is_chosen_by_its_name_file_or_task(homework, keyword, chosen):
    from autograder.batch.kernels import chosen_operations

    assert [one.name for one in chosen_operations(homework, keyword)] == chosen


def test_a_stub_and_a_crash_are_shown_in_the_place_of_counts(homework, tmp_path):
    result = call(homework.root, "minus", "--out", tmp_path)
    assert result.exit_code == 0, result.output
    assert "only: task 9.3: negate is not implemented yet" in result.output
    solve(homework, batch_samples.REFERENCE.replace("opposite = -x", "opposite = 1 / 0 * x"))
    result = call(homework.root, "minus", "--out", tmp_path)
    assert "ZeroDivisionError" in result.output
    assert "opposite = 1 / 0 * x" in result.output
    assert "opposite = 1 / 0 * x" in (tmp_path / "kernels_minus.html").read_text()


def test_a_report_that_the_students_code_made_up_is_refused(homework, tmp_path):
    """Here the driver hands out what the student's function returns: minus four."""
    solve(homework)
    result = call(homework.root, "minus", "--out", tmp_path)
    assert result.exit_code == 0, result.output
    assert "the report of the device is malformed" in result.output.replace("\n", " ")


def test_an_unknown_operation_or_a_homework_without_kernels_is_a_sentence(homework, tmp_path):
    result = call(homework.root, "division")
    assert result.exit_code == 1
    assert "no operation is called 'division'; there are: twice (9.1)" in result.output
    (homework.root / "tests" / "standard_inputs.py").unlink()
    result = call(homework.root)
    assert result.exit_code == 1
    assert "has no kernels to show" in result.output


def test_without_nvcc_one_line_says_that_registers_need_it(homework, tmp_path, monkeypatch):
    monkeypatch.setattr(batch_kernels, "find_nvcc", lambda: None)
    monkeypatch.setattr(nvcc, "find_nvcc", lambda: None)
    solve(homework)
    result = call(homework.root, "minus", "--out", tmp_path)
    assert "only nvcc knows them, and it is not installed" in result.output
    assert "pip install nvidia-cuda-nvcc" in result.output
    assert "only nvcc knows them" in (tmp_path / "kernels_minus.html").read_text()


@pytest.mark.parametrize("failed", ["", "ops.cu:3: expected a ;"])
def test_what_nvcc_says_stands_beside_the_counts(homework, tmp_path, monkeypatch, failed):
    found = resources.Compiled((nvcc.Resources("transpose_tiled", 77, 4224, 8, 4, 8),))
    answer = resources.Compiled(failed=failed) if failed else found
    (homework.root / "tiny" / "ops.cu").write_text("// kernels\n")
    monkeypatch.setattr(batch_kernels, "find_nvcc", lambda: "nvcc")
    monkeypatch.setattr(batch_kernels, "resources_of", lambda run, files: dict.fromkeys(files, answer))
    solve(homework)
    result = call(homework.root, "twice", "--out", tmp_path)
    page = (tmp_path / "kernels_twice.html").read_text()
    for text in (result.output, page):
        assert (failed or "4 bytes stored, 8 bytes loaded again") in text
        assert ("77 a thread" in text) is not bool(failed)
        assert ("nvcc refuses this file" in text) is bool(failed)


@pytest.mark.skipif(nvcc.find_nvcc() is None, reason="no nvcc")
def test_nvcc_runs_in_a_worker(monkeypatch):
    """It reads code that nobody has checked; the worker does not see what is patched here."""
    monkeypatch.setattr(nvcc, "compile_check", lambda *given: pytest.fail("in the trusted process"))
    homework = load_assignment(Path(__file__).parents[2] / "hw2_cuda_kernels")
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o711)
        package = Path(folder) / "overlay" / homework.package
        package.mkdir(parents=True)
        good, broken = package / "good.cu", package / "broken.cu"
        good.write_text("__global__ void twice(float* x) { x[threadIdx.x] *= 2; }\n")
        broken.write_text("__global__ void twice(float* x) {\n    x[0] *= two;\n}\n")
        run = Run(homework, package.parent, None, seed=0, confine=default_confinement())
        found = resources.resources_of(run, [good, broken])
    (kernel,) = found[good].resources
    assert kernel.kernel == "twice"
    assert 0 < kernel.registers < 40
    assert 'broken.cu:2: identifier "two" is undefined' in found[broken].failed


def test_one_failure_of_several_versions_is_told_once(homework, tmp_path):
    solve(homework, batch_samples.REFERENCE + "def (:\n")
    result = call(homework.root, "--out", tmp_path / "out")
    assert result.output.count("SyntaxError") == 1, result.output
    assert " ".join(result.output.split()).count("the same as twice, plain") == 2, result.output
