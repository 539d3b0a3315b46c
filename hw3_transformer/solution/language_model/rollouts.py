"""Task 3.10."""

from __future__ import annotations


def placeholder() -> None:
    """To be written."""
    # BEGIN SOLUTION 3.10
    return None
    # END SOLUTION
