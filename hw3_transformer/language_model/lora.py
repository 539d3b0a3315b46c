"""Task 3.8."""

from __future__ import annotations


def placeholder() -> None:
    """To be written."""
    raise NotImplementedError("task 3.8: placeholder")
