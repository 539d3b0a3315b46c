"""What a kernel file's object code may hold: no machine code but the compiler's, no call away.

The screen keeps the means to write such code out of the source; this looks at what came of it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from .elf import ALLOC, EXECUTE, UNDEFINED, WRITE, Elf, Section, Symbol
from .errors import BuildError, refusal
from .messages import plain_name
from .process import LISTING, run
from .sites import true_line
from .toolchain import INCLUDE, Compiler

# Mathematics that reads and writes nothing but its arguments and errno.
_MATH = """abs labs llabs acos acosh asin asinh atan atan2 atanh cbrt ceil copysign cos cosh erf erfc exp exp2 exp10
expm1 fabs fdim floor fma fmax fmin fmod hypot ilogb j0 j1 jn ldexp lgamma llrint llround log log10
log1p log2 logb lrint lround nearbyint nextafter pow remainder rint round scalbln scalbn sin sinh sqrt
tan tanh tgamma trunc y0 y1 yn""".split()
MATH = {name + suffix for name in _MATH for suffix in ("", "f")}
_MEMORY = {"memcpy", "memmove", "memset"}
_HOOKS = re.compile(
    r"__tsan_(?:init|func_entry|func_exit|(?:read|write)_range|mem(?:cpy|set|move)|"
    r"(?:unaligned_)?(?:volatile_)?(?:read|write|read_write)(?:1|2|4|8|16))|"
    r"__ubsan_handle_(?:out_of_bounds|missing_return|builtin_unreachable)|__sanitizer_cov_trace_pc"
)
# What the linker defines, named by the checks of guard.py.
_LINKER = {"_GLOBAL_OFFSET_TABLE_", "__ehdr_start", "_DYNAMIC"}
_OWN = re.compile(r"emu_(?:entry|sizes)_\w+")
# Also what the linker and the loader know by name: _init, _end, __bss_start …
_RESERVED = re.compile(r"emu_|__|_(?!Z)")
# Of functions, also if other files do not see them: hooks are known by their names.
_FUNCTIONS = re.compile(r"emu_(?!entry_)|__(?:tsan|ubsan|sanitizer|wrap)_")
_CONSTRUCTORS = re.compile(r"_sub_I_00099_0|tsan\.module_ctor")
_SECTIONS = re.compile(
    r"\.text(\..*)?|\.rodata(\..*)?|\.data(\..*)?|\.bss(\..*)?|emu_device|emu_constant|"
    r"\.eh_frame|\.note\.gnu\.property|\.init_array(\..*)?"
)

# The emulator's functions that kernel files may call.
ABI = frozenset(re.findall(r"\b(emu_\w+)\(", (INCLUDE / "emulator_abi.h").read_text()))
BY_POINTER = (
    "a call through a pointer (function pointer or virtual function) can't be checked: call the "
    "function by its name"
)
MOST_MEMORY = 64 << 20
Place = tuple[str, int]


def outside(name: str) -> bool:
    """Is this a function of the emulator or the C library that kernel files may call?"""
    return name in ABI or name in MATH or name in _MEMORY or bool(_HOOKS.fullmatch(name))


@dataclass
class Fence:
    """Looks through one object file. find: the student's line where a name first stands, if any."""

    path: Path
    compiler: Compiler
    main: str
    find: Callable[[str], Place | None] = lambda name: None

    def check(self) -> None:
        """BuildError if the object file has something in it that could get past the checks."""
        self.elf = Elf(self.path)
        self._code()
        for symbol in self.elf.symbols[1:]:
            self._symbol(symbol)
        for section in self.elf.sections:
            self._section(section)
        if sum(s.size for s in self.elf.sections if s.flags & ALLOC) > MOST_MEMORY:
            self._refuse("all variables together may have 64 MB")
        self._constructors()

    def _refuse(self, text: str, place: Place | None = None) -> NoReturn:
        raise refusal(*place, text) if place else BuildError(f"{self.main}: {text}")

    def _symbol(self, symbol: Symbol) -> None:
        name = symbol.name
        if symbol.type == 10:
            self._refuse("functions that are chosen at load time are not taken", self.find(name))
        if symbol.type == 6:
            self._refuse("thread-local variables do not exist on a GPU", self.find(name))
        if symbol.section == UNDEFINED:
            if not outside(name) and name not in _LINKER:
                self._refuse(f"{plain_name(name)} is not there for kernel files: they may call "
                             "CUDA's functions and mathematics, and must define what they declare",
                             self.find(name))  # fmt: skip
        elif symbol.type == 2 and _FUNCTIONS.match(name):
            self._refuse(f"{name} is a name of the emulator", self.find(name))
        elif symbol.bind and symbol.type != 3 and not _OWN.fullmatch(name):
            if _RESERVED.match(name) or name in MATH or name in _MEMORY:
                self._refuse(f"{name} is a name of the C library or the emulator", self.find(name))

    def _section(self, section: Section) -> None:
        if section.name == ".note.GNU-stack" and section.flags & EXECUTE:
            self._refuse("code on the stack is not taken")
        if section.flags & ALLOC and section.size:
            both = section.flags & WRITE and section.flags & EXECUTE
            if both or not _SECTIONS.fullmatch(section.name):
                self._refuse(f"the section {section.name} is not taken")

    def _constructors(self) -> None:
        """Only the sanitizer's own may be there: it calls __tsan_init."""
        symbols = self.elf.symbols
        for relocation in self.elf.relocations():
            if not self.elf.sections[relocation.section].name.startswith(".init_array"):
                continue
            symbol = symbols[relocation.symbol]
            named = [symbol] if symbol.type != 3 else [
                s for s in symbols
                if (s.section, s.value, s.type) == (symbol.section, relocation.addend, 2)
            ]  # fmt: skip
            if not any(_CONSTRUCTORS.fullmatch(s.name) for s in named):
                names = {s.name for s in named}
                place = self._line_of(re.compile(rf"^[0-9a-f]+ <(?:{'|'.join(names)})>:", re.M), 3000)
                self._refuse("a variable outside of functions needs code to run before the program: "
                             "give it a constant value", place)  # fmt: skip

    def _code(self) -> None:
        listing = self._listing("-d")
        if _BY_POINTER.search(listing):
            self._refuse(BY_POINTER, self._line_of(_BY_POINTER, 0))
        if _PRIVILEGED.search(listing) or _RETURN_ELSEWHERE.search(listing):
            self._refuse("machine instructions that reach outside of the kernel are not taken")

    def _listing(self, option: str) -> str:
        command = [self.compiler.tool("objdump"), option, "--no-show-raw-insn", self.path.name]
        return run(command, self.path.parent, most=LISTING).output

    def _line_of(self, pattern: re.Pattern[str], more: int) -> Place | None:
        """The student's line of the first match in the code; `more` characters behind it count."""
        listing = self._listing("-dl")
        found = pattern.search(listing)
        if not found:
            return None
        before = listing[: found.start()] if not more else listing[found.end() : found.end() + more]
        places = re.findall(r"^(?:\S*/)?(\w+\.cuh?):(\d+)", before, re.M)
        return (places[-1][0], true_line(int(places[-1][1]))) if places else None


_BY_POINTER = re.compile(
    r"^ +[0-9a-f]+:\t(?:(?:bnd |notrack )?l?(?:call|jmp)q? +\*|(?:blr|br|blra\w+|bra\w+)\b)", re.M
)
_PRIVILEGED = re.compile(
    r"^ +[0-9a-f]+:\t(?:\w+ )*(?:syscall|sysenter|int|into|svc|hvc|smc|iretq?|sysret\w?|wrfsbase|"
    r"wrgsbase|wrpkru|xrstor\w*|lcall|ljmp|in|out|msr)\b", re.M
)  # fmt: skip
_RETURN_ELSEWHERE = re.compile(r"^ +[0-9a-f]+:\tret[ \t]+x(?!30)", re.M)


def check_library(elf: Elf) -> None:
    """A last look at what the linker made."""
    for tag, value in elf.dynamic():
        if tag in (22, 12, 13) or (tag == 30 and value & 4):  # TEXTREL, INIT, FINI, flag TEXTREL
            raise BuildError("the library has code to run at load time or changes its own code")
        if tag == 27 and value > 8:  # INIT_ARRAYSZ
            raise BuildError("the library has more than one constructor")
    for symbol in elf.exported:
        if symbol.section and symbol.name and not (
            _OWN.fullmatch(symbol.name) or symbol.name == "emu_module_sections"
        ):
            raise BuildError(f"the library exports {symbol.name}")
