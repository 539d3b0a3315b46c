"""Task 4.11."""

from __future__ import annotations


def placeholder() -> None:
    """To be written."""
    # BEGIN SOLUTION 4.11
    return None
    # END SOLUTION
