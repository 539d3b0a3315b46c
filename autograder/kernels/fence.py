"""What a kernel file's object code may hold: no machine code but the compiler's, no call away.

The screen keeps the means to write such code out of the source; this looks at what came of it.
"""

from __future__ import annotations

import re
from pathlib import Path

from .elf import ALLOC, EXECUTE, UNDEFINED, WRITE, Elf
from .errors import BuildError
from .process import run
from .toolchain import INCLUDE, Compiler

# Mathematics that reads and writes nothing but its arguments and errno.
_MATH = """acos acosh asin asinh atan atan2 atanh cbrt ceil copysign cos cosh erf erfc exp exp2 exp10
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
_RESERVED = re.compile(r"emu_|__(?:tsan|ubsan|asan|sanitizer|wrap|real|start|stop)_")
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


def outside(name: str) -> bool:
    """Is this a function of the emulator or the C library that kernel files may call?"""
    return bool(name in ABI | MATH or name in _MEMORY or _HOOKS.fullmatch(name))


def check_object(path: Path, compiler: Compiler, main: str) -> None:
    """BuildError if the object file has something in it that could get past the checks."""
    elf = Elf(path)
    for symbol in elf.symbols[1:]:
        if symbol.type == 10:
            raise BuildError(f"{main}: functions chosen at load time are not taken")
        if symbol.type == 6:
            raise BuildError(f"{main}: thread-local variables do not exist on a GPU")
        if symbol.section == UNDEFINED:
            _check_undefined(symbol.name, main)
        elif symbol.bind and symbol.type != 3 and not _OWN.fullmatch(symbol.name):
            if _RESERVED.match(symbol.name) or symbol.name in MATH | _MEMORY:
                raise BuildError(f"{main}: {symbol.name} is a name of the C library or the emulator")
    _check_sections(elf, main)
    _check_code(path, compiler, main)


def _check_undefined(name: str, main: str) -> None:
    if outside(name) or name in _LINKER:
        return
    raise BuildError(f"{main}: {name} is not there for kernel files: they may call CUDA's functions "
                     "and mathematics, and must define what they declare")  # fmt: skip


def _check_sections(elf: Elf, main: str) -> None:
    for section in elf.sections:
        if section.name == ".note.GNU-stack" and section.flags & EXECUTE:
            raise BuildError(f"{main}: nested functions are not taken")
        if not section.flags & ALLOC or not section.size:
            continue
        if not _SECTIONS.fullmatch(section.name) or (
            section.flags & WRITE and section.flags & EXECUTE
        ):
            raise BuildError(f"{main}: the section {section.name} is not taken")
    for relocation in elf.relocations():
        if elf.sections[relocation.section].name.startswith(".init_array"):
            symbol = elf.symbols[relocation.symbol]
            names = [symbol.name]
            if symbol.type == 3:
                names = [
                    s.name
                    for s in elf.symbols
                    if s.section == symbol.section and s.value == relocation.addend and s.type == 2
                ]
            if not any(_CONSTRUCTORS.fullmatch(name) for name in names):
                raise BuildError(f"{main}: a variable outside of functions needs code to run before "
                                 "the program: give it a constant value")  # fmt: skip


_BY_POINTER = re.compile(
    r"^ +[0-9a-f]+:\t(?:(?:bnd |notrack )?l?(?:call|jmp)q? +\*|(?:blr|br|blra\w+|bra\w+)\b)", re.M
)
_PRIVILEGED = re.compile(
    r"^ +[0-9a-f]+:\t(?:\w+ )*(?:syscall|sysenter|int|into|svc|hvc|smc|iretq?|sysret\w?|wrfsbase|"
    r"wrgsbase|wrpkru|xrstor\w*|lcall|ljmp|in|out)\b", re.M
)  # fmt: skip
_RET = re.compile(r"^ +[0-9a-f]+:\tret +x(?!30)", re.M)


def _check_code(path: Path, compiler: Compiler, main: str) -> None:
    listing = run([compiler.tool("objdump"), "-d", "--no-show-raw-insn", path.name],
                  path.parent, text=" ").output  # fmt: skip
    found = _BY_POINTER.search(listing) or _PRIVILEGED.search(listing) or _RET.search(listing)
    if not found:
        return
    if _BY_POINTER.search(listing):
        place = _line_of(path, compiler)
        where = f"{place[0]}:{place[1]}" if place else main
        raise BuildError(f"{where}: a call through a pointer (function pointer or virtual function) "
                         "can't be checked: call the function by its name",
                         [place] if place else [])  # fmt: skip
    raise BuildError(f"{main}: machine instructions that reach outside of the kernel are not taken")


def _line_of(path: Path, compiler: Compiler) -> tuple[str, int] | None:
    """The line of the first call through a pointer."""
    listing = run([compiler.tool("objdump"), "-dl", "--no-show-raw-insn", path.name],
                  path.parent, text=" ").output  # fmt: skip
    found = _BY_POINTER.search(listing)
    if not found:
        return None
    places = re.findall(r"^(?:\S*/)?(\w+\.cuh?):(\d+)", listing[: found.start()], re.M)
    return (places[-1][0], int(places[-1][1])) if places else None


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
