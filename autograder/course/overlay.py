"""The tree that is graded: given code and stubs, with a submission's files laid over them."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path

from autograder.course.assignment import Assignment

_FILE_MODE = 0o644
_FOLDER_MODE = 0o755
_LEFTOVERS = {"__pycache__", ".DS_Store"}


class OverlayError(Exception):
    """The overlay can't be built: a fault of the course or the caller, never of a student."""


def build_overlay(assignment: Assignment, submitted: Mapping[str, bytes], target: Path) -> Path:
    """Lay `submitted` (editable file -> content) over the given package in `target`.

    `target` must not exist or be empty. The result holds `target/<package>/…` and is what goes
    on a worker's path; files are 0644 and folders 0755 whatever the umask, so that another user
    can read and only the owner can change them. Returns `target`. An editable file that was not
    submitted keeps the stub. Raises OverlayError.
    """
    unknown = sorted(set(submitted) - set(assignment.files))
    if unknown:
        raise OverlayError(f"{assignment.name} does not take {', '.join(unknown)}")
    target = Path(target)
    if target.exists() and any(target.iterdir()):
        raise OverlayError(f"{target} is not empty; an overlay is built in a folder of its own")
    package = assignment.root / assignment.package
    if not package.is_dir():
        raise OverlayError(f"{package} is missing: the given code of {assignment.name}")
    _make_folder(target)
    for path in _given_files(package):
        file = path.relative_to(assignment.root).as_posix()
        if file not in submitted:
            _write(target, file, path.read_bytes())
    for file, content in submitted.items():
        _write(target, file, content)
    return target


def _given_files(package: Path) -> list[Path]:
    """The files of the package that are part of it; caches stay behind, links are refused."""
    found = []
    waiting = [package]
    while waiting:
        for entry in sorted(os.scandir(waiting.pop()), key=lambda entry: entry.name):
            if entry.name in _LEFTOVERS or entry.name.endswith(".pyc"):
                continue
            mode = entry.stat(follow_symlinks=False).st_mode
            if stat.S_ISDIR(mode):
                waiting.append(Path(entry.path))
            elif stat.S_ISREG(mode):
                found.append(Path(entry.path))
            else:
                raise OverlayError(f"{entry.path}: given code consists of files, this is a link")
    return found


def _write(target: Path, file: str, content: bytes) -> None:
    path = target / file
    folder = target
    for part in Path(file).parts[:-1]:
        folder = folder / part
        if not folder.is_dir():
            _make_folder(folder)
    path.write_bytes(content)
    path.chmod(_FILE_MODE)


def _make_folder(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(_FOLDER_MODE)
