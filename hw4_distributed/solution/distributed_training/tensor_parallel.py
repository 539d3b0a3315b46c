"""Task 4.5."""

from __future__ import annotations


def placeholder() -> None:
    """To be written."""
    # BEGIN SOLUTION 4.5
    return None
    # END SOLUTION
