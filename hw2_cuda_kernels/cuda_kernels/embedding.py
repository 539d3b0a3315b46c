"""Calls `embedding.cu`: rows of a table by ids, and the gradient that flows into the table."""

from __future__ import annotations

from math import prod
from pathlib import Path

import numpy as np

from autograder import kernels

FORWARD = {"naive": "embedding_forward_naive", "warp": "embedding_forward"}
BACKWARD = {"atomic": "embedding_backward_atomic", "grouped": "embedding_backward"}


def embedding(
    device: kernels.Device,
    table: kernels.DeviceArray,
    ids: kernels.DeviceArray,
    version: str = "warp",
) -> kernels.DeviceArray:
    """table[ids]: a table of (rows, dim) and int32 ids of any shape give (*ids.shape, dim).

    An id outside 0 to rows - 1 gives a row of zeros. Raises ValueError for what does not fit.
    """
    _check_ids(ids)
    rows, dim = _table_shape("table", table)
    out = device.empty((*ids.shape, dim), np.float32)
    module = device.load(Path(__file__).with_suffix(".cu"))
    module.launch(_entry(FORWARD, version), table, ids, out, prod(ids.shape), dim, rows)
    return out


def embedding_backward(
    device: kernels.Device,
    upstream: kernels.DeviceArray,
    ids: kernels.DeviceArray,
    grad: kernels.DeviceArray,
    version: str = "grouped",
) -> kernels.DeviceArray:
    """Adds upstream (*ids.shape, dim) to the rows `ids` of grad (rows, dim), and returns grad.

    Repeated ids add up; ids outside 0 to rows - 1 add nothing. Raises ValueError for what does not
    fit.
    """
    _check_ids(ids)
    rows, dim = _table_shape("grad", grad)
    if tuple(upstream.shape) != (*ids.shape, dim) or np.dtype(upstream.dtype) != np.float32:
        raise ValueError(
            f"upstream is {upstream.dtype} of shape {tuple(upstream.shape)}; ids of shape "
            f"{tuple(ids.shape)} and rows of {dim} want float32 of {(*ids.shape, dim)}"
        )
    module = device.load(Path(__file__).with_suffix(".cu"))
    module.launch(_entry(BACKWARD, version), upstream, ids, grad, prod(ids.shape), dim, rows)
    return grad


def _entry(versions: dict[str, str], version: str) -> str:
    if version not in versions:
        raise ValueError(f"version is one of {', '.join(versions)}, not {version!r}")
    return versions[version]


def _check_ids(ids: kernels.DeviceArray) -> None:
    if np.dtype(ids.dtype) != np.int32:
        raise ValueError(f"ids are {ids.dtype}; the kernels take int32")


def _table_shape(name: str, table: kernels.DeviceArray) -> tuple[int, int]:
    if len(table.shape) != 2 or np.dtype(table.dtype) != np.float32:
        raise ValueError(
            f"{name} is {table.dtype} of shape {tuple(table.shape)}; it has to be float32 of "
            "(rows, dim)"
        )
    return table.shape[0], table.shape[1]
