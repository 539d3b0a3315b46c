"""A real GPU, through libraries that nvcc built: memory, calls, errors, time."""

from __future__ import annotations

import contextlib
import ctypes
import os
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from autograder.kernels import nvcc
from autograder.kernels.compile import Build
from autograder.kernels.entries import Entry
from autograder.kernels.errors import BuildError, KernelError

RUNTIME = Path(__file__).with_name("cuda") / "gpu_runtime.cu"
L2_FLUSH = 256 << 20  # bytes, more than the L2 cache of any GPU so far


@cache
def available() -> bool:
    """Whether there is a GPU and nvcc to build for it."""
    if not os.path.exists("/dev/nvidiactl") or nvcc.find_nvcc() is None:
        return False
    with contextlib.suppress(BuildError, OSError):
        return _runtime().gpu_count() > 0
    return False


def device_name() -> str:
    """The name of the first GPU."""
    return _runtime().gpu_name().decode()


@cache
def _runtime() -> ctypes.CDLL:
    library = ctypes.CDLL(str(nvcc.build_library(RUNTIME)))
    pointer, size = ctypes.c_void_p, ctypes.c_size_t
    library.gpu_name.restype = library.gpu_error_text.restype = ctypes.c_char_p
    library.gpu_allocate.argtypes = [ctypes.POINTER(pointer), size]
    library.gpu_free.argtypes = [pointer]
    library.gpu_write.argtypes = library.gpu_read.argtypes = [pointer, pointer, size]
    library.gpu_time.argtypes = [pointer, ctypes.POINTER(pointer), pointer, size]
    library.gpu_time.restype = ctypes.c_float
    return library


class GpuBackend:
    """The first GPU of the machine."""

    name = "nvcc"

    def __init__(self) -> None:
        self._library = _runtime()
        self._scratch: int | None = None

    def _check(self, error: int, what: str) -> None:
        if error:
            text = self._library.gpu_error_text(error).decode()
            raise KernelError(f"{what}: {text} (CUDA error {error})")

    def allocate(self, size: int) -> int:
        """The address of new memory, all bits 1."""
        address = ctypes.c_void_p()
        self._check(self._library.gpu_allocate(ctypes.byref(address), size), f"{size:,} bytes")
        return int(address.value or 0)

    def free(self, address: int) -> None:
        """Give memory back."""
        self._library.gpu_free(address)

    def write(self, address: int, values: np.ndarray) -> None:
        """Copy a contiguous array to the device."""
        self._check(self._library.gpu_write(address, values.ctypes.data, values.nbytes), "a copy")

    def read(self, values: np.ndarray, address: int) -> None:
        """Fill a contiguous array from the device."""
        self._check(self._library.gpu_read(values.ctypes.data, address, values.nbytes), "a copy")

    def open(self, built: Build) -> ctypes.CDLL:
        """Load a build."""
        return ctypes.CDLL(str(built.library))

    def call(
        self, handle: ctypes.CDLL, entry: Entry, values: list[bytes], names: dict[int, Any]
    ) -> None:
        """Run one host function and wait; KernelError for a launch or a kernel that failed."""
        self._function(handle, entry)(_pointers(values))
        self._check(handle.emu_module_error(), entry.name)  # of a launch that was refused
        self._check(self._library.gpu_synchronize(), entry.name)

    def time(self, handle: ctypes.CDLL, entry: Entry, values: list[bytes]) -> float:
        """Milliseconds on the device for one call, the L2 cache flushed before."""
        if self._scratch is None:
            self._scratch = self.allocate(L2_FLUSH)
        function = ctypes.cast(self._function(handle, entry), ctypes.c_void_p)
        spent = self._library.gpu_time(function, _pointers(values), self._scratch, L2_FLUSH)
        self._check(handle.emu_module_error(), entry.name)
        if spent < 0:
            self._check(self._library.gpu_synchronize() or 999, entry.name)
        return float(spent)

    def report(self) -> dict[str, Any]:
        """Nothing is counted on a GPU."""
        return {"launches": [], "diagnostics": [], "output": ""}

    @staticmethod
    def _function(handle: ctypes.CDLL, entry: Entry) -> Any:
        function = getattr(handle, f"emu_entry_{entry.name}")
        function.restype = None
        return function


def _pointers(values: list[bytes]) -> Any:
    """The array of pointers to the values, which live as long as it does."""
    buffers = [ctypes.create_string_buffer(value, len(value)) for value in values]
    pointers = (ctypes.c_void_p * max(1, len(values)))(*(ctypes.addressof(b) for b in buffers))
    pointers.buffers = buffers  # type: ignore[attr-defined]
    return pointers
