"""Is one of the two threads of a race a turn ahead of the other? Told from where the barriers stand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from autograder.kernels.compile import Build


def turn_ahead(build: Build | None, file: str, pairs: Sequence[tuple[int, int]], passed: int) -> int:
    """-1: the thread of the later access is a turn ahead; 1: that of the earlier one; 0: neither.

    pairs: lines of the later and of the earlier access; of their own, and of what they were inlined
    into. passed: the line of the barrier that both threads passed last. Where it stands between the
    two lines, in one function, the thread of the upper one has come there again since.
    """
    text = _lines(build, file) if build and passed else []
    for now, earlier in pairs:
        first, last = min(now, earlier), max(now, earlier)
        if 0 < first < passed < last and not any(line[:1] == "}" for line in text[first - 1 : last]):
            return -1 if now < earlier else 1
    return 0


def source_text(build: Build, file: str) -> str:
    """The text of one of a build's files; "" where it can't be read."""
    path: Path = build.source.parent / file
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _lines(build: Build, file: str) -> list[str]:
    return source_text(build, file).splitlines()
