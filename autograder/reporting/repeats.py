"""One mistake fails many tests: the first of them tells it, the others refer; and a file that can't
be built stands above all tests.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from autograder.testing.records import Frame

if TYPE_CHECKING:
    from autograder.reporting.outcome import TestOutcome

BUILD_ERROR, UNFINISHED = "BuildError", "NotImplementedError"
_PLACE = re.compile(r"(?P<file>[^\s:]{1,200}):\d+:")
_STUB = re.compile(r"task (?P<number>[\d.]{1,9}): (?P<name>\w{1,80}) is not implemented yet")
_NUMBER = re.compile(r"[-+]?\b(?:\d[\d.,]*(?:e[-+]?\d+)?|nan|inf)\b", re.IGNORECASE)
_BRACKETS = re.compile(r"[\s\[\](),#]+")
_MAX_NAMED = 4
_SYNTAX = ("SyntaxError", "IndentationError", "TabError")
_MAX_BROKEN, _MAX_LINES, _MAX_LINE = 12, 6, 300


def told_once(outcomes: Sequence[TestOutcome]) -> list[TestOutcome]:
    """The outcomes; a failure that an earlier test tells already refers to that test (`same_as`).

    An error: in the same lines (of an import, the last is enough); in a helper of one task's
    kernels, whichever of them called it. Messages are not compared then: sizes and threads differ,
    the mistake does not. Without a place, what is wrong in one task, in equal words up to shapes
    and numbers. A stub: the same function. Hidden tests say little.
    """
    first: dict[tuple[Any, ...], TestOutcome] = {}
    told = []
    for test in outcomes:
        if test.state in ("failed", "partial") and not test.hidden and (key := _key(test)):
            teller = first.setdefault(key, test)
            if teller is not test:
                words = _words(test)
                test = replace(
                    test, frames=(), same_as=teller.test,
                    message=f"{words}: the same as in {teller.function} (task {teller.number})",
                )  # fmt: skip
        told.append(test)
    return told


def _words(test: TestOutcome) -> str:
    """What was wrong, in a line, for a test that refers to another."""
    if test.exception == UNFINISHED or not test.frames:
        return test.message.partition("\n")[0]
    place = telling_frames(test)[-1]
    return f"{test.exception} in {place.file}, line {place.line}"


def the_same_in(tests: Sequence[TestOutcome]) -> str:
    """`the same in 3 more tests: test_a, test_b, test_c`; of many, the first and the tasks."""
    names = [test.function for test in tests]
    shown, more = ", ".join(names), ""
    if len(names) > _MAX_NAMED + 1:
        shown = ", ".join(names[:_MAX_NAMED])
        numbers = ", ".join(dict.fromkeys(test.number for test in tests))
        more = f" and {len(names) - _MAX_NAMED} others, of {numbers}"
    return f"the same in {len(names)} more test{'s' * (len(names) > 1)}: {shown}{more}"


def warned(tests: Sequence[TestOutcome]) -> list[tuple[str, list[TestOutcome]]]:
    """Each warning of a task once, and the tests that came upon it: lines count, threads do not."""
    found: dict[tuple[str, str], tuple[str, list[TestOutcome]]] = {}
    for test in tests:
        for text in test.warnings:
            key = (test.number, text.partition("\n")[0])
            _, warned_tests = found.setdefault(key, (text, []))
            if test not in warned_tests:
                warned_tests.append(test)
    return list(found.values())


def one_per_task(tests: Sequence[TestOutcome]) -> list[TestOutcome]:
    """The first test of each task, then the others: where there is no room for all."""
    seen: set[str] = set()
    firsts = [test for test in tests if not (test.number in seen or seen.add(test.number))]
    return firsts + [test for test in tests if test not in firsts]


def unfinished_functions(tests: Sequence[TestOutcome]) -> str:
    """`2.5 (warp_reduce, on_chip), 2.7 (adamw)`: the stubs that tests ended in, by task."""
    named: dict[str, list[str]] = {}
    for test in tests:
        if test.exception == UNFINISHED:
            found = _STUB.match(test.message)
            named.setdefault(found["number"] if found else test.number, []).extend(
                [found["name"]] if found else []
            )
    return ", ".join(
        f"{number} ({', '.join(dict.fromkeys(names))})" if names else number
        for number, names in named.items()
    )


def telling_frames(test: TestOutcome, most: int = 1) -> tuple[Frame, ...]:
    """The frames to look at, in order: the innermost of a file that the student edits and what
    called it, every rank's line, or the first errors of a kernel file."""
    own = [frame for frame in test.frames if not frame.file.endswith(".py")]
    if test.exception == BUILD_ERROR and own:
        return tuple(own[:most])
    if any(frame.ranks for frame in test.frames):
        return test.frames
    last = max((i for i, f in enumerate(test.frames) if f.file in test.edited), default=None)
    return test.frames[-most:] if last is None else test.frames[: last + 1][-most:]


def one_line_a_rank(frames: Sequence[Frame], edited: Collection[str]) -> list[Frame]:
    """Where a group of ranks ended as a whole, the line of each rank, ranks in one line together:
    the innermost in a file that the student edits. Frames that are of no rank stay as they are."""
    if not all(frame.ranks for frame in frames):
        return list(frames)
    innermost: dict[int, Frame] = {}
    for frame in frames:
        before = innermost.get(frame.ranks[0])
        if before is None or frame.file in edited or before.file not in edited:
            innermost[frame.ranks[0]] = frame
    places: dict[tuple[str, int], Frame] = {}
    for rank, frame in sorted(innermost.items()):
        first = places.setdefault((frame.file, frame.line), frame.model_copy(update={"ranks": []}))
        first.ranks.append(rank)
    return list(places.values())


def _key(test: TestOutcome) -> tuple[Any, ...]:
    """Equal for two tests that fail by one mistake; () for a test that tells its own."""
    if test.exception == UNFINISHED:
        return test.exception, test.message
    if not test.frames:
        words = _shapeless(test.message)
        # A measure is told with its own test.
        return () if test.measures and test.state == "partial" else (test.number, words)
    if test.exception == BUILD_ERROR:  # whichever function asked for the file
        return test.exception, test.message
    places = tuple((frame.file, frame.line) for frame in test.frames)
    last = test.frames[-1]
    if test.exception in _SYNTAX or last.function == "<module>":
        return test.exception, places[-1:]
    if last.file.endswith((".cu", ".cuh")):  # in either order, and whatever kernel called a helper
        inside = {(f.file, f.line) for f in test.frames if f.function == last.function}
        return test.exception, test.number, frozenset(inside)
    return test.exception, places


def _shapeless(text: str) -> str:
    """A message with each number, and each list or tuple of them, made one sign."""
    return _BRACKETS.sub(lambda run: "#" if "#" in run[0] else " ", _NUMBER.sub("#", text))


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
