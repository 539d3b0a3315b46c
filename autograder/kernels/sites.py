"""Places where threads meet, each with a number of its own.

The emulator knows barriers and warp functions by the line that calls them. Where one line calls
several (also by a macro, or a file that is included twice), each but the first is put on a line of
its own here: markers of the preprocessor give it the number `line + n * LINES`, which `true_line`
undoes. Instantiations of one template share their lines, as calls of one function do.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

from .edits import Edit
from .errors import refusal
from .scopes import opening_angle, opening_of
from .tokens import Token, matching, matching_angle

LINES = 1 << 20  # more than a file can have
MOST_OF_A_LINE = 1000
# Barriers, warp functions, and the methods of groups that call them; a function of a student's that
# is named like one only gets another number too.
_MEETS = re.compile(
    r"__sync\w+|\w+_sync|sync|shfl(?:_\w+)?|any|all|ballot|match_any|match_all|reduce|\w+_scan|"
    r"wait|wait_prior|\w*memcpy_async|binary_partition|Sum|Reduce"
)


def true_line(line: int) -> int:
    """The line of the file, of one that may have been numbered here."""
    return line % LINES


def meeting_places(tokens: Sequence[Token], others: Iterable[Edit] = ()) -> list[Edit]:
    """Edits that tell apart the calls of one line, of a preprocessed text.

    others: edits that will be made as well; calls inside of what they replace are left alone.
    """
    taken = [(edit.start, edit.end) for edit in others]
    seen: Counter[tuple[str, int]] = Counter()
    around: list[tuple[int, int]] = []  # where the calls that this one stands in end; their numbers
    edits: list[Edit] = []
    behind = -1  # the end of the last call that was marked
    for index, token in enumerate(tokens):
        close = _call_end(tokens, index)
        if close is None:
            continue
        while around and around[-1][0] < index:
            around.pop()
        number = seen[token.file, token.line]
        if number >= MOST_OF_A_LINE:
            raise refusal(token.file, token.line, "too many barriers and warp functions in a line")
        seen[token.file, token.line] += 1
        outer = around[-1][1] if around else 0
        last = tokens[close]
        if any(start < last.end and token.start < end for start, end in taken):
            continue
        around.append((close, number))
        if number or outer:
            first = _expression_start(tokens, index)
            first = tokens[first if first > behind else index]
            edits.append(_marker(first, first.start, number))
            edits.append(_marker(last, last.end, outer))
            behind = close
    return edits


def _marker(token: Token, place: int, number: int) -> Edit:
    return Edit(place, place, f'\n# {token.line + number * LINES} "{token.file}"\n')


def _expression_start(tokens: Sequence[Token], index: int) -> int:
    """Where what stands before the function's name begins: compilers take the line of that."""
    while index > 1 and tokens[index - 1].text in (".", "->", "::"):
        before = index - 2
        if tokens[before].text in (")", "]"):
            before = opening_of(tokens, before) - 1
        if tokens[before].text == ">":
            before = opening_angle(tokens, before) - 1
        if before < 0 or tokens[before].kind != "name":
            return index - 1 if tokens[index - 1].text == "::" else before + 1
        index = before
    return index


def _call_end(tokens: Sequence[Token], index: int) -> int | None:
    """The index of the ) if a call of such a function begins at `index`, or else None."""
    if tokens[index].kind != "name" or not _MEETS.fullmatch(tokens[index].text):
        return None
    after = index + 1
    if after < len(tokens) and tokens[after].text == "<":
        end = matching_angle(tokens, after)
        after = end + 1 if end else after
    if after < len(tokens) and tokens[after].text == "(":
        return matching(tokens, after)
    return None
