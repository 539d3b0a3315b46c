"""Changes to a text that keep its lines."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

# How a preprocessor says where the next line comes from.
MARKER = re.compile(r'^# (\d+) "((?:[^"\\\n]|\\.)*)"[ 0-9]*$', re.MULTILINE)
_KEPT = re.compile(r'\n# \d+ "[^\n]*(?=\n)|\n')


class Edit(NamedTuple):
    """Puts `text` in the place of start … end. Line ends of the old text are kept behind it."""

    start: int
    end: int
    text: str


def apply(text: str, edits: Iterable[Edit]) -> str:
    """The text after all edits, which must not overlap."""
    parts: list[str] = []
    at = 0
    for edit in sorted(edits):
        assert at <= edit.start <= edit.end, "edits overlap"
        old = text[edit.start : edit.end]
        parts += [text[at : edit.start], edit.text, *_KEPT.findall(old)]
        at = edit.end
    return "".join([*parts, text[at:]])


def quoted(text: str) -> str:
    """A C string literal of plain text."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
