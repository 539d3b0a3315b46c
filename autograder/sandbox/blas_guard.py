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
import struct
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

NUMPY_NAMES = ("dot", "matmul", "vdot", "inner", "tensordot", "einsum", "linalg.multi_dot",
               "vecdot", "matvec", "vecmat", "_core.multiarray.c_einsum")  # fmt: skip
# Any exported routine whose name has one of these, drivers and inner kernels included.
_ROUTINES = re.compile(rb"gem[mv]|tr[sm]m|trmv|sy(r|m|v)|he(r|m|v)|ger|dot|axpy|kernel")
# ud2 on x86-64, udf #0 on arm64.
_ILLEGAL = {"x86_64": b"\x0f\x0b", "aarch64": b"\x00\x00\x00\x00"}
_SYMBOL = np.dtype(
    [("name", "<u4"), ("info", "u1"), ("other", "u1"), ("section", "<u2"), ("value", "<u8"),
     ("size", "<u8")]
)  # fmt: skip
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
    writable = mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC
    for path in blas_libraries():
        offsets = library_offsets(path)
        base, executable = _mapped(path)
        for start, end in executable:
            inside = offsets[(offsets >= start - base) & (offsets < end - base - len(code))]
            if libc.mprotect(start, end - start, writable) == 0:
                for offset in inside.tolist():
                    ctypes.memmove(base + offset, code, len(code))
                libc.mprotect(start, end - start, mmap.PROT_READ | mmap.PROT_EXEC)


def prepare() -> None:
    """Make the tables of the libraries that are loaded, once in the zygote: its children have them."""
    if sys.platform == "linux":
        for path in blas_libraries():
            library_offsets(path)


@functools.cache
def library_offsets(path: str) -> np.ndarray:
    """`routine_offsets` of a file."""
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as image:
        return routine_offsets(image)


def routine_offsets(image: bytes | mmap.mmap) -> np.ndarray:
    """Addresses, from the start of the image, of the BLAS routines that an ELF64 library exports."""
    found = [place for name, place in exported_functions(image) if _ROUTINES.search(name)]
    return np.array(found, np.int64)


def exported_functions(image: bytes | mmap.mmap) -> Iterator[tuple[bytes, int]]:
    """Name and address, from the start of the image, of each function an ELF64 library exports."""
    if image[:5] != b"\x7fELF\x02":
        return
    table, size, count = *struct.unpack_from("<Q", image, 40), *struct.unpack_from("<HH", image, 58)
    sections = [struct.unpack_from("<IIQQQQIIQQ", image, table + k * size) for k in range(count)]
    for section in sections:
        if section[1] != 11:  # SHT_DYNSYM
            continue
        held = image[section[4] : section[4] + section[5]]
        symbols = np.frombuffer(held, _SYMBOL, section[5] // _SYMBOL.itemsize)
        symbols = symbols[((symbols["info"] & 15) == 2) & (symbols["section"] != 0)]
        names = sections[section[6]][4]
        for name, place in zip(symbols["name"].tolist(), symbols["value"].tolist(), strict=True):
            start = names + name
            yield image[start : image.find(b"\0", start)], place


def _mapped(path: str) -> tuple[int, list[tuple[int, int]]]:
    """Where a library lies in this process: its start, and its executable stretches."""
    base, executable = 0, []
    with open("/proc/self/maps", encoding="utf-8") as maps:
        for line in maps:
            if line.rstrip().endswith(path):
                span, mode, offset = line.split()[:3]
                start, end = (int(part, 16) for part in span.split("-"))
                if int(offset, 16) == 0:
                    base = start
                if "x" in mode:
                    executable.append((start, end))
    return base, executable


def blas_libraries() -> list[str]:
    """Paths of the BLAS libraries mapped into this process."""
    with open("/proc/self/maps", encoding="utf-8") as maps:
        names = {line.split(None, 5)[-1].strip() for line in maps if "/" in line}
    pattern = re.compile(r"/[^/]*(openblas|mkl_rt|blis|libblas|libcblas|atlas)[^/]*\.so[^/]*$", re.I)
    return sorted(name for name in names if pattern.search(name))
