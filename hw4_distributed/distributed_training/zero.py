"""Task 4.4."""

from __future__ import annotations


def placeholder() -> None:
    """To be written."""
    raise NotImplementedError("task 4.4: placeholder")
