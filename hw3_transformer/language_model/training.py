"""Task 3.7."""

from __future__ import annotations


def placeholder() -> None:
    """To be written."""
    raise NotImplementedError("task 3.7: placeholder")
