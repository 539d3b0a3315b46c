"""Real data in tests: its path in the cache, or a test that is skipped and scores 0."""

from __future__ import annotations

from pathlib import Path

import pytest

from autograder.course import data


def packaged(name: str) -> Path:
    """The fetched data set's file, or the folder of its files (`autograder.course.data`).

    Absent, the test that asks is skipped with the command that fetches it. KeyError: no such data.
    The homework's assignment.toml must name it, or no worker may open it.
    """
    path = data.find(name)
    if path is None:
        pytest.skip(data.needs([name]))
    return path
