"""Task 4.3."""

from __future__ import annotations


def placeholder() -> None:
    """To be written."""
    # BEGIN SOLUTION 4.3
    return None
    # END SOLUTION
