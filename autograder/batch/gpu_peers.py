"""What a GPU's kernels are timed against: torch with CUDA, cuBLAS by itself, a copy on the device."""

from __future__ import annotations

import ctypes
import ctypes.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from autograder import kernels
from autograder.batch.gpu_cases import Arrays, Case
from autograder.kernels.nvcc import find_nvcc

Work = Callable[[], object]


class Torch:
    """torch's own operations on the GPU, in float32 throughout: TF32 is off."""

    name = "torch, TF32 off"

    def __init__(self, torch: Any, place: str = "cuda") -> None:
        self.torch, self.place = torch, place
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        torch.set_float32_matmul_precision("highest")

    def can(self, case: Case) -> bool:
        """Whether it has this operation."""
        return case.torch is not None

    def prepare(self, case: Case, given: Arrays) -> tuple[Work, Callable[[], np.ndarray]]:
        """The work to time, on inputs that are on the GPU already, and its result afterwards."""
        held = [self.torch.from_numpy(one).to(self.place) for one in given]
        out: list[Any] = []

        def work() -> None:
            with self.torch.no_grad():
                out[:] = [case.torch(self.torch, *held)]  # type: ignore[misc]

        return work, lambda: out[0].cpu().numpy()


class Cublas:
    """cuBLAS' sgemm, called through ctypes; its default mathematics uses no TF32."""

    name = "cuBLAS sgemm"

    def __init__(self, library: ctypes.CDLL, device: kernels.Device) -> None:
        self.library, self.device = library, device
        self.handle = ctypes.c_void_p()
        if library.cublasCreate_v2(ctypes.byref(self.handle)):
            raise OSError("cublasCreate failed")

    def can(self, case: Case) -> bool:
        """Products only."""
        return case.entry == "matmul_register"

    def prepare(self, case: Case, given: Arrays) -> tuple[Work, Callable[[], np.ndarray]]:
        """As in Torch. Columns first: the transpose of a b is that of b times that of a."""
        a, b = (self.device.array(one) for one in given)
        out = self.device.empty(case.shape, np.float32)
        (m, k), n = a.shape, b.shape[1]
        one, zero = ctypes.c_float(1), ctypes.c_float(0)
        pointer = ctypes.c_void_p

        def work() -> None:
            error = self.library.cublasSgemm_v2(
                self.handle, 0, 0, n, m, k, ctypes.byref(one), pointer(b.address), n,
                pointer(a.address), k, ctypes.byref(zero), pointer(out.address), n,
            )  # fmt: skip
            if error:
                raise kernels.KernelError(f"cuBLAS: error {error}")

        return work, out.numpy


class Copy:
    """A copy on the device that reads and writes as many bytes as the operation has to."""

    name = "a copy of as many bytes"

    def __init__(self, device: kernels.Device) -> None:
        self.device = device

    def can(self, case: Case) -> bool:
        """Where memory is the bound."""
        return case.bytes > 0

    def prepare(self, case: Case, given: Arrays) -> tuple[Work, None]:
        """As in Torch; it has no result."""
        size = int(case.bytes) // 2
        start, to = (self.device.empty((size,), np.uint8) for _ in range(2))
        backend: Any = self.device.backend
        return lambda: backend.copy(to.address, start.address, size), None


def find_torch() -> Torch | None:
    """torch, if it is installed and built for the GPU."""
    try:
        import torch  # slow to import: only where there is a GPU
    except ImportError:
        return None
    return Torch(torch) if torch.cuda.is_available() else None


def find_cublas(device: kernels.Device) -> Cublas | None:
    """cuBLAS: where the linker finds it, beside nvcc, or in a Python package."""
    nvcc = find_nvcc()
    folders = [Path(nvcc).resolve().parents[1] / "lib64"] if nvcc else []
    folders += [Path("/usr/local/cuda/lib64")]
    folders += [found for place in sys.path for found in Path(place).glob("nvidia/*/lib")]
    names = [str(path) for folder in folders for path in sorted(folder.glob("libcublas.so*"))]
    for name in [*filter(None, [ctypes.util.find_library("cublas")]), *names]:
        try:
            return Cublas(ctypes.CDLL(name), device)
        except (OSError, AttributeError):
            continue
    return None
