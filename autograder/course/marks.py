"""Stubs from marked solutions.

Python:   `# BEGIN SOLUTION 1.4`  …  `# END SOLUTION`   inside a function
CUDA/C++: `// BEGIN SOLUTION 2.3` …  `// END SOLUTION`  inside a function body

Everything outside the marks is the stub. In Python the marked statements become
`raise NotImplementedError("task 1.4: function_name")`. In CUDA they become
`LLM_NOT_IMPLEMENTED("task 2.3: transpose");`, a macro that the homework's given header defines
(`templates/not_implemented.cuh` is one): it works in host and device functions, ends the call at
run time, and never returns, so that functions with a return value still compile and one
unfinished kernel does not block the others.

A mark is a comment on a line of its own. What only looks like a mark inside a string is text.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

CUDA_SUFFIXES = (".cu", ".cuh", ".cpp", ".cc", ".h", ".hpp")

_LOOSE = re.compile(r"\s*(begin|end)[\s_-]*solution\b", re.IGNORECASE)
_BEGIN = re.compile(r" BEGIN SOLUTION (\d+\.\d+)\s*")
_END = re.compile(r" END SOLUTION\s*")


class MarkError(Exception):
    """Marks that can't be turned into a stub; the message is `FILE:LINE: what; what to do`."""


@dataclass(frozen=True)
class Comment:
    """A line comment: `text` is what follows the comment sign; `alone` if nothing precedes it."""

    line: int
    column: int
    text: str
    alone: bool


@dataclass(frozen=True)
class Region:
    """A marked region: the lines of its two marks (1-based), its indentation and its task."""

    task: str
    begin: int
    end: int
    column: int


@dataclass(frozen=True)
class Replacement:
    """What stands in the stub for a region; no text means that the lines just go."""

    region: Region
    text: str


def stub_source(text: str, path: Path | str, tasks: Collection[str] | None = None) -> str:
    """The stub of a marked solution.

    `path` chooses the language by its suffix and is named in messages. `tasks`, if given, are
    the task numbers that exist. Raises MarkError for marks that are nested, unclosed, misspelt,
    of an unknown task, outside a function, or around something that is no whole statement.
    """
    text = _universal_newlines(text)
    lines = text.split("\n")
    out: list[str] = []
    after = 1
    for replacement in _replacements(text, path, tasks):
        region = replacement.region
        out.extend(lines[after - 1 : region.begin - 1])
        if replacement.text:
            out.append(" " * region.column + replacement.text)
        after = region.end + 1
    out.extend(lines[after - 1 :])
    stub = "\n".join(out)
    if Path(path).suffix == ".py":
        _check_parses(stub, path)
    return stub


def solution_lines(
    text: str, path: Path | str, tasks: Collection[str] | None = None
) -> dict[str, list[tuple[int, str]]]:
    """The lines inside marks, by task: (1-based line number, line). Raises MarkError."""
    text = _universal_newlines(text)
    lines = text.split("\n")
    found: dict[str, list[tuple[int, str]]] = {}
    for replacement in _replacements(text, path, tasks):
        region = replacement.region
        inside = range(region.begin + 1, region.end)
        found.setdefault(region.task, []).extend((n, lines[n - 1]) for n in inside)
    return found


def pair_marks(
    comments: list[Comment], sign: str, path: Path | str, tasks: Collection[str] | None
) -> list[Region]:
    """Regions from the comments of a file, in order; `sign` is the language's comment sign."""
    regions: list[Region] = []
    opened: tuple[Comment, str] | None = None
    for comment in comments:
        if not _LOOSE.match(comment.text):
            continue
        begin, end = _BEGIN.fullmatch(comment.text), _END.fullmatch(comment.text)
        if not (begin or end):
            raise MarkError(
                f"{path}:{comment.line}: a mark is written '{sign} BEGIN SOLUTION 1.4' or "
                f"'{sign} END SOLUTION'; this is '{sign}{comment.text}'"
            )
        if not comment.alone:
            raise MarkError(f"{path}:{comment.line}: a mark needs a line of its own; move it")
        if begin and opened:
            raise MarkError(
                f"{path}:{comment.line}: nested mark; close the one of line {opened[0].line} first"
            )
        if begin:
            if tasks is not None and begin.group(1) not in tasks:
                raise MarkError(
                    f"{path}:{comment.line}: there is no task {begin.group(1)}; correct the "
                    "number, or add the task to assignment.toml"
                )
            opened = (comment, begin.group(1))
            continue
        if opened is None:
            raise MarkError(f"{path}:{comment.line}: END SOLUTION closes nothing; remove it")
        if comment.column != opened[0].column:
            raise MarkError(
                f"{path}:{comment.line}: indent this mark like its BEGIN in line {opened[0].line}"
            )
        regions.append(Region(opened[1], opened[0].line, comment.line, comment.column))
        opened = None
    if opened:
        raise MarkError(f"{path}:{opened[0].line}: this mark is never closed; add END SOLUTION")
    return regions


def _replacements(
    text: str, path: Path | str, tasks: Collection[str] | None
) -> list[Replacement]:
    # Imported here: both languages' modules need the names above.
    from autograder.course import marks_cuda, marks_python

    suffix = Path(path).suffix
    if suffix == ".py":
        return marks_python.replacements(text, path, tasks)
    if suffix in CUDA_SUFFIXES:
        return marks_cuda.replacements(text, path, tasks)
    raise MarkError(f"{path}:1: marks are read in .py and {', '.join(CUDA_SUFFIXES)} files only")


def _check_parses(stub: str, path: Path | str) -> None:
    """A later region of a function goes without a trace, which may leave an empty block."""
    try:
        ast.parse(stub)
    except SyntaxError as error:
        raise MarkError(
            f"{path}:1: its stub would not be Python (line {error.lineno} of the stub: "
            f"{error.msg}); put one pair of marks around the whole block"
        ) from None


def _universal_newlines(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")
