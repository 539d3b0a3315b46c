"""Task 4.4."""

from __future__ import annotations


def placeholder() -> None:
    """To be written."""
    # BEGIN SOLUTION 4.4
    return None
    # END SOLUTION
