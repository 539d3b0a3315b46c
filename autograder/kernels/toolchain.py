"""Compilers, their tools, and the emulator's library built by them."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from .errors import BuildError

HERE = Path(__file__).resolve().parent
SOURCES = HERE / "emulator"
INCLUDE = SOURCES / "include"


# Of this package, what decides how a kernel file is built.
_BUILD_SIDE = (
    *("assembly", "compile", "edits", "elf", "entries", "fence", "files", "flags", "guard", "lines"),
    *("messages", "order", "preprocessed", "process", "rewrite", "scopes", "screen", "tokens"),
    *("toolchain", "vocabulary"),
)


def _digest(files: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in sorted(files):
        digest.update(str(path.relative_to(HERE)).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


# Read at import: a confined worker, forked later, can't read these files.
OWNER = HERE.stat().st_uid
EMULATOR = _digest(path for path in SOURCES.rglob("*") if path.is_file())
HARNESS = EMULATOR + _digest(HERE / f"{name}.py" for name in _BUILD_SIDE)
# The given file with the emulator's own words in it, recognised by what it holds.
NOT_IMPLEMENTED = hashlib.sha256(
    (HERE.parent / "course" / "templates" / "not_implemented.cuh").read_bytes()
).digest()


@dataclass(frozen=True)
class Compiler:
    """A C++ compiler. kind: "gcc" or "clang"; prefix: of its binutils, as `aarch64-linux-gnu-`."""

    path: str
    kind: str
    machine: str
    prefix: str
    version: str

    def tool(self, name: str) -> str:
        """The path of a program of the compiler's binutils."""
        found = shutil.which(self.prefix + name, path=search_path())
        if found is None:
            raise BuildError(f"{self.prefix}{name} is not installed: it comes with binutils")
        return found


def search_path() -> str:
    return os.environ.get("PATH", "") + os.pathsep + "/usr/local/bin:/usr/bin:/bin"


def find_compiler(name: str | None = None) -> Compiler:
    """The compiler called `name`, or LLM_SYSTEMS_CXX, or the first of g++ and clang++."""
    wanted = name or os.environ.get("LLM_SYSTEMS_CXX")
    for candidate in [wanted] if wanted else ["g++", "clang++", "c++"]:
        path = shutil.which(candidate, path=search_path())
        if path is not None:
            stat = os.stat(path)
            return _examine(path, stat.st_mtime_ns, stat.st_size)
    raise BuildError(f"no C++ compiler is installed: {wanted or 'g++ or clang++'} was not found")


@lru_cache
def _examine(path: str, changed: int, size: int) -> Compiler:
    shown = subprocess.run([path, "--version"], capture_output=True, text=True, env=environment())
    kind = "clang" if "clang" in shown.stdout else "gcc"
    machine = subprocess.run(
        [path, "-dumpmachine"], capture_output=True, text=True, env=environment()
    ).stdout.strip()
    version = shown.stdout.partition("\n")[0]
    return Compiler(path, kind, machine, binutils_prefix(path), version)


def binutils_prefix(compiler: str) -> str:
    """What the names of a cross compiler's binutils begin with: `aarch64-linux-gnu-`, or ""."""
    name = os.path.basename(compiler)
    found = re.match(r"(.+-)(?:g\+\+|clang\+\+|c\+\+|gcc)(?:-[\d.]+)?$", name)
    return found.group(1) if found else ""


def environment(temporary: Path | None = None) -> dict[str, str]:
    """What a compiler sees: nothing of the caller's environment but where programs are."""
    given = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C"}
    return {**given, "TMPDIR": str(temporary)} if temporary else given


# ---- the emulator's own library

_LIBRARY_FLAGS = (
    *("-std=c++17", "-O2", "-g1", "-fPIC", "-shared", "-pthread"),
    *("-ffp-contract=off", "-Wl,-Bsymbolic,-z,defs,-z,relro,-z,now,-z,noexecstack"),
)
MOST_LIBRARIES = 12
_SECTIONS = """\
#define WEAK __attribute__((weak, visibility("hidden")))
extern "C" {
extern char __start_emu_device[] WEAK, __stop_emu_device[] WEAK;
extern char __start_emu_constant[] WEAK, __stop_emu_constant[] WEAK;
extern __attribute__((visibility("default"))) char* const emu_module_sections[4];
char* const emu_module_sections[4] = {__start_emu_device, __stop_emu_device, __start_emu_constant,
                                      __stop_emu_constant};
}
"""


def _roots() -> list[Path]:
    """Folders that may hold the built library, the preferred one first."""
    given = os.environ.get("LLM_SYSTEMS_EMULATOR")
    if given:
        return [Path(given)]
    return [Path(sys.prefix) / "share" / "llm-systems-emulator", user_cache() / "emulator"]


def user_cache() -> Path:
    """The user's own folder for things that can be made again."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(base) / "llm-systems"


def _key(compiler: Compiler) -> str:
    flags = repr(_LIBRARY_FLAGS)
    parts = (EMULATOR, compiler.path, compiler.version, compiler.machine, flags, _SECTIONS)
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:20]


def runtime_folder(compiler: Compiler) -> Path:
    """The folder with `libemulator.so`, `sections.o` and `include`; built if it is not there."""
    name = _key(compiler)
    for root in _roots():
        if _trusted(root / name):
            return root / name
    failure: OSError | None = None
    for root in _roots():
        try:
            return _build_runtime(compiler, root, name)
        except OSError as error:
            failure = error
    raise BuildError(f"the emulator's library can't be written: {failure}")


def _trusted(folder: Path) -> bool:
    """Is this a finished folder that only this user or root can have written?"""
    try:
        stat = folder.stat()
    except OSError:
        return False
    return stat.st_uid in (0, os.geteuid(), OWNER) and not stat.st_mode & 0o022


def _build_runtime(compiler: Compiler, root: Path, name: str) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=".new-", dir=root))
    try:
        shutil.copytree(INCLUDE, work / "include")
        (work / "sections.cpp").write_text(_SECTIONS)
        _compile_runtime(compiler, work)
        for path in [work, *work.rglob("*")]:
            path.chmod(0o755 if path.is_dir() or path.suffix == ".so" else 0o644)
        try:
            work.rename(root / name)
        except OSError:
            if not _trusted(root / name):
                raise
        _drop_oldest(root)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return root / name


def _compile_runtime(compiler: Compiler, work: Path) -> None:
    """Make libemulator.so and sections.o in `work`, on all processors."""
    sources = sorted([*SOURCES.glob("*.cpp"), work / "sections.cpp"])
    flags = [flag for flag in _LIBRARY_FLAGS if not flag.startswith(("-shared", "-Wl,"))]

    def compiled(source: Path) -> str:
        target = f"{source.stem}.o"
        _run([compiler.path, *flags, "-I", str(INCLUDE), "-c", str(source), "-o", target], work)
        return target

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = [name for name in pool.map(compiled, sources) if name != "sections.o"]
    link = [*_LIBRARY_FLAGS, "-Wl,-soname,libemulator.so"]
    link.append(f"-Wl,--version-script={SOURCES / 'exports.map'}")
    _run([compiler.path, *link, "-o", "libemulator.so", *objects, "-lm", "-ldl"], work)
    for name in (*objects, "sections.cpp"):
        (work / name).unlink()


def _drop_oldest(root: Path) -> None:
    """Keep a few libraries: of each compiler, and of the version before."""
    finished = sorted(root.glob("[0-9a-f]*"), key=lambda path: path.stat().st_mtime)
    for path in finished[:-MOST_LIBRARIES]:
        shutil.rmtree(path, ignore_errors=True)


def _run(command: Sequence[str], folder: Path) -> None:
    done = subprocess.run(
        command, cwd=folder, env=environment(folder), capture_output=True, text=True, timeout=300
    )
    if done.returncode:
        raise BuildError("the emulator's own library does not compile:\n" + done.stderr[:4000])


def runtime_library(compiler: str | None = None) -> Path:
    """libemulator.so, built by this compiler; every uid can read it."""
    return runtime_folder(find_compiler(compiler)) / "libemulator.so"


def include_folder(compiler: str | None = None) -> Path:
    """The emulator's headers, beside the library: workers can't read the repository."""
    return runtime_folder(find_compiler(compiler)) / "include"


def reads(compiler: str | None = None) -> list[Path]:
    """Folders that a confined worker must be able to read, besides the system's own."""
    # The folder above: a library that is built later is found there too.
    return [runtime_folder(find_compiler(compiler)).parent]
