"""CUDA kernels from Python, with or without a GPU.

    from autograder import kernels

    device = kernels.Device(mode="full")
    module = device.load("transpose.cu")
    x, y = device.array(matrix), device.empty((n, m), np.float32)
    module.launch("transpose", x, y, m, n)        # the file's `extern "C"` function
    y.numpy(), device.report()

One `.cu` file, two back ends: nvcc where there is a GPU, and an emulator that any C++ compiler can
build, which also finds races and counts memory traffic. This room knows nothing of grading.
"""

import contextlib

from autograder.kernels import emulator_backend, gpu, nvcc, toolchain  # noqa: F401  see prepare
from autograder.kernels.compile import Build
from autograder.kernels.device import MODES, Device, DeviceArray, Module, build
from autograder.kernels.errors import BuildError, KernelError



def prepare() -> None:
    """Do ahead what a confined worker can't: know the compiler, build the emulator's library.

    A homework's drivers call it when they are loaded, in the process that workers are forked from.
    """
    with contextlib.suppress(BuildError):  # a machine without a compiler: told at the first build
        toolchain.runtime_library()


__all__ = [
    *("MODES", "Build", "BuildError", "Device", "DeviceArray", "KernelError", "Module", "build"),
    "prepare",
]
