"""Frames in the student's own files: checked here, with their source lines from the overlay."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from autograder.testing.records import Frame, SourceLine

CONTEXT_LINES = 2
MAX_FRAMES = 50
MAX_CALLS = 3  # of a helper, that are named: of more, none tells anything
_DEF = re.compile(r"^(\s*)(?:async\s+)?def\s+(\w{1,120})")
# The head of a function of CUDA C++, which begins at the left margin.
_HEAD = re.compile(r"^(?=[A-Za-z_])[^;=(]{0,200}?\b(\w{1,120})\(")


def frames_with_source(raw: Any, overlay: Path) -> list[Frame]:
    """Frames as the worker sent them, checked, with the source lines read from the overlay here."""
    frames = []
    for entry in raw[:MAX_FRAMES] if isinstance(raw, list) else []:
        if not (isinstance(entry, list) and len(entry) == 3 and isinstance(entry[0], str)):
            continue
        try:
            path = (overlay / entry[0]).resolve()
            inside = path.is_relative_to(overlay.resolve()) and path.is_file()
        except (OSError, ValueError):  # a name too long, or one that no file can have
            continue
        if inside and type(entry[1]) is int:
            text = path.read_text(encoding="utf-8", errors="replace")
            source = source_around(text, entry[1])
            if any(line.current for line in source):
                find = enclosing_kernel if path.suffix in (".cu", ".cuh") else enclosing_function
                function = find(text, entry[1])
                file = str(path.relative_to(overlay.resolve()))
                frames.append(Frame(file=file, line=entry[1], function=function, source=source))
    return frames


def enclosing_function(text: str, line: int) -> str:
    """The function around a line, read from the text: the worker's word is not taken for it.

    By indentation, not by parsing: a hostile file must not reach a parser here.
    """
    lines = text.splitlines()[:line]
    if found := _DEF.match(lines[-1]):
        return found[2]
    depth = len(lines[-1]) - len(lines[-1].lstrip())
    for candidate in reversed(lines):
        code = candidate.lstrip()
        if not code or code[0] in ")]}#" or len(candidate) - len(code) >= depth:
            continue
        if found := _DEF.match(candidate):
            return found[2]
        depth = len(candidate) - len(code)
    return "<module>"


def enclosing_kernel(text: str, line: int) -> str:
    """The function of a kernel file around a line: the last head above it at the left margin."""
    for candidate in reversed(text.splitlines()[:line]):
        if candidate.rstrip().endswith(";") and "{" not in candidate:
            continue  # a declaration
        plain = re.sub(r"__launch_bounds__\([^()]{0,80}\)|^extern \"C\"", "", candidate).lstrip()
        if candidate[:1].strip() and (found := _HEAD.match(plain)):
            return found[1]
    return "<file>"


def call_lines(text: str, function: str, caller: str) -> list[int]:
    """Lines of a kernel file that call `function`: those in `caller`, or where it has none, all.

    By the text alone, so a comment or a text that looks like a call counts as one.
    """
    call = re.compile(rf"\b{re.escape(function)}\s*(?:<[^;{{}}()]{{0,80}}>)?\s*\(")
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        indented = line[:1].isspace()  # at the left margin functions begin
        if indented and call.search(line.partition("//")[0]):
            found.append(number)
    inside = [number for number in found if enclosing_kernel(text, number) == caller]
    return inside or found


def helper_calls(frame: Frame, kernel: str, overlay: Path) -> tuple[str, list[int]]:
    """The function of a kernel file's line, and where it is called, unless it is `kernel` itself.

    ("", []) where the text does not tell: no call is found, or more than MAX_CALLS.
    """
    bare = kernel.partition("<")[0].rpartition("::")[2].strip()
    if not frame.file.endswith((".cu", ".cuh")) or frame.function in ("<file>", bare, kernel):
        return "", []
    text = (overlay / frame.file).read_text(encoding="utf-8", errors="replace")
    lines = call_lines(text, frame.function, bare)
    return (frame.function, lines) if 0 < len(lines) <= MAX_CALLS else ("", [])


def called(helper: str, lines: Sequence[int]) -> str:
    """Where the function is called that a fault lies in; "" where that is not known."""
    if not lines:
        return ""
    *others, last = map(str, lines)
    place = f"lines {', '.join(others)} and {last}" if others else f"line {last}"
    return f"{helper} is called in {place}: do all threads come there, and with the right arguments?"


def called_from(raw: Any, overlay: Path) -> str:
    """A line about the calls of the helper in the last frame that the worker sent, or ""."""
    for frame in frames_with_source(raw[-1:] if isinstance(raw, list) else [], overlay):
        kernel = raw[-1][2] if isinstance(raw[-1][2], str) else ""
        helper, lines = helper_calls(frame, kernel[:200], overlay)
        return f"\n{called(helper, lines)}" if lines else ""
    return ""


def with_stub(frames: list[Frame], text: str, overlay: Path) -> list[Frame]:
    """The line of the kernel file that says `text`, "task 2.5: on_chip", in the place of the frames.

    A stub of a kernel ends the launch: the worker's frames end in the given Python around it.
    """
    if not text.startswith("task ") or any(frame.file.endswith(".cu") for frame in frames[-1:]):
        return frames
    for path in sorted(overlay.glob("*/*.cu*")):
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        for number, line in enumerate(lines, 1):
            if f'LLM_NOT_IMPLEMENTED("{text}")' in line:
                found = [[str(path.relative_to(overlay)), number, ""]]
                return frames_with_source(found, overlay)
    return frames


def source_around(text: str, line: int) -> list[SourceLine]:
    """The lines around `line` of a file's text."""
    lines = text.splitlines()
    first, last = max(1, line - CONTEXT_LINES), min(len(lines), line + CONTEXT_LINES)
    return [
        SourceLine(number=n, text=lines[n - 1][:400], current=n == line)
        for n in range(first, last + 1)
    ]
