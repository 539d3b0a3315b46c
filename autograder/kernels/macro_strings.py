"""Macros that make text of their arguments (#x) may see only what is written.

What a name of CUDA's is a macro for differs between the emulator and nvcc. `#x` itself shows the
argument as it was written; but behind another macro it shows what that one became.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from .errors import refusal
from .tokens import Directive, Source, Token, matching

_MOVED = {"__device__", "__managed__", "__constant__"}  # replaced before the preprocessor runs


def check_strings(sources: Iterable[Source]) -> None:
    """BuildError where a macro could make text of another one's expansion."""
    sources = list(sources)
    directives = [directive for source in sources for directive in source.directives]
    defines = [d for d in directives if d.name == "define" and d.tokens]
    makers = {d.tokens[0].text for d in defines if _makes_text(d)}
    if not makers:
        return
    functions = {d.tokens[0].text for d in defines if _is_function(d)}
    for define in defines:
        for token in define.tokens[1:]:
            if token.text in makers:
                _refuse(token, "can't stand in another macro: #x would show what a name became, "
                        "which differs between the emulator and nvcc")  # fmt: skip
            if token.text == "##":
                _refuse(token, "and #x can't both be used: names that are pasted together may be "
                        "those of macros that make text")  # fmt: skip
    for source in sources:
        for token, inside in _within_calls(source.tokens, functions):
            if token.text in makers and inside:
                _refuse(token, "can't stand in the arguments of another macro: #x would show what "
                        "a name became, which differs between the emulator and nvcc")  # fmt: skip
        _check_calls(source.tokens, makers)


def _refuse(token: Token, text: str) -> None:
    raise refusal(token.file, token.line, f"{token.text} {text}")


def _is_function(define: Directive) -> bool:
    """Does it take arguments? Then the ( stands right behind the name."""
    name, *rest = define.tokens
    return bool(rest) and rest[0].text == "(" and rest[0].start == name.end


def _makes_text(define: Directive) -> bool:
    return _is_function(define) and any(token.text == "#" for token in define.tokens)


def _within_calls(
    tokens: Sequence[Token], functions: set[str]
) -> Iterator[tuple[Token, bool]]:  # fmt: skip
    """Each token, and whether it stands in the arguments of one of these macros."""
    end = -1
    for index, token in enumerate(tokens):
        yield token, index < end
        called = token.text in functions and tokens[index + 1 : index + 2]
        if index >= end and called and tokens[index + 1].text == "(":
            end = matching(tokens, index + 1)


def _check_calls(tokens: Sequence[Token], makers: set[str]) -> None:
    for index, token in enumerate(tokens):
        if token.text not in makers:
            continue
        if not tokens[index + 1 : index + 2] or tokens[index + 1].text != "(":
            _refuse(token, "makes text of its arguments: it must be followed by its (")
        for inner in tokens[index + 2 : matching(tokens, index + 1)]:
            if inner.text in _MOVED:
                _refuse(inner, f"can't stand in the arguments of {token.text}, which makes text of "
                        "it")  # fmt: skip
