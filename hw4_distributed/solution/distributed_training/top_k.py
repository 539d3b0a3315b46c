"""Task 4.7."""

from __future__ import annotations


def placeholder() -> None:
    """To be written."""
    # BEGIN SOLUTION 4.7
    return None
    # END SOLUTION
