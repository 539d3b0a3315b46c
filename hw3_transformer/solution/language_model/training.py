"""Task 3.7."""

from __future__ import annotations


def placeholder() -> None:
    """To be written."""
    # BEGIN SOLUTION 3.7
    return None
    # END SOLUTION
