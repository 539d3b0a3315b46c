"""Tiny made-up courses for the tests of `autograder.course`."""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path

from autograder.course.assignment import Assignment, load_assignment
from autograder.course.stubs import write_stubs

TOML = """\
title = "Homework 9: made up"
package = "tiny"
files = [
    "tiny/add.py",
    "tiny/nested/scale.py",
]
imports = ["numpy"]

[needs]
cpus = 1
memory_mb = 512
minutes = 5

[[tasks]]
number = "9.1"
title = "Addition"
points = 60
files = ["tiny/add.py"]

[[tasks]]
number = "9.2"
title = "Scaling"
points = 40
requires = ["9.1"]
files = ["tiny/nested/scale.py"]
"""

ADD = '''\
"""Task 9.1."""


def add(left: list[float], right: list[float]) -> list[float]:
    """Sum of two lists."""
    # BEGIN SOLUTION 9.1
    shortest = min(len(left), len(right))
    total = [0.0] * shortest
    for place in range(shortest):
        total[place] = left[place] + right[place]
    return total
    # END SOLUTION


def checked(values: list[float]) -> list[float]:
    """Given code: refuses an empty list."""
    if not values or any(value != value for value in values):
        raise ValueError("empty")
    return values
'''

SCALE = '''\
"""Task 9.2."""


def scale(values: list[float], factor: float) -> list[float]:
    """Every value times `factor`."""
    # BEGIN SOLUTION 9.2
    if not values or any(value != value for value in values):
        return []
    return [factor * value for value in values if value is not None]
    # END SOLUTION
'''

HIDDEN = '''\
def test_add_of_unequal_lengths(student):
    """Only the common part is added."""
    secret_left = [1.5, 2.5, 3.5]
    secret_right = [10.0, 20.0]
    assert student.run(None, secret_left, secret_right) == [11.5, 22.5]
'''

PUBLIC = '''\
def test_add(student):
    """Two and two."""
    assert student.run(None, [2.0], [2.0]) == [4.0]
'''

MUTANT = """\
-    shortest = min(len(left), len(right))
+    shortest = max(len(left), len(right))
+    if shortest > 7:
+        shortest = 7
"""

README = """\
# A course

For everyone.
<!-- staff -->
How to grade: only for staff.
<!-- /staff -->
More for everyone.
"""


def write(path: Path, text: str | bytes) -> Path:
    """Write a file, with its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def make_course(root: Path, name: str = "hw9_tiny") -> Assignment:
    """A whole course of one homework below `root`, its stubs generated."""
    homework = root / name
    write(homework / "assignment.toml", TOML)
    write(homework / "README.md", "# Homework 9\n\nUse `tiny.add`.\n")
    write(homework / "tiny/__init__.py", '"""Given code."""\n')
    write(homework / "tiny/nested/__init__.py", "")
    write(homework / "solution/tiny/add.py", ADD)
    write(homework / "solution/tiny/nested/scale.py", SCALE)
    write(homework / "tests/test_9_1_add.py", PUBLIC)
    write(homework / "tests/drivers.py", "def add(a, b):\n    import tiny.add\n")
    write(homework / "hidden/test_9_1_add.py", HIDDEN)
    write(homework / "mutants/add_longest.patch", MUTANT)
    write(homework / "figures/plot.png", b"\x89PNG\r\n\x1a\n\xff\xfe\x00")
    write(root / "autograder/__init__.py", '"""The harness."""\n')
    write(root / "autograder/course/marks.py", 'MARK = "# BEGIN SOLUTION 9.1"\nhidden = 1\n')
    write(root / "tests/attacks/exit_zero.py", "import os\nos._exit(0)\n")
    write(root / "tests/course/test_marks.py", "def test_nothing():\n    pass\n")
    write(root / "README.md", README)
    write(root / "Makefile", "test:\n\techo test\n")
    write(root / "pyproject.toml", '[project]\nname = "course"\n')
    write(root / "requirements.lock", "numpy==2.4.6\n")
    write(root / ".gitignore", "*.zip\n__pycache__/\n")
    write(root / "CHANGELOG.md", "# Changes\n")
    write(root / ".ci/run", "#!/bin/sh\n")
    assignment = load_assignment(homework)
    write_stubs(assignment)
    return assignment


def make_zip(path: Path, members: dict[str, bytes | str]) -> Path:
    """A zip with members of any name, also of names that no honest tool writes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            info = zipfile.ZipInfo("x")
            info.filename = name
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, content)
    return path


def make_zip_with_mode(path: Path, name: str, content: str, mode: int) -> Path:
    """A zip of one member with a Unix mode, e.g. of a link or a device."""
    with zipfile.ZipFile(path, "w") as archive:
        info = zipfile.ZipInfo(name)
        info.create_system = 3
        info.external_attr = mode << 16
        archive.writestr(info, content)
    return path


def understate_sizes(path: Path, size: int) -> Path:
    """Make every member of a zip claim `size` bytes, in both of its headers."""
    data = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        place = data.find(signature)
        while place != -1:
            struct.pack_into("<I", data, place + offset, size)
            place = data.find(signature, place + 4)
    path.write_bytes(data)
    return path
