"""Makes the vendor BLAS unreachable in one worker, for tasks in which the student writes the product.

Two layers. In Python, numpy's functions that end in BLAS are replaced by ones that say so. Below
that, the entry points of the BLAS library that numpy ships are overwritten by an illegal
instruction in this process's memory, so that `@`, ctypes or any other way round ends in SIGILL,
which the trusted side reports as a call of BLAS. On macOS only the first layer exists.
"""

from __future__ import annotations

import ctypes
import functools
import mmap
import platform
import re
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

NUMPY_NAMES = ("dot", "matmul", "vdot", "inner", "tensordot", "einsum", "linalg.multi_dot",
               "vecdot", "matvec", "vecmat")  # fmt: skip
_ROUTINES = ("gemm", "gemv", "dot", "syrk", "ger", "symm", "trmm", "gemmt", "dotu_sub", "axpy")
# ud2 on x86-64, udf #0 on arm64.
_ILLEGAL = {"x86_64": b"\x0f\x0b", "aarch64": b"\x00\x00\x00\x00"}
_engaged = False


class BlasForbidden(RuntimeError):
    """The student's code called a library's matrix product."""


def engage() -> None:
    """Switch the guard on for the rest of this process's life; idempotent."""
    global _engaged
    if _engaged:
        return
    _engaged = True
    for dotted in NUMPY_NAMES:
        owner: Any = np
        *path, name = dotted.split(".")
        for part in path:
            owner = getattr(owner, part)
        if hasattr(owner, name):
            setattr(owner, name, _refusal(getattr(owner, name), f"np.{dotted}"))
    if sys.platform == "linux":
        _overwrite_entry_points()


def _refusal(original: Callable[..., Any], name: str) -> Callable[..., Any]:
    @functools.wraps(original)
    def refuse(*arguments: Any, **options: Any) -> Any:
        raise BlasForbidden(f"{name} was called: in this task you write the matrix product")

    return refuse


def _overwrite_entry_points() -> None:
    code = _ILLEGAL.get(platform.machine())
    if code is None:
        return
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    for path in blas_libraries():
        library = ctypes.CDLL(path)
        for symbol in _symbols():
            function = getattr(library, symbol, None)
            if function is not None:
                _overwrite(libc, ctypes.cast(function, ctypes.c_void_p).value or 0, code)


def blas_libraries() -> list[str]:
    """Paths of the BLAS libraries mapped into this process."""
    with open("/proc/self/maps", encoding="utf-8") as maps:
        names = {line.split(None, 5)[-1].strip() for line in maps if "/" in line}
    pattern = re.compile(r"/[^/]*(openblas|mkl_rt|blis|libblas|libcblas|atlas)[^/]*\.so[^/]*$", re.I)
    return sorted(name for name in names if pattern.search(name))


def _symbols() -> list[str]:
    names = [f"cblas_{kind}{routine}" for kind in "sdcz" for routine in _ROUTINES]
    fortran = [f"{kind}{routine}_" for kind in "sdcz" for routine in _ROUTINES]
    found = []
    for name in names + fortran:
        found += [name, f"{name}64_", f"scipy_{name}", f"scipy_{name}64_", f"{name}_64_"]
    return found


def _overwrite(libc: Any, address: int, code: bytes) -> None:
    page = address & ~(mmap.PAGESIZE - 1)
    length = address + len(code) - page
    if libc.mprotect(page, length, mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC) == 0:
        ctypes.memmove(address, code, len(code))
        libc.mprotect(page, length, mmap.PROT_READ | mmap.PROT_EXEC)
