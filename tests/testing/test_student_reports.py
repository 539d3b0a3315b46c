"""What an untrusted process can say of itself: frames, errors and texts of any form."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from autograder.sandbox.host import WorkerDied, WorkerRaised
from autograder.testing.frames import enclosing_function, frames_with_source, source_around
from autograder.testing.records import TestRecord
from autograder.testing.student import Student, StudentCrashed, StudentError, StudentRaised


def driver() -> None:
    """Stands for a driver."""


class Talking:
    """A worker that answers every call with one failure."""

    def __init__(self, failure):
        self.failure = failure

    def call(self, *_, **__):
        raise self.failure


def translated(failure, overlay: Path) -> StudentError:
    student = Student(lambda: Talking(failure), overlay, seed=0)
    with pytest.raises(StudentError) as caught:
        student.run(driver)
    return caught.value


@pytest.fixture
def overlay(tmp_path):
    (tmp_path / "overlay" / "tiny").mkdir(parents=True)
    (tmp_path / "overlay" / "tiny" / "ops.py").write_text("one\ntwo\nthree\n")
    (tmp_path / "secret.py").write_text("secret\n")
    return tmp_path / "overlay"


@pytest.mark.parametrize(
    "raw",
    [
        None, "text", 7, [7], [["tiny/ops.py"]], [["tiny/ops.py", 1, "f", "more"]], [[1, 1, "f"]],
        [["../secret.py", 1, "f"]], [["/etc/passwd", 1, "f"]], [["tiny/../../secret.py", 1, "f"]],
        [["tiny", 1, "f"]], [["tiny/none.py", 1, "f"]], [["tiny/ops.py", "1", "f"]],
        [["tiny/ops.py", True, "f"]], [["tiny/ops.py", 1.0, "f"]], [["tiny/ops.py", None, "f"]],
        [["tiny/\0.py", 1, "f"]], [["\ud800", 1, "f"]], [["x" * 5000, 1, "f"]],
        [["/".join("x" * 3000), 1, "f"]],
    ],
    ids=lambda raw: repr(raw)[:40],
)  # fmt: skip
def test_frames_outside_the_overlay_or_malformed_are_left_out(overlay, raw):
    assert frames_with_source(raw, overlay) == []
    # A good one beside it is kept.
    if isinstance(raw, list):
        good = frames_with_source([*raw, ["tiny/ops.py", 2, "f"]], overlay)
        assert [(f.file, f.line) for f in good] == [("tiny/ops.py", 2)]


def test_a_link_out_of_the_overlay_is_not_followed(overlay):
    (overlay / "tiny" / "link.py").symlink_to(overlay.parent / "secret.py")
    assert frames_with_source([["tiny/link.py", 1, "f"]], overlay) == []


def test_lines_beyond_a_file_show_no_source(overlay):
    for line in (-5, 0, 99, 10**30):
        for frame in frames_with_source([["tiny/ops.py", line, "f"]], overlay):
            assert not any(source.current for source in frame.source)
    assert [s.text for s in source_around("one\ntwo\nthree\nfour", 1)] == ["one", "two", "three"]


NESTED = """\
import os
def first(a):
    def inner():
        return 1
    if a:
        return inner()
class Box:
    async def method(
        self, a,
    ) -> int:
        # a note

        x = 1
        return x
"""


@pytest.mark.parametrize(
    ("code", "function"),
    [("import os", "<module>"), ("def first", "first"), ("return 1", "inner"), ("if a", "first"),
     ("return inner", "first"), ("class Box", "<module>"), ("x = 1", "method"),
     ("return x", "method")],
)  # fmt: skip
def test_the_function_of_a_frame_is_read_from_the_text(code, function):
    line = next(n for n, text in enumerate(NESTED.splitlines(), 1) if text.strip().startswith(code))
    assert enclosing_function(NESTED, line) == function


def test_a_flood_of_frames_costs_no_time(overlay):
    (overlay / "tiny" / "ops.py").write_text("x\n" * 5_000)
    started = time.process_time()
    frames = frames_with_source([["tiny/ops.py", 1, "f"]] * 2_000, overlay)
    assert len(frames) <= 200
    assert time.process_time() - started < 5


def test_an_error_report_of_the_wrong_form_is_still_a_failure_of_the_student(overlay):
    error = {"type": 7, "bases": "Exception", "message": ["x"], "frames": {"a": 1}}
    raised = translated(WorkerRaised(error), overlay)
    assert isinstance(raised, StudentRaised)
    assert (raised.type_name, raised.bases, raised.frames) == ("Exception", [], [])
    assert isinstance(translated(WorkerDied(None, []), overlay), StudentCrashed)


def test_text_that_is_no_unicode_can_be_recorded(overlay):
    error = {"type": "E\ud800", "bases": ["E\ud800"], "message": "bad \ud800 text",
             "frames": [["tiny/ops.py", 1, "f\udfff"]]}  # fmt: skip
    raised = translated(WorkerRaised(error), overlay)
    record = TestRecord(test="t", number="9.1", status="failed")
    record.exception, record.message, record.frames = raised.title, raised.message, raised.frames
    assert "bad ? text" in record.model_dump_json()


def test_a_very_long_text_is_cut(overlay):
    error = {"type": "E" * 10_000, "bases": [], "message": "m" * 1_000_000, "frames": []}
    raised = translated(WorkerRaised(error), overlay)
    assert len(raised.title) <= 80
    assert len(raised.message) < 5_000
