"""Devices, their arrays, and the modules loaded on them: what a caller of kernels works with."""

from __future__ import annotations

import weakref
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from autograder.kernels import gpu, nvcc
from autograder.kernels import compile as compiling
from autograder.kernels.compile import Build
from autograder.kernels.emulator_backend import EmulatorBackend
from autograder.kernels.entries import Entry, Parameter
from autograder.kernels.errors import BuildError, KernelError

MODES = ("fast", "check", "metrics", "full")
# The numpy types that a pointer of a base type may point to.
_DTYPES = {
    "float": "float32", "double": "float64", "int": "int32", "unsigned int": "uint32",
    "signed char": "int8", "char": "int8", "unsigned char": "uint8", "int8_t": "int8",
    "uint8_t": "uint8", "short": "int16", "unsigned short": "uint16", "int16_t": "int16",
    "uint16_t": "uint16", "int32_t": "int32", "uint32_t": "uint32", "long long": "int64",
    "unsigned long long": "uint64", "int64_t": "int64", "uint64_t": "uint64", "bool": "bool",
    "__half": "float16", "half": "float16",
}  # fmt: skip


class Backend(Protocol):
    """What a device needs of the machine below it; addresses are device addresses."""

    name: str

    def allocate(self, size: int) -> int: ...
    def free(self, address: int) -> None: ...
    def write(self, address: int, values: np.ndarray) -> None: ...
    def read(self, values: np.ndarray, address: int) -> None: ...
    def open(self, built: Build) -> Any: ...
    def call(self, handle: Any, entry: Entry, values: list[bytes], names: dict[int, Any]) -> None: ...
    def report(self) -> dict[str, Any]: ...


class DeviceArray:
    """An array in device memory, contiguous, in C order; freed with its last reference.

    shape: a tuple; dtype: a numpy dtype. `numpy()` copies it to the host.
    """

    def __init__(self, device: Device, shape: tuple[int, ...], dtype: Any) -> None:
        self.device = device
        self.shape = tuple(int(n) for n in shape)
        self.dtype = np.dtype(dtype)
        self.size = int(np.prod(self.shape, dtype=np.int64))
        self.nbytes = self.size * self.dtype.itemsize
        # An empty array has an address of its own all the same: kernels must not look at it.
        self.address = device.backend.allocate(max(self.nbytes, 1))
        weakref.finalize(self, device.backend.free, self.address)

    def numpy(self) -> np.ndarray:
        """A copy on the host."""
        values = np.empty(self.shape, self.dtype)
        if self.nbytes:
            self.device.backend.read(values, self.address)
        return values

    def reshape(self, *shape: int) -> DeviceArray:
        """The same memory under another shape."""
        count = int(np.prod(shape, dtype=np.int64))
        if count != self.size:
            raise ValueError(f"{self.shape} has {self.size} elements, {shape} {count}")
        view = object.__new__(DeviceArray)
        view.__dict__.update(self.__dict__, shape=tuple(shape), base=self)
        return view

    def __repr__(self) -> str:
        return f"DeviceArray(shape={self.shape}, dtype={self.dtype})"


class Module:
    """A kernel file, built and loaded; `launch` calls its `extern "C"` functions."""

    def __init__(self, device: Device, built: Build) -> None:
        self.device = device
        self.build = built
        self._handle = device.backend.open(built)

    def launch(self, name: str, *arguments: Any) -> None:
        """Call the host function `name` and wait for its kernels.

        Device arrays are passed for pointers, numbers for numbers, ctypes structures for structs.
        TypeError for arguments that do not fit the function's parameters; NotImplementedError from
        a stub; KernelError for whatever went wrong in a kernel.
        """
        self.device.backend.call(self._handle, *self._bound(name, arguments))

    def time(self, name: str, *arguments: Any) -> float:
        """Milliseconds on the GPU for such a call, the L2 cache flushed before; not on the emulator.

        Raises what `launch` raises.
        """
        entry, values, _ = self._bound(name, arguments)
        return float(self.device.backend.time(self._handle, entry, values))  # type: ignore[attr-defined]

    def _bound(
        self, name: str, arguments: tuple[Any, ...]
    ) -> tuple[Entry, list[bytes], dict[int, Any]]:
        """The function and its arguments as they lie in memory, and names for addresses."""
        entry = self.build.entries.get(name)
        if entry is None:
            there = ", ".join(self.build.entries) or "none"
            raise KernelError(
                f'{self.build.source.name} has no extern "C" function {name}; it has: {there}'
            )
        if len(arguments) != len(entry.parameters):
            raise TypeError(
                f"{name} ({self.build.source.name}:{entry.line}) takes {len(entry.parameters)} "
                f"arguments, {len(arguments)} were given"
            )
        values, names = [], {}
        for parameter, argument in zip(entry.parameters, arguments, strict=True):
            values.append(_as_bytes(entry, parameter, argument))
            if isinstance(argument, DeviceArray):
                names.setdefault(argument.address, (parameter.name, argument.shape, argument.dtype))
        return entry, values, names


def build(
    path: str | Path, mode: str = "full", *, compiler: str | None = None, optimisation: str = "-O2"
) -> Build:
    """Build a kernel file for the emulator, or find it built; BuildError says what is wrong."""
    return compiling.build(
        path, instrumented=mode != "fast", compiler=compiler, optimisation=optimisation
    )


class Device:
    """A GPU, or the emulator of one.

    backend: "emulator", which grading uses everywhere; "nvcc"; or "auto": nvcc where a GPU is there.
    mode, of the emulator: "fast" computes values only; "check" also finds races, bad addresses
    and uninitialised reads; "metrics" counts; "full" does both. compiler, optimisation: how kernel
    files are built. sample: so many blocks of each launch are run, evenly spread (0: all); counts
    then are of the sample. seconds: CPU time a call may take; after 12 s on the wall, 3/10 of that
    are enough. steps: memory accesses and basic blocks a launch may take, in lanes. A call that takes
    more is watched for a second longer, to find the loop. threads: OS threads in fast mode.
    """

    def __init__(
        self,
        backend: str = "emulator",
        mode: str = "full",
        *,
        compiler: str | None = None,
        optimisation: str = "-O2",
        sample: int = 0,
        seconds: float = 4.0,
        memory_mb: int = 256,
        threads: int = 2,
        steps: int = 300_000_000,
    ) -> None:
        if mode not in MODES:
            raise ValueError(f"mode {mode!r} is none of {', '.join(MODES)}")
        self.mode, self.compiler, self.optimisation = mode, compiler, optimisation
        self.backend: Backend = _open_backend(
            backend, mode=mode, compiler=compiler, sample=sample, seconds=seconds,
            memory_mb=memory_mb, threads=threads, steps=steps,
        )  # fmt: skip
        self._modules: dict[Path, Module] = {}

    def load(self, path: str | Path) -> Module:
        """The kernel file at `path`, built if need be. Raises BuildError."""
        path = Path(path).resolve()
        if path not in self._modules:
            self._modules[path] = Module(self, self._build(path))
        return self._modules[path]

    def _build(self, path: Path) -> Build:
        try:
            if self.backend.name == "nvcc":
                return nvcc.build_nvcc(path)
            return build(
                path, mode=self.mode, compiler=self.compiler, optimisation=self.optimisation
            )
        except BuildError as error:
            error.source_frames = [(str(path.parent / name), line, "") for name, line in error.places]
            raise

    def array(self, values: Any, dtype: Any = None) -> DeviceArray:
        """A copy of `values` in device memory."""
        values = np.asarray(values, dtype, order="C")
        array = DeviceArray(self, values.shape, values.dtype)
        if array.nbytes:
            self.backend.write(array.address, values)
        return array

    def empty(self, shape: Any, dtype: Any = np.float32) -> DeviceArray:
        """Device memory that nobody has written yet (all bits 1: NaN, on the emulator)."""
        return DeviceArray(self, (shape,) if np.isscalar(shape) else tuple(shape), dtype)

    def zeros(self, shape: Any, dtype: Any = np.float32) -> DeviceArray:
        """Device memory of zeros."""
        return self.array(np.zeros(shape, dtype))

    def report(self) -> dict[str, Any]:
        """What happened since the last call: launches with their counts, diagnostics, output."""
        return self.backend.report()


def _open_backend(name: str, **options: Any) -> Backend:
    if name in ("auto", "nvcc"):
        if name == "nvcc" or gpu.available():
            return gpu.GpuBackend()
    elif name != "emulator":
        raise ValueError(f"backend {name!r} is none of auto, emulator, nvcc")
    return EmulatorBackend(**options)


def _as_bytes(entry: Entry, parameter: Parameter, argument: Any) -> bytes:
    """The argument as its parameter lies in memory; TypeError if it does not fit."""
    where = f"{entry.name}: {parameter.name} is {parameter.type}"
    if parameter.pointer:
        if argument is None:
            return bytes(8)
        if not isinstance(argument, DeviceArray):
            raise TypeError(f"{where}, so it takes a device array, not {type(argument).__name__}")
        expected = _DTYPES.get(parameter.base)
        if expected and argument.dtype != expected:
            raise TypeError(f"{where}, so it takes {expected}, not {argument.dtype}")
        return argument.address.to_bytes(8, "little")
    if parameter.base in _DTYPES:
        if isinstance(argument, DeviceArray):
            raise TypeError(f"{where}, so it takes a number, not a device array")
        dtype = np.dtype(_DTYPES[parameter.base])
        if dtype.kind in "iu" and int(argument) != argument:
            raise TypeError(f"{where}, so it takes a whole number, not {argument!r}")
        return np.array(argument).astype(dtype).tobytes()
    if isinstance(argument, (int, float)) and not isinstance(argument, np.generic):
        raise TypeError(f"{where}: pass a ctypes structure, or a numpy number of its size")
    # bytes(4), and of any number with an __index__, would be four bytes of 0.
    data = argument.tobytes() if isinstance(argument, np.generic) else bytes(argument)
    if parameter.size and len(data) != parameter.size:
        raise TypeError(f"{where} of {parameter.size} bytes; {len(data)} were given")
    return data
