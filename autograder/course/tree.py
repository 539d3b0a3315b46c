"""The files of the project, as its version control sees them."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

_CACHES = {"__pycache__", ".pytest_cache", ".hypothesis", ".mypy_cache", ".ruff_cache", "__MACOSX"}
# What a walk leaves out besides, where git can't be asked what is ignored.
_IGNORED_FOLDERS = {".git", ".venv", "venv", "node_modules"}
_LEFTOVERS = {".DS_Store", "Thumbs.db", "desktop.ini"}
_LEFTOVER_SUFFIXES = (".pyc", ".pyo", ".tmp", ".swp")


class TreeError(Exception):
    """The project holds something that can't be copied."""


def project_files(root: Path, keep: Callable[[str], bool] = lambda name: True) -> list[str]:
    """Files below `root` that `keep` wants, relative and sorted.

    Those of git (committed, or new and not ignored) if root is a checkout, else all; caches never
    count. Raises TreeError for a link among them: a copy of it would point elsewhere.
    """
    root = Path(root)
    names = _asked_of_git(root)
    if names is None:
        names = _walked(root)
    files = []
    for name in sorted(set(names)):
        if _is_leftover(name) or not keep(name):
            continue
        try:
            mode = (root / name).lstat().st_mode
        except FileNotFoundError:  # deleted and not yet committed
            continue
        if not stat.S_ISREG(mode):
            raise TreeError(f"{root / name} is a link or a special file; replace it by a file")
        files.append(name)
    return files


def _is_leftover(name: str) -> bool:
    parts = name.split("/")
    return (
        any(part in _CACHES or part.endswith(".egg-info") for part in parts[:-1])
        or parts[-1] in _LEFTOVERS
        or parts[-1].endswith(_LEFTOVER_SUFFIXES)
    )


def _asked_of_git(root: Path) -> list[str] | None:
    """None where root is no checkout, or git is missing or refuses."""
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "ls-files", "-co", "--exclude-standard", "-z"]
    try:
        result = subprocess.run(command, capture_output=True, check=False, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    if result.returncode != 0:
        return None
    return [os.fsdecode(name) for name in result.stdout.split(b"\0") if name]


def _walked(root: Path) -> list[str]:
    found = []
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if name not in _IGNORED_FOLDERS]
        links = [name for name in folders if os.path.islink(os.path.join(folder, name))]
        for name in [*files, *links]:
            found.append(Path(folder, name).relative_to(root).as_posix())
    return found
