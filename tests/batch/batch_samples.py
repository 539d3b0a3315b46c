"""A tiny homework with reference, stubs, hidden tests and mutants, for the tests of `batch`."""

from __future__ import annotations

import difflib
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "testing"))
import testing_samples as samples

from autograder.batch.run import Job, Outcome
from autograder.course.assignment import Assignment
from autograder.course.stubs import write_stubs

TASKS = [("9.1", 50, []), ("9.2", 30, ["9.1"]), ("9.3", 20, [])]

REFERENCE = '''\
"""Made-up operations."""


def double(x):
    """Twice x."""
    # BEGIN SOLUTION 9.1
    result = 2 * x
    return result
    # END SOLUTION


def shift(x):
    """Twice x, plus one."""
    # BEGIN SOLUTION 9.2
    twice = double(x)
    return twice + 1
    # END SOLUTION


def negate(x):
    """Minus x."""
    # BEGIN SOLUTION 9.3
    opposite = -x
    return opposite
    # END SOLUTION
'''

DRIVERS = """\
def double(x):
    from tiny import ops
    return ops.double(x)

def shift(x):
    from tiny import ops
    return ops.shift(x)

def negate(x):
    from tiny import ops
    return ops.negate(x)
"""


def forked(job: Job, *, deadline_seconds: float | None = None, **_: object) -> Outcome:
    """Stands for `run_tests` where the process it starts is not tested: a fork is quicker."""
    return samples.run_job(job)


def checks(task: str, function: str, weight: float, wanted: str, name: str = "") -> str:
    """A test of `function` against the expression `wanted` of x."""
    return f'''
@number("{task}")
@weight({weight})
def test_{function}{name}(student, rng):
    """{function} is right."""
    x = float(rng.uniform(1, 2))
    assert_close(student.run(drivers.{function}, x=x), {wanted})
'''


SPEED = '''
@speed
@number("9.3")
@partial_credit(5)
def test_negate_is_fast(student, set_score):
    """Fast enough."""
    assert student.run(drivers.negate, x=1.0) == -1.0
    score_ratio(student, set_score, 5, 2.0, full=1.3, zero=0.9, name="negate", peer="numpy")
'''

TESTS = {
    "test_9_1_double.py": checks("9.1", "double", 30, "2 * x"),
    "test_9_2_shift.py": checks("9.2", "shift", 30, "2 * x + 1"),
    "test_9_3_negate.py": SPEED + checks("9.3", "negate", 15, "-x"),
}
HIDDEN = {"test_9_1_hidden.py": checks("9.1", "double", 20, "2 * x", "_of_a_secret_number")}


def make_homework(folder: Path, **options: object) -> Assignment:
    """The homework, its stubs written."""
    options = {"tests": TESTS, "hidden": HIDDEN, "drivers": DRIVERS, "imports": [], **options}
    options.setdefault("extra", {"solution/tiny/ops.py": REFERENCE})
    homework = samples.make_homework(folder, TASKS, **options)  # type: ignore[arg-type]
    write_stubs(homework)
    return homework


def add_mutant(homework: Assignment, name: str, task: str, *changes: tuple[str, str]) -> Path:
    """A patch that makes the changes in the reference."""
    text = REFERENCE
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    diff = difflib.unified_diff(
        REFERENCE.splitlines(True), text.splitlines(True), "solution/tiny/ops.py",
        "solution/tiny/ops.py",
    )  # fmt: skip
    path = homework.root / "mutants" / f"{name}.patch"
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"# task: {task}\n# error: {name.replace('_', ' ')}\n" + "".join(diff))
    return path
