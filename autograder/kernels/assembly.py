"""x86-64 assembly in the syntax of gcc and clang: operands, and what registers hold.

Values are linear expressions of unknowns, followed through a basic block, so that two operands can
be seen to mean the same address.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from .errors import BuildError

# A value: what is added up, as sorted (unknown, factor) pairs, and a constant.
Value = tuple[tuple[tuple[int, int], ...], int]


class Operand(NamedTuple):
    """A memory operand: symbol + offset(base, index, scale)."""

    text: str
    symbol: str
    offset: int
    base: str
    index: str
    scale: int


class Instruction(NamedTuple):
    """A line of assembly: mnemonic, with its prefix if it has one, and operands."""

    name: str
    operands: list[str]


JUMP = re.compile(r"j[a-z]+$")
CALL = ("call", "callq")
STRING = re.compile(r"(?:rep\w*[ ;]+)?(movs|stos)([bwlq])$")
_SIXTEEN = ("ax", "bx", "cx", "dx", "si", "di", "bp", "sp")
_WIDE = {
    **{name: f"r{name}" for name in _SIXTEEN},
    **{f"e{name}": f"r{name}" for name in _SIXTEEN},
    **{f"{name}{half}": f"r{name}x" for name in "abcd" for half in "lh"},
    **{f"{name}l": f"r{name}" for name in ("si", "di", "bp", "sp")},
    **{f"r{n}{suffix}": f"r{n}" for n in range(8, 16) for suffix in "dwb"},
}
_ADDRESSES = {"", "rip", *_WIDE.values()}
_SAVED = {"rbx", "r12", "r13", "r14", "r15"}
_OPERAND = re.compile(
    r"(?:(?P<ahead>-?\d+)\+)?(?P<symbol>[A-Za-z_.$][\w.$]*(?:@\w+)?)?(?P<offset>[+-]?(?:0x[0-9a-f]+|\d+))?"
    r"\((?P<base>%\w+)?(?:,\s*(?P<index>%\w+)(?:,\s*(?P<scale>[1248]))?)?\)"
)
_PREFIXES = {"rep", "repz", "repnz", "lock", "notrack", "bnd", "data16", "cs", "rep;"}


def parse(line: str) -> Instruction | None:
    """The instruction on a line, or None for labels, directives and comments."""
    text = line.partition("#")[0].strip().replace("\t", " ")
    if re.match(r"[\w.$]+: *[^ ]", text) and '"' not in text:
        raise BuildError("the compiler put an instruction behind a label, which is not taken")
    if not text or text.startswith(".") or text.endswith(":"):
        return None
    name, _, rest = text.partition(" ")
    rest = rest.strip()
    while name.rpartition(" ")[2] in _PREFIXES and rest:
        first, _, rest = rest.partition(" ")
        name, rest = f"{name} {first}", rest.strip()
    return Instruction(name, _split(rest))


def _split(text: str) -> list[str]:
    parts, depth, start = [], 0, 0
    for at, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if letter == "," and depth == 0:
            parts.append(text[start:at].strip())
            start = at + 1
    return [*parts, text[start:].strip()] if text else []


def register(name: str) -> str:
    """The full register that `%eax`, `%al` … are a part of."""
    return _WIDE.get(name.lstrip("%"), name.lstrip("%"))


def memory(text: str) -> Operand | None:
    """The memory operand that `text` is, or None."""
    if re.fullmatch(r"-?(?:0x[0-9a-f]+|\d+)", text):  # a fixed address, of a null pointer as a rule
        return Operand(text, "", int(text, 0), "", "", 1)
    found = _OPERAND.fullmatch(text)
    if not found:
        return None
    return Operand(
        text, found["symbol"] or "", int(found["offset"] or "0", 0) + int(found["ahead"] or 0),
        (found["base"] or "").lstrip("%"), (found["index"] or "").lstrip("%"),
        int(found["scale"] or 1),
    )  # fmt: skip


# ---- the operands that an instruction reads or writes

_READS_ONLY = re.compile(
    r"cmp[bwlq]$|test[bwlq]$|u?comis[sd]$|bt[wlq]?$|push[wq]?$|ptest$|"
    r"fi?(?:ld|add|sub|mul|div|com)\w*$"
)
_MULTIPLIES = re.compile(r"i?(?:mul|div)[bwlq]$")
_NO_ACCESS = re.compile(r"lea[wlq]$|(?:data16 |cs )*nop\w?$|prefetch")
_BYTES = (
    (1, r"mov[sz]b[wlq]|(?:mov|add|sub|and|or|xor|cmp|test|inc|dec|not|neg|sal|shl|sar|shr)b|set\w+"),
    (2, r"mov[sz]w[lq]|(?:mov|add|sub|and|or|xor|cmp|test|inc|dec|not|neg|sal|shl|sar|shr)w"),
    (4, r"movslq|movd|cvt\w*2s[sd]l|(?!cvt)\w+ss|cvtt?ss2\w+|(?!cmov)[a-z]+l"),
    (8, r"cvt\w*2s[sd]q|(?!cvt)\w+sd|cvtt?sd2\w+|mov[lh]p[sd]|cvtps2pd|movq|(?!p|v|mov)[a-z]+q|"
        r"pushq|popq|popcntq"),
)  # fmt: skip


def access_size(instruction: Instruction) -> int:
    """The most bytes that an instruction reads or writes at its memory operand."""
    name, operands = instruction
    if name.startswith("cmov"):  # without a suffix: cmovl is "if less"
        return 8 if operands[-1].lstrip("%") == register(operands[-1]) else 4
    return next((size for size, names in _BYTES if re.fullmatch(names, name)), 16)


def only_reads(instruction: Instruction) -> bool:
    """Does the instruction leave its last operand as it is?"""
    name, operands = instruction
    alone = len(operands) == 1 and _MULTIPLIES.match(name)  # of %rax and %rdx
    return bool(alone or _READS_ONLY.match(name))


def accesses(instruction: Instruction) -> Iterator[tuple[Operand, bool]]:
    """The memory operands of an instruction that it reads or writes, and whether it writes."""
    name, operands = instruction
    if _NO_ACCESS.match(name):
        return
    for index, text in enumerate(operands):
        place = memory(text)
        if place is not None and {place.base, place.index} <= _ADDRESSES:
            last = index == len(operands) - 1
            yield place, last and not only_reads(instruction)
        elif place is not None or not re.fullmatch(r"%\w+|\$.*", text) and not JUMP.match(name):
            raise BuildError(f"the compiler made an instruction that is not taken: {name} {text}")


# ---- values


@dataclass
class State:
    """What is known at a place of a basic block."""

    registers: dict[str, Value] = field(default_factory=dict)
    # Values spilled to the frame, by offset from rbp and size.
    slots: dict[tuple[int, int], Value] = field(default_factory=dict)
    approved: list[tuple[Value, int, bool]] = field(default_factory=list)  # address, bytes, store
    names: dict[object, int] = field(default_factory=dict)

    def unknown(self, name: object = None) -> Value:
        """The value called `name`; without one, a value that equals no other."""
        key = ("new", len(self.names)) if name is None else name
        return ((self.names.setdefault(key, len(self.names)), 1),), 0

    def of(self, name: str) -> Value:
        """The value of a register."""
        full = register(name)
        if full == "rbp":
            return self.unknown(("register", "rbp"))
        if full == "rsp" or full.startswith("xmm") or re.fullmatch("%?[abcd]h", name):
            return self.unknown()
        if full not in self.registers:
            self.registers[full] = self.unknown()
        return self.registers[full]

    def read(self, text: str) -> Value:
        """The value of a source operand that is no memory."""
        if not text.startswith("$"):
            return self.of(text)
        number = re.fullmatch(r"\$(-?\d+|0x[0-9a-f]+)", text)
        return constant(int(number[1], 0)) if number else self.unknown(("immediate", text))

    def address(self, operand: Operand) -> Value:
        """The address that a memory operand means."""
        value = constant(operand.offset)
        if operand.symbol:
            value = add(value, self.unknown(("symbol", operand.symbol)))
        if operand.base and operand.base != "rip":
            value = add(value, self.of(operand.base))
        if operand.index:
            value = add(value, self.of(operand.index), operand.scale)
        return value


def constant(number: int) -> Value:
    """A value without unknowns."""
    return (), number


def add(a: Value, b: Value, factor: int = 1) -> Value:
    """a + factor * b."""
    terms = dict(a[0])
    for name, count in b[0]:
        terms[name] = terms.get(name, 0) + factor * count
    return tuple(sorted(term for term in terms.items() if term[1])), a[1] + factor * b[1]


# What depends on operands alone.
_PURE = re.compile(
    r"(?:and|or|xor|shl|sal|shr|sar|imul|not|neg|lea|mov|add|sub)[lq]$|mov[sz][bwl][lq]$|movslq$"
)
# What changes its last operand and flags, and nothing else.
_PLAIN = re.compile(
    r"(?:and|or|xor|sh[lr]d?|sal|sar|ro[lr]|imul|not|neg|lea|mov|add|sub|adc|sbb|inc|dec|pop|bs[fr]|"
    r"bswap|push|cmp|test)[bwlq]?$|mov[sz][bwl][wlq]$|movslq$|movabsq$|cmov\w+$|set\w+$|cvt\w+$|"
    r"(?:mov|add|sub|mul|div|sqrt|min|max|cmp|and|or|xor|andn|unpck|shuf|round|u?comi)\w*[sp][sd]$|"
    r"mov(?:d|dqa|dqu|hlps|lhps|aps|ups)$|p(?:xor|and|andn|or|add|sub|shuf|unpck|mul|s[lr][la])\w+$|"
    r"(?:popcnt|[lt]zcnt)\w?$"
)


def step(state: State, instruction: Instruction) -> None:
    """Follow the registers through an instruction other than a call or a jump."""
    name, operands = instruction
    if name == "cltq":
        state.registers["rax"] = state.unknown(("movslq", state.of("rax")))
    elif name in ("cltd", "cqto") or (len(operands) == 1 and _MULTIPLIES.match(name)):
        state.registers.pop("rax", None)
        state.registers.pop("rdx", None)
    elif not operands or not _PLAIN.match(name):
        state.registers.clear()
        state.slots.clear()
    elif (place := memory(operands[-1])) is not None:
        if not only_reads(instruction):
            _store(state, instruction, place)
    elif not only_reads(instruction):
        full = register(operands[-1])
        if full not in ("rbp", "rsp") and not full.startswith("xmm"):
            state.registers[full] = _result(state, instruction)


def _result(state: State, instruction: Instruction) -> Value:
    """What an instruction leaves in its last operand, a general register."""
    name, operands = instruction
    source, target = operands[0], operands[-1]
    place = memory(source)
    if any(text.startswith("%xmm") for text in operands) or not 1 <= len(operands) <= 3:
        return state.unknown()
    if place is not None and not name.startswith("lea"):
        return _loaded(state, name, place) if len(operands) == 2 else state.unknown()
    if len(operands) == 2:
        number = state.address(place) if place else state.read(source)
        if name in ("movq", "movabsq", "leaq"):
            return number
        if name == "movl" and not number[0]:
            return constant(number[1] & 0xFFFFFFFF)
        if name in ("addq", "subq"):
            return add(state.of(target), number, 1 if name == "addq" else -1)
        if name in ("salq", "shlq") and source.startswith("$") and not number[0]:
            return add(constant(0), state.of(target), 1 << number[1])
        if name in ("xorl", "xorq") and source == target:
            return constant(0)
        if _PURE.match(name):
            copies = name.startswith(("mov", "lea"))
            return state.unknown((name, number, None if copies else state.of(target)))
    if _PURE.match(name) and place is None:
        return state.unknown((name, *(state.read(text) for text in operands)))
    return state.unknown()


def _loaded(state: State, name: str, place: Operand) -> Value:
    """What a load leaves: the spilled value, if it comes from a slot of the frame."""
    size = {"movq": 8, "movl": 4, "movslq": 4}.get(name)
    if size is None or place.base != "rbp" or place.index:
        return state.unknown()
    key = (place.offset, size)
    if key not in state.slots:
        state.slots[key] = state.unknown()
    slot = state.slots[key]
    return slot if size == 8 else state.unknown((name, slot, None))


def _store(state: State, instruction: Instruction, place: Operand) -> None:
    """Forget the spilled values that a store may overwrite; remember a new one."""
    if place.base != "rbp" or place.index:
        if place.base != "rip":
            state.slots.clear()
        return
    for offset, size in list(state.slots):
        if offset - 16 < place.offset < offset + size:
            del state.slots[offset, size]
    name, operands = instruction
    size = {"movq": 8, "movl": 4}.get(name)
    if size and len(operands) == 2 and not operands[0].startswith("%xmm"):
        state.slots[place.offset, size] = state.read(operands[0])


# Calls that can't change the caller's frame; memcpy, which may get its address, is none of them.
_HARMLESS = re.compile(r"__tsan_|__sanitizer_|__ubsan_|emu_(?:thread|block|grid)_|emu_lane$")
HOOK = re.compile(r"__tsan_(?:unaligned_)?(?:volatile_)?(read|write)(1|2|4|8|16|_range)$")


def after_call(state: State, name: str, own: bool) -> None:
    """Forget what a call changes; remember the address that a hook got.

    own: the callee is a function of the kernel file, which may have changed this one's frame.
    """
    hook = HOOK.match(name)
    if hook:
        length = state.of("rsi") if hook[2] == "_range" else constant(int(hook[2]))
        if not length[0]:
            state.approved.append((state.of("rdi"), length[1], hook[1] == "write"))
    for changed in list(state.registers):
        if own or changed not in _SAVED:
            del state.registers[changed]
    if own or not _HARMLESS.match(name):
        state.slots.clear()


def covered(state: State, place: Operand, size: int, store: bool) -> bool:
    """Did a hook get the address of this access before?"""
    value = state.address(place)
    return any(
        value[0] == base[0] and 0 <= value[1] - base[1] <= length - size and (writes or not store)
        for base, length, writes in state.approved
    )
