"""Task 4.11."""

from __future__ import annotations


def placeholder() -> None:
    """To be written."""
    raise NotImplementedError("task 4.11: placeholder")
