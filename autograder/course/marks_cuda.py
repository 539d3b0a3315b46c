"""Marked regions of CUDA and C++ files: a scan that knows strings, comments and braces.

No parser of C++ is needed for it: a region must lie inside a function's body and close every
brace that it opens.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from autograder.course.marks import Comment, MarkError, Region, Replacement, pair_marks

_RAW_STRING = re.compile(r'(?:u8|[uUL])?R"([^\s()\\]{0,16})\(')
_QUOTED = re.compile(r"\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'", re.DOTALL)
_NUMBER = re.compile(r"\.?\d(?:'?[\w.]|(?<=[eEpP])[+-])*")
_WORD = re.compile(r"[A-Za-z_]\w*")
_SPECIFIER = re.compile(
    r"\b(?:__launch_bounds__|__attribute__|__declspec|alignas|decltype|noexcept|requires|explicit)"
    r"\s*\((?:[^()]|\((?:[^()]|\([^()]*\))*\))*\)"
)
_FUNCTION = re.compile(r"(operator\s*(?:\(\s*\)|[^\s\w(]+)|~?[A-Za-z_]\w*)\s*\(")


@dataclass
class _Piece:
    """A stretch of the text: `kind` is code, string, comment (of a line) or block comment."""

    kind: str
    start: int
    end: int


@dataclass(frozen=True)
class _Brace:
    """An opened brace: the name of the function it begins, or "" for any other."""

    line: int
    function: str


def replacements(
    text: str, path: Path | str, tasks: Collection[str] | None
) -> list[Replacement]:
    """What to put in the place of each marked region; raises MarkError."""
    pieces = list(_pieces(text))
    regions = pair_marks(_comments(text, pieces), "//", path, tasks)
    open_at = _open_braces(text, pieces, {r.begin for r in regions} | {r.end for r in regions})
    code_lines = _code_lines(text, pieces)
    found = []
    seen: dict[tuple[int, str], str] = {}
    for region in regions:
        before, after = open_at[region.begin], open_at[region.end]
        functions = [brace for brace in before if brace.function]
        if not functions:
            raise MarkError(
                f"{path}:{region.begin}: marks stand inside a function's body; move them into one"
            )
        if before != after:
            raise MarkError(
                f"{path}:{region.begin}: the braces between these marks do not balance; put whole "
                "statements inside"
            )
        if not any(region.begin < line < region.end for line in code_lines):
            raise MarkError(
                f"{path}:{region.begin}: nothing stands between these marks; remove them"
            )
        found.append(_replacement(region, functions[0], before, seen, path))
    return found


def _replacement(
    region: Region,
    function: _Brace,
    before: tuple[_Brace, ...],
    seen: dict[tuple[int, str], str],
    path: Path | str,
) -> Replacement:
    key = (function.line, function.function)
    if seen.setdefault(key, region.task) != region.task:
        raise MarkError(
            f"{path}:{region.begin}: {function.function} already belongs to task {seen[key]}; "
            "split the function, or use one task number"
        )
    return Replacement(
        region, f'LLM_NOT_IMPLEMENTED("task {region.task}: {function.function}");'
    )


def _pieces(text: str) -> Iterator[_Piece]:
    """The text cut into code, strings and comments, in order."""
    place = start = 0
    while place < len(text):
        kind, end = _special(text, place)
        if kind == "code":
            place = end
            continue
        if place > start:
            yield _Piece("code", start, place)
        yield _Piece(kind, place, end)
        place = start = end
    if place > start:
        yield _Piece("code", start, place)


def _special(text: str, place: int) -> tuple[str, int]:
    """Kind and end of what begins at `place`."""
    if text.startswith("//", place):
        end = place
        while True:  # a backslash at the end of the line continues the comment
            end = text.find("\n", end)
            if end == -1:
                return "comment", len(text)
            if text[end - 1] != "\\":
                return "comment", end
            end += 1
    if text.startswith("/*", place):
        end = text.find("*/", place + 2)
        return "block comment", len(text) if end == -1 else end + 2
    raw = _RAW_STRING.match(text, place)
    if raw:
        end = text.find(f'){raw.group(1)}"', raw.end())
        return "string", len(text) if end == -1 else end + len(raw.group(1)) + 2
    for pattern in (_WORD, _NUMBER):  # whole words: 1'000 holds no quote, FOR"…" no raw string
        match = pattern.match(text, place)
        if match:
            return "code", match.end()
    quoted = _QUOTED.match(text, place)
    if quoted:
        return "string", quoted.end()
    return "code", place + 1


def _comments(text: str, pieces: list[_Piece]) -> list[Comment]:
    found = []
    for piece in pieces:
        if piece.kind != "comment":
            continue
        line_start = text.rfind("\n", 0, piece.start) + 1
        found.append(
            Comment(
                line=_line(text, piece.start),
                column=piece.start - line_start,
                text=text[piece.start + 2 : piece.end],
                alone=not text[line_start : piece.start].strip(),
            )
        )
    return found


def _line(text: str, place: int) -> int:
    return text.count("\n", 0, place) + 1


def _open_braces(
    text: str, pieces: list[_Piece], lines: set[int]
) -> dict[int, tuple[_Brace, ...]]:
    """The braces open at the start of each of `lines`."""
    found: dict[int, tuple[_Brace, ...]] = {}
    stack: list[_Brace] = []
    line = 1
    header = ""  # what stands between the last `;`, `{` or `}` and here
    for piece in pieces:
        for character in text[piece.start : piece.end]:
            if character == "\n":
                line += 1
                if line in lines:
                    found[line] = tuple(stack)
            if piece.kind == "string":
                header += character
            if piece.kind != "code":
                continue
            if character == "{":
                named = any(brace.function for brace in stack)
                stack.append(_Brace(line, "" if named else _function_name(header)))
            elif character == "}" and stack:
                stack.pop()
            header = "" if character in "{};" else header + character
    return {number: found.get(number, ()) for number in lines}


def _function_name(header: str) -> str:
    """The function whose body the brace after `header` begins, or "" if it begins none."""
    header = "\n".join(
        line for line in header.split("\n") if not line.lstrip().startswith("#")
    )  # preprocessor lines end without a semicolon
    header = re.sub(r"\btemplate\s*<[^{;]*?>\s*(?=[A-Za-z_])", " ", header)
    header = _SPECIFIER.sub(" ", header)
    match = _FUNCTION.search(header)
    if not match or header.rstrip().endswith("="):  # a namespace, a type, an initialiser
        return ""
    return re.sub(r"\s+", "", match.group(1))


def _code_lines(text: str, pieces: list[_Piece]) -> set[int]:
    """The lines that hold more than comments and white space."""
    found = set()
    for piece in pieces:
        if piece.kind in ("code", "string"):
            first = _line(text, piece.start)
            parts = text[piece.start : piece.end].split("\n")
            found.update(first + n for n, part in enumerate(parts) if part.strip())
    return found
