"""Task 3.1."""

from __future__ import annotations


def placeholder() -> None:
    """To be written."""
    # BEGIN SOLUTION 3.1
    return None
    # END SOLUTION
