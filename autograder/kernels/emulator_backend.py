"""The emulator's library, through ctypes: device memory, calls, reports."""

from __future__ import annotations

import ctypes
import json
from typing import Any

import numpy as np

from autograder.kernels.compile import Build
from autograder.kernels.entries import Entry
from autograder.kernels.errors import KernelError
from autograder.kernels.report import Names, read_report
from autograder.kernels.toolchain import runtime_library

_libraries: dict[str, ctypes.CDLL] = {}


def library(compiler: str | None = None) -> ctypes.CDLL:
    """The emulator's library, built and loaded once a process."""
    path = str(runtime_library(compiler))
    if path not in _libraries:
        if _libraries:
            raise KernelError("one process can hold one build of the emulator only")
        loaded = ctypes.CDLL(path, mode=ctypes.RTLD_GLOBAL)
        size, pointer = ctypes.c_size_t, ctypes.c_void_p
        signatures: dict[str, tuple[Any, list[Any]]] = {
            "emu_initialise": (ctypes.c_int, [size]),
            "emu_configure": (
                None,
                [ctypes.c_int] * 3
                + [ctypes.c_uint64, ctypes.c_double, ctypes.c_uint64, ctypes.c_int],
            ),
            "emu_open_module": (ctypes.c_int, [ctypes.c_char_p]),
            "emu_set_order": (None, [ctypes.c_int, pointer, pointer, size]),
            "emu_symbol": (pointer, [ctypes.c_int, ctypes.c_char_p]),
            "emu_call": (
                ctypes.c_int,
                [ctypes.c_int, pointer, ctypes.POINTER(pointer), ctypes.POINTER(size), ctypes.c_int],
            ),
            "emu_malloc": (ctypes.c_int, [ctypes.POINTER(pointer), size]),
            "emu_free": (ctypes.c_int, [pointer]),
            "emu_write": (None, [pointer, pointer, size]),
            "emu_read": (None, [pointer, pointer, size]),
            "emu_allocation": (ctypes.c_int, [pointer]),
            "emu_text": (ctypes.c_char_p, []),
            "emu_take_report": (ctypes.c_char_p, []),
            "emu_benchmark_switches": (ctypes.c_double, [ctypes.c_uint64]),
        }
        for name, (result, arguments) in signatures.items():
            getattr(loaded, name).restype = result
            getattr(loaded, name).argtypes = arguments
        _libraries[path] = loaded
    return _libraries[path]


class EmulatorBackend:
    """One emulated GPU; its memory and modules are the process's."""

    name = "emulator"

    def __init__(
        self, *, mode: str, compiler: str | None, sample: int, seconds: float, memory_mb: int,
        threads: int, steps: int,
    ) -> None:  # fmt: skip
        self._library = library(compiler)
        self._settings = (
            int(mode != "fast"), int(mode in ("check", "full")), int(mode in ("metrics", "full")),
            sample, seconds, steps, threads,
        )  # fmt: skip
        if self._library.emu_initialise(memory_mb << 20):
            raise KernelError(f"no {memory_mb} MB of memory for the emulated device")
        self._builds: dict[int, Build] = _builds
        self._names: Names = {}
        self._reports: list[dict[str, Any]] = []

    def allocate(self, size: int) -> int:
        """The address of new memory; KernelError if there is not enough."""
        address = ctypes.c_void_p()
        if self._library.emu_malloc(ctypes.byref(address), size):
            raise KernelError(f"the emulated device has no {size:,} bytes left")
        return int(address.value or 0)

    def free(self, address: int) -> None:
        """Give memory back."""
        self._library.emu_free(address)

    def write(self, address: int, values: np.ndarray) -> None:
        """Copy a contiguous array to the device."""
        self._library.emu_write(address, values.ctypes.data, values.nbytes)

    def read(self, values: np.ndarray, address: int) -> None:
        """Fill a contiguous array from the device."""
        self._library.emu_read(values.ctypes.data, address, values.nbytes)

    def open(self, built: Build) -> int:
        """Load a build; the module's number."""
        number = self._library.emu_open_module(str(built.library).encode())
        if number < 0:
            text = self._library.emu_text().decode("utf-8", "replace")
            raise KernelError(f"{built.source.name} can't be loaded: {text}")
        order = np.array([built.lines.offsets, built.lines.ranks], np.uint32)
        self._library.emu_set_order(
            number, order[0].ctypes.data, order[1].ctypes.data, order.shape[1]
        )
        self._builds[number] = built
        return number

    def call(
        self, handle: int, entry: Entry, values: list[bytes], names: dict[int, Any]
    ) -> None:
        """Run one host function of a module; raises what it ended in."""
        address = self._library.emu_symbol(handle, f"emu_entry_{entry.name}".encode())
        if not address:
            raise KernelError(f"{entry.name} is not in the built module")
        for start, name in names.items():
            self._names[self._library.emu_allocation(start)] = name
        buffers = [ctypes.create_string_buffer(value, len(value)) for value in values]
        pointers = (ctypes.c_void_p * len(values))(*(ctypes.addressof(b) for b in buffers))
        sizes = (ctypes.c_size_t * len(values))(*(len(value) for value in values))
        self._library.emu_configure(*self._settings)
        error = self._library.emu_call(handle, address, pointers, sizes, len(values))
        report, unfinished = self._take()
        self._reports.append(report)
        if report["output"]:  # printf of kernels: to stdout, as on a GPU
            print(report["output"], end="", flush=True)
        if unfinished:
            raise NotImplementedError(unfinished)
        if error:
            raise _failure(entry, error, report["diagnostics"], self._builds[handle])

    def report(self) -> dict[str, Any]:
        """Everything since the last call."""
        whole: dict[str, Any] = {"launches": [], "diagnostics": [], "output": "", "dropped": 0}
        for part in self._reports:
            for key in whole:
                whole[key] += part[key]
        self._reports.clear()
        return whole

    def _take(self) -> tuple[dict[str, Any], str]:
        raw = json.loads(self._library.emu_take_report())
        return read_report(raw, self._builds, self._names), raw["unfinished"]


def _failure(
    entry: Entry, error: int, diagnostics: list[dict[str, Any]], built: Build
) -> KernelError:
    """What ended the call, and the errors found before it, which may explain it."""
    errors = [found for found in diagnostics if found["severity"] == "error"]
    if not errors:
        return KernelError(f"{entry.name} ended with CUDA error {error}")
    *before, last = errors
    message = "\n".join([last["message"], *(f"before that: {found['message']}" for found in before[-3:])])
    frames = [
        (str(built.source.parent / found["file"]), found["line"], found["kernel"])
        for found in [*before[-3:], last]
        if found["line"]
    ]
    return KernelError(message, frames, errors)


_builds: dict[int, Build] = {}
