"""One mistake fails many tests: the first of them tells it, the others refer; and a file that can't
be built stands above all tests.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from autograder.testing.records import Frame

if TYPE_CHECKING:
    from autograder.reporting.outcome import TestOutcome

BUILD_ERROR, UNFINISHED = "BuildError", "NotImplementedError"
_PLACE = re.compile(r"(?P<file>[^\s:]{1,200}):\d+:")
_SYNTAX = ("SyntaxError", "IndentationError", "TabError")
_MAX_BROKEN, _MAX_LINES, _MAX_LINE = 12, 6, 300


def told_once(outcomes: Sequence[TestOutcome]) -> list[TestOutcome]:
    """The outcomes; an error that an earlier test ended in, at the same place, refers to that test.

    The same place is the same line of each frame; of an error at import, the last line is enough.
    Messages are not compared: sizes and threads differ, the mistake does not. Hidden tests say
    little, and stubs are told of elsewhere.
    """
    first: dict[tuple[Any, ...], TestOutcome] = {}
    told = []
    for test in outcomes:
        lost = test.state in ("failed", "partial")
        if lost and not test.hidden and test.frames and test.exception != UNFINISHED:
            place = telling_frames(test)[-1]
            teller = first.setdefault(_key(test), test)
            if teller is not test:
                words = f"{test.exception} in {place.file}, line {place.line}"
                test = replace(
                    test, frames=(), same_as=teller.test,
                    message=f"{words}: the same as in {teller.function} (task {teller.number})",
                )  # fmt: skip
        told.append(test)
    return told


def telling_frames(test: TestOutcome, most: int = 1) -> tuple[Frame, ...]:
    """The frames to look at, in order: the innermost, or the first errors of a kernel file."""
    own = [frame for frame in test.frames if not frame.file.endswith(".py")]
    if test.exception == BUILD_ERROR and own:
        return tuple(own[:most])
    return test.frames[-most:]


def _key(test: TestOutcome) -> tuple[Any, ...]:
    if test.exception == BUILD_ERROR:  # whichever function asked for the file
        return test.exception, test.message
    places = tuple((frame.file, frame.line) for frame in test.frames)
    at_import = test.exception in _SYNTAX or test.frames[-1].function == "<module>"
    if at_import:
        return test.exception, places[-1:]
    return test.exception, places


def unbuilt(outcomes: Sequence[TestOutcome]) -> list[str]:
    """For each kernel file that can't be built: where, what the compiler says, and what it costs.

    Of public tests only; called before `told_once`.
    """
    messages: dict[str, list[TestOutcome]] = {}
    for test in outcomes:
        if test.exception == BUILD_ERROR and not test.hidden:
            messages.setdefault(test.message.partition("\n")[0], []).append(test)
    told = []
    for tests in list(messages.values())[:_MAX_BROKEN]:
        lines = tests[0].message.removeprefix(f"{BUILD_ERROR}: ").split("\n")
        more = len(lines) - _MAX_LINES
        lines = [*lines[:_MAX_LINES], f"… ({more} more lines)"] if more > 0 else lines
        numbers = ", ".join(dict.fromkeys(test.number for test in tests))
        lines.append(f"{len(tests)} test{'s' * (len(tests) > 1)} of {numbers} can't run before that")
        told.append("\n".join(line[:_MAX_LINE] for line in lines))
    return told


def broken_files(broken: Sequence[str]) -> str:
    """`transpose.cu and softmax.cu`: the files that `Report.broken` is about; "" for none."""
    found = (_PLACE.match(problem) for problem in broken)
    names = list(dict.fromkeys(one["file"].rpartition("/")[2] for one in found if one))
    if len(names) < 2:
        return names[0] if names else "a file" if broken else ""
    return f"{', '.join(names[:-1])} and {names[-1]}"
