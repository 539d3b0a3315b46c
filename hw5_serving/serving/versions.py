"""Task 5.11: not written yet; the homework is a draft."""

from __future__ import annotations


def unfinished() -> None:
    """Holds the task's place."""
    raise NotImplementedError("task 5.11: unfinished")
