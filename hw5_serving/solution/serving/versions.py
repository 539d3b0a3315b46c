"""Task 5.11: not written yet; the homework is a draft."""

from __future__ import annotations


def unfinished() -> None:
    """Holds the task's place."""
    # BEGIN SOLUTION 5.11
    raise NotImplementedError("5.11 has no reference yet")
    # END SOLUTION
