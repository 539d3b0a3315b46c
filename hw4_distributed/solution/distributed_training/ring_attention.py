"""Task 4.10."""

from __future__ import annotations


def placeholder() -> None:
    """To be written."""
    # BEGIN SOLUTION 4.10
    return None
    # END SOLUTION
