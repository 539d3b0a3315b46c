"""Checks in the assembly where the compiler's instrumentation has none.

A compiler calls no hook for an access to a local variable that, as it sees it, no other thread can
reach, and trusts its index if the type allows it. A type can lie: `((Wide*)array)->x[i]` would reach
all of memory. So the assembly of a kernel file is read once more. Every memory operand must be

  * a constant place in the function's own frame, or within a named variable; or
  * an address that a hook got before, in the same basic block (see assembly.py); or else
  * it is checked at run time, right there: to lie in the frame, or in what the last hook got, or, of
    a load, in the constants of the library. If it does not, a hook is called for it as well. (gcc has
    none where a struct is passed by value, either.)

Nothing here relies on what the compiler's optimiser meant; only on that frame pointer and stack
pointer are set up as usual, which is looked at. Only x86-64 is read, as gcc and clang write it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from .assembly import (
    CALL,
    HOOK,
    JUMP,
    STRING,
    Instruction,
    Operand,
    State,
    access_size,
    accesses,
    after_call,
    covered,
    parse,
    step,
)
from .errors import BuildError, refusal
from .fence import BY_POINTER

# How far above the frame pointer a load at a constant place may reach.
ARGUMENTS = 1024
_SAVES = re.compile(r"pushq?$")
# Changes of the stack pointer and the frame pointer that prologues and epilogues make.
_FRAME_CHANGES = re.compile(
    r"(?:pushq? %rbp|popq? %rbp|movq %rsp, ?%rbp|movq %rbp, ?%rsp|leaveq?|"
    r"(?:subq|addq|andq) \$-?(?:\d+|0x[0-9a-f]+), ?%rsp|leaq -?\d+\(%rbp\), ?%rsp)"
)
_SETS_FLAGS = re.compile(r"(?:add|sub|cmp|test|and|or|xor|neg|imul|mul)[bwlq]$|u?comis[sd]$")
_USES_FLAGS = re.compile(r"j(?!mp)[a-z]+$|set\w+$|cmov\w+$|adc\w?$|sbb\w?$|rc[lr]\w?$|lahf|pushf")

# The rest of a check. %r11 and %r10 hold the first byte and the one behind the last. The carry flag
# says whether a hook must be asked: not for what the last hook of this kind got, nor for loads of the
# library's constants.
_ROUTINE = """\
emu_guard_{kind}:
\tpushq %rax
\tcmpq %r11, %r10
\tjb 8f
\tcmpq emu_guard_seen+{at}(%rip), %r11
\tjb 1f
\tmovq emu_guard_seen+{at}(%rip), %rax
\taddq emu_guard_seen+{at}+8(%rip), %rax
\tcmpq %rax, %r10
\tjbe 9f
1:
{constants}8:\tpopq %rax
\tstc
\tret
9:\tpopq %rax
\tclc
\tret
"""
_CONSTANTS = """\
\tleaq __ehdr_start(%rip), %rax
\tcmpq %rax, %r11
\tjb 8f
\tleaq _DYNAMIC(%rip), %rax
\tcmpq %rax, %r10
\tjbe 9f
"""
# What a call may change, kept in the frame that the caller of these two has made.
_KEPT = [f"%{name}" for name in ("rax", "rcx", "rdx", "rsi", "rdi", "r8", "r9")]
_KEPT_WIDE = [f"%xmm{number}" for number in range(16)]
_MOVES = [
    *(("movq", name, 8 + 8 * index) for index, name in enumerate(_KEPT)),
    *(("movups", name, 64 + 16 * index) for index, name in enumerate(_KEPT_WIDE)),
]
_KEEP = "".join(f"\t{move} {name}, {at}(%rsp)\n" for move, name, at in _MOVES)
_BACK = "".join(f"\t{move} {at}(%rsp), {name}\n" for move, name, at in _MOVES)
_HEAD = f"""\
\t.section\t.rodata.emu_guard,"a",@progbits
.Lemu_guard_text:
\t.string\t"an index outside of a local array"
\t.local\temu_guard_seen
\t.comm\temu_guard_seen,32,16
\t.hidden\t__ehdr_start
\t.hidden\t_DYNAMIC
\t.text
emu_guard_keep:
{_KEEP}\tret
emu_guard_back:
{_BACK}\tret
emu_guard_trap:
\tleaq -128(%rsp), %rsp
\tandq $-16, %rsp
\tleaq .Lemu_guard_text(%rip), %rdi
\tcall emu_trap@PLT
\tud2
"""
# What the last hook of each kind got: address and bytes.
_SEEN = {False: 0, True: 16}


@dataclass
class Function:
    """What the prologue tells: whether %rbp is set up, registers saved below it, bytes of locals."""

    framed: bool = False
    saved: int = 0
    local: int = 0
    open: bool = True  # still in the prologue


@dataclass
class Guard:
    """Rewrites the assembly of one kernel file.

    own: is this function of the kernel file itself? files: names of the student's files.
    """

    text: str
    own: Callable[[str], bool]
    files: Collection[str]
    lines: list[str] = field(default_factory=list)
    late: list[str] = field(default_factory=list)  # code for the end of the function
    # Where the function calls hooks: index into lines, the kind's place in emu_guard_seen, bytes.
    hooks: list[tuple[int, int, str]] = field(default_factory=list)
    state: State = field(default_factory=State)
    function: Function = field(default_factory=Function)
    place: str = ""  # the last .loc
    number: int = 0  # of guards

    def run(self) -> str:
        """The assembly with checks. BuildError: it has something that can't be checked."""
        source = self.text.split("\n")
        parsed = [parse(line) for line in source]
        self.targets = {
            operand for i in parsed if i and JUMP.match(i.name) for operand in i.operands
        }
        self.sizes = {
            name: int(size) for name, size in re.findall(r"\.size\s+([\w.$]+), ?(\d+)", self.text)
        }
        self.own_files = {
            number: name.removeprefix("./")
            for number, name in re.findall(r'^\s*\.file\s+(\d+) (?:"[^"]*" )?"([^"]*)"', self.text, re.M)
            if name.removeprefix("./") in self.files
        }
        for index, line in enumerate(source):
            instruction = parsed[index]
            if instruction is None:
                self._other(line)
            else:
                self._instruction(instruction, parsed[index : index + 40], line)
        head = _HEAD + _ROUTINE.format(kind="load", at=_SEEN[False], constants=_CONSTANTS)
        head += _ROUTINE.format(kind="store", at=_SEEN[True], constants="")
        return head + "\n".join(self.lines)

    def _other(self, line: str) -> None:
        """A label, a directive, a comment or nothing."""
        text = line.strip()
        label = re.match(r"([\w.$]+):", text)
        if label:
            if not label[1].startswith(".L"):
                self.function = Function()
            if label[1] in self.targets or not label[1].startswith(".L"):
                self.state = State()
                self.function.open = self.function.open and not label[1].startswith(".L")
        elif re.match(r"\.loc\s", text):
            if text.split()[1] in self.own_files:
                self.place = text.partition("#")[0].strip()
        elif re.match(r"\.size\s+[\w.$]+, ?\.[\w.-]", text):
            self._end_function()
        self.lines.append(line)

    def _instruction(
        self, instruction: Instruction, following: list[Instruction | None], line: str
    ) -> None:
        name, operands = instruction
        self._prologue(instruction)
        if name in CALL:
            self._call(instruction, line)
            return
        if JUMP.match(name):
            self._jump(instruction, line)
            return
        self._check_frame(instruction)
        if STRING.match(name):
            self._string(name)
        else:
            for place, store in accesses(instruction):
                size = access_size(instruction)
                if not self._constant_place(place, size, store) and not covered(
                    self.state, place, size, store
                ):
                    self._guard(place.text, f"{size}(%r11)", store, _flags_live(following))
        step(self.state, instruction)
        self.lines.append(line)

    def _prologue(self, instruction: Instruction) -> None:
        """Note what the function saves and reserves at its beginning."""
        name, operands = instruction
        function = self.function
        if name in CALL or JUMP.match(name):
            function.open = False
        if not function.open:
            return
        if name == "movq" and operands == ["%rsp", "%rbp"]:
            function.framed = True
        elif _SAVES.match(name) and function.framed and not function.local:
            function.saved += 1
        elif name == "subq" and operands[-1] == "%rsp" and operands[0].startswith("$"):
            function.local += int(operands[0].lstrip("$"), 0)

    def _check_frame(self, instruction: Instruction) -> None:
        """BuildError if the frame is changed in an unusual way: then nothing could be said of it."""
        name, operands = instruction
        if name in ("leave", "leaveq", "ret", "retq"):
            if operands:
                raise self._refusal("a function's end is not as usual")
            return
        if not operands or operands[-1] not in ("%rsp", "%rbp", "%esp", "%ebp"):
            return
        if name.startswith(("cmp", "test", "push")):
            return
        text = f"{name} {', '.join(operands)}"
        if not _FRAME_CHANGES.fullmatch(text):
            raise self._refusal("a local variable is aligned to more than 16 bytes, or its size is "
                                f"not constant: neither is taken ({text})")  # fmt: skip

    def _call(self, instruction: Instruction, line: str) -> None:
        callee = instruction.operands[0].partition("@")[0]
        if callee.startswith("*"):
            raise self._refusal(BY_POINTER)
        hook = HOOK.match(callee)
        if hook:
            size = "%rsi" if hook[2] == "_range" else f"${hook[2]}"
            self.hooks.append((len(self.lines), _SEEN[hook[1] == "write"], size))
        after_call(self.state, callee, self.own(callee))
        self.lines.append(line)

    def _end_function(self) -> None:
        """Put the rest of the checks behind the function, and let its hooks tell them of addresses.

        They do so when they return: while a hook runs, other threads may have had their turn.
        """
        self.lines += ["\tud2", *self.late]  # a function without a return ends here
        for index, at, size in self.hooks if self.late else ():
            self.lines[index] = "\n".join([
                "\tpushq\t%rdi", f"\tpushq\t{size}", self.lines[index],
                f"\tpopq\temu_guard_seen+{at + 8}(%rip)", f"\tpopq\temu_guard_seen+{at}(%rip)",
            ])  # fmt: skip
        self.late, self.hooks = [], []

    def _jump(self, instruction: Instruction, line: str) -> None:
        target = instruction.operands[0]
        if not target.startswith(".L"):
            raise self._refusal(BY_POINTER)
        if instruction.name == "jmp":
            self.state = State()
        self.lines.append(line)

    def _constant_place(self, place: Operand, size: int, store: bool) -> bool:
        """Is this a constant place in the frame or in a named variable?"""
        function = self.function
        if place.index:
            return False
        if place.base == "rbp" and not place.symbol and function.framed:
            # A load may be of saved registers, of the return address, and of arguments.
            top = -8 * function.saved if store else ARGUMENTS
            return -8 * function.saved - function.local <= place.offset <= top - size
        if place.base == "rsp" and not place.symbol:
            return 0 <= place.offset <= function.local - size
        if place.base == "rip":
            if place.symbol.endswith("@GOTPCREL"):
                return not store and not place.offset
            if place.symbol.startswith((".L", "emu_guard_seen")):
                return not store and 0 <= place.offset <= 16
            return 0 <= place.offset <= self.sizes.get(place.symbol, 0) - size
        return False

    def _string(self, name: str) -> None:
        """Guards for `rep stos` and `rep movs`."""
        found = STRING.match(name)
        assert found is not None
        scale = {"b": 1, "w": 2, "l": 4, "q": 8}[found[2]]
        end = f"(%r11,%rcx,{scale})" if name.startswith("rep") else f"{scale}(%r11)"
        self._guard("(%rdi)", end, True, True)
        if found[1] == "movs":
            self._guard("(%rsi)", end, False, True)

    def _guard(self, start: str, end: str, store: bool, flags: bool) -> None:
        """Put the check before an access to [start, end); `start` and `end` are operands of lea.

        `end` may use %r11, which holds the start. Registers are kept below the stack pointer, where
        signals do not reach (128 bytes); the first 40 bytes there are for calls.
        """
        n, function = self.number, self.function
        self.number += 1
        save = ["movq %rax, -64(%rsp)", "lahf", "seto %al", "movq %rax, -72(%rsp)",
                "movq -64(%rsp), %rax"]  # fmt: skip
        restore = ["movq %rax, -64(%rsp)", "movq -72(%rsp), %rax", "addb $127, %al", "sahf",
                   "movq -64(%rsp), %rax"]  # fmt: skip
        # A length that is not constant may be so large that the end wraps around.
        inside = ["cmpq %r11, %r10", f"jb .Lemu_guard_a{n}"] if "rcx" in end else []
        inside += ["cmpq %rsp, %r11", f"jb .Lemu_guard_a{n}"]
        if function.framed:
            saved = 8 * function.saved
            inside += [f"subq $-{saved}, %r10", "cmpq %rbp, %r10", f"ja .Lemu_guard_a{n}"]
        else:
            inside = [f"jmp .Lemu_guard_a{n}"]
        self._emit(self.lines, [
            "movq %r11, -48(%rsp)", "movq %r10, -56(%rsp)", *(save if flags else []),
            f"leaq {start}, %r11", f"leaq {end}, %r10", *inside, f".Lemu_guard_b{n}:",
            *(restore if flags else []), "movq -56(%rsp), %r10", "movq -48(%rsp), %r11",
        ])  # fmt: skip
        kind = ("store", "write") if store else ("load", "read")
        self.late.append(f"\t{self.place}")  # the hook is told apart by its line
        self._emit(self.late, [
            f".Lemu_guard_a{n}:", f"leaq {end}, %r10", f"call emu_guard_{kind[0]}",
            f"jnc .Lemu_guard_b{n}", *(self._spared(n) if store and function.framed else ()),
            "leaq -640(%rsp), %rsp", "call emu_guard_keep",
            "movq %r11, %rdi", "movq %r10, %rsi", "subq %r11, %rsi", "movq %rbx, 320(%rsp)",
            "movq %rsp, %rbx", "andq $-16, %rsp", f"call __tsan_{kind[1]}_range@PLT",
            "movq %rbx, %rsp", "movq 320(%rsp), %rbx", "call emu_guard_back",
            "leaq 640(%rsp), %rsp", f"jmp .Lemu_guard_b{n}",
        ])  # fmt: skip

    def _spared(self, n: int) -> list[str]:
        """Code that ends the launch if [%r11, %r10) meets saved registers or the return address.

        The hook may not know of this frame: functions that call none have no __tsan_func_entry.
        """
        saved, line = 8 * self.function.saved, self.place.split()[2] if self.place else "0"
        return [
            f"leaq {saved}(%r10), %r10", "cmpq %rbp, %r10", f"leaq -{saved}(%r10), %r10",
            f"jbe .Lemu_guard_c{n}", "leaq -16(%r11), %r11", "cmpq %rbp, %r11",
            "leaq 16(%r11), %r11", f"jae .Lemu_guard_c{n}", f"movl ${line}, %esi",
            "jmp emu_guard_trap", f".Lemu_guard_c{n}:",
        ]  # fmt: skip

    def _refusal(self, text: str) -> BuildError:
        """A BuildError about the student's line that the current instruction belongs to."""
        words = self.place.split()
        file = self.own_files.get(words[1]) if words else None
        return refusal(file, int(words[2]), text) if file else BuildError(text)

    @staticmethod
    def _emit(lines: list[str], code: list[str]) -> None:
        lines += [text if text.endswith(":") else f"\t{text}" for text in code]


def _flags_live(following: list[Instruction | None]) -> bool:
    """May the flags that hold now be used later on?"""
    for instruction in following:
        if instruction is None:
            continue
        if _USES_FLAGS.match(instruction.name):
            return True
        if _SETS_FLAGS.match(instruction.name) or instruction.name in (*CALL, "ret", "retq"):
            return False
        if instruction.name == "jmp":
            return True
    return True


def guarded(text: str, own: Callable[[str], bool], files: Collection[str]) -> str:
    """The assembly of a kernel file with checks of what the hooks do not see."""
    return Guard(text, own, files).run()
