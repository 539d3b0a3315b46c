"""Flags of the compilers and the linker. Nothing of a student's chooses any."""

from __future__ import annotations

from pathlib import Path

from .toolchain import Compiler

_ALWAYS = (
    *("-std=c++17", "-g1", "-fPIC", "-fno-exceptions", "-fno-rtti", "-fno-threadsafe-statics"),
    *("-fno-asynchronous-unwind-tables", "-fno-omit-frame-pointer", "-fno-optimize-sibling-calls"),
    # One sinf and one cosf of the same number must not become a sincosf, which writes through pointers.
    *("-fno-builtin-sin", "-fno-builtin-cos", "-fno-builtin-sinf", "-fno-builtin-cosf"),
    *("-fno-jump-tables", "-fno-strict-aliasing", "-ffp-contract=off", "-fvisibility=hidden"),
    # A null pointer or an endless loop is to be met at run time, not to be optimised away.
    *("-fno-delete-null-pointer-checks", "-fno-finite-loops", "-fstack-clash-protection"),
    *("-fno-stack-protector", "-DLLM_SYSTEMS_EMULATOR", "-Werror=vla"),
)
_GCC = (
    *("-fmax-errors=20", "-ftemplate-depth=200", "-fno-diagnostics-show-caret"),
    *("-fno-diagnostics-show-option", "-fdiagnostics-color=never", "-fno-gnu-unique"),
    *("-fconstexpr-ops-limit=2000000", "-fconstexpr-depth=200", "-fno-shrink-wrap"),
)
_CLANG = (
    *("-ferror-limit=20", "-ftemplate-depth=200", "-fno-caret-diagnostics"),
    *("-fno-diagnostics-show-option", "-fno-color-diagnostics", "-fconstexpr-steps=2000000"),
    *("-fconstexpr-depth=200", "-fno-gnu-inline-asm"),
    *("-fno-addrsig", "-mllvm", "-enable-shrink-wrap=false"),
)
# No transformation that merges, doubles or invents accesses: they are counted by line.
_GCC_COUNTED = (
    *("-fsanitize=thread", "-fsanitize=bounds-strict", "-fsanitize-coverage=trace-pc"),
    *("-fsanitize=return", "-fsanitize=unreachable"),
    *("-fno-tree-loop-distribute-patterns", "-fno-tree-vectorize", "-fno-tree-slp-vectorize"),
    # Blocks stay in the order of the source: lanes that took different ways meet at the lowest one.
    *("-fno-reorder-blocks", "-fno-reorder-blocks-and-partition"),
    *("-fno-unroll-loops", "-fno-peel-loops", "-fno-aggressive-loop-optimizations"),
    *("-fno-unswitch-loops", "-fno-split-loops", "-fno-ipa-cp-clone", "-fno-tree-loop-im"),
    *("-fno-partial-inlining", "-fno-ipa-sra", "-fno-ipa-icf", "-fno-split-paths"),
    *("-fno-version-loops-for-strides", "-fno-tree-loop-distribution"),
)
_CLANG_COUNTED = (
    *("-fsanitize=thread", "-fsanitize=array-bounds", "-fsanitize-recover=array-bounds"),
    *("-fsanitize-coverage=bb,no-prune,trace-pc", "-fsanitize=return,unreachable"),
    *("-mllvm", "-trap-unreachable", "-mllvm", "-disable-vector-combine"),
    *("-mllvm", "-tsan-instrument-read-before-write=1", "-mllvm", "-disable-loop-idiom-all"),
    *("-fno-vectorize", "-fno-slp-vectorize", "-fno-unroll-loops"),
)
# Frames that can be followed, no use of memory below the stack pointer, no markers of jump targets.
_X86 = ("-fcf-protection=none", "-mno-red-zone", "-mno-omit-leaf-frame-pointer")
_ARM = ("-mno-omit-leaf-frame-pointer",)


def compile_flags(compiler: Compiler, instrumented: bool, optimisation: str) -> list[str]:
    """Flags of both steps, preprocessing and compiling."""
    gcc = compiler.kind == "gcc"
    chosen = [*_ALWAYS, optimisation, *(_GCC if gcc else _CLANG)]
    chosen += _X86 if compiler.machine.startswith("x86_64") else _ARM
    if instrumented:
        chosen += _GCC_COUNTED if gcc else _CLANG_COUNTED
    return chosen


EXPORTS = "{ global: emu_entry_*; emu_sizes_*; emu_module_sections; local: *; };\n"


def link_flags(runtime: Path) -> list[str]:
    """Flags before the object files; the file `exports` holds EXPORTS."""
    wrapped = [f"-Wl,--wrap={name}" for name in ("memcpy", "memmove", "memset")]
    return [
        *("-shared", "-nostdlib", "-Wl,-z,defs,-z,relro,-z,now,-z,noexecstack,-z,text"),
        *("-Wl,-Bsymbolic,--version-script=exports,--build-id=none", *wrapped),
        f"-Wl,-rpath,{runtime}",
    ]


def libraries(runtime: Path) -> list[str]:
    """What a kernel library is linked with: the emulator and the C library's mathematics."""
    return [str(runtime / "libemulator.so"), "-lm"]
