"""Task 4.9."""

from __future__ import annotations


def placeholder() -> None:
    """To be written."""
    # BEGIN SOLUTION 4.9
    return None
    # END SOLUTION
