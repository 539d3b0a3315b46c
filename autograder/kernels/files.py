"""Reads a kernel file and what it includes of its folder, and screens them as written."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path

from .edits import Edit
from .errors import BuildError, refusal
from .macro_strings import check_strings
from .messages import PLAIN_NAME
from .screen import included, macros, screen
from .scopes import scopes, statement_start
from .tokens import Source, tokenize
from .toolchain import NOT_IMPLEMENTED
from .vocabulary import INCLUDES

MOST_FILES = 20
TAKEN = "{} has a meaning already, choose another name"


@dataclass
class Files:
    """The file to build and what it includes of its folder, by name; `given` are not a student's.

    headers: the given headers that they include. kernels: names of `__global__` functions, c_kernels
    of those with C linkage; macro_kernels: macros may make more of them.
    """

    main: str
    sources: dict[str, Source] = field(default_factory=dict)
    given: set[str] = field(default_factory=set)
    headers: set[str] = field(default_factory=set)
    kernels: set[str] = field(default_factory=set)
    c_kernels: set[str] = field(default_factory=set)
    macro_kernels: bool = False

    @property
    def own(self) -> set[str]:
        """Names of the files whose text is screened."""
        return set(self.sources) - self.given

    def prelude(self) -> str:
        """Text that reads the given headers ahead of the files, before any macro of theirs.

        A macro of a header is no name for one of the files': nvcc has other macros than the
        emulator, so an #ifdef on it would not take the same path.
        """
        wanted = [name for name in INCLUDES if name in self.headers | {"cuda_runtime.h"}]
        text = "".join(f"#include <{name}>\n" for name in wanted)
        first: dict[str, tuple[str, int]] = {}
        for own in sorted(self.own):
            for directive in self.sources[own].directives:
                if directive.name == "define":
                    first.setdefault(directive.tokens[0].text, (own, directive.line))
        for macro, (own, line) in first.items():
            text += f'#ifdef {macro}\n# {line} "{own}"\n#error {TAKEN.format(macro)}\n#endif\n'
        return text

    def without_headers(self, name: str) -> list[Edit]:
        """Edits that drop a file's lines which include given headers: the prelude has done it."""
        lines = [d for d in self.sources[name].directives if d.name == "include"]
        return [Edit(line.start, line.end, "") for line in lines if included(line)[1]]


def read_files(path: Path) -> Files:
    """Read and screen the file at `path` and all that it includes from its own folder."""
    if not PLAIN_NAME.fullmatch(path.name):
        raise BuildError(f"{path.name!r}: a kernel file's name has letters, digits and _ only")
    files, waiting = Files(path.name), [path.name]
    while waiting:
        name = waiting.pop()
        if name in files.sources:
            continue
        text = _read(path.parent / name)
        files.sources[name] = source = tokenize(text, name)
        if hashlib.sha256(text.encode()).digest() == NOT_IMPLEMENTED:
            files.given.add(name)
            continue
        if len(files.sources) > MOST_FILES:
            raise BuildError(f"{path.name} includes more than {MOST_FILES} files of its folder")
        for directive in source.directives:
            if directive.name == "include":
                other, header = included(directive)
                if header:
                    files.headers.add(other)
                elif os.path.lexists(path.parent / other):
                    waiting.append(other)
                else:
                    raise refusal(name, directive.line, f"there is no {other} beside {path.name}")
    own = macros(files.sources.values())
    for name in files.own:
        screen(files.sources[name], own)
    check_strings(files.sources[name] for name in sorted(files.own))
    for name in files.own:
        _find_kernels(files, files.sources[name])
    return files


def _read(path: Path) -> str:
    if path.is_symlink() or not path.is_file():
        raise BuildError(f"{path.name} is not there or not a plain file")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BuildError(f"{path.name} can't be read: {error.strerror}") from None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise refusal(path.name, line, "this is not UTF-8 text") from None
    for odd in ("\0", "\f", "\v", "\r"):
        text = text.replace("\r\n", "\n")
        if odd in text:
            line = text[: text.index(odd)].count("\n") + 1
            raise refusal(path.name, line, f"the character {odd!r} can't stand in a kernel file")
    return text


def _find_kernels(files: Files, source: Source) -> None:
    """Add the names of `__global__` functions that the source declares."""
    if any(t.text == "__global__" for directive in source.directives for t in directive.tokens):
        files.macro_kernels = True
    tokens = source.tokens
    kinds = scopes(tokens, strict=False)
    for index, token in enumerate(tokens):
        if token.text != "__global__":
            continue
        for at in range(index + 1, len(tokens) - 1):
            word = tokens[at]
            if word.text in (";", "{", "}"):
                break
            if tokens[at + 1].text == "(" and word.kind == "name" and word.text[:2] != "__":
                files.kernels.add(word.text)
                head = [t.text for t in tokens[statement_start(tokens, index) : at]]
                if kinds[index] == "extern" or '"C"' in head:
                    files.c_kernels.add(word.text)
                break
