"""Task 4.8."""

from __future__ import annotations


def placeholder() -> None:
    """To be written."""
    # BEGIN SOLUTION 4.8
    return None
    # END SOLUTION
