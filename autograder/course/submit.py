"""The zip that a student uploads: the homework's editable files and nothing else."""

from __future__ import annotations

from pathlib import Path

from autograder.course.archive import Member, write_zip
from autograder.course.assignment import Assignment


class SubmitError(Exception):
    """A file can't be put into the zip; the message names it and says what to do."""


def make_submission_zip(assignment: Assignment, target: Path) -> Path:
    """Write the zip for the code in the homework's folder; returns `target`.

    Unfinished or broken code is no reason to refuse: only a missing or unreadable file is.
    The same files give the same zip. Raises SubmitError.
    """
    members = {}
    for file in assignment.files:
        path = assignment.stub_path(file)
        try:
            members[file] = Member(path.read_bytes())
        except FileNotFoundError:
            raise SubmitError(
                f"{path} is missing; restore it (git checkout -- {assignment.name}/{file} brings "
                "the unfinished file back) and run make submit again"
            ) from None
        except OSError as error:
            raise SubmitError(
                f"{path} cannot be read ({error.strerror}); make it an ordinary file that you may "
                "read, and run make submit again"
            ) from None
    return write_zip(target, members)
