"""Task 3.8."""

from __future__ import annotations


def placeholder() -> None:
    """To be written."""
    # BEGIN SOLUTION 3.8
    return None
    # END SOLUTION
