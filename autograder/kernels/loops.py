"""Which loop of a kernel file did not end: from the places that were seen again and again."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

_OPEN, _CLOSE = "([{", ")]}"
_LOOP = re.compile(r"\b(for|while|do)\b")
# Comments, strings and characters, which may hold brackets and words; a ' within a number is none.
_NO_CODE = re.compile(
    r"//[^\n]*|/\*.*?\*/|\"(?:\\.|[^\"\\\n])*\"|(?<![0-9a-fA-F])'(?:\\.|[^'\\\n])+'", re.S
)


def endless_loop(text: str, lines: Sequence[int]) -> int:
    """The line of the innermost loop statement around all `lines`, 0 if there is none.

    lines: those that one thread came to more than once, in the function that it did not leave; so
    loops that ended, and those inside of the one that did not, are told from it.
    """
    if not lines:
        return 0
    first, last = min(lines), max(lines)
    around = [(start, end) for start, end in loops(text) if start <= first and last <= end]
    # Of two that end alike, as a loop of one line in another's, the later one is inside.
    return max(around, default=(0, 0), key=lambda extent: (-(extent[1] - extent[0]), extent[0]))[0]


def loops(text: str) -> list[tuple[int, int]]:
    """(first line, last line) of each `for`, `while` and `do` of a text of CUDA C++."""
    code = _NO_CODE.sub(lambda found: re.sub(r"[^\n]", " ", found[0]), text)
    return list(_extents(code))


def _extents(code: str) -> Iterator[tuple[int, int]]:
    line = [0]
    for character in code:
        line.append(line[-1] + (character == "\n"))
    for found in _LOOP.finditer(code):
        end = _statement_end(code, found.start())
        yield line[found.start()] + 1, line[min(end, len(code) - 1)] + 1


def _statement_end(code: str, start: int) -> int:
    """The place behind the statement that begins at `start`."""
    start += len(code[start:]) - len(code[start:].lstrip())
    word = re.match(r"\w+", code[start : start + 20])
    name = word[0] if word else ""
    if name in ("for", "while", "if", "switch"):
        inner = _statement_end(code, _closed(code, code.find("(", start)))
        other = re.match(r"\s*else\b", code[inner:]) if name == "if" else None
        return _statement_end(code, inner + other.end()) if other else inner
    if name == "do":
        inner = _statement_end(code, start + 2)
        return _simple_end(code, inner)
    if code[start : start + 1] == "{":
        return _closed(code, start)
    return _simple_end(code, start)


def _simple_end(code: str, start: int) -> int:
    """Behind the `;` that ends a statement, past those inside of brackets."""
    place = start
    while place < len(code) and code[place] != ";":
        if code[place] in _CLOSE:
            return place
        place = _closed(code, place) if code[place] in _OPEN else place + 1
    return min(place + 1, len(code))


def _closed(code: str, start: int) -> int:
    """Behind the bracket that closes the one at `start`; the text's end if none does."""
    if start < 0:
        return len(code)
    depth = 0
    for place in range(start, len(code)):
        depth += (code[place] in _OPEN) - (code[place] in _CLOSE)
        if depth == 0:
            return place + 1
    return len(code)
