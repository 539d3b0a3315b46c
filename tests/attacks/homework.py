"""A tiny homework to attack: six tasks of one kind, and one that an honest file solves.

Every attack is a file of `submissions/`. It takes the place of one `tiny/slot_N.py`; several are
graded in one go, each in a slot of its own, beside the honest task, which must keep its points.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from autograder.course.assignment import Assignment, load_assignment
from autograder.course.stubs import write_stubs

SLOTS = 6
WARMED_SLOT = 6  # the one slot whose code also runs in the worker that may write the cache
SECRET = "a-line-that-only-a-hidden-test-holds"
REFERENCE_SECRET = "a-line-that-only-the-reference-holds"
HIDDEN_VALUE = 8675309.0  # in the inputs of every hidden test

HEAD = """\
title = "Homework 9: made to be attacked"
package = "tiny"
files = [{files}]
imports = ["numpy"]

[needs]
cpus = 1
memory_mb = 1024
minutes = 3

[limits]
wall_seconds = 1.5
cpu_seconds = 3
memory_mb = 640
output_kb = 64
file_mb = 16
reply_mb = 16
"""

TASK = """
[[tasks]]
number = "{number}"
title = "{title}"
points = {points}
files = ["{file}"]
"""

SLOT = '''\
"""A target."""

import numpy as np


def running_total(values: np.ndarray) -> np.ndarray:
    """Sums of the first 1, 2, … of the flattened `values`."""
    # BEGIN SOLUTION {number}
    # {secret}
    return np.cumsum(np.asarray(values).reshape(-1))
    # END SOLUTION
'''

HONEST = '''\
"""The honest task."""

import numpy as np


def spread(values: np.ndarray) -> float:
    """Largest minus smallest of `values`."""
    # BEGIN SOLUTION 9.7
    largest, smallest = float(np.max(values)), float(np.min(values))
    return largest - smallest
    # END SOLUTION
'''

DRIVERS = '''\
"""The glue: arrays in, arrays out."""

import importlib

import numpy as np


def running_total(slot, values):
    return importlib.import_module(f"tiny.slot_{slot}").running_total(values)


def spread(values):
    from tiny.honest import spread

    return spread(values)


def prepare():
    module = importlib.import_module("tiny.slot_6")
    getattr(module, "prepare", lambda: None)()


WARM_UP = {"slot 6": prepare}
'''

CHECKS = '''\
"""What the tests share."""

import hw9_tiny_drivers as drivers
import numpy as np

from autograder.testing import assert_close


def check_total(student, slot, *inputs):
    for values in inputs:
        got = student.run(drivers.running_total, slot=slot, values=values)
        assert_close(got, np.cumsum(values), name="running total")
'''

TEST_HEAD = """\
import hw9_tiny_drivers as drivers
import numpy as np
import pytest
from checks import check_total
from gradescope_utils.autograder_utils.decorators import number, weight

from autograder.testing import assert_close
"""

PUBLIC_TEST = '''

{mark}@number("{number}")
@weight(6)
def test_slot_{slot}(student, rng):
    """Slot {slot} adds up fresh numbers, twice."""
    check_total(student, {slot}, rng.standard_normal(5), rng.standard_normal(7))
'''

HIDDEN_TEST = '''

{mark}@number("{number}")
@weight(4)
def test_hidden_slot_{slot}(student, rng):
    """Slot {slot} adds up tables."""
    secret = "{secret}"
    tables = [rng.standard_normal(shape) for shape in ((3, 4), (2, 5))]
    for values in tables:
        values[1, 2] = {value!r}
    check_total(student, {slot}, *tables)
'''

HONEST_TEST = '''

@number("9.7")
@weight(20)
def test_{kind}_honest(student, rng):
    """The honest file is right ({kind})."""
    for size in (3, 30):
        values = rng.standard_normal(size)
        got = student.run(drivers.spread, values=values)
        assert_close(got, np.max(values) - np.min(values), name="spread")
'''


def write(path: Path, text: str) -> None:
    """Write a file, with its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def number_of(slot: int) -> str:
    """The task of a slot."""
    return f"9.{slot}"


def write_homework(root: Path, home: Path, files: Mapping[str, str]) -> Assignment:
    """The files of a homework in `home`, and its stubs; readable for workers, down from `root`."""
    for name, text in files.items():
        write(home / name, text)
    for folder in (root, home):
        folder.chmod(0o755)
    assignment = load_assignment(home)
    write_stubs(assignment)
    return assignment


def make_homework(root: Path) -> Assignment:
    """The homework below `root`, its stubs generated; the folder may be crossed by anyone."""
    home = root / "hw9_tiny"
    slots = range(1, SLOTS + 1)
    files = [f"tiny/slot_{slot}.py" for slot in slots] + ["tiny/honest.py"]
    toml = HEAD.format(files=", ".join(f'"{file}"' for file in files))
    public, hidden = TEST_HEAD, TEST_HEAD
    for slot in slots:
        number = number_of(slot)
        toml += TASK.format(number=number, title=f"Slot {slot}", points=10, file=files[slot - 1])
        write(home / "solution" / files[slot - 1],
              SLOT.format(number=number, secret=REFERENCE_SECRET))  # fmt: skip
        given = {"number": number, "slot": slot, "secret": SECRET, "value": HIDDEN_VALUE}
        given["mark"] = '@pytest.mark.warm_up("slot 6")\n' if slot == WARMED_SLOT else ""
        public += PUBLIC_TEST.format(**given)
        hidden += HIDDEN_TEST.format(**given)
    toml += TASK.format(number="9.7", title="Honest", points=40, file="tiny/honest.py")
    write(home / "solution/tiny/honest.py", HONEST)
    return write_homework(root, home, {
        "tiny/__init__.py": '"""Given code."""\n',
        "tests/test_slots.py": public + HONEST_TEST.format(kind="public"),
        "hidden/test_hidden_slots.py": hidden + HONEST_TEST.format(kind="hidden"),
        "tests/drivers.py": DRIVERS, "tests/checks.py": CHECKS, "assignment.toml": toml,
    })  # fmt: skip
