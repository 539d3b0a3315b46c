"""Task 4.6."""

from __future__ import annotations


def placeholder() -> None:
    """To be written."""
    # BEGIN SOLUTION 4.6
    return None
    # END SOLUTION
