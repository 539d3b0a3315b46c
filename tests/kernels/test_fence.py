"""The fence around object code, and the checks that guard.py puts where hooks are missing."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from autograder.kernels import fence
from autograder.kernels.assembly import State, accesses, access_size, covered, parse, step
from autograder.kernels.assembly import after_call as call
from autograder.kernels.elf import Elf
from autograder.kernels.errors import BuildError
from autograder.kernels.flags import EXPORTS, compile_flags
from autograder.kernels.guard import guarded
from autograder.kernels.toolchain import find_compiler

HERE = Path(__file__).parent
COMPILERS = [
    pytest.param(name, marks=pytest.mark.skipif(not shutil.which(name), reason=f"no {name}"))
    for name in ("g++", "clang++", "aarch64-linux-gnu-g++")
]
NATIVE = COMPILERS[:2]


def compiled(text: str, compiler: str, folder: Path, *, more: tuple[str, ...] = ()) -> Path:
    """The object file of a C++ text, which has no headers and has not been screened."""
    (folder / "k.cu").write_text(text)
    found = find_compiler(compiler)
    options = [o for o in compile_flags(found, True, "-O2") if o != "-fno-gnu-inline-asm"]
    command = [found.path, *options, *more, "-x", "c++", "-c", "k.cu", "-o", "unit.o"]
    subprocess.run(command, cwd=folder, check=True, timeout=60)
    return folder / "unit.o"


def checked(text: str, compiler: str, folder: Path) -> None:
    path = compiled(text, compiler, folder)
    fence.Fence(path, find_compiler(compiler), "k.cu").check()


ORDINARY = """
typedef unsigned long size;
extern "C" { float expf(float); double fma(double, double, double); void* memcpy(void*, const void*, size);
             int emu_barrier(int, int, int); }
struct Big { double x[100]; };
static int counter; const float table[3] = {1, 2, 3};
__attribute__((section("emu_device"))) int device = 3;
__attribute__((section("emu_constant"))) float constants[4];
template <class T> __attribute__((noinline)) T twice(T x) { static int site; site = 1; return x + x; }
__attribute__((noinline)) int chosen(int x) {
    switch (x) { case 0: return 3; case 1: return 17; case 2: return 5; case 3: return 9; case 4: return x;
                 case 5: return 99; default: return counter; }
}
void copy(Big* a, const Big* b) { *a = *b; }
extern "C" __attribute__((visibility("default"))) void emu_entry_f(void** a) {
    float values[8] = {}; int n = *(int*)a[0];
    for (int i = 0; i < n; ++i) values[i] += expf(table[i % 3]) + twice(i) + chosen(i);
    device += values[n]; constants[1] = fma(n, 2, 3); emu_barrier(0, 0, 0);
}
"""


@pytest.mark.parametrize("compiler", COMPILERS)
def test_ordinary_code_passes(compiler, tmp_path):
    checked(ORDINARY, compiler, tmp_path)


REFUSED = {
    "call through a pointer": "void f(void (*g)()) {\n g(); }",
    "call through a pointer ": "struct S { virtual void g(); };\nvoid f(S* s) { s->g(); }",
    "call through a pointer  ": "struct S;\nvoid f(S* s, void (S::*g)()) { (s->*g)(); }",
    "system is not there": 'extern "C" int system(const char*);\nvoid f() { system("ls"); }',
    "emu_read is not there": 'extern "C" void emu_read(void*);\nvoid f() { emu_read(0); }',
    "helper is not there": "void helper();\nvoid f() { helper(); }",
    "sincos is not there": 'extern "C" void sincos(double, double*, double*);\n'
    "void f(double* x) { sincos(1, x, x); }",
    "__tsan_atomic32_load is not there": "int x; int f() { return __atomic_load_n(&x, 5); }",
    "memcpy is a name of": 'extern "C" void* memcpy(void* a, const void*, unsigned long) { return a; }',
    "sinf is a name of": 'extern "C" float sinf(float) { return 1; }',
    "_init is a name of": 'extern "C" void _init() { }',
    "__emu is a name of": "int x __asm__(\"__emu\") = 1;",
    "emu_trap is a name of": 'extern "C" void emu_trap() { }',
    "emu_guard_seen is a name of": 'extern "C" { long emu_guard_seen[4] = {1}; }',
    "needs code to run before": "volatile int x;\nint f = x;",
    "needs code to run before ": "volatile int x; __attribute__((constructor)) void f() { x = 3; }",
    "the section": "volatile int x; __attribute__((destructor)) void f() { x = 3; }",
    "the section ": '__attribute__((section("elsewhere"))) int f = 3;',
    "the section  ": '__attribute__((section(".ctors"))) long f = 3;',
    "thread-local": "thread_local int f = 3;",
    "chosen at load time": 'extern "C" { void g() { } void (*r())() { return g; }\n'
    'void f() __attribute__((ifunc("r"))); }',
    "code on the stack": '__asm__(".section .note.GNU-stack,\\"x\\",%progbits");',
}
MACHINE = {
    "reach outside": 'void f() { __asm__("syscall"); }',
    "reach outside ": 'void f() { __asm__("int $0x80"); }',
    "reach outside  ": 'void f() { __asm__("rep; insb"); __asm__("wrfsbase %rax"); }',
    "call through a pointer": 'void f() { __asm__("jmp *%rax"); }',
    "call through a pointer ": 'void f() { __asm__("notrack jmp *(%rax)"); }',
    "call through a pointer  ": 'void f() { __asm__("lcall *(%rax)"); }',
}
ARM = {
    "reach outside": 'void f() { __asm__("svc #0"); }',
    "reach outside ": 'void f() { __asm__("ret x3"); }',
    "call through a pointer": 'void f() { __asm__("br x3"); }',
}
# g++ does not take it, or makes nothing of it that could be refused.
SKIPPED = {("aarch64-linux-gnu-g++", "code on the stack")}


@pytest.mark.parametrize("compiler", COMPILERS)
def test_what_could_get_past_the_checks_is_refused(compiler, tmp_path):
    own = ARM if compiler.startswith("aarch64") else MACHINE
    for message, text in [*REFUSED.items(), *own.items()]:
        if (compiler, message.strip()) in SKIPPED:
            continue
        with pytest.raises(BuildError) as caught:
            checked(text, compiler, tmp_path)
            pytest.fail(f"passed: {text}")
        assert message.strip() in caught.value.message, text


@pytest.mark.parametrize("compiler", NATIVE)
def test_the_line_of_what_is_refused_is_named(compiler, tmp_path):
    for text, line in (
        (REFUSED["call through a pointer"], 2),
        (REFUSED["call through a pointer "], 2),
        (REFUSED["needs code to run before"], 2),
    ):
        with pytest.raises(BuildError) as caught:
            checked(text, compiler, tmp_path)
        assert caught.value.places == [("k.cu", line)], text
        assert caught.value.message.startswith(f"k.cu:{line}: ")


def test_a_library_runs_nothing_when_it_is_loaded(tmp_path):
    def linked(text: str, *more: str) -> Elf:
        path = compiled(text, "g++", tmp_path)
        (tmp_path / "exports").write_text(EXPORTS)
        command = ["g++", "-shared", "-nostdlib", "-o", "k.so", path.name, *more]
        subprocess.run(command, cwd=tmp_path, check=True)
        return Elf(tmp_path / "k.so")

    hidden = "-Wl,--version-script=exports"
    entry = 'extern "C" __attribute__((visibility("default"))) void '
    fence.check_library(linked(entry + "emu_entry_f() { }", hidden))
    with pytest.raises(BuildError, match="exports other"):
        fence.check_library(linked(entry + "other() { }"))
    for text in ('extern "C" void _init() { }', 'extern "C" void _fini() { }',
                 "volatile int x; __attribute__((constructor)) void f() { x = 3; }"):  # fmt: skip
        with pytest.raises(BuildError, match="at load time|more than one"):
            fence.check_library(linked(text, hidden))


# --- guard.py: which accesses are covered -----------------------------------------------------


def state_after(text: str) -> State:
    """What is known behind instructions that are separated by semicolons."""
    state = State()
    for line in text.split(";"):
        instruction = parse(line)
        assert instruction is not None, line
        if instruction.name == "call":
            call(state, instruction.operands[0], instruction.operands[0].startswith("own"))
        else:
            step(state, instruction)
    return state


COVERED = {
    "movq %rbx, %rdi; call __tsan_read4; movss (%rbx), %xmm0": True,
    "movq %rbx, %rdi; call __tsan_read4; movss 4(%rbx), %xmm0": False,
    "movq %rbx, %rdi; call __tsan_read8; movss 4(%rbx), %xmm0": True,
    "movq %rbx, %rdi; call __tsan_read4; movq (%rbx), %r12": False,
    "movq %rbx, %rdi; call __tsan_read4; movss %xmm0, (%rbx)": False,
    "movq %rbx, %rdi; call __tsan_write4; movss %xmm0, (%rbx)": True,
    "movq %rbx, %rdi; call __tsan_write4; addl $1, (%rbx)": True,
    "movq %rbx, %rdi; addq $4, %rbx; call __tsan_read4; movss -4(%rbx), %xmm0": True,
    "movq %rbx, %rdi; call __tsan_read4; addq $4, %rbx; movss (%rbx), %xmm0": False,
    "leaq 8(%rbx,%r12,4), %rdi; call __tsan_read4; movl 8(%rbx,%r12,4), %eax": True,
    "leaq 8(%rbx,%r12,4), %rdi; call __tsan_read4; movl 8(%r12,%rbx,4), %eax": False,
    "leaq (%rbx,%r12,4), %rdi; salq $2, %r12; call __tsan_read4; movl (%rbx,%r12), %eax": True,
    "leaq (%rax,%rbx), %rdi; call __tsan_read4; movl (%rax,%rbx), %eax": False,  # %rax is lost
    "movq %rbx, -8(%rbp); movq %rbx, %rdi; call __tsan_read4; movq -8(%rbp), %rax; movl (%rax), %ecx":
        True,
    "movq %rbx, -8(%rbp); movq %rbx, %rdi; call __tsan_read4; movl $0, (%rcx); movq -8(%rbp), %rax; "
    "movl (%rax), %ecx": False,  # that store may have changed what was spilled
    "movq %rbx, -8(%rbp); movq %rbx, %rdi; call __tsan_read4; movl %ecx, -6(%rbp); movq -8(%rbp), %rax;"
    "movl (%rax), %ecx": False,
    "movq %rbx, -8(%rbp); movq %rbx, %rdi; call __tsan_read4; movl %r12d, -8(%rbp); movq -8(%rbp), %rax;"
    "movl (%rax), %ecx": False,
    "movq %rbx, -8(%rbp); movq %rbx, %rdi; call __tsan_read4; call memcpy; movq -8(%rbp), %rax; "
    "movl (%rax), %ecx": False,
    "movq %rbx, -8(%rbp); movq %rbx, %rdi; call __tsan_read4; call __tsan_write4; movq -8(%rbp), %rax; "
    "movl (%rax), %ecx": True,
    "leaq rbp(%rip), %rdi; call __tsan_read4; movl (%rbp), %eax": False,  # a variable of that name
    "movzbl %bl, %r13d; leaq (%r12,%r13), %rdi; call __tsan_read1; movzbl %bl, %eax; movb (%r12,%rax), %cl":
        True,
    "movzbl %bl, %r13d; leaq (%r12,%r13), %rdi; call __tsan_read1; movzbl %bh, %eax; movb (%r12,%rax), %cl":
        False,
    "movq %rbx, %rdi; call __tsan_read16; fldt (%rbx)": True,
    "movq %rbx, %rdi; call __tsan_read4; call own; movl (%rbx), %ecx": False,
    "movq %rbx, %rdi; call __tsan_read4; call expf; movl (%rbx), %ecx": True,
    "movq %rbx, %rdi; call __tsan_read4; movl %ebx, %ebx; movl (%rbx), %ecx": False,
    "movl %r12d, %ebx; movq %rbx, %rdi; call __tsan_read4; movl %r12d, %eax; movl (%rax), %ecx": True,
    "movq %rbx, %rdi; call __tsan_read4; setb %bl; movl (%rbx), %ecx": False,
    "movq %rbx, %rdi; call __tsan_read4; cmovl %r12, %rbx; movl (%rbx), %ecx": False,
    "movq %rbx, %rdi; call __tsan_read4; popq %rbx; movl (%rbx), %ecx": False,
    "movq %rbx, %rdi; call __tsan_read4; xchgq %rbx, %r12; movl (%r12), %ecx": False,
    "movq %rbx, %rdi; call __tsan_read4; unheard %r12; movl (%rbx), %ecx": False,
    "movq %rbx, %rdi; call __tsan_read4; imull %ebx, %ebx; movl (%rbx), %ecx": False,
    "movq %xmm0, %rdi; call __tsan_read4; movq %xmm0, %rax; movl (%rax), %ecx": False,
    "movl $-8, %eax; movq %rax, %rdi; call __tsan_read4; movq $-8, %rax; movl (%rax), %ecx": False,
    "movq %rbx, %rdi; movl $12, %esi; call __tsan_read_range; movl 8(%rbx), %ecx": True,
    "movq %rbx, %rdi; movl $12, %esi; call __tsan_read_range; movl 12(%rbx), %ecx": False,
    "movq %rbx, %rdi; call __tsan_read_range; movl (%rbx), %ecx": False,
    "leaq table(%rip), %rdi; call __tsan_read4; leaq table(%rip), %rbx; movl (%rbx), %ecx": True,
    "leaq table(%rip), %rdi; call __tsan_read4; leaq other(%rip), %rbx; movl (%rbx), %ecx": False,
    "movq %rbx, %rdi; call __tsan_read4; idivl (%rbx)": True,
    "xorl %edi, %edi; call __tsan_read4; movl 0, %eax": True,
    "xorl %edi, %edi; call __tsan_read4; movl 4, %eax": False,
    "movq %rbx, %rdi; call __tsan_read4; cmpl $3, (%rbx)": True,
    "movq %rbx, %rdi; call __tsan_read4; movzbl 3(%rbx), %eax": True,
    "movq %rbx, %rdi; call __tsan_read4; movups (%rbx), %xmm0": False,
}  # fmt: skip


@pytest.mark.parametrize("text", COVERED)
def test_an_access_is_covered_by_a_hook_that_got_its_address(text):
    before, _, last = text.rpartition(";")
    state, instruction = state_after(before), parse(last)
    assert instruction is not None
    ((place, store),) = accesses(instruction)
    assert covered(state, place, access_size(instruction), store) == COVERED[text]


@pytest.mark.parametrize(
    "line", ["movq %fs:0x28, %rax", "movl table, %eax", "movq (%rbx)(%rax), %rcx", "movl $1, *%rax",
             "movl (%ebx), %eax", "movl (%rbx,%ecx,4), %eax"],
)  # fmt: skip
def test_an_operand_that_can_not_be_read_is_refused(line):
    with pytest.raises(BuildError, match="instruction that is not taken"):
        list(accesses(parse(line)))


FRAME = "f:\n\tpushq %rbp\n\tmovq %rsp, %rbp\n\tpushq %rbx\n\tsubq $24, %rsp\n\t{}\n\tret\n\t.size f, .-f\n"
GUARDS = {
    "movl %eax, -12(%rbp)": 0,
    "movl %eax, -32(%rbp)": 0,
    "movl %eax, -36(%rbp)": 1,  # below the frame
    "movl %eax, -8(%rbp)": 1,  # a saved register
    "movq %rax, -12(%rbp)": 1,
    "movl %eax, 4(%rbp)": 1,  # the return address
    "movl 4(%rbp), %eax": 0,
    "movq -8(%rbp), %rbx": 0,
    "movl 16(%rbp), %eax": 0,  # an argument
    "movl 2000(%rbp), %eax": 1,
    "movl %eax, 20(%rsp)": 0,
    "movl %eax, 24(%rsp)": 1,
    "movl %eax, -4(%rsp)": 1,
    "movl %eax, -32(%rbp,%rcx,4)": 1,
    "movl -32(%rbp,%rcx,4), %eax": 1,
    "leaq -32(%rbp,%rcx,4), %rax": 0,
    "movl %eax, (%rcx)": 1,
    "movl %eax, x(%rip)": 0,
    "movl %eax, x+4(%rip)": 0,
    "movl %eax, x+8(%rip)": 1,
    "movl %eax, 4+x(%rip)": 0,
    "movl %eax, 8+x(%rip)": 1,
    "movl %eax, y(%rip)": 1,
    "movss .LC0(%rip), %xmm0": 0,
    "movl %eax, .LC0(%rip)": 1,
    "movq x@GOTPCREL(%rip), %rax": 0,
    "rep stosq": 1,
    "rep movsq": 2,
    "pushq (%rcx)": 1,
    "cmpb $0, (%rcx)": 1,
    "movl 0, %eax": 1,
}


@pytest.mark.parametrize("line", GUARDS)
def test_an_access_outside_of_frame_variables_and_hooks_is_checked(line):
    found = guarded("\t.size x, 8\n" + FRAME.format(line), lambda name: False, {"k.cu"})
    assert len(re.findall(r"^\tcall emu_guard_(?:load|store)$", found, re.M)) == GUARDS[line]
    assert "\tud2\n" in found.partition("f:\n")[2], "a function that does not return must end"


REFUSED_ASSEMBLY = {
    "jmp g": "call through a pointer",
    "jne g": "call through a pointer",
    "jmp *%rax": "call through a pointer",
    "call *8(%rax)": "call through a pointer",
    "movq %rax, %rsp": "aligned to more than 16",
    "movq %rax, %rbp": "aligned to more than 16",
    "subq %rax, %rsp": "its size is not constant",
    "leaq -8(%r10), %rsp": "aligned to more than 16",
    "ret $8": "a function's end",
}


@pytest.mark.parametrize("line", REFUSED_ASSEMBLY)
def test_assembly_that_leaves_its_function_or_frame_is_refused_with_the_line(line):
    text = '\t.file 1 "./k.cu"\n\t.file 2 "/usr/include/math.h"\n'
    text += FRAME.format(f".loc 1 7 3\n\t.loc 2 9 1\n\t{line}")
    with pytest.raises(BuildError, match=REFUSED_ASSEMBLY[line]) as caught:
        guarded(text, lambda name: False, {"k.cu"})
    assert caught.value.places == [("k.cu", 7)]


def test_hooks_tell_checks_of_their_addresses_when_they_return():
    text = "movq %rbx, %rdi\n\tcall __tsan_write4@PLT\n\tmovl %eax, (%rcx)"
    found = guarded(FRAME.format(text), lambda name: False, set())
    assert re.search(r"pushq\t%rdi\n\tpushq\t\$4\n\tcall __tsan_write4@PLT\n"
                     r"\tpopq\temu_guard_seen\+24\(%rip\)\n\tpopq\temu_guard_seen\+16", found)  # fmt: skip
    plain = guarded(FRAME.format("call __tsan_write4@PLT"), lambda name: False, set())
    assert "pushq\t%rdi" not in plain


def test_an_instruction_behind_a_label_is_refused():
    with pytest.raises(BuildError, match="behind a label"):
        guarded(FRAME.format(".L3: movl %eax, (%rcx)"), lambda name: False, set())


RUN = """
struct Wide { long x[1000]; };
extern "C" __attribute__((noinline)) long leaf(long i, long v) {
    long a[2] = {v, v};
    reinterpret_cast<Wide*>(a)->x[i] = 3;
    return a[0];
}
extern "C" __attribute__((visibility("default"))) void emu_entry_f(void** a) {
    static volatile long kept; kept = leaf(*static_cast<long*>(a[0]), 7);
}
"""


@pytest.mark.parametrize("compiler", NATIVE)
def test_checks_end_the_launch_at_the_return_address_and_ask_hooks_elsewhere(compiler, tmp_path):
    """A program with hooks that only print: indices in the array, beyond it, and far away."""
    (tmp_path / "k.cu").write_text(RUN)
    found = find_compiler(compiler)
    options = [o for o in compile_flags(found, True, "-O2") if "sanitize=array-b" not in o]
    options = [o for o in options if o != "-fsanitize=bounds-strict"]
    command = [found.path, *options, "-x", "c++", "k.cu", "-S", "-o", "unit.s"]
    subprocess.run(command, cwd=tmp_path, check=True)
    path = tmp_path / "unit.s"
    path.write_text(guarded(path.read_text(), lambda name: not fence.outside(name), {"k.cu"}))
    program = [found.path, "unit.s", HERE / "print_hooks.cpp", "-o", "run", "-Wl,-z,noexecstack"]
    subprocess.run(program, cwd=tmp_path, check=True)

    def shown(index: int) -> str:
        done = subprocess.run([tmp_path / "run", str(index)], capture_output=True, text=True)
        return done.stdout.splitlines()[-1] if done.stdout else str(done.returncode)

    assert shown(0) == shown(1) == "returned"
    assert any(shown(index) == "index outside of a local array at 5" for index in range(2, 12))
    assert shown(900) == shown(-900) == "write_range of 8"


def test_flags_that_are_still_used_survive_a_check():
    check = "movl %eax, (%rcx)"
    kept = guarded(FRAME.format(f"cmpl $1, %edx\n\t{check}\n\tjne .L1"), lambda n: False, set())
    lost = guarded(FRAME.format(f"{check}\n\tcmpl $1, %edx\n\tjne .L1"), lambda n: False, set())
    assert "lahf" in kept and "lahf" not in lost
