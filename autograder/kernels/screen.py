"""What a kernel file may not say, found before any compiler runs and once more after macros.

Part of the fence around untrusted kernels: no way to write machine code, to name the emulator's own
functions, or to take another path on the emulator than under nvcc. What is left is C++ whose memory
accesses are all checked.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from .errors import refusal
from .tokens import Directive, Source, Token, check_depth, matching, matching_angle, split
from .vocabulary import (
    ATTRIBUTES,
    BARRIERS,
    BUILTINS,
    CALLS,
    DIRECTIVES,
    FIXED_NAMES,
    HEADER_CALLS,
    FROM_HEADERS,
    GROUP_METHODS,
    INCLUDES,
    MOST_ARGUMENTS,
    PRAGMAS,
    RESERVED,
    TAKEN_PREFIX,
    WORDS,
)

LARGEST_FILE = 200_000


def screen(source: Source, own_macros: set[str]) -> None:
    """BuildError for the first thing in a file as written that is not taken.

    own_macros: names that the student's files #define.
    """
    if len(source.text.encode()) > LARGEST_FILE:
        raise refusal(source.file, 1, f"a kernel file has at most {LARGEST_FILE // 1000} kB")
    for directive in source.directives:
        _directive(directive, own_macros)
    words(source.tokens)
    for directive in source.directives:
        if directive.name == "define":
            words(directive.tokens)


def macros(sources: Iterable[Source]) -> set[str]:
    """Names that the sources #define."""
    return {
        directive.tokens[0].text
        for source in sources
        for directive in source.directives
        if directive.name == "define" and directive.tokens
    }


def _directive(directive: Directive, own_macros: set[str]) -> None:
    name, tokens = directive.name, directive.tokens
    if name not in DIRECTIVES:
        raise refusal(directive.file, directive.line, f"#{name} is not taken in a kernel file")
    if name == "pragma" and not (tokens and PRAGMAS.fullmatch(tokens[0].text)):
        raise refusal(directive.file, directive.line, f"#pragma{directive.text.rstrip()} is not "
                      "taken: only once, unroll and nv_… are")  # fmt: skip
    if name in ("define", "undef"):
        _defined(directive, own_macros)
    if name in ("if", "ifdef", "ifndef", "elif"):
        for token in tokens:
            if token.kind == "name" and token.text not in own_macros | {"defined", "true", "false"}:
                raise refusal(token.file, token.line, f"#{name} on {token.text}, which your files do "
                              "not #define: the emulator and nvcc must take the same path")  # fmt: skip


def _defined(directive: Directive, own_macros: set[str]) -> None:
    name = directive.tokens[0].text if directive.tokens else ""
    if (
        name in FIXED_NAMES or name in WORDS or name in CALLS or name not in own_macros
        or TAKEN_PREFIX.match(name) or RESERVED.match(name)
    ):  # fmt: skip
        raise refusal(directive.file, directive.line, f"#{directive.name} {name}: this name has a "
                      "meaning already, choose another")  # fmt: skip


def included(directive: Directive) -> tuple[str, bool]:
    """The name an #include gives, and whether that is one of the given headers."""
    text = re.sub(r"//.*|/\*.*?\*/", "", directive.text).strip()
    found = re.fullmatch(r'"([^"\n]+)"|<([^>\n]+)>', text)
    if not found:
        raise refusal(directive.file, directive.line, '#include takes "name" or <name>')
    name = found.group(1) or found.group(2)
    if name in INCLUDES:
        return name, True
    if found.group(2):
        raise refusal(directive.file, directive.line, f"<{name}> is not among the headers that "
                      "kernel files may use: CUDA's own, <cstdint>, <cstddef>, <cmath>, <cfloat>, "
                      "<climits>, <limits>, <type_traits>")  # fmt: skip
    if not re.fullmatch(r"[A-Za-z0-9_]+\.(?:cuh|cu|h)", name):
        raise refusal(directive.file, directive.line, f'"{name}": a kernel file may include files of '
                      "its own folder, by their plain name (.cuh or .cu)")  # fmt: skip
    return name, False


def words(tokens: Sequence[Token], after_macros: bool = False) -> None:
    """BuildError for the first word that is not taken.

    after_macros: the given headers' macros are expanded, so their words may stand there.
    """
    check_depth(tokens)
    for index, token in enumerate(tokens):
        if token.kind == "string" and re.match(r'\w*R"', token.text):
            raise refusal(token.file, token.line, "raw strings are not taken")
        if token.text == "[" and tokens[index + 1 : index + 2] and tokens[index + 1].text == "[":
            # In C++ two brackets always begin an attribute, also behind a name.
            _attributes(tokens, index + 2, matching(tokens, index) - 1)
        if token.kind == "name":
            _word(tokens, index, after_macros)
            if after_macros:
                _meeting(tokens, index)


def _meeting(tokens: Sequence[Token], index: int) -> None:
    """Functions in which threads meet are called, and nothing else: each call knows its own line."""
    token = tokens[index]
    barrier = BARRIERS.fullmatch(token.text)
    if not barrier and not (GROUP_METHODS.fullmatch(token.text) and index):
        return
    after = index + 1
    if tokens[after : after + 1] and tokens[after].text == "<":
        after = (matching_angle(tokens, after) or after) + 1
        if tokens[after - 1].text == "<":  # it compares
            return
    called = bool(tokens[after : after + 1]) and tokens[after].text == "("
    if not called and (barrier or after > index + 1 or _is_qualified(tokens, index)):
        raise refusal(token.file, token.line, f"{token.text} can only be called: its address, its "
                      "type and other names for it are not taken")  # fmt: skip
    most = MOST_ARGUMENTS.get(token.text)
    if called and most is not None:
        given = len(split(tokens[after + 1 : matching(tokens, after)]))
        if given > most:
            few = f"takes at most {most} argument{'s' * (most > 1)}" if most else "takes no argument"
            raise refusal(token.file, token.line, f"{token.text} {few}")


def _is_qualified(tokens: Sequence[Token], index: int) -> bool:
    """Does `&a::b::` stand before the name? For `sync`, a static member, no & is needed."""
    start = index
    while start > 1 and tokens[start - 1].text == "::":
        start -= 2
    before = tokens[start - 1].text if start else ""
    return start < index and (before == "&" or (tokens[index].text == "sync" and before != "using"))


def _word(tokens: Sequence[Token], index: int, after_macros: bool) -> None:
    token = tokens[index]
    word = token.text
    before = tokens[index - 1].text if index else ""
    behind = tokens[index + 1].text if index + 1 < len(tokens) else ""

    def refuse(text: str) -> None:
        raise refusal(token.file, token.line, f"{word}: {text}")

    if word in WORDS and not (word == "delete" and before == "="):
        refuse(WORDS[word])
    elif word in CALLS and behind == "(" and before not in (".", "->"):
        refuse(CALLS[word])
    elif word == "__attribute":
        refuse("write __attribute__")
    elif word == "emu" and after_macros and not _is_header_call(tokens, index):
        refuse("names like this belong to the emulator")
    elif word == "__attribute__":
        _attribute(tokens, index, after_macros)
    elif word.startswith("__builtin") and word not in BUILTINS:
        refuse("this built-in function of the compiler is not taken")
    elif word.startswith(("__atomic_", "__sync_", "__c11_", "__opencl_", "__hip_")):
        refuse("use CUDA's atomic functions")
    elif RESERVED.match(word) and not (after_macros and word in FROM_HEADERS):
        refuse("names like this belong to the emulator")


def _is_header_call(tokens: Sequence[Token], index: int) -> bool:
    """Is it the `emu` of a call `::emu::name(` as the given headers' macros write it?"""
    around = [token.text for token in tokens[max(0, index - 1) : index + 4]]
    return len(around) == 5 and around[:3] == ["::", "emu", "::"] and (
        around[3] in HEADER_CALLS and around[4] == "("
    )  # fmt: skip


def _attributes(tokens: Sequence[Token], start: int, end: int) -> None:
    """Check the names of the attributes between `start` and `end`, arguments passed over."""
    index = start
    while index < end:
        token = tokens[index]
        if token.text == "(":
            index = matching(tokens, index)
        elif token.kind == "name" and token.text.strip("_") not in ATTRIBUTES | {"gnu", "nv"}:
            raise refusal(token.file, token.line, f"the attribute {token.text} is not taken")
        index += 1


def _attribute(tokens: Sequence[Token], index: int, after_macros: bool) -> None:
    opening = index + 1
    if [token.text for token in tokens[opening : opening + 2]] != ["(", "("]:
        raise refusal(tokens[index].file, tokens[index].line, "__attribute__ takes ((…))")
    close = matching(tokens, opening)
    inner = [token.text for token in tokens[opening + 2 : close - 1]]
    sections = (["section", "(", f'"emu_{name}"', ")"] for name in ("device", "constant"))
    if not (after_macros and inner in sections):
        _attributes(tokens, opening + 2, close - 1)
