"""Are the counts on aarch64 those of this machine? For the hand-counted kernels and homework 2's reference.

    python tests/kernels/arm/compare_counts.py     # needs aarch64-linux-gnu-g++ and qemu-aarch64

The calls are recorded here, with their arguments, and repeated by `replay.cpp` under qemu-user with
libraries that the cross compiler built. `apt-get install g++-aarch64-linux-gnu qemu-user`.
"""

from __future__ import annotations

import json
import runpy
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
HOMEWORK = ROOT / "hw2_cuda_kernels"
CROSS = "aarch64-linux-gnu-g++"
sys.path[:0] = [str(ROOT), str(HERE.parent)]

from autograder import kernels
from autograder.kernels.emulator_backend import EmulatorBackend
from autograder.kernels.toolchain import runtime_library


class Recorder:
    """Writes each call of the emulator into a script, with what its arrays hold at that time."""

    def __init__(self, script: Any) -> None:
        self.script = script
        self.modules: dict[Path, int] = {}
        self.sources: dict[int, Path] = {}
        self.sizes: dict[int, int] = {}
        self.totals: list[dict[str, Any]] = []
        self.arrays = 0
        self._allocate, self._open = EmulatorBackend.allocate, EmulatorBackend.open
        self._call = EmulatorBackend.call

    def install(self) -> None:
        """From now on every backend records."""
        recorder = self

        def allocate(backend: Any, size: int) -> int:
            address = recorder._allocate(backend, size)
            recorder.sizes[address] = size
            return address

        def open_build(backend: Any, built: kernels.Build) -> Any:
            handle = recorder._open(backend, built)
            recorder.sources[handle] = built.source
            return handle

        def call(backend: Any, handle: Any, entry: Any, values: list[bytes], names: Any) -> None:
            recorder._record(backend, handle, entry, values)
            recorder._call(backend, handle, entry, values, names)
            launches = backend._reports[-1]["launches"]
            recorder.totals.append(totals(launches))

        EmulatorBackend.allocate, EmulatorBackend.open = allocate, open_build  # type: ignore
        EmulatorBackend.call = call  # type: ignore

    def _record(self, backend: Any, number: int, entry: Any, values: list[bytes]) -> None:
        module = self._module(self.sources[number])
        arguments: list[bytes] = []
        for parameter, value in zip(entry.parameters, values, strict=True):
            address = int.from_bytes(value, "little") if parameter.pointer else 0
            if parameter.pointer and address:
                held = np.empty(self.sizes[address], np.uint8)
                backend.read(held, address)
                self._write(f"array {self.arrays} {held.size}", held.tobytes())
                arguments.append(f"array {self.arrays}\n".encode())
                self.arrays += 1
            elif parameter.pointer:
                arguments.append(b"null\n")
            else:
                arguments.append(f"value {len(value)}\n".encode() + value)
        self._write(f"call {module} {entry.name} {len(arguments)}", b"".join(arguments))

    def _module(self, source: Path) -> int:
        if source not in self.modules:
            self.modules[source] = len(self.modules)
            built = kernels.build(source, compiler=CROSS)
            order = np.array([built.lines.offsets, built.lines.ranks], np.uint32)
            self._write(f"module {built.library} {order.shape[1]}", order.tobytes())
        return self.modules[source]

    def _write(self, line: str, data: bytes) -> None:
        self.script.write(line.encode() + b"\n" + data)


def totals(launches: list[dict[str, Any]]) -> dict[str, Any]:
    """Counts by kernel: what must not depend on the processor."""
    found: dict[str, Any] = {}
    for launch in launches:
        own = found.setdefault(launch["kernel"], {})
        for name, value in launch["counts"].items():
            own[name] = max(own.get(name, 0), value) if "degree" in name else own.get(name, 0) + value
    return found


def record(script: Path) -> list[dict[str, Any]]:
    """Run everything here, into `script`; the counts of each call."""
    from count_cases import CASES, launch

    with script.open("wb") as file, tempfile.TemporaryDirectory() as folder:
        recorder = Recorder(file)
        recorder.install()
        device = kernels.Device("emulator", "full")
        module = device.load(HERE.parent / "cuda" / "counts.cu")
        for case in CASES:
            launch(case, module)
        package = Path(folder) / "cuda_kernels"
        shutil.copytree(HOMEWORK / "cuda_kernels", package)
        for path in (HOMEWORK / "solution" / "cuda_kernels").glob("*.cu"):
            shutil.copy(path, package)
        sys.argv[1:] = [folder]
        measure = runpy.run_path(str(HOMEWORK / "figures" / "measure.py"))
        for name in ("element_wise", "reductions", "transposes", "matmuls", "rows", "others"):
            measure[name]()
        return recorder.totals


def replay(script: Path, folder: Path) -> list[dict[str, Any]]:
    """Run the script under qemu; the counts of each call."""
    from autograder.kernels.report import read_report

    library = runtime_library(CROSS)
    program = folder / "replay"
    subprocess.run(
        [CROSS, "-std=c++17", "-O2", str(HERE / "replay.cpp"), str(library), "-o", str(program)],
        check=True,
    )
    done = subprocess.run(
        ["qemu-aarch64", "-L", "/usr/aarch64-linux-gnu", "-E", f"LD_LIBRARY_PATH={library.parent}",
         str(program), str(script)], capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"the replay failed ({done.returncode}): {done.stderr[-2000:]}")
    reports = [read_report(json.loads(line), {}, {}) for line in done.stdout.splitlines()]
    return [totals(report["launches"]) for report in reports]


def main() -> None:
    """Compare, and say how many calls agree; exit 1 if any differs."""
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "script"
        here = record(script)
        there = replay(script, Path(folder))
    names = sorted({kernel for call in here for kernel in call})
    different = [(a, b) for a, b in zip(here, there, strict=True) if a != b]
    for a, b in different[:5]:
        for kernel in a:
            changed = {n: (v, b.get(kernel, {}).get(n)) for n, v in a[kernel].items()
                       if v != b.get(kernel, {}).get(n)}  # fmt: skip
            if changed:
                print(f"{kernel}: here and on aarch64 {changed}")
    print(f"{len(here)} calls of {len(names)} kernels, {len(different)} with other counts")
    raise SystemExit(1 if different else 0)


if __name__ == "__main__":
    main()
