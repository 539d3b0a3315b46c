"""Assertions on kernels inside a grading: the record has the counts, source lines and the table."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import kernel_samples
import testing_samples as samples

CLEAN = kernel_samples.report(kernel_samples.tiled())
RACE = kernel_samples.report(kernel_samples.tiled(), diagnostics=(kernel_samples.race(),))
DRIVERS = f"def report(clean):\n    return {CLEAN!r} if clean else {RACE!r}\n"
KERNEL = "\n".join(f"line_{number}();" for number in range(1, 41))
TESTS = {
    "test_9_1_counts.py": '''
        from autograder.testing import cuda

        @number("9.1")
        @weight(50)
        def test_counted(student, figure):
            """Counts and a table."""
            report = student.run(drivers.report, clean=True)
            cuda.attach(figure, report, title="the tile")
            cuda.at_most(report, "global_store_sectors", 512, why="once")

        @number("9.1")
        @weight(50)
        def test_raced(student):
            """A race."""
            cuda.check(student.run(drivers.report, clean=False))
    ''',
}


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    homework = samples.make_homework(
        tmp_path_factory.mktemp("homework"), [("9.1", 100, [])], TESTS, drivers=DRIVERS,
        extra={"tiny/transpose.cu": KERNEL},
    )  # fmt: skip
    outcome = samples.run_job(samples.make_job(homework, tmp_path_factory.mktemp("run")))
    return {name.rpartition("::")[2]: record for name, record in outcome.records.items()}


def test_a_count_is_a_measure_of_the_emulator(records):
    (measure,) = records["test_counted"].measures
    assert records["test_counted"].status == "passed"
    assert (measure.value, measure.source) == (512, "emulator")
    assert measure.note == "at most 614 (512 × 1.2): once"


def test_the_table_of_a_kernel_has_the_lines_of_source(records):
    (figure,) = records["test_counted"].figures
    assert (figure.kind, figure.title) == ("kernels", "the tile")
    assert figure.data["sources"] == {f"transpose.cu:{n}": f"line_{n}();" for n in (31, 38)}


def test_a_race_has_its_kind_its_frames_and_its_lines(records):
    record = records["test_raced"]
    assert (record.status, record.fault, record.exception) == ("failed", "student", "race")
    assert [(frame.file, frame.line, frame.function) for frame in record.frames] == [
        ("tiny/transpose.cu", 31, "transpose_tiled"),
        ("tiny/transpose.cu", 38, "transpose_tiled"),
    ]
    assert "38 | line_38();" in record.message
