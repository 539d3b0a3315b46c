"""Finished builds, each in a folder named by all that went into it."""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from .toolchain import user_cache

MOST = 400  # builds in a cache, of about 100 kB each


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
        _temporary.append((os.getpid(), work))
    try:
        yield work
    finally:
        if work.exists() and not _is_temporary(work):
            shutil.rmtree(work, ignore_errors=True)


# Folders of this process whose libraries may be in use; removed at its end.
_temporary: list[tuple[int, Path]] = []


def _is_temporary(work: Path) -> bool:
    return any(path == work for _, path in _temporary)


def is_of_one_run() -> bool:
    """Is the cache that of one grading, which is thrown away after it?"""
    return "LLM_SYSTEMS_KERNEL_CACHE" in os.environ


def keep_refusal(
    root: Path, name: str, message: str, places: Sequence[tuple[str, int]]
) -> None:
    """Remember what is wrong with a file that can't be built, where that can be written."""
    with contextlib.suppress(OSError):
        handle, path = tempfile.mkstemp(prefix=".new-", dir=root)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump([message, [list(place) for place in places]], file)
        os.chmod(path, 0o644)
        os.replace(path, root / f"{name}.refused")


def refusal_of(root: Path, name: str) -> tuple[str, list[tuple[str, int]]] | None:
    """What `keep_refusal` remembered, or None."""
    try:
        message, places = json.loads((root / f"{name}.refused").read_text(encoding="utf-8"))
        return str(message), [(str(file), int(line)) for file, line in places]
    except (OSError, ValueError):
        return None


def keep(work: Path, root: Path, name: str) -> Path:
    """Move the finished build from `work` to its place, at once and whole; returns where it is."""
    if _is_temporary(work):
        return work
    target = root / name
    work.chmod(0o755)
    try:
        work.rename(target)
    except OSError:  # another process was quicker
        if not target.is_dir():
            raise
    _drop_oldest(root)
    return target


def discard(root: Path, name: str) -> None:
    """Drop a build that can't be read, if one lies there."""
    with contextlib.suppress(OSError):
        aside = root / f".old-{os.urandom(8).hex()}"
        (root / name).rename(aside)
        shutil.rmtree(aside, ignore_errors=True)


def _drop_oldest(root: Path) -> None:
    """Keep the newest MOST builds, and what other processes are building."""
    with contextlib.suppress(OSError):
        finished = [path for path in root.iterdir() if not path.name.startswith(".")]
        finished.sort(key=lambda path: path.stat().st_mtime)
        for path in finished[: max(0, len(finished) - MOST)]:
            shutil.rmtree(path, ignore_errors=True)


def clean() -> None:
    """Remove the temporary builds of this process, not those of one that it was forked from."""
    while _temporary:
        pid, path = _temporary.pop()
        if pid == os.getpid():
            shutil.rmtree(path, ignore_errors=True)


atexit.register(clean)
