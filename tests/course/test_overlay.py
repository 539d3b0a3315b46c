"""The graded tree: given code below, a submission's files on top."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from autograder.course.overlay import OverlayError, build_overlay
from tests.course.samples import make_course, write


def _tree(root: Path) -> dict[str, str]:
    files = (path for path in root.rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix(): path.read_text() for path in files}


def test_submitted_files_lie_over_given_code_and_stubs_fill_the_gaps(tmp_path: Path) -> None:
    assignment = make_course(tmp_path / "course")
    write(assignment.root / "tiny/__pycache__/add.cpython-311.pyc", b"\0")
    target = build_overlay(assignment, {"tiny/add.py": b"x = 1\n"}, tmp_path / "overlay")
    tree = _tree(target)
    assert sorted(tree) == [
        "tiny/__init__.py", "tiny/add.py", "tiny/nested/__init__.py", "tiny/nested/scale.py",
    ]  # fmt: skip
    assert tree["tiny/add.py"] == "x = 1\n"
    assert "task 9.2" in tree["tiny/nested/scale.py"]


def test_modes_are_fixed_whatever_the_umask(tmp_path: Path) -> None:
    assignment = make_course(tmp_path / "course")
    (assignment.root / "tiny/__init__.py").chmod(0o6777)
    before = os.umask(0o077)
    try:
        target = build_overlay(assignment, {"tiny/add.py": b""}, tmp_path / "overlay")
    finally:
        os.umask(before)
    for path in [target, *target.rglob("*")]:
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (0o755 if path.is_dir() else 0o644), path


def test_only_listed_files_are_taken(tmp_path: Path) -> None:
    assignment = make_course(tmp_path / "course")
    for name in ("tiny/__init__.py", "../x.py", "conftest.py"):
        with pytest.raises(OverlayError, match="does not take"):
            build_overlay(assignment, {name: b""}, tmp_path / "overlay")
    assert not (tmp_path / "overlay").exists()


def test_an_overlay_needs_an_empty_folder_and_given_code_without_links(tmp_path: Path) -> None:
    assignment = make_course(tmp_path / "course")
    write(tmp_path / "used/x", "")
    with pytest.raises(OverlayError, match="not empty"):
        build_overlay(assignment, {}, tmp_path / "used")
    (assignment.root / "tiny/link.py").symlink_to("/etc/passwd")
    with pytest.raises(OverlayError, match="link"):
        build_overlay(assignment, {}, tmp_path / "overlay")
