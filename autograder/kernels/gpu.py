"""A real GPU, through libraries that nvcc built: memory, calls, errors, time."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from autograder.kernels import nvcc
from autograder.kernels.compile import Build
from autograder.kernels.entries import Entry
from autograder.kernels.errors import BuildError, KernelError

RUNTIME = Path(__file__).with_name("cuda") / "gpu_runtime.cu"
UNFINISHED = "not implemented: "  # what LLM_NOT_IMPLEMENTED throws begins so
L2_FLUSH = 256 << 20  # bytes, more than the L2 cache of any GPU so far


DRIVERS = ("/dev/nvidiactl", "/dev/dxg")  # where a driver is: on Linux, and on Linux in Windows


@cache
def missing() -> str:
    """Why nothing can run on a GPU here; "" where it can."""
    if not any(os.path.exists(driver) for driver in DRIVERS):
        return "no GPU on this machine"
    if nvcc.find_nvcc() is None:
        return "a GPU, but no nvcc on this machine"
    try:
        found = _runtime().gpu_count()
    except (BuildError, OSError) as error:
        return f"nvcc builds nothing that loads: {str(error)[:200]}"
    return "" if found > 0 else "no GPU that the driver can use"


def available() -> bool:
    """Whether there is a GPU and nvcc to build for it."""
    return not missing()


def device_name() -> str:
    """The name of the first GPU, and its compute capability."""
    capability = _runtime().gpu_compute_capability()
    return f"{_runtime().gpu_name().decode()} (sm_{capability})"


@cache
def _runtime() -> ctypes.CDLL:
    library = ctypes.CDLL(str(nvcc.build_library(RUNTIME)))
    pointer, size = ctypes.c_void_p, ctypes.c_size_t
    library.gpu_name.restype = library.gpu_error_text.restype = ctypes.c_char_p
    library.gpu_allocate.argtypes = [ctypes.POINTER(pointer), size]
    library.gpu_free.argtypes = [pointer]
    library.gpu_write.argtypes = library.gpu_read.argtypes = [pointer, pointer, size]
    library.gpu_copy.argtypes = [pointer, pointer, size]
    library.gpu_begin.argtypes = [pointer, size]
    library.gpu_end.argtypes = [ctypes.POINTER(ctypes.c_float)]
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
        handle = ctypes.CDLL(str(built.library))
        handle.emu_module_message.restype = ctypes.c_char_p
        return handle

    def call(
        self, handle: ctypes.CDLL, entry: Entry, values: list[bytes], names: dict[int, Any]
    ) -> None:
        """Run one host function and wait; KernelError for a launch or a kernel that failed."""
        self._function(handle, entry)(_pointers(values))
        self._check_call(handle, entry)
        self._check(self._library.gpu_synchronize(), entry.name)

    def time(self, handle: ctypes.CDLL, entry: Entry, values: list[bytes]) -> float:
        """Milliseconds on the device for one call, the L2 cache flushed before."""
        function, pointers = self._function(handle, entry), _pointers(values)
        spent = self.timed(lambda: function(pointers))
        self._check_call(handle, entry)
        return spent

    def timed(self, work: Callable[[], object]) -> float:
        """Milliseconds on the device for what `work` puts on the default stream, L2 flushed before.

        The host must be done before the flush is, about a tenth of a millisecond; what it takes
        longer is in the time.
        """
        if self._scratch is None:
            self._scratch = self.allocate(L2_FLUSH)
        spent = ctypes.c_float()
        self._check(self._library.gpu_begin(self._scratch, L2_FLUSH), "an event")
        work()
        self._check(self._library.gpu_end(ctypes.byref(spent)), "a timed call")
        return float(spent.value)

    def copy(self, to: int, start: int, size: int) -> None:
        """Put a copy from device memory to device memory on the default stream."""
        self._check(self._library.gpu_copy(to, start, size), "a copy")

    def _check_call(self, handle: ctypes.CDLL, entry: Entry) -> None:
        """Raise what the host function ended in."""
        thrown = handle.emu_module_message()
        if thrown:
            text = thrown.decode("utf-8", "replace")
            if text.startswith(UNFINISHED):
                raise NotImplementedError(text.removeprefix(UNFINISHED))
            raise KernelError(f"{entry.name} threw: {text}")
        self._check(handle.emu_module_error(), entry.name)  # of a launch that was refused

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
