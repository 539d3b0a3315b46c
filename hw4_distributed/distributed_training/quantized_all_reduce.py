"""Task 4.9."""

from __future__ import annotations


def placeholder() -> None:
    """To be written."""
    raise NotImplementedError("task 4.9: placeholder")
