"""The manifest: what each test is worth, read without running a line of the test files."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import testing_samples as samples

from autograder.testing.manifest import ManifestError, build_manifest, check_points

TASKS = [("9.1", 60, []), ("9.9", 20, []), ("9.10", 20, [])]

PUBLIC = '''
import pathlib
pathlib.Path(__file__).with_name("was_run").touch()
raise SystemExit("a test file must not be run to be read")

@number("9.1")
@weight(30.5)
def test_adds_every_path(student):
    """The first sentence is the title, as e.g. here, also where it takes
    two lines. Not this one.

    Nor this one.
    """

@weight(20)
@visibility("after_due_date")
@number("9.9")
def test_without_a_docstring(student):
    pass

@speed
@number("9.1")
@partial_credit(17.5)
def test_fast(student, set_score):
    """Fast."""

@reported_by_worker
@pytest.mark.parametrize("n", [1, 2])
@number("9.1")
@weight(12)
def test_counts(student, n):
    """Counts."""

def helper():
    pass
'''

HIDDEN = '''
@number("9.10")
@weight(20)
def test_secret(student):
    """Secret."""
'''


@pytest.fixture
def homework(tmp_path):
    return samples.make_homework(
        tmp_path, TASKS, {"test_9_1_a.py": PUBLIC}, hidden={"test_9_10_b.py": HIDDEN}
    )


def test_reads_decorators_and_titles_without_running_the_file(homework):
    entries = {entry.test.rpartition("::")[2]: entry for entry in build_manifest(homework)}
    assert not (homework.root / "tests" / "was_run").exists()
    adds = entries["test_adds_every_path"]
    assert adds.test == "tests/test_9_1_a.py::test_adds_every_path"
    assert (adds.number, adds.weight) == ("9.1", 30.5)
    assert adds.title == "The first sentence is the title, as e.g. here, also where it takes two lines."
    assert not (adds.hidden or adds.speed or adds.partial or adds.worker_reported)
    assert adds.visibility == "visible"
    plain = entries["test_without_a_docstring"]
    assert (plain.title, plain.visibility) == ("without a docstring", "after_due_date")
    fast = entries["test_fast"]
    assert (fast.weight, fast.speed, fast.partial) == (17.5, True, True)
    assert entries["test_counts"].worker_reported
    assert entries["test_secret"].hidden
    assert len(entries) == 5
    check_points(homework, list(entries.values()))


def test_is_in_the_order_of_tasks_and_leaves_hidden_tests_out_on_request(homework):
    assert [e.number for e in build_manifest(homework)] == ["9.1", "9.1", "9.1", "9.9", "9.10"]
    public = build_manifest(homework, include_hidden=False)
    assert len(public) == 4
    assert not any(entry.hidden for entry in public)


GOOD = '@number("9.1")\n@weight(1)\n'


@pytest.mark.parametrize(
    ("code", "line", "words"),
    [
        ("@weight(1)\ndef test_x(student):\n    pass", 2, "needs @number and @weight"),
        ('@number("9.1")\ndef test_x(student):\n    pass', 2, "needs @number and @weight"),
        ("def test_x(student):\n    pass", 1, "needs @number and @weight"),
        ('@number("9.1")\n@weight\ndef test_x(student):\n    pass', 3, "needs @number and @weight"),
        ('@number("9.7")\n@weight(1)\ndef test_x(student):\n    pass', 3, "no task 9.7"),
        ('@number("9.1")\n@weight(1 + ONE)\ndef test_x(student):\n    pass', 2, "literal"),
        ('@number("9.1")\n@weight(ONE)\ndef test_x(student):\n    pass', 2, "literal"),
        ('@number("9." + "1")\n@weight(1)\ndef test_x(student):\n    pass', 1, "literal"),
        ('@number("9.1")\n@weight("one")\ndef test_x(student):\n    pass', 3, "weight"),
        ('@number("9.1")\n@weight(-1)\ndef test_x(student):\n    pass', 3, "weight"),
        ('@number("9.1")\n@weight([1])\ndef test_x(student):\n    pass', 3, "weight"),
        ('@number(9.10)\n@weight(1)\ndef test_x(student):\n    pass', 3, "text"),
        ("def test_x(student:\n    pass", 1, ""),
        (GOOD + '@visibility("never")\ndef test_x(student):\n    pass', 4, "no visibility"),
        (GOOD + f"def test_x(s):\n    pass\n{GOOD}def test_x(s):\n    pass", None, "defined twice"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_file_and_line(homework, code, line, words):
    path = homework.root / "tests" / "test_9_9_wrong.py"
    path.write_text(code + "\n")
    with pytest.raises(ManifestError) as caught:
        build_manifest(homework)
    assert str(caught.value).startswith(f"{path}:{line}:" if line else f"{path}:")
    assert words in str(caught.value)


def test_points_that_do_not_add_up_are_named_by_task(homework):
    with pytest.raises(ManifestError, match=r"task 9\.10 is worth 20 points, its tests sum to 0"):
        check_points(homework, build_manifest(homework, include_hidden=False))
    entries = build_manifest(homework)
    entries[0].weight += 0.25
    with pytest.raises(ManifestError, match=r"task 9\.1 is worth 60 points.*sum to 60\.25"):
        check_points(homework, entries)


def test_at_most_a_fifth_of_a_task_may_hang_on_what_the_worker_reports(homework):
    entries = build_manifest(homework)
    check_points(homework, entries)  # 12 of 60: just at the limit
    next(entry for entry in entries if entry.speed).worker_reported = True
    with pytest.raises(ManifestError, match=r"task 9\.1: 29\.5 of 60 points.*at most 20%"):
        check_points(homework, entries)
