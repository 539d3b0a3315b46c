"""Checks in the assembly where the compiler's instrumentation has none.

A compiler calls no hook for an access to a local variable that, as it sees it, no other thread can
reach, and trusts its index if the type allows it. A type can lie: `((Wide*)array)->x[i]` would reach
all of memory. So the assembly of a kernel file is read once more. Every memory operand must be

  * a constant place in the function's own frame, or within a named variable; or
  * an address that a hook got just before, in the same basic block; or else
  * it is checked right there to lie in the frame (a load: or in the arguments, or in the constants
    of the library), and the launch ends if it does not.

Which addresses are equal is found by following linear expressions through the registers of a basic
block. Only x86-64 is read, in the syntax that gcc and clang write.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from .errors import BuildError

# A value: what is added up, as sorted (unknown, factor) pairs, and a constant.
Value = tuple[tuple[tuple[object, int], ...], int]


class Operand(NamedTuple):
    """A memory operand: offset text or number, base, index, scale; of `size` bytes."""

    text: str
    symbol: str
    offset: int
    base: str
    index: str
    scale: int


@dataclass
class State:
    """What is known at a place of a basic block."""

    registers: dict[str, Value] = field(default_factory=dict)
    # Values spilled to the frame, by offset from rbp and size.
    slots: dict[tuple[int, int], Value] = field(default_factory=dict)
    approved: list[tuple[Value, int, bool]] = field(default_factory=list)  # address, size, store


_WIDE = {
    **{name: f"r{name}" for name in ("ax", "bx", "cx", "dx", "si", "di", "bp", "sp")},
    **{f"e{name}": f"r{name}" for name in ("ax", "bx", "cx", "dx", "si", "di", "bp", "sp")},
    **{f"{name}l": f"r{name}x" for name in "abcd"},
    **{f"{name}h": f"r{name}x" for name in "abcd"},
    **{f"{name}l": f"r{name}" for name in ("si", "di", "bp", "sp")},
    **{f"r{n}{suffix}": f"r{n}" for n in range(8, 16) for suffix in "dwb"},
}
_SAVED = {"rbx", "rbp", "rsp", "r12", "r13", "r14", "r15"}
_OPERAND = re.compile(
    r"(?P<symbol>[A-Za-z_.$][\w.$]*(?:@\w+)?)?(?P<offset>[+-]?(?:0x[0-9a-f]+|\d+))?"
    r"\((?P<base>%\w+)?(?:,\s*(?P<index>%\w+)(?:,\s*(?P<scale>[1248]))?)?\)"
)
_READS_ONLY = re.compile(r"cmp[bwlq]$|test[bwlq]$|u?comis[sd]|bt[wlq]?$|push|prefetch|nop|ptest")
_JUMP = re.compile(r"j[a-z]+$")
_HOOK = re.compile(r"__tsan_(?:unaligned_)?(?:volatile_)?(read|write)(1|2|4|8|16|_range)$")
_PASSIVE = re.compile(r"__tsan_func_(?:entry|exit)|__sanitizer_cov_trace_pc")


def register(name: str) -> str:
    """The full register that `%eax`, `%al` … are a part of."""
    return _WIDE.get(name.lstrip("%"), name.lstrip("%"))


class Instruction(NamedTuple):
    """A line of assembly: mnemonic and operands."""

    name: str
    operands: list[str]


def parse(line: str) -> Instruction | None:
    """The instruction on a line, or None for labels, directives and comments."""
    text = line.partition("#")[0].strip()
    if not text or text.startswith(".") or text.endswith(":"):
        return None
    name, _, rest = text.partition("\t")
    if not rest:
        name, _, rest = text.partition(" ")
    rest = rest.strip()
    while name in ("rep", "repz", "repnz", "lock", "notrack", "bnd", "data16", "cs") and rest:
        first, _, rest = rest.replace("\t", " ").partition(" ")
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


def memory(text: str) -> Operand | None:
    """The memory operand that `text` is, or None."""
    found = _OPERAND.fullmatch(text)
    if not found:
        return None
    return Operand(
        text, found["symbol"] or "", int(found["offset"] or "0", 0),
        (found["base"] or "").lstrip("%"), (found["index"] or "").lstrip("%"),
        int(found["scale"] or 1),
    )  # fmt: skip


# ---- values


def _constant(number: int) -> Value:
    return (), number


def _unknown(name: object) -> Value:
    return ((name, 1),), 0


def _sum(a: Value, b: Value, factor: int = 1) -> Value:
    terms = dict(a[0])
    for name, count in b[0]:
        terms[name] = terms.get(name, 0) + factor * count
    kept = tuple(sorted(((n, c) for n, c in terms.items() if c), key=repr))
    return kept, a[1] + factor * b[1]


_fresh = iter(range(1, 1 << 62))
_CONSTANT_FRAME = {"rbp": _unknown("rbp"), "rsp": _unknown("rsp")}
_PURE = re.compile(
    r"(?:and|or|xor|shl|sal|shr|sar|imul|not|neg|lea|mov|add|sub)[lq]$|mov[sz][bwl][lq]$|movslq$"
)


def _of(state: State, name: str) -> Value:
    """The value of a register."""
    full = register(name)
    if full in _CONSTANT_FRAME:
        return _CONSTANT_FRAME[full]
    if full not in state.registers:
        state.registers[full] = _unknown(next(_fresh))
    return state.registers[full]


def address(state: State, operand: Operand) -> Value:
    """The address that a memory operand means."""
    value = _constant(operand.offset)
    if operand.symbol:
        value = _sum(value, _unknown(operand.symbol))
    if operand.base and operand.base != "rip":
        value = _sum(value, _of(state, operand.base))
    if operand.index:
        value = _sum(value, _of(state, operand.index), operand.scale)
    return value


def _read(state: State, text: str) -> Value:
    """The value of a source operand that is no memory."""
    if text.startswith("$"):
        try:
            return _constant(int(text[1:], 0))
        except ValueError:
            return _unknown(text)
    return _of(state, text)


def step(state: State, instruction: Instruction) -> None:
    """Follow the registers through an instruction other than a call."""
    name, operands = instruction
    if not operands:
        for changed in ("rax", "rdx", "rcx", "rsi", "rdi"):  # cltd, rep stos …
            before = state.registers.pop(changed, None)
            if name == "cltq" and changed == "rax" and before:
                state.registers["rax"] = _unknown(("sx", before))
        return
    target = operands[-1]
    place = memory(target)
    if place is not None:
        if not _READS_ONLY.match(name):
            _store(state, instruction, place)
        return
    if _READS_ONLY.match(name) or _JUMP.match(name):
        return
    if len(operands) == 1 and re.match(r"i?(?:mul|div)[bwlq]$", name):
        state.registers.pop("rax", None)
        state.registers.pop("rdx", None)
        return
    if not target.startswith("%") or target.startswith("%xmm"):
        return
    if register(target) in _CONSTANT_FRAME:
        return  # checked elsewhere
    value = _result(state, instruction)
    if name.startswith("xchg"):
        state.registers.pop(register(operands[0]), None)
    state.registers[register(target)] = value


def _result(state: State, instruction: Instruction) -> Value:
    """What an instruction leaves in its last operand, a register."""
    name, operands = instruction
    source = memory(operands[0])
    target = operands[-1]
    if name == "leaq" and source:
        return address(state, source)
    if source is not None and name != "leal":
        if source.base == "rbp" and not source.index and _PURE.match(name) and len(operands) == 2:
            size = {"movq": 8, "movl": 4, "movslq": 4}.get(name)
            if size:
                key = (source.offset, size)
                slot = state.slots.setdefault(key, _unknown(next(_fresh)))
                return slot if size == 8 else _unknown((name, slot))
        return _unknown(next(_fresh))
    if len(operands) == 2 and name in ("movq", "movabsq"):
        return _read(state, operands[0])
    if len(operands) == 2 and name == "movl" and operands[0].startswith("$"):
        return _read(state, operands[0])
    if len(operands) == 2 and name in ("addq", "subq"):
        factor = 1 if name == "addq" else -1
        return _sum(_of(state, target), _read(state, operands[0]), factor)
    if len(operands) == 2 and name in ("salq", "shlq") and operands[0].startswith("$"):
        return _sum(_constant(0), _of(state, target), 1 << int(operands[0][1:], 0))
    if name in ("xorl", "xorq") and operands[0] == operands[-1]:
        return _constant(0)
    if _PURE.match(name) and not any(text.startswith("%xmm") for text in operands):
        values = [address(state, m) if (m := memory(t)) else _read(state, t) for t in operands]
        return _unknown((name, *(values if len(operands) != 2 or name[:3] != "mov" else values[:1])))
    return _unknown(next(_fresh))


def _store(state: State, instruction: Instruction, place: Operand) -> None:
    """Forget the spilled values that a store may overwrite; remember a new one."""
    if place.base == "rip":
        return
    if place.base != "rbp" or place.index:
        state.slots.clear()
        return
    for offset, size in list(state.slots):
        if offset - 16 < place.offset < offset + size:
            del state.slots[offset, size]
    name, operands = instruction
    size = {"movq": 8, "movl": 4}.get(name)
    if size and len(operands) == 2 and not operands[0].startswith("%xmm"):
        state.slots[place.offset, size] = _read(state, operands[0])


def after_call(state: State, name: str, own: bool) -> None:
    """Forget what a call changes; remember the address that a hook got.

    own: the callee is a function of the kernel file, which may have changed this one's frame.
    """
    hook = _HOOK.match(name)
    if hook:
        size = hook[2]
        length = _of(state, "rsi") if size == "_range" else _constant(int(size))
        if not length[0]:
            state.approved.append((_of(state, "rdi"), length[1], hook[1] == "write"))
    for changed in list(state.registers):
        if own or changed not in _SAVED:
            del state.registers[changed]
    if own:
        state.slots.clear()


def covered(state: State, place: Operand, size: int, store: bool) -> bool:
    """Did a hook get the address of this access before?"""
    value = address(state, place)
    return any(
        value[0] == base[0] and 0 <= value[1] - base[1] <= length - size and (may_store or not store)
        for base, length, may_store in state.approved
    )


# ---- operands of instructions

_SIZES = (
    (re.compile(r"mov[sz]b[wlq]|(?:mov|add|sub|and|or|xor|cmp|test|inc|dec|not|neg|sal|shl|sar|shr)b|"
                r"set[a-z]+"), 1),
    (re.compile(r"mov[sz]w[lq]|(?:mov|add|sub|and|or|xor|cmp|test|inc|dec|not|neg)w|pinsrw|pextrw"), 2),
    (re.compile(r"movslq|movd|cvt\w*2s[sd]l|(?!cvt)\w+ss|cvtss2\w+|cvttss2\w+|[a-z]+l"), 4),
    (re.compile(r"cvt\w*2s[sd]q|(?!cvt)\w+sd|cvtt?sd2\w+|mov[lh]p[sd]|cvtps2pd|[a-z]+q"), 8),
)  # fmt: skip
_WHOLE = re.compile(r"mov(?:aps|ups|apd|upd|dqa|dqu|nt\w+)|[a-z]*(?:ps|pd)|p[a-z]+")


def access_size(name: str) -> int:
    """The most bytes that an instruction reads or writes at its memory operand."""
    if _WHOLE.fullmatch(name) and name not in ("movlps", "movhps", "movlpd", "movhpd", "pushq"):
        return 16
    return next((size for pattern, size in _SIZES if pattern.fullmatch(name)), 16)


def accesses(instruction: Instruction) -> Iterator[tuple[Operand, bool]]:
    """The memory operands of an instruction that it reads or writes, and whether it writes."""
    name, operands = instruction
    if name.startswith(("lea", "nop", "prefetch")):
        return
    for index, text in enumerate(operands):
        place = memory(text)
        if place is not None:
            last = index == len(operands) - 1
            yield place, last and not _READS_ONLY.match(name)
        elif not text.startswith(("%", "$")) and not _JUMP.match(name):
            raise BuildError(f"an instruction with an operand that can't be read: {name} {text}")
