"""Which scope a token stands in: a namespace, a class, a block of statements."""

from __future__ import annotations

from collections.abc import Sequence

from .errors import BuildError, refusal
from .tokens import Token, matching, matching_angle


LONGEST = 1000  # words of a declaration before its __shared__ or __device__


def scopes(tokens: Sequence[Token], *, strict: bool = True) -> list[str]:
    """For each token the kind of its innermost scope.

    Kinds: "file" (also inside of a namespace), "extern" (in `extern "C" { }`), "class", "enum" and
    "block" (function bodies, statements, initialisers). An opening brace has the scope outside.
    strict: braces must match; without it, of a file with #if, the kinds are the best guess.
    """
    kinds: list[str] = []
    stack = ["file"]
    opened: list[Token] = []
    suspect: BuildError | None = None  # a function begins inside of another one
    start = 0  # of the statement
    for index, token in enumerate(tokens):
        if token.kind == "operator" and token.text == "}":
            if len(stack) == 1 and strict:
                raise refusal(token.file, token.line, "this } closes nothing")
            stack[1:] = stack[1:-1]
            opened[-1:] = []
        kinds.append(stack[-1])
        if token.kind != "operator":
            continue
        if token.text == "{":
            if not suspect and stack[-1] == "block" and _begins_function(tokens[start:index]):
                suspect = refusal(
                    opened[-1].file, opened[-1].line, "this { is still open in line "
                    f"{tokens[start].line}, where a function begins: a }} is missing between them"
                )  # fmt: skip
            stack.append(_kind(tokens[start:index], stack[-1]))
            opened.append(token)
        if token.text in ("{", "}", ";"):
            start = index + 1
    if len(stack) > 1 and strict:
        raise suspect or refusal(opened[-1].file, opened[-1].line, "this { is never closed")
    return kinds


def _begins_function(before: Sequence[Token]) -> bool:
    """Is it the head of a function or a namespace, which can't stand in a block, before its {?"""
    words = [token.text for token in before]
    if not words or {"=", "[", "return"} & set(words):
        return False
    return words[0] in ("namespace", "template") or (words[0] in _TYPES and words[-1] == ")")


def _kind(before: Sequence[Token], outside: str) -> str:
    """The kind of scope that the { behind `before`, the start of its statement, opens."""
    if before and before[-1].kind == "string" and before[-2:-1] and before[-2].text == "extern":
        return "extern"
    if before and before[-1].text in (")", "const", "noexcept", "else", "do", "=", "return", ","):
        return "block"
    words: list[str] = []
    index = 0
    while index < len(before):
        if before[index].text == "<":
            index = matching_angle(before, index) or index
        elif before[index].text in ("(", "["):
            try:
                index = matching(before, index)
            except BuildError:
                return "block"  # an initialiser in an argument
        else:
            words.append(before[index].text)
        index += 1
    if "namespace" in words:
        return "file"
    if "enum" in words:
        return "enum"
    if {"class", "struct", "union"} & set(words) and "=" not in words:
        return "class"
    return "block"


def statement_start(tokens: Sequence[Token], at: int) -> int:
    """The index of the first token of the declaration that the token at `at` belongs to."""
    index = at
    while index:
        if at - index > LONGEST:
            raise refusal(tokens[at].file, tokens[at].line, "this declaration is too long: is a ; "
                          "missing before it?")  # fmt: skip
        word = tokens[index - 1].text
        if word in (";", "{", "}", ":", "else", "do"):
            break
        if word == ")":
            opening = opening_of(tokens, index - 1)
            if tokens[opening - 1].text not in _TAKES_PARENTHESES:
                break
            index = opening
        else:
            index -= 1
    return index


_TYPES = {
    "void", "bool", "int", "unsigned", "float", "double", "size_t", "static", "inline", "constexpr",
    "__forceinline__", "const", "auto", "float2", "float4", "int2", "int4", "half",
}  # fmt: skip
_TAKES_PARENTHESES = {"alignas", "__align__", "__attribute__", "decltype", "__launch_bounds__"}
_CLOSES = {")": "(", "]": "[", "}": "{"}


def opening_of(tokens: Sequence[Token], at: int) -> int:
    """The index of the bracket that the one at `at` closes."""
    expected = [_CLOSES[tokens[at].text]]
    for index in range(at - 1, -1, -1):
        word = tokens[index].text
        if word in _CLOSES:
            expected.append(_CLOSES[word])
        elif word == expected[-1]:
            expected.pop()
            if not expected:
                return index
    raise refusal(tokens[at].file, tokens[at].line, f"this {tokens[at].text} closes nothing")


def opening_angle(tokens: Sequence[Token], at: int) -> int:
    """The index of the < that the > at `at` closes."""
    depth, index = 0, at
    while index >= 0:
        word = tokens[index].text
        if word == ">":
            depth += 1
        elif word == "<":
            depth -= 1
            if depth == 0:
                return index
        elif word in _CLOSES:
            index = opening_of(tokens, index)
        elif word in ("(", "[", "{", ";"):
            break
        index -= 1
    raise refusal(tokens[at].file, tokens[at].line, "this > closes no template arguments")
