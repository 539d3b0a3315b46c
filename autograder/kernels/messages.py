"""A compiler's messages as a student needs them: their file, their line, and what is wrong."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import zip_longest

from .errors import BuildError
from .process import Done
from .sites import true_line
from .tokens import Source

PLAIN_NAME = re.compile(r"[A-Za-z0-9_]+\.(?:cu|cuh)")
MOST_ERRORS = 10
MOST_REASONS = 2
_CANDIDATE = re.compile(r"candidate(?: function| template ignored|): (.*)$")
_INITIALISED = re.compile(r"\s*initializing argument (\d+) of (.*)$")
_MISFIT = re.compile(r"mismatched types|no known conversion|candidate expects|couldn't deduce|conflicting")
# The type of a shared array, which a template has one of for each instance.
_MADE_TYPE = re.compile(
    r"(?:[\w:]+(?:<[^<>]*>)?\([^()]*\))?(?:::)?\bemu_type_(\w+?)(?:::type)?\b"
)
_EXPECTED_END = re.compile(r"expected (?:',' or )?';' before '([^']+)'")
_PLACE = re.compile(r"^(?P<file>[^\s:][^:]*):(?P<line>\d+)(?::\d+)?: *(?P<rest>.*)$")
_LEVEL = re.compile(r"^(?P<level>fatal error|error|warning|note|sorry, unimplemented): (?P<text>.*)$")


def compile_error(done: Done, sources: Mapping[str, Source]) -> BuildError:
    """The BuildError for a failed run of the compiler."""
    if done.late or done.status in (-9, -24, -6) or "out of memory" in done.output:
        return BuildError("the compiler ran out of time or memory on this file: is there a template "
                          "or a constexpr function without an end, or a huge array?")  # fmt: skip
    if re.search(r"internal compiler error|Killed signal|PLEASE submit a bug", done.output):
        return BuildError("the compiler itself failed on this file; try simpler code")
    found: list[tuple[str, int, str]] = []
    reasons: list[list[str]] = []  # of each that was found, why
    pending: tuple[str, int] | None = None
    waiting: str | None = None  # an error outside of the student's files, still without a place
    for line in done.output.splitlines():
        place = _PLACE.match(line)
        if not place:
            continue
        file, number, rest = place["file"].removeprefix("./"), true_line(int(place["line"])), place["rest"]
        level = _LEVEL.match(rest)
        own = file in sources
        if found and level and level["level"] == "note":
            reasons += [[] for _ in range(len(found) - len(reasons))]
            if reason := _reason(level["text"], number if own else 0):
                reasons[-1].append(reason)
        if level and level["level"] in ("error", "fatal error", "sorry, unimplemented"):
            waiting = None
            text = _clean(level["text"])
            if own:
                found.append((file, number, text))
            elif pending:
                found.append((*pending, text))
            else:
                waiting = text
            pending = None
        elif own and waiting and level and level["level"] == "note":
            found.append((file, number, waiting))
            waiting = None
        elif own and not level and "required from" in rest:
            pending = (file, number)
    told = []
    for (file, number, text), why in zip_longest(found, reasons, fillvalue=[]):
        file, number, text = _missing_end(file, number, text, sources[file])
        told.append((file, number, "; ".join([text, *why[:MOST_REASONS]])))
    return report(told, done, sources)


def _reason(note: str, number: int) -> str:
    """What a compiler's note adds to why a call does not fit; "" for other notes."""
    text = _clean(note)
    if candidate := _CANDIDATE.match(text):
        return f"line {number} has {candidate[1]}" if number else ""
    if initialised := _INITIALISED.match(text):
        return f"that is argument {initialised[1]} of {initialised[2]}"
    return text.strip() if number and _MISFIT.search(text) else ""


def _missing_end(file: str, number: int, text: str, source: Source) -> tuple[str, int, str]:
    """An error about a ; that is missing, moved from the next line to the one that it should end."""
    before = _EXPECTED_END.match(text)
    lines = source.text.split("\n")
    if not before or not 0 < number <= len(lines):
        return file, number, text
    if not lines[number - 1].strip().startswith(before[1]):  # it is missing within the line
        return file, number, text
    for above in range(number - 1, 0, -1):
        code = lines[above - 1].partition("//")[0].strip()
        if code and not code.startswith("#"):
            missing = f"a ; is missing at the end of this line (before '{before[1]}', line {number})"
            return file, above, missing
    return file, number, text


def report(
    found: list[tuple[str, int, str]], done: Done, sources: Mapping[str, Source]
) -> BuildError:
    """The BuildError that names each (file, line, text) found, with the line as written."""
    # A template's error comes again for each of its instances, with other types in it.
    unique = list({(file, line, text.partition("(")[0]): (file, line, text)
                   for file, line, text in reversed(found)}.values())[::-1]  # fmt: skip
    if not unique:
        lines = [_clean(line) for line in done.output.splitlines() if "error" in line]
        shown = "\n".join(lines[:MOST_ERRORS]) or _clean(done.output[:1000]) or "no message"
        return BuildError(f"the compiler failed: {shown}")
    shown = []
    for file, number, text in unique[:MOST_ERRORS]:
        lines = sources[file].text.split("\n")
        quote = lines[number - 1].strip() if 0 < number <= len(lines) else ""
        shown.append(f"{file}:{number}: {text}" + (f"\n    {quote[:160]}" if quote else ""))
    if len(unique) > MOST_ERRORS:
        shown.append(f"… and {len(unique) - MOST_ERRORS} more")
    return BuildError("\n".join(shown), [(file, number) for file, number, _ in unique])


def _clean(text: str) -> str:
    """Without folders of this machine and the names that the rewriting made."""
    text = re.sub(r"(?:/[\w.+-]+)+/([\w.+-]+)", r"\1", text)
    text = re.sub(r"‘|’", "'", text)
    return _MADE_TYPE.sub(r"\1", text)


def link_error(done: Done, main: str) -> BuildError:
    """The BuildError for a failed link: a function without a definition, as a rule."""
    missing = sorted(set(re.findall(r"undefined reference to [`']([^'\n]+)'", done.output)))
    if missing:
        return BuildError(f"{main}: no definition of {', '.join(missing)}")
    return BuildError(f"{main} can't be linked:\n" + _clean(done.output)[:2000])


def plain_name(symbol: str) -> str:
    """A variable's own name from its mangled one."""
    found = re.match(r"_Z(?:L|N)?(?:St)?((?:\d+\w+)+?)E?$", symbol)
    if not found:
        return symbol
    parts, rest = [], found.group(1)
    while rest and (digits := re.match(r"\d+", rest)):
        size = int(digits.group())
        parts.append(rest[digits.end() : digits.end() + size])
        rest = rest[digits.end() + size :]
    return "::".join(parts)
