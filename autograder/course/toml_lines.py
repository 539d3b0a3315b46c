"""Line numbers of keys and tables in a TOML text (tomllib reports none once a file parses)."""

from __future__ import annotations

import re

Place = tuple[str | int, ...]

_TABLE = re.compile(r"^\s*(\[\[?)\s*([^\[\]]+?)\s*\]\]?\s*(#.*)?$")
_KEY = re.compile(r"""^\s*([A-Za-z0-9_-]+|"[^"]*"|'[^']*')\s*(\.[^=]*)?=""")


class TomlLines:
    """A small scan: enough for tables, arrays of tables, keys and lists over several lines.

    It serves error messages only. A place that it does not know gets the line of the nearest
    enclosing table, in the worst case line 1.
    """

    def __init__(self, text: str) -> None:
        self._lines = text.splitlines()
        self._starts: dict[Place, int] = {(): 1}
        self._scan()

    def of(self, place: Place) -> int:
        """1-based line of a key or table, e.g. `("tasks", 0, "points")`."""
        while place not in self._starts:
            place = place[:-1]
        return self._starts[place]

    def of_item(self, place: Place, value: str) -> int:
        """Line of the string `value` in the list at `place`: the last one, if it is repeated."""
        start = self.of(place)
        found = start
        for number in range(start, self._end(start) + 1):
            line = self._lines[number - 1] if number <= len(self._lines) else ""
            if f'"{value}"' in line or f"'{value}'" in line:
                found = number
        return found

    def _end(self, start: int) -> int:
        """The last line before the next key or table."""
        later = [line for line in self._starts.values() if line > start]
        return min(later, default=len(self._lines) + 1) - 1

    def _scan(self) -> None:
        table: Place = ()
        counts: dict[Place, int] = {}
        depth = 0
        for number, line in enumerate(self._lines, start=1):
            if depth > 0:
                depth += _brackets(line)
                continue
            header = _TABLE.match(line)
            if header:
                name = tuple(part.strip().strip("\"'") for part in header.group(2).split("."))
                table = name
                if header.group(1) == "[[":
                    counts[name] = counts.get(name, -1) + 1
                    self._starts.setdefault(name, number)
                    table = (*name, counts[name])
                self._starts.setdefault(table, number)
                continue
            key = _KEY.match(line)
            if key:
                self._starts.setdefault((*table, key.group(1).strip("\"'")), number)
                depth = max(0, _brackets(line[key.end() :]))


def _brackets(line: str) -> int:
    """Brackets opened minus closed, outside strings and comments."""
    bare = re.sub(r"\"(?:\\.|[^\"\\])*\"|'[^']*'", "", line).split("#", 1)[0]
    return bare.count("[") - bare.count("]")
