"""A tokenizer for CUDA C++, as far as finding names, brackets and directives needs one.

It reads files as they are written and what a preprocessor made of them. Lines are counted as an
editor counts them, also across line continuations and raw strings.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from .errors import refusal


class Token(NamedTuple):
    """A word of the language. kind: name, number, string, character or operator."""

    kind: str
    text: str
    start: int  # offset into the text
    file: str
    line: int

    @property
    def end(self) -> int:
        return self.start + len(self.text)


class Directive(NamedTuple):
    """A preprocessor line, with its continuation lines: `name` is what stands behind the #."""

    name: str
    tokens: list[Token]  # behind the name
    text: str  # behind the name, comments included
    file: str
    line: int
    start: int  # offsets into the text, of the # and of the end
    end: int


class Source(NamedTuple):
    """A file cut into tokens; those of preprocessor lines are in the directives only."""

    file: str
    text: str
    tokens: list[Token]
    directives: list[Directive]


_PREFIX = r"(?:u8|[uUL])?"
# `>` stands alone always: `A<B<C>>` closes two lists of template arguments.
_OPERATORS = (
    r"<<<|<<=|->\*|\.\.\.|<<|->|\+\+|--|&&|\|\||::|<=|>=|==|!=|\+=|-=|\*=|/=|%=|&=|\|=|\^=|\#\#|."
)
_SCANNER = re.compile(
    rf"""
    (?P<space>[ \t]+|\\[ \t]*\n)
  | (?P<newline>\n)
  | (?P<comment>//(?:\\[ \t]*\n|[^\n])*|/\*.*?\*/)
  | (?P<raw>{_PREFIX}R"(?P<mark>[^()\\\s"]{{0,16}})\(.*?\)(?P=mark)")
  | (?P<string>{_PREFIX}"(?:\\.|[^"\\\n])*")
  | (?P<character>{_PREFIX}'(?:\\.|[^'\\\n])+')
  | (?P<number>\.?[0-9](?:[eEpP][+-]|'?[0-9A-Za-z_]|\.)*)
  | (?P<name>[A-Za-z_]\w*)
  | (?P<operator>{_OPERATORS})
    """,
    re.VERBOSE | re.DOTALL | re.ASCII,
)
# A line that goes on after a \ could join a word, or a / and a * that open a comment.
_SPLICE = re.compile(r"\S\\[ \t]*\n")


def _scan(text: str, file: str, line: int, base: int) -> Iterator[Token]:
    """All tokens of `text`, newlines among them; comments and white space are passed over."""
    at, end = 0, len(text)
    while at < end:
        found = _SCANNER.match(text, at)
        assert found is not None
        kind, word = found.lastgroup or "", found.group()
        if kind == "mark":
            kind = "raw"
        if kind == "operator":
            _check_operator(word, text, at, file, line)
        if kind not in ("space", "comment"):
            yield Token("string" if kind == "raw" else kind, word, base + at, file, line)
        line += word.count("\n")
        at = found.end()


def _check_operator(word: str, text: str, at: int, file: str, line: int) -> None:
    """Refuse what opens a string or a comment without an end, and characters outside of C++."""
    if text.startswith("/*", at):
        raise refusal(file, line, "this comment has no end: write */ behind it")
    if word in ("'", '"'):
        raise refusal(file, line, f"this {word} has no partner on its line")
    if len(word) == 1 and word not in "{}[]()<>;:?.,+-*/%^&|~!=#":
        raise refusal(file, line, f"the character {word!r} can't stand in a kernel file here")
    if text.startswith(("%:", "<%", "%>"), at):
        raise refusal(file, line, "digraphs are not taken: write # { } [ ]")
    if text.startswith("<:", at) and not text.startswith("<::", at):
        raise refusal(file, line, "digraphs are not taken: write # { } [ ]")


def tokenize(text: str, file: str, line: int = 1, base: int = 0) -> Source:
    """Cut `text` into tokens. `line` is the first line's number; `base` is added to offsets."""
    splice = _SPLICE.search(text)
    if splice:
        number = line + text.count("\n", 0, splice.start())
        raise refusal(file, number, "put a space before the \\ at the end of this line")
    tokens: list[Token] = []
    directives: list[Directive] = []
    at_line_start = True
    stream = _scan(text, file, line, base)
    for token in stream:
        if token.kind == "newline":
            at_line_start = True
        elif at_line_start and token.text in ("#", "##"):
            directives.append(_directive(token, stream, text, base))
            # Its newline is read.
        else:
            at_line_start = False
            tokens.append(token)
    return Source(file, text, tokens, directives)


def _directive(mark: Token, stream: Iterator[Token], text: str, base: int) -> Directive:
    """The directive that begins with the # at `mark`, up to the end of its line."""
    words: list[Token] = []
    end = base + len(text)
    for token in stream:
        if token.kind == "newline":
            end = token.start
            break
        words.append(token)
    if not words:
        return Directive("", [], "", mark.file, mark.line, mark.start, end)
    behind = text[words[0].end - base : end - base]
    return Directive(words[0].text, words[1:], behind, mark.file, mark.line, mark.start, end)


_OPEN, _CLOSE = {"(": ")", "[": "]", "{": "}"}, {")", "]", "}"}


DEEPEST = 200  # brackets inside of each other; compilers have limits like this, too


def check_depth(tokens: Sequence[Token]) -> None:
    """BuildError where brackets lie too deep inside of each other: all searches would be slow."""
    depth = 0
    for token in tokens:
        if token.kind == "operator":
            if token.text in _OPEN:
                depth += 1
                if depth > DEEPEST:
                    raise refusal(token.file, token.line, f"more than {DEEPEST} brackets lie inside "
                                  "of each other here, or a closing one is missing")  # fmt: skip
            elif token.text in _CLOSE:
                depth = max(0, depth - 1)


def matching(tokens: Sequence[Token], at: int) -> int:
    """The index of the bracket that closes the one at index `at`; BuildError if there is none."""
    expected = [_OPEN[tokens[at].text]]
    for index in range(at + 1, len(tokens)):
        word = tokens[index].text
        if tokens[index].kind != "operator":
            continue
        if word in _OPEN:
            expected.append(_OPEN[word])
        elif word in _CLOSE:
            if word != expected.pop():
                raise refusal(
                    tokens[index].file, tokens[index].line,
                    f"this {word} does not close the {tokens[at].text} of line {tokens[at].line}",
                )  # fmt: skip
            if not expected:
                return index
    raise refusal(tokens[at].file, tokens[at].line, f"this {tokens[at].text} is never closed")


def matching_angle(tokens: Sequence[Token], at: int) -> int | None:
    """The index of the > that closes the < at index `at`, or None if that < compares."""
    depth, index = 0, at
    while index < len(tokens):
        word = tokens[index].text
        if word == "<":
            depth += 1
            if depth > DEEPEST:
                raise refusal(tokens[index].file, tokens[index].line, f"more than {DEEPEST} < in one "
                              "expression")  # fmt: skip
        elif word == ">":
            depth -= 1
            if depth == 0:
                return index
        elif word in ("(", "[", "{"):
            index = matching(tokens, index)
        elif word in (";", ")", "]", "}"):
            return None
        index += 1
    return None


def split(tokens: Sequence[Token], separator: str = ",") -> list[list[Token]]:
    """Cut at each separator outside of brackets and template arguments; [] of no tokens."""
    parts: list[list[Token]] = [[]]
    index = 0
    while index < len(tokens):
        word, end = tokens[index].text, index
        if word in _OPEN:
            end = matching(tokens, index)
        elif word == "<" and index and tokens[index - 1].kind == "name":
            end = matching_angle(tokens, index) or index
        if word == separator:
            parts.append([])
        else:
            parts[-1] += tokens[index : end + 1]
        index = end + 1
    return parts if parts != [[]] else []
