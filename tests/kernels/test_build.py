"""Builds for the emulator: what runs, what a student is told, the cache, the table of lines."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from autograder.kernels import cache as kept
from autograder.kernels import compile as compiling
from autograder.kernels import process, toolchain
from autograder.kernels.compile import BuildError, build
from autograder.kernels.lines import LineTable, hook_returns

HERE = Path(__file__).parent
COMPILERS = [
    pytest.param(name, marks=pytest.mark.skipif(not shutil.which(name), reason=f"no {name}"))
    for name in ("g++", "clang++")
]
ARM = "aarch64-linux-gnu-g++"
needs_arm = pytest.mark.skipif(
    not (shutil.which(ARM) and shutil.which("qemu-aarch64")), reason="no compiler for aarch64"
)

# Of the functions in cuda/forms.cu, by hand: see there.
FORMS = {
    "templated": [104], "aligned_ones": [1], "dynamic_one": [1, 0, 3, 2], "dynamic_two": [30],
    "sites": [1], "macro": [7], "pasted": [8], "in_block": [9], "globals": [49, 4],
    "overloads": [2], "structures": [33], "shared_in_function": [31, 30, 29, 28],
    "functor": [0, 3, 6, 9], "nothing": [0],
}  # fmt: skip


@pytest.mark.parametrize("mode", ["fast", "full"])
@pytest.mark.parametrize("compiler", COMPILERS)
def test_all_forms_of_launches_and_variables_run(compiler, mode):
    done = subprocess.run(
        [sys.executable, HERE / "run_forms.py", compiler, mode], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found.keys() == FORMS.keys()
    for name, numbers in FORMS.items():
        assert found[name][0][: len(numbers)] == numbers, name
        assert name == "aligned_ones" or found[name][1] == [], name


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder for sources; its cache is in `cache`."""
    monkeypatch.setenv("LLM_SYSTEMS_KERNEL_CACHE", str(tmp_path / "cache"))
    return tmp_path


KERNEL = """\
#include <cuda_runtime.h>
__device__ int counter;
__constant__ float coefficients[4];
__device__ __forceinline__ float scaled(float x) {
    return x *
           coefficients[1];
}
__global__ void k(const float* x, float* y) {
    __shared__ float tile[32];
    tile[threadIdx.x] = x[threadIdx.x];
    __syncwarp();
    y[threadIdx.x] = scaled(tile[31 - threadIdx.x]);
    atomicAdd(&counter,
              1);
}
extern "C" void go(const float* x, float* y) { k<<<1, 32>>>(x, y); }
"""


def refused(folder: Path, text: str, **options) -> BuildError:
    (folder / "k.cu").write_text(text)
    with pytest.raises(BuildError) as caught:
        build(folder / "k.cu", instrumented=options.pop("instrumented", False), **options)
    return caught.value


# --- the table of lines -----------------------------------------------------------------------


@pytest.mark.parametrize("compiler", COMPILERS)
def test_hooks_lead_to_the_students_innermost_lines(compiler, folder):
    (folder / "k.cu").write_text(KERNEL)
    built = build(folder / "k.cu", instrumented=True, compiler=compiler)
    lines = {built.lines.lookup(offset) for offset in built.lines.offsets}
    # Reads and writes of lines 6, 10 and 12 (one in an inlined function), a barrier that is inlined
    # from a header, an atomic over two lines, the launch.
    assert {("k.cu", line) for line in (6, 10, 11, 12, 16)} <= lines
    assert ("k.cu", 13) in lines or ("k.cu", 14) in lines
    assert all(place is None or place[0] == "k.cu" for place in lines)
    names = {symbol.name: symbol.size for symbol in built.symbols}
    assert names == {"counter": 4, "coefficients": 16}


def test_an_address_without_a_line_has_that_of_its_neighbour_in_the_function():
    table = LineTable([110, 120, 130, 210], [[0, 3], [-1, 0], [0, 5], [-1, 0]], ["k.cu"], [100, 200])
    assert table.lookup(110) == table.lookup(120) == table.lookup(125) == ("k.cu", 3)
    assert table.lookup(130) == table.lookup(180) == ("k.cu", 5)
    assert table.lookup(210) is None and table.lookup(90) is None


def test_return_addresses_are_read_from_a_listing():
    listing = """
    1012:\tcall   1030 <__tsan_read4@plt>
    1017:\tmov    %rax,%rbx
    1020:\tcall   1090 <_Z1fv>
    1025:\tbl     1030 <emu_barrier@plt>
    1029:\tret
"""
    assert set(hook_returns(listing)) == {0x1017, 0x1029}


# --- what a student is told -------------------------------------------------------------------

ERRORS = {
    "int f() { return undefined; }": (1, "undefined"),
    "\n\nint x = ;": (3, "expected"),
    "template <class T> void g(T) {\n static_assert(sizeof(T) > 8, \"wide\");\n}\nvoid f() { g(1); }":
        (2, "wide"),
    "#include <cuda_runtime.h>\n__global__ void k(int* x) {}\nvoid f() { k<<<1, 2>>>(3.5f); }":
        (3, ""),
    "#include <cuda_runtime.h>\nstruct S { S(); S(const S&); ~S(); };\n__global__ void k(S) {}\n"
    "void f(S& s) {\n k<<<1, 2>>>(s);\n}": (5, "plain"),
    "void f(int n) {\n float x[n];\n}": (2, "variable length"),
    "#define A(x) x +\nint f() {\n return A(1);\n}": (3, "expected"),
    "#error not today": (1, "not today"),
    "void f() { f(); }": (None, "no entry point"),
    "void g();\nextern \"C\" void f() {\n g(); }": (1, "g is not there for kernel files"),
    "#include <cstdio>\nextern \"C\" void f() { puts(\"x\"); }": (2, "puts"),
    "#include <cuda_runtime.h>\n__device__ int g() {\n}\nextern \"C\" void f(int& x) {}": (4, "parameter"),
    "volatile int x; int y = x;\nextern \"C\" void f() {}": (1, "give it a constant value"),
    "extern \"C\" void f(int n) {\n void (*p)() = nullptr; if (n) p(); }": (2, "through a pointer"),
    "char big[1u << 31];\nextern \"C\" void f() { big[0] = 1; }": (None, "64 MB"),
    "#define X emu\nextern \"C\" void f() {}": (1, "belong to the emulator"),
    "#define P(a, b) a##b\nextern \"C\" void f() {\n P(as, m)(\"nop\"); }": (3, "inline assembly"),
    "#define P(a, b) a##b\nvoid f P([, [)gnu::naked]] () {}": (2, ""),
    "#define First as##m(\"nop\");\n#include <cuda_runtime.h>\nextern \"C\" void f() {}": (None, None),
}  # fmt: skip


@pytest.mark.parametrize("text", ERRORS)
def test_an_error_names_the_line_and_nothing_of_the_machine(text, folder):
    line, part = ERRORS[text]
    for name in ("g++", "clang++"):
        if not shutil.which(name):
            continue
        if part is None:  # a macro that would change a header, were it read after the macro
            (folder / "k.cu").write_text(text)
            build(folder / "k.cu", instrumented=False, compiler=name)
            continue
        error = refused(folder, text, compiler=name)
        assert part in error.message, error.message
        assert line is None or error.places[0] == ("k.cu", line), (name, error.message)
        assert line is None or error.message.startswith(f"k.cu:{line}: ")
        for word in (str(folder), "emu_type", "/usr", "unit.ii", "expanded"):
            assert word not in error.message, name


def test_errors_quote_the_line_as_written_and_are_bounded(folder):
    error = refused(folder, "".join(f"int f{n}() {{ return x{n}; }}  // why\n" for n in range(40)))
    assert "\n    int f3() { return x3; }  // why" in error.message
    assert error.message.count("was not declared") <= 10 or "undeclared" in error.message
    assert "more" in error.message.splitlines()[-1]


def test_an_error_in_an_included_file_names_that_file(folder):
    (folder / "part.cuh").write_text("\nint g() { return missing; }\n")
    error = refused(folder, '#include "part.cuh"\nextern "C" void f() {}\n')
    assert error.places == [("part.cuh", 2)]


# --- bombs ------------------------------------------------------------------------------------

BOMBS = [
    "template <int N> struct A { A<N + 1> a; };\nA<0> a;",
    "template <int N> int f() { return f<2 * N>() + f<2 * N + 1>(); }\nint x = f<1>();",
    "constexpr int f(unsigned n) { int s = 0; while (n) s += n % 2; return s; }\nint x[f(7) + 1];",
    "int x[1 << 28] = {1};\nextern \"C\" void f() { x[0] = 1; }",
    "#define A(x) x x x x x x x x\nint y = 0 A(A(A(A(A(A(A(A(A(+ 1)))))))));",
]  # fmt: skip


@pytest.mark.parametrize("text", BOMBS)
def test_a_bomb_ends_in_an_error(text, folder, monkeypatch):
    monkeypatch.setattr(process, "SECONDS", 3)
    monkeypatch.setattr(process, "MEMORY", 1 << 30)
    start = time.monotonic()
    error = refused(folder, text)
    assert time.monotonic() - start < 10
    assert len(error.message) < 4000
    left = [path for path in (folder / "cache").iterdir() if path.suffix != ".refused"]
    assert left == [], "nothing but what is wrong with it may be left in the cache"


def test_a_program_is_ended_with_its_children_when_its_time_is_over(tmp_path):
    start = time.monotonic()
    script = "sleep 30 & echo $! > child; wait"
    done = process.run(["sh", "-c", script], tmp_path, seconds=0.5)
    assert done.late and time.monotonic() - start < 5
    child = int((tmp_path / "child").read_text())
    for _ in range(50):
        try:
            state = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return
        if state == "Z":
            return
        time.sleep(0.05)
    pytest.fail("the child runs on")


def test_output_is_cut_and_the_environment_is_clean(tmp_path, monkeypatch):
    monkeypatch.setenv("CPATH", "/secret")
    done = process.run(["sh", "-c", "yes | head -c 100000; env"], tmp_path, most=1000)
    assert len(done.output) == 1000
    done = process.run(["env"], tmp_path)
    names = set(re.findall(r"^(\w+)=", done.output, re.M))
    assert {"PATH", "LC_ALL", "TMPDIR"} <= names <= {"PATH", "LC_ALL", "TMPDIR", "PWD", "SHLVL", "_"}


# --- the cache --------------------------------------------------------------------------------

SMALL = '#include "part.cuh"\nextern "C" void f(int n) { g(n); }\n'


@pytest.fixture
def small(folder):
    (folder / "part.cuh").write_text("inline int g(int n) { return n; }\n")
    (folder / "k.cu").write_text(SMALL)
    return folder / "k.cu"


def no_compiler(monkeypatch) -> None:
    """From now on no program is started."""

    def fail(*arguments, **options):
        raise AssertionError(f"{arguments[0]} was run")

    monkeypatch.setattr(compiling, "run", fail)
    monkeypatch.setattr(subprocess, "Popen", fail)


def test_a_finished_build_is_used_again_without_a_compiler(small, monkeypatch):
    first = build(small, instrumented=False)
    no_compiler(monkeypatch)
    again = build(small, instrumented=False)
    assert (again.library, again.entries, again.lines) == (first.library, first.entries, first.lines)
    assert again.entries["f"].parameters[0].size == 4


def test_whatever_goes_into_a_build_is_part_of_its_key(small, monkeypatch):
    first = build(small, instrumented=False).library
    no_compiler(monkeypatch)

    def missed(**options) -> bool:
        with pytest.raises(AssertionError, match="was run"):
            build(small, **{"instrumented": False, **options})
        return True

    assert missed(instrumented=True) and missed(optimisation="-O1")
    assert not shutil.which("clang++") or missed(compiler="clang++")
    (small.parent / "part.cuh").write_text("inline int g(int n) { return n + 1; }\n")
    assert missed()
    (small.parent / "part.cuh").write_text("inline int g(int n) { return n; }\n")
    assert build(small, instrumented=False).library == first
    monkeypatch.setattr(compiling, "HARNESS", "another harness")
    assert missed()


def test_a_cache_that_can_only_be_read_still_serves_and_misses_build_elsewhere(small, monkeypatch):
    first = build(small, instrumented=False).library
    root = first.parents[1]

    def read_only(*arguments, **options):
        raise PermissionError("read only")

    real = kept.tempfile.mkdtemp
    monkeypatch.setattr(
        kept.tempfile, "mkdtemp",
        lambda prefix="", dir=None: read_only() if dir == root else real(prefix=prefix),
    )  # fmt: skip
    assert build(small, instrumented=False).library == first
    small.write_text(SMALL.replace("n)", "m)").replace("g(n", "g(m"))
    other = build(small, instrumented=False)
    assert other.library.is_file() and root not in other.library.parents
    kept.clean()
    assert not other.library.exists()


def test_a_build_appears_whole_or_not_at_all(small):
    """Two builds at once: both get a library, nothing half-made stays."""
    script = (
        "import sys; from autograder.kernels.compile import build\n"
        "print(build(sys.argv[1], instrumented=False).library)"
    )
    command = [sys.executable, "-c", script, str(small)]
    root = toolchain.HERE.parents[1]
    running = [
        subprocess.Popen(command, stdout=subprocess.PIPE, cwd=root, text=True) for _ in range(2)
    ]
    shown = {process.communicate(timeout=120)[0].strip() for process in running}
    (library,) = shown
    assert Path(library).is_file()
    names = sorted(path.name for path in Path(library).parents[1].iterdir())
    assert names == [Path(library).parent.name]
    assert sorted(path.name for path in Path(library).parent.iterdir()) == ["build.json", "libk.so"]


def test_the_oldest_builds_are_dropped_when_there_are_many(small, monkeypatch):
    monkeypatch.setattr(kept, "MOST", 2)
    root = kept.folder(None)
    for age, name in enumerate(("c", "b", "a")):
        (root / name).mkdir(parents=True)
        os.utime(root / name, (1000 - age, 1000 - age))
    (root / ".new-now").mkdir()
    built = build(small, instrumented=False).library
    assert sorted(path.name for path in root.iterdir()) == sorted([".new-now", "c", built.parent.name])


def test_a_broken_entry_of_the_cache_is_built_anew(small):
    first = build(small, instrumented=False)
    (first.library.parent / "build.json").write_text("{")
    again = build(small, instrumented=False)
    assert again.library.is_file() and again.entries == first.entries
    again.library.unlink()
    assert build(small, instrumented=False).library.is_file()


# --- the emulator's library -------------------------------------------------------------------


def test_the_library_and_its_headers_lie_where_every_user_can_read_them():
    library, include = toolchain.runtime_library(), toolchain.include_folder()
    assert library.stat().st_mode & 0o005 == 0o005 and library.parent.stat().st_mode & 0o005 == 0o005
    assert (include / "cuda_runtime.h").stat().st_mode & 0o004
    assert any(folder in library.parents for folder in toolchain.reads())
    assert toolchain.HERE not in library.parents


def test_a_folder_that_others_can_write_is_not_trusted(tmp_path):
    assert toolchain._trusted(tmp_path) or tmp_path.stat().st_mode & 0o022
    tmp_path.chmod(0o777)
    assert not toolchain._trusted(tmp_path)
    assert not toolchain._trusted(tmp_path / "absent")


@pytest.mark.parametrize(
    ("name", "prefix"),
    [("g++", ""), ("/usr/bin/aarch64-linux-gnu-g++", "aarch64-linux-gnu-"), ("clang++-14", ""),
     ("x86_64-linux-gnu-g++-12", "x86_64-linux-gnu-"), ("my-own-compiler", "")],
)  # fmt: skip
def test_binutils_follow_the_compilers_name(name, prefix):
    assert toolchain.binutils_prefix(name) == prefix


def test_a_missing_compiler_is_named():
    with pytest.raises(BuildError, match="no-such-compiler"):
        toolchain.find_compiler("no-such-compiler")


@needs_arm
def test_kernels_for_aarch64_run_in_its_emulator(tmp_path):
    built = build(HERE / "cuda" / "forms.cu", instrumented=True, compiler=ARM, cache=tmp_path)
    runtime = toolchain.runtime_library(ARM)
    command = [ARM, "-std=c++17", HERE / "run_library.cpp", runtime, "-o", tmp_path / "run",
               f"-Wl,-rpath,{runtime.parent}"]  # fmt: skip
    subprocess.run(command, check=True)
    names = [name for name in FORMS if name not in ("structures", "nothing")]
    done = subprocess.run(
        ["qemu-aarch64", "-L", "/usr/aarch64-linux-gnu", tmp_path / "run", built.library, *names],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = {line.split()[0]: [int(n) for n in line.split()[1:]] for line in done.stdout.splitlines()}
    for name in names:
        assert found[name][: len(FORMS[name])] == FORMS[name], name


def test_the_cache_is_found_by_argument_environment_or_home(monkeypatch, tmp_path):
    monkeypatch.delenv("LLM_SYSTEMS_KERNEL_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    assert kept.folder(None) == tmp_path / "home" / "llm-systems" / "kernels"
    monkeypatch.setenv("LLM_SYSTEMS_KERNEL_CACHE", str(tmp_path / "named"))
    assert kept.folder(None) == tmp_path / "named"
    assert kept.folder(tmp_path) == tmp_path
    assert os.environ["LLM_SYSTEMS_KERNEL_CACHE"]
