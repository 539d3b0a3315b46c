"""Task 3.2."""

from __future__ import annotations


def placeholder() -> None:
    """To be written."""
    # BEGIN SOLUTION 3.2
    return None
    # END SOLUTION
