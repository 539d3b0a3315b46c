"""Kernel files for a real GPU: finding nvcc, compiling, and what ptxas says of registers."""

from __future__ import annotations

import os
import re
import shutil
import sys
from dataclasses import asdict, dataclass
from functools import cache as once
from pathlib import Path

from . import cache as kept
from . import messages
from .compile import Build, Files, find_entries, fill_sizes, load, read_files, require_entries, save
from .elf import Elf
from .entries import thunks
from .errors import BuildError
from .lines import LineTable
from .process import Done, run
from .toolchain import HARNESS, find_compiler, search_path

SECONDS, MEMORY = 300, 16 << 30
USUAL = ["/usr/local/cuda", "/opt/cuda"]
FLAGS = ("-std=c++17", "-O3", "-lineinfo")
_PLAIN = "__is_trivially_copyable({})"
# An exception of the host (an unfinished task) must not get into Python: its text is kept.
_BODY = "try {{ {}; }} catch (const std::exception& error) {{ emu_note(error.what()); }}"
# Errors of launches stay in the library that made them: the runtime is linked into each.
_BEFORE = """\
#include <cstring>
#include <exception>
static char emu_noted[512];
static void emu_note(const char* text) { std::strncpy(emu_noted, text, sizeof emu_noted - 1); }
"""
_BEHIND = """\
extern "C" int emu_module_error() { return static_cast<int>(cudaGetLastError()); }
extern "C" const char* emu_module_message() {
    static char last[sizeof emu_noted];
    std::memcpy(last, emu_noted, sizeof last);
    emu_noted[0] = 0;
    return last;
}
"""


@dataclass
class Resources:
    """What ptxas allotted to a kernel: registers a thread, bytes of the rest.

    shared: static shared memory a block; stack, spill_stores, spill_loads: local memory a thread.
    """

    kernel: str
    registers: int = 0
    shared: int = 0
    stack: int = 0
    spill_stores: int = 0
    spill_loads: int = 0


@once
def find_nvcc() -> str | None:
    """The path of nvcc: on PATH, below CUDA_HOME, in its usual place, or in a Python package."""
    found = shutil.which("nvcc", path=search_path())
    if found:
        return found
    roots = [os.environ.get(name) for name in ("CUDA_HOME", "CUDA_PATH")]
    places = [Path(root) / "bin" / "nvcc" for root in [*roots, *USUAL] if root]
    for folder in map(Path, sys.path):
        places += sorted((folder / "nvidia").glob("*/bin/nvcc"))
    return next((str(place) for place in places if os.access(place, os.X_OK)), None)


def _nvcc() -> str:
    found = find_nvcc()
    if found is None:
        raise BuildError("nvcc is not installed: it comes with the CUDA toolkit")
    return found


def _identity(nvcc: str) -> str:
    stat = os.stat(nvcc)
    return f"{nvcc} {stat.st_size} {stat.st_mtime_ns}"


def compile_check(path: str | os.PathLike[str], arch: str = "sm_80") -> list[Resources]:
    """Compile a kernel file with nvcc; what each kernel uses, in order. BuildError: nvcc's errors."""
    files = read_files(Path(path))
    with kept.working_folder(kept.folder(None)) as work:
        _write(files, work)
        command = [_nvcc(), *FLAGS, f"-arch={arch}", "-Xptxas", "-v", "-c"]
        done = _run([*command, files.main, "-o", "unit.o"], work)
        _check(done, files)
        names = run([find_compiler().tool("c++filt")], work, text=done.output or " ").output
        return resources(names)


def build_nvcc(
    path: str | os.PathLike[str], *, arch: str = "native", cache: Path | None = None
) -> Build:
    """Build a kernel file for this machine's GPU, or find it built.

    The library exports `emu_entry_NAME` and `emu_sizes_NAME` as an emulator's build does;
    `int emu_module_error()`: the library's last CUDA error, cleared; and
    `const char* emu_module_message()`: what the host function threw, or "", cleared.
    """
    source = Path(path)
    files = read_files(source)
    root, nvcc = kept.folder(cache), _nvcc()
    parts = [HARNESS, "nvcc", _identity(nvcc), arch, *FLAGS, files.main]
    for name in sorted(files.sources):
        parts += [name, files.sources[name].text]
    name = kept.key(parts)
    found = load(root / name, source, False)
    if found is not None:
        return found
    kept.discard(root, name)
    with kept.working_folder(root) as work:
        entries = find_entries(files, work)
        _write(files, work)
        text = f'{_BEFORE}#include "{files.main}"\n{thunks(entries, _PLAIN, _BODY)}{_BEHIND}'
        (work / "unit.cu").write_text(text)
        library = "lib" + source.stem + ".so"
        done = _run([nvcc, *_shared(arch), "unit.cu", "-o", library], work)
        _check(done, files)
        require_entries(files, entries)
        fill_sizes(Elf(work / library), entries)
        save(work, library, entries, LineTable(), [])
        place = kept.keep(work, root, name)
    found = load(place, source, False)
    assert found is not None
    return found


def build_library(
    path: str | os.PathLike[str], *, arch: str = "native", cache: Path | None = None
) -> Path:
    """A staff `.cu` file as a shared library, cached."""
    source = Path(path)
    root, nvcc = kept.folder(cache), _nvcc()
    name = kept.key(["library", _identity(nvcc), arch, *FLAGS, source.read_bytes()])
    library = "lib" + source.stem + ".so"
    if not (root / name / library).is_file():
        with kept.working_folder(root) as work:
            shutil.copy(source, work / source.name)
            done = _run([nvcc, *_shared(arch), source.name, "-o", library], work)
            if done.status:
                raise BuildError(f"{source.name} does not compile:\n{done.output[:4000]}")
            return kept.keep(work, root, name) / library
    return root / name / library


def _shared(arch: str) -> list[str]:
    return [*FLAGS, f"-arch={arch}", "-shared", "-Xcompiler", "-fPIC"]


def _write(files: Files, work: Path) -> None:
    for name, source in files.sources.items():
        (work / name).write_text(source.text)


def _run(command: list[str], work: Path) -> Done:
    return run(command, work, seconds=SECONDS, memory=MEMORY)


_ERROR_LINE = re.compile(
    r"^(?P<file>[^\s(]+)\((?P<line>\d+)\): (?:catastrophic )?error(?: #\S+)?: (?P<text>.*)$"
)
_AT = re.compile(r"^\s+.* at line (\d+)(?: of (\S+))?")


def _check(done: Done, files: Files) -> None:
    """Raise what nvcc found wrong, by the student's lines."""
    if not done.status:
        return
    found: list[tuple[str, int, str]] = []
    waiting: str | None = None
    for line in done.output.splitlines():
        error = _ERROR_LINE.match(line)
        if error:
            waiting = None
            name = os.path.basename(error["file"])
            if name in files.sources:
                found.append((name, int(error["line"]), error["text"]))
            else:
                waiting = error["text"]
        elif waiting and (at := _AT.match(line)) and at.group(1):
            name = os.path.basename((at.group(2) or files.main).strip('"'))
            if name in files.sources:
                found.append((name, int(at.group(1)), waiting))
                waiting = None
    raise messages.report(found, done, files.sources)


def resources(output: str) -> list[Resources]:
    """Read what `ptxas -v` printed, names demangled."""
    found: list[Resources] = []
    by_name: dict[str, Resources] = {}
    now: Resources | None = None
    for line in output.splitlines():
        if entry := re.search(r"Compiling entry function '(.*)' for '", line):
            now = Resources(_short(entry.group(1)))
            found.append(now)
            by_name[entry.group(1)] = now
        elif properties := re.search(r"Function properties for (.*)$", line):
            now = by_name.get(properties.group(1), Resources(""))
        elif now and "spill stores" in line:
            numbers = [int(number) for number in re.findall(r"(\d+) bytes", line)]
            now.stack, now.spill_stores, now.spill_loads = numbers[:3]
        elif now and (used := re.search(r"Used (\d+) registers", line)):
            now = found[-1]
            now.registers = int(used.group(1))
            shared = re.search(r"(\d+) bytes smem", line)
            now.shared = int(shared.group(1)) if shared else 0
    return found


def _short(name: str) -> str:
    """A kernel's demangled name without its return type and parameters."""
    depth = 0
    for index in range(len(name) - 1, -1, -1):
        depth += (name[index] == ")") - (name[index] == "(")
        if name[index] == "(" and depth == 0:
            name = name[:index]
            break
    return re.sub(r"^void ", "", name)


def as_rows(found: list[Resources]) -> list[dict[str, object]]:
    """The resources as plain dictionaries, for reports."""
    return [asdict(row) for row in found]
