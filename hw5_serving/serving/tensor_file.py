"""Given: tensors in a file, by name, without running any code of whoever wrote it (safetensors).

The format: 8 bytes, little-endian, with the length of a JSON header; the header: name -> dtype, shape,
first and last byte; then the bytes. https://huggingface.co/docs/safetensors
"""

from __future__ import annotations

import json
import math
import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "I64": torch.int64, "I32": torch.int32, "I8": torch.int8, "U8": torch.uint8,
    "BOOL": torch.bool,
}  # fmt: skip
NAMES = {dtype: name for name, dtype in DTYPES.items()}
MAX_HEADER = 25_000_000


def read_tensors(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors by name, memory-mapped (pages are read when used, writes stay private), and the notes.

    Raises ValueError for a file that is no safetensors file, is cut off, or whose header points
    outside; OSError where it can't be opened.
    """
    path = Path(path)
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        (length,) = struct.unpack("<Q", file.read(8).ljust(8, b"\xff"))
        if length > min(MAX_HEADER, size - 8):
            raise ValueError(f"{path.name} is no safetensors file, or is cut off")
        try:
            header = json.loads(file.read(length))
            notes = header.pop("__metadata__", {})
            entries = {name: _entry(value) for name, value in header.items()}
        except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
            raise ValueError(f"{path.name}: its header can't be read ({error})") from None
        bounds = sorted((begin, end) for _, _, begin, end in entries.values())
        ends = [0, *(end for _, end in bounds)]
        if any(begin < end for (begin, _), end in zip(bounds, ends, strict=False)):
            raise ValueError(f"{path.name}: two of its tensors lie in the same bytes")
        if ends[-1] > size - 8 - length:
            raise ValueError(f"{path.name} is cut off: {ends[-1]} bytes of tensors are announced")
        if size == 8 + length:
            data = np.empty(0, np.uint8)
        else:
            data = np.memmap(file, np.uint8, "c", offset=8 + length)
    found = {}
    for name, (dtype, shape, begin, end) in entries.items():
        found[name] = torch.from_numpy(np.asarray(data[begin:end])).view(dtype).reshape(shape)
    return found, {str(key): str(value) for key, value in notes.items()}


def _entry(value: Any) -> tuple[torch.dtype, tuple[int, ...], int, int]:
    """dtype, shape, first byte, end of one header entry. Raises what `read_tensors` catches."""
    dtype, shape = DTYPES[value["dtype"]], tuple(value["shape"])
    begin, end = value["data_offsets"]
    if not all(type(number) is int and number >= 0 for number in (*shape, begin, end)):
        raise ValueError("a size is no natural number")
    if end - begin != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"shape {shape} does not fill {end - begin} bytes")
    return dtype, shape, begin, end


def write_tensors(
    path: str | Path, tensors: Mapping[str, Tensor], notes: Mapping[str, str] | None = None
) -> None:
    """Write a file in one step: whoever opens `path` finds the old one or the new one, whole."""
    path = Path(path)
    header: dict[str, Any] = {"__metadata__": dict(notes)} if notes else {}
    place = 0
    for name, tensor in tensors.items():
        header[name] = {
            "dtype": NAMES[tensor.dtype], "shape": list(tensor.shape),
            "data_offsets": [place, place + tensor.nbytes],
        }  # fmt: skip
        place += tensor.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with unfinished.open("wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        for tensor in tensors.values():
            flat = tensor.detach().cpu().contiguous().reshape(-1)
            out.write(flat.view(torch.uint8).numpy().data)
        out.flush()
        os.fsync(out.fileno())
    unfinished.replace(path)
