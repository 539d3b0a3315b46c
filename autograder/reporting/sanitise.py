"""Student text made safe to print: no terminal escapes, no invisible or reversing characters.

Everything that a submission could have chosen (printed text, exception messages, source lines,
file names, figure labels) passes through here once, before any report sees it. Escaping for HTML
is a separate step, done by the template.
"""

from __future__ import annotations

import re

MAX_CHARACTERS = 20_000
MAX_LINES = 400
MAX_LINE = 1_000

# An unterminated string sequence (OSC and its kin) is cut at the end of its line: a terminal would
# swallow the rest of the output, and what a student printed after it should still be readable.
_STRING_ESCAPE = re.compile(
    r"(?:\x1b[\]PX^_]|[\x90\x98\x9d\x9e\x9f])[^\x07\x1b\x9c\n]*(?:\x07|\x1b\\|\x9c)?"
)
_CONTROL_ESCAPE = re.compile(r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]?")
_SHORT_ESCAPE = re.compile(r"\x1b[ -/]*[0-~]?")
_NEWLINE = re.compile("\r\n?|[\v\f\x85\u2028\u2029]")
_INVISIBLE = re.compile(
    "[\x00-\x08\x0e-\x1f\x7f-\x9f"
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f"
    "\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff\ufff0-\ufffb"
    "\U000e0000-\U000e0fff]"
)
_NOT_TEXT = re.compile("[\ud800-\udfff\ufffe\uffff]")


def clean_text(
    text: str,
    *,
    max_characters: int = MAX_CHARACTERS,
    max_lines: int = MAX_LINES,
    max_line: int = MAX_LINE,
) -> str:
    """`text` without escapes and invisible characters, cut in the middle to the given sizes.

    Newlines and tabs stay; a carriage return counts as a newline. The head and the tail survive a
    cut, because the first and the last thing printed are what a reader needs. The time is linear in
    the length. At most `max_characters` characters come back.
    """
    text = _shorten(str(text), 4 * max_characters)
    text = _STRING_ESCAPE.sub("", _NEWLINE.sub("\n", text))
    text = _SHORT_ESCAPE.sub("", _CONTROL_ESCAPE.sub("", text))
    text = _NOT_TEXT.sub("\ufffd", _INVISIBLE.sub("", text)).expandtabs(4)
    lines = [_shorten_line(line, max_line) for line in text.split("\n")]
    if len(lines) > max_lines:
        head = (max_lines - 1) // 2
        tail = max_lines - 1 - head
        cut = len(lines) - head - tail
        lines = [*lines[:head], f"… ({cut:,} lines cut) …", *lines[len(lines) - tail :]]
    return _shorten("\n".join(lines).strip("\n"), max_characters)


def clean_line(text: str, max_characters: int = 200) -> str:
    """`text` as one line without escapes, runs of white space made one space."""
    cleaned = clean_text(text, max_characters=4 * max_characters + 100, max_line=MAX_LINE)
    return _shorten_line(" ".join(cleaned.split()), max_characters)


def _shorten(text: str, size: int) -> str:
    if len(text) <= size:
        return text
    mark = f"\n… ({len(text) - size:,} characters cut) …\n"
    if size <= 2 * len(mark):
        return text[:size]
    room = size - len(mark)
    head = room // 2
    return text[:head] + mark + text[len(text) - (room - head) :]


def _shorten_line(line: str, size: int) -> str:
    return line if len(line) <= size else line[: size - 1] + "…"
