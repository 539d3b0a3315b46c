"""The proof that a release holds nothing of the solutions, hidden tests and mutants.

Lines are compared in a normal form: comments and white space gone, one space between tokens,
lines without any word or number (a lone bracket) dropped. Then, in every released file,

* no three consecutive lines from inside solution marks may occur,
* no single such line of eight tokens or more, unless given code has that line anyway,
* no three consecutive lines of a hidden test or a mutant that public files lack.

Every text is read twice, with Python's comments and with C's, since a handout quotes both.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

WINDOW = 3
LONG_LINE = 8

_TOKEN = re.compile(
    r"\"(?:\\.|[^\"\\])*\"|'(?:\\.|[^'\\])*'"  # a string is one token
    r"|\w+(?:\.\d+)?"
    r"|\*\*=|//=|<<=|>>=|\.\.\.|\*\*|//|<<|>>|->|::|&&|\|\||\+\+|--|[-+*/%@&|^<>=!:]="
    r"|[^\w\s]"
)
_HASH = re.compile(r"\"(?:\\.|[^\"\\])*\"|'(?:\\.|[^'\\])*'|(#.*)")
_SLASHES = re.compile(r"\"(?:\\.|[^\"\\])*\"|'(?:\\.|[^'\\])*'|(//.*|/\*.*?(?:\*/|$))")
_STYLES = {"#": _HASH, "//": _SLASHES}
Window = tuple[str, ...]


@dataclass(frozen=True)
class Line:
    """A line in normal form, and its 1-based number in the file."""

    number: int
    text: str
    tokens: int


@dataclass(frozen=True)
class Leak:
    """A place in a released file, and what it repeats."""

    file: str
    line: int
    origin: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: repeats {self.origin}"


@dataclass
class Secrets:
    """What must not occur: windows and long lines -> where they come from, for each style."""

    windows: dict[str, dict[Window, str]] = field(default_factory=lambda: {s: {} for s in _STYLES})
    lines: dict[str, dict[str, str]] = field(default_factory=lambda: {s: {} for s in _STYLES})

    def add_solution(self, origin: str, text: str, first: int, style: str) -> None:
        """Add one marked region; `first` is the number of its first line in the file `origin`."""
        lines = normalised(text, style)
        for window, line in windows(lines):
            self.windows[style].setdefault(window, f"{origin}:{line + first - 1}")
        for line in lines:
            if line.tokens >= LONG_LINE:
                self.lines[style].setdefault(line.text, f"{origin}:{line.number + first - 1}")

    def add_staff_file(self, origin: str, text: str, public: dict[str, set[Window]]) -> None:
        """Add a hidden test or a mutant; windows that public files have anyway are no secret."""
        if origin.endswith((".patch", ".diff")):
            text = _patched_lines(text)
        for style in _STYLES:
            for window, line in windows(normalised(text, style)):
                if window not in public[style]:
                    self.windows[style].setdefault(window, f"{origin}:{line}")

    def forget_lines(self, texts: Iterable[str]) -> None:
        """Long lines that given code has are no secret."""
        for text in texts:
            for style, known in self.lines.items():
                for line in normalised(text, style):
                    known.pop(line.text, None)

    def find(self, file: str, text: str) -> list[Leak]:
        """Every leak in a released text, by line; one for each line."""
        found: dict[int, Leak] = {}
        for style in _STYLES:
            lines = normalised(text, style)
            for line in lines:
                origin = self.lines[style].get(line.text)
                if origin:
                    found.setdefault(line.number, Leak(file, line.number, origin))
            for window, number in windows(lines):
                origin = self.windows[style].get(window)
                if origin:
                    found.setdefault(number, Leak(file, number, f"{origin} and the lines after it"))
        return [found[number] for number in sorted(found)]


def style_of(name: str) -> str:
    """The comment style of a source file, by its suffix."""
    return "#" if name.endswith(".py") else "//"


def all_windows(texts: Iterable[str]) -> dict[str, set[Window]]:
    """All windows of some texts, for each style."""
    found: dict[str, set[Window]] = {style: set() for style in _STYLES}
    for text in texts:
        for style, known in found.items():
            known.update(window for window, _ in windows(normalised(text, style)))
    return found


def _patched_lines(text: str) -> str:
    """The lines that a patch talks about, without its own signs; line numbers stay."""
    signs = ("---", "+++", "@@", "diff ", "index ")
    return "\n".join("" if line.startswith(signs) else line[1:] for line in text.split("\n"))


def normalised(text: str, style: str) -> list[Line]:
    """The lines of `text` in normal form, without empty ones."""
    comment = _STYLES[style]
    found = []
    for number, raw in enumerate(text.split("\n"), start=1):
        bare = comment.sub(lambda match: " " if match.group(1) else match.group(0), raw)
        tokens = _TOKEN.findall(bare)
        if any(re.search(r"\w", token) for token in tokens):
            found.append(Line(number, " ".join(tokens), len(tokens)))
    return found


def windows(lines: list[Line]) -> Iterator[tuple[Window, int]]:
    """Each run of three lines, with the number of its first."""
    for place in range(len(lines) - WINDOW + 1):
        run = lines[place : place + WINDOW]
        yield tuple(line.text for line in run), run[0].number
