"""Task 4.2."""

from __future__ import annotations


def placeholder() -> None:
    """To be written."""
    # BEGIN SOLUTION 4.2
    return None
    # END SOLUTION
