"""From addresses in a kernel library to lines of the student's files."""

from __future__ import annotations

import bisect
import re
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from .elf import Elf
from .order import ranks
from .process import LISTING, run
from .sites import true_line
from .toolchain import Compiler


@dataclass
class LineTable:
    """Lines of the places that call the emulator.

    offsets: return addresses from the library's base, ascending; places: for each an index into
    `files` and a line, or a negative index. functions: where functions begin, ascending.
    ranks: for each offset its rank in the program's order, see `order.ranks`. outer: for each the
    lines of the student's files that it stands for, of the function and of the outermost one that
    was inlined into it; the same where there is one, 0 where there is none.
    """

    offsets: list[int] = field(default_factory=list)
    places: list[list[int]] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    functions: list[int] = field(default_factory=list)
    ranks: list[int] = field(default_factory=list)
    outer: list[list[int]] = field(default_factory=list)

    def outer_line(self, offset: int, launch: int) -> int:
        """The line of a return address in the function that was called last; 0 if unknown.

        launch: the line of the launch, into whose host function a kernel may have been inlined.
        """
        at = bisect.bisect_left(self.offsets, offset)
        if at >= len(self.outer) or self.offsets[at] != offset:
            return 0
        outermost, inlined = self.outer[at]
        return inlined if outermost == launch else outermost

    def lookup(self, offset: int) -> tuple[str, int] | None:
        """File name and line of the code before the return address `offset`, or None.

        An address without a line of its own gets that of the nearest one before it in the same
        function, or else behind it.
        """
        start = bisect.bisect_right(self.functions, offset - 1)
        first = self.functions[start - 1] if start > 0 else 0
        last = self.functions[start] if start < len(self.functions) else float("inf")
        at = bisect.bisect_right(self.offsets, offset)
        before, behind = range(at - 1, -1, -1), range(at, len(self.offsets))
        for place in (*before, *behind):
            index, line = self.places[place]
            if index >= 0 and first < self.offsets[place] <= last:
                return self.files[index], line
        return None


_CALL = re.compile(
    r"^ +([0-9a-f]+):\t(?:call|bl|b)q?\s+[0-9a-f]+ <(?:__tsan|emu_|__ubsan|__wrap|__sanitizer)\w*[@>]", re.M
)
# A loop that nothing is left of but the jump to itself: no hook is called in it.
_TO_ITSELF = re.compile(r"^ +([0-9a-f]+):\t(?:jmpq?|b)\s+\1 <", re.M)
_NEXT = re.compile(r"^ +([0-9a-f]+):", re.M)


def hook_returns(disassembly: str) -> dict[int, int]:
    """Return address -> address of the call, for all calls of the emulator in objdump's listing."""
    found = {}
    for call in _CALL.finditer(disassembly):
        following = _NEXT.search(disassembly, call.end())
        if following:
            found[int(following.group(1), 16)] = int(call.group(1), 16)
    return found


def line_table(library: Path, elf: Elf, compiler: Compiler, own: Collection[str]) -> LineTable:
    """The table of a library: `own` are the file names that count."""
    command = [compiler.tool("objdump"), "-d", "--no-show-raw-insn", "-j", ".text", library.name]
    listing = run(command, library.parent, most=LISTING).output
    calls, order = hook_returns(listing), ranks(listing)
    for loop in _TO_ITSELF.finditer(listing):
        calls[int(loop[1], 16) + 1] = int(loop[1], 16)
    offsets = sorted(calls)
    asked = "".join(f"{offset - 1:#x}\n" for offset in offsets)
    command = [compiler.tool("addr2line"), "-a", "-i", "-e", library.name]
    shown = run(command, library.parent, text=asked or "\n", most=LISTING).output
    files = sorted(own)
    numbers = {name: index for index, name in enumerate(files)}
    places: list[list[int]] = []
    outer: list[list[int]] = []
    for line in shown.splitlines():
        if line.startswith("0x"):
            places.append([-1, 0])
            outer.append([0, 0])
        elif places:  # the innermost function's line, then those that it was inlined into
            name, _, number = line.partition(" ")[0].rpartition(":")
            index = numbers.get(name.rpartition("/")[2], -1)
            if index >= 0 and number.isdigit() and int(number):
                own_line = true_line(int(number))
                outer[-1] = [own_line, outer[-1][0] or own_line]
                if places[-1][0] < 0:
                    places[-1] = [index, own_line]
    functions = sorted({s.value for s in elf.symbols if s.type == 2 and s.section})
    ranked = [order.get(calls[offset], 0) for offset in offsets]
    return LineTable(offsets, places[: len(offsets)], files, functions, ranked, outer[: len(offsets)])
