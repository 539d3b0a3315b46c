"""The student's own lines within what a preprocessor wrote."""

from __future__ import annotations

from collections.abc import Collection

from .edits import MARKER
from .tokens import Directive, Token, tokenize


def own_tokens(text: str, files: Collection[str]) -> tuple[list[Token], list[Directive]]:
    """Tokens and directives (pragmas) of the lines that come from `files`, in order.

    Offsets are those into `text`, lines those of the original files.
    """
    tokens: list[Token] = []
    directives: list[Directive] = []
    file, line, at = "", 1, 0
    for marker in [*MARKER.finditer(text), None]:
        end = marker.start() if marker else len(text)
        if file in files and end > at:
            part = tokenize(text[at:end], file, line, at)
            tokens += part.tokens
            directives += part.directives
        if marker:
            file, line = marker.group(2).removeprefix("./"), int(marker.group(1))
            at = min(marker.end() + 1, len(text))
    return tokens, directives
