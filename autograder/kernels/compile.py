"""From a `.cu` file to a shared library for the emulator: rewritten, screened, compiled, fenced."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from . import cache as kept
from . import fence, flags, messages
from .edits import apply
from .elf import Elf
from .entries import Entry, Parameter, entries, thunks
from .errors import BuildError, refusal
from .files import Files, read_files
from .guard import guarded
from .lines import LineTable, line_table
from .preprocessed import own_tokens
from .process import run
from .rewrite import device_variables, launches, shared_variables
from .screen import words
from .sites import meeting_places
from .vocabulary import PRAGMAS
from .tokens import Token
from .toolchain import HARNESS, Compiler, find_compiler, runtime_folder

__all__ = ["Build", "BuildError", "Entry", "Parameter", "Symbol", "build"]


@dataclass
class Symbol:
    """A `__device__` or `__constant__` variable: where it lies, from the library's base."""

    name: str
    offset: int
    size: int


@dataclass
class Build:
    """A library that is ready to load.

    library: the shared library; entries: its entry points by name; lines: from return addresses
    to lines; symbols: its variables in device memory; source: the file it comes from.
    """

    library: Path
    entries: dict[str, Entry]
    lines: LineTable
    source: Path
    instrumented: bool
    symbols: list[Symbol] = field(default_factory=list)


def build(
    path: str | os.PathLike[str],
    *,
    instrumented: bool,
    compiler: str | None = None,
    optimisation: str = "-O2",
    cache: Path | None = None,
) -> Build:
    """Build a kernel file for the emulator, or find it built.

    instrumented: with checks of every access. optimisation: one of -O0 … -O3.
    cache: folder of finished builds. BuildError: what is wrong with the file, by its own lines.
    """
    source = Path(path)
    if optimisation not in ("-O0", "-O1", "-O2", "-O3"):
        raise ValueError(f"no such optimisation: {optimisation}")
    chosen = find_compiler(compiler)
    files = read_files(source)
    root = kept.folder(cache)
    options = flags.compile_flags(chosen, instrumented, optimisation)
    parts = [HARNESS, chosen.path, chosen.version, chosen.machine, *options, files.main]
    for name in sorted(files.sources):
        parts += [name, files.sources[name].text]
    name = kept.key(parts)
    found = load(root / name, source, instrumented)
    if found is not None:
        return found
    refused = kept.refusal_of(root, name)
    if refused is not None:  # a confined worker could not run the compiler to be told again
        raise BuildError(*refused)
    kept.discard(root, name)
    with kept.working_folder(root) as work:
        try:
            _build(files, work, chosen, options, instrumented)
        except BuildError as error:
            # Without a place the fault may be the machine's: a tool not installed, time that ran out.
            if error.places or kept.is_of_one_run():
                kept.keep_refusal(root, name, error.message, error.places)
            raise
        place = kept.keep(work, root, name)
    found = load(place, source, instrumented)
    assert found is not None
    return found


def load(folder: Path, source: Path, instrumented: bool) -> Build | None:
    """The finished build in `folder`, or None."""
    try:
        data = json.loads((folder / "build.json").read_text())
    except (OSError, ValueError):
        return None
    if not (folder / data["library"]).is_file():
        return None
    found = {
        name: Entry(e["name"], e["line"], [Parameter(**p) for p in e["parameters"]], e["file"])
        for name, e in data["entries"].items()
    }
    return Build(
        folder / data["library"],
        found,
        LineTable(**data["lines"]),
        source,
        instrumented,
        [Symbol(**symbol) for symbol in data["symbols"]],
    )


def save(
    work: Path, library: str, found: dict[str, Entry], table: LineTable, symbols: Sequence[Symbol]
) -> None:
    """Write `build.json` into `work`, and leave nothing there but it and the library."""
    data = {
        "library": library,
        "entries": {name: asdict(entry) for name, entry in found.items()},
        "lines": asdict(table),
        "symbols": [asdict(symbol) for symbol in symbols],
    }
    for path in work.iterdir():
        if path.name != library:
            path.unlink()
    (work / "build.json").write_text(json.dumps(data))
    (work / "build.json").chmod(0o644)
    (work / library).chmod(0o755)


def _build(
    files: Files, work: Path, compiler: Compiler, options: list[str], instrumented: bool
) -> None:
    """Everything between the student's text and `build.json` in `work`."""
    runtime = runtime_folder(compiler)
    expanded, tokens = preprocess(files, work, compiler, options, runtime)
    found = entries(tokens, files.c_kernels)
    kernels = None if files.macro_kernels else files.kernels
    edits = [*launches(tokens, kernels), *shared_variables(tokens)]
    text = apply(expanded, [*edits, *meeting_places(tokens, edits)])
    (work / "unit.ii").write_text(f'{text}\n# 1 "entries"\n{thunks(found)}')
    command = [compiler.path, *options, "-x", "c++-cpp-output", "unit.ii"]
    if instrumented and compiler.machine.startswith("x86_64"):
        _compile([*command, "-S", "-o", "unit.s"], files, work)
        text = guarded((work / "unit.s").read_text(), lambda name: not fence.outside(name), files.own)
        (work / "unit.s").write_text(text)
        command = [compiler.path, "-x", "assembler", "unit.s"]
    _compile([*command, "-c", "-o", "unit.o"], files, work)
    require_entries(files, found)
    places = {token.text: (token.file, token.line) for token in reversed(tokens)}
    fence.Fence(
        work / "unit.o", compiler, files.main,
        lambda name: places.get(messages.plain_name(name).rpartition(":")[2]),
    ).check()  # fmt: skip
    library = "lib" + Path(files.main).stem + ".so"
    (work / "exports").write_text(flags.EXPORTS)
    command = [compiler.path, *flags.link_flags(runtime), "unit.o", str(runtime / "sections.o")]
    done = run([*command, *flags.libraries(runtime), "-o", library], work)
    if done.status:
        raise messages.link_error(done, files.main)
    elf = Elf(work / library)
    fence.check_library(elf)
    fill_sizes(elf, found)
    table = line_table(work / library, elf, compiler, files.own)
    save(work, library, found, table, device_symbols(elf))


def _compile(command: list[str], files: Files, work: Path) -> None:
    done = run(command, work)
    if done.status:
        raise messages.compile_error(done, files.sources)


def preprocess(
    files: Files, work: Path, compiler: Compiler, options: list[str], runtime: Path
) -> tuple[str, list[Token]]:
    """The text of the whole unit with macros expanded, and the tokens of the student's own lines.

    They are screened once more, so that no macro builds what may not be written.
    """
    for name, source in files.sources.items():
        edits = [] if name in files.given else device_variables(source) + files.without_headers(name)
        (work / name).write_text(apply(source.text, edits) + "\n")
    (work / "prelude").write_text(files.prelude())
    command = [compiler.path, *options, "-E", "-x", "c++", "-I", str(runtime / "include")]
    command += ["-include", "prelude"]
    done = run([*command, files.main, "-o", "expanded.ii"], work)
    if done.status:
        raise messages.compile_error(done, files.sources)
    text = (work / "expanded.ii").read_text()
    tokens, directives = own_tokens(text, files.own)
    words(tokens, after_macros=True)
    for directive in directives:
        first = directive.tokens[0].text if directive.tokens else ""
        if directive.name != "pragma" or not PRAGMAS.fullmatch(first):
            raise refusal(directive.file, directive.line, f"#{directive.name} {first} made by a macro")
    return text, tokens


def require_entries(files: Files, found: dict[str, Entry]) -> None:
    """BuildError if the file has no entry point. Asked late: a compiler's errors tell more."""
    if not found:
        raise BuildError(f'{files.main} has no entry point: extern "C" void name(…) {{ … }}')


def find_entries(files: Files, work: Path) -> dict[str, Entry]:
    """The entry points, for other back ends: the emulator's headers and this machine's compiler."""
    compiler = find_compiler()
    options = flags.compile_flags(compiler, False, "-O2")
    _, tokens = preprocess(files, work, compiler, options, runtime_folder(compiler))
    return entries(tokens, files.c_kernels)


def fill_sizes(elf: Elf, found: dict[str, Entry]) -> None:
    """Set the sizes of parameters from the compiled `emu_sizes_NAME`."""
    symbols = {symbol.name: symbol for symbol in elf.exported}
    for name, entry in found.items():
        symbol = symbols[f"emu_sizes_{name}"]
        numbers = struct.unpack(f"<{symbol.size // 8}Q", elf.read(symbol.value, symbol.size))
        for parameter, size in zip(entry.parameters, numbers[1:], strict=True):
            parameter.size = size


def device_symbols(elf: Elf) -> list[Symbol]:
    """The variables in the sections of device memory, in order of their places."""
    found = []
    for symbol in elf.symbols:
        if symbol.type != 1 or not symbol.size or symbol.section >= len(elf.sections):
            continue
        if elf.sections[symbol.section].name in ("emu_device", "emu_constant"):
            found.append(Symbol(messages.plain_name(symbol.name), symbol.value, symbol.size))
    return sorted(found, key=lambda symbol: symbol.offset)
