"""What a test author imports. Tests run in a trusted process and reach student code by `student`."""

from autograder.testing.compare import Hint, as_count, assert_close, assert_equal, finite_difference
from autograder.testing.marks import reported_by_worker, speed, stands_alone
from autograder.testing.packaged import packaged
from autograder.testing.records import Measure
from autograder.testing.student import (
    Memory,
    Student,
    StudentCrashed,
    StudentError,
    StudentFlooded,
    StudentRaised,
    StudentTimedOut,
)
from autograder.testing.timing import Race, race, race_score, score_ratio

__all__ = [
    "Hint",
    "Measure",
    "Memory",
    "Race",
    "Student",
    "StudentCrashed",
    "StudentError",
    "StudentFlooded",
    "StudentRaised",
    "StudentTimedOut",
    "as_count",
    "assert_close",
    "assert_equal",
    "finite_difference",
    "packaged",
    "race",
    "race_score",
    "reported_by_worker",
    "score_ratio",
    "speed",
    "stands_alone",
]
