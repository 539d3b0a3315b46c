"""Finished builds, each in a folder named by all that went into it."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from .toolchain import user_cache


def folder(given: Path | None) -> Path:
    """Where builds are kept: as given, else LLM_SYSTEMS_KERNEL_CACHE, else the user's cache."""
    named = os.environ.get("LLM_SYSTEMS_KERNEL_CACHE")
    return Path(given or named or user_cache() / "kernels")


def key(parts: Iterable[str | bytes]) -> str:
    """A name for what is made from `parts`: the same parts in the same order give the same name."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "big") + data)
    return digest.hexdigest()[:32]


@contextlib.contextmanager
def working_folder(root: Path) -> Iterator[Path]:
    """An empty folder to build in: beside the finished ones, or a temporary one if not writable."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=".new-", dir=root))
    except OSError:
        work = Path(tempfile.mkdtemp(prefix="kernel-build-"))
        _temporary.append(work)
    try:
        yield work
    finally:
        if work.exists() and work not in _temporary:
            shutil.rmtree(work, ignore_errors=True)


# Folders of this process whose libraries may be in use; removed at its end.
_temporary: list[Path] = []


def keep(work: Path, root: Path, name: str) -> Path:
    """Move the finished build from `work` to its place, at once and whole; returns where it is."""
    if work in _temporary:
        return work
    target = root / name
    work.chmod(0o755)
    try:
        work.rename(target)
    except OSError:
        if not target.is_dir():  # another process was quicker
            raise
    return target


def clean() -> None:
    """Remove the temporary builds of this process."""
    while _temporary:
        shutil.rmtree(_temporary.pop(), ignore_errors=True)
