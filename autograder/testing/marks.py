"""Decorators of ours, beside gradescope_utils' @number, @weight, @visibility and @partial_credit."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

Test = TypeVar("Test", bound=Callable[..., None])


def speed(test: Test) -> Test:
    """A speed test: run last in its task, and only if the task's other tests all passed."""
    test.__speed__ = True  # type: ignore[attr-defined]
    return test


def stands_alone(test: Test) -> Test:
    """This test needs none of the tasks that its own task requires: it is not skipped for them."""
    test.__stands_alone__ = True  # type: ignore[attr-defined]
    return test


def reported_by_worker(test: Test) -> Test:
    """The number behind these points comes from the worker: at most 20% of a task's points."""
    test.__reported_by_worker__ = True  # type: ignore[attr-defined]
    return test
