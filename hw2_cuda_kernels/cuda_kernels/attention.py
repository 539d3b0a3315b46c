"""Calls `attention.cu`: causal scaled-dot-product attention, naive and flash."""

from __future__ import annotations

from math import sqrt
from pathlib import Path

import numpy as np

from autograder import kernels

VERSIONS = ("naive", "flash")
HEAD_DIMS = (32, 64)  # what the kernels are built for
MAX_GRID = 65535  # a grid's second and third dimension end there


def attention(
    device: kernels.Device,
    q: kernels.DeviceArray,
    k: kernels.DeviceArray,
    v: kernels.DeviceArray,
    version: str = "flash",
    scale: float | None = None,
) -> kernels.DeviceArray:
    """softmax(scale * q kᵀ, causal) v, all of shape (batch, heads, time, head_dim), float32.

    scale: 1 / sqrt(head_dim) unless given; above 0. Query i sees keys 0 to i. Raises ValueError
    for what does not fit.
    """
    return _attention(device, q, k, v, version, scale, wanted=False)[0]


def attention_with_logsumexp(
    device: kernels.Device,
    q: kernels.DeviceArray,
    k: kernels.DeviceArray,
    v: kernels.DeviceArray,
    scale: float | None = None,
) -> tuple[kernels.DeviceArray, kernels.DeviceArray]:
    """As `attention` with version "flash", and each row's logsumexp, (batch, heads, time).

    The logarithm of each row's sum of exp(scale * q kᵀ) over the keys it sees: a backward pass
    recomputes the probabilities from it, and partial results over several sets of keys are merged
    with it.
    """
    return _attention(device, q, k, v, "flash", scale, wanted=True)


def _attention(
    device: kernels.Device,
    q: kernels.DeviceArray,
    k: kernels.DeviceArray,
    v: kernels.DeviceArray,
    version: str,
    scale: float | None,
    wanted: bool,
) -> tuple[kernels.DeviceArray, kernels.DeviceArray | None]:
    _check(q, k, v, version, scale)
    batch, heads, time, head_dim = q.shape
    factor = 1.0 / sqrt(head_dim) if scale is None else float(scale)
    out = device.empty(q.shape, np.float32)
    module = device.load(Path(__file__).with_suffix(".cu"))
    if version == "naive":
        scores = device.empty((batch, heads, time, time), np.float32)
        module.launch(
            "attention_naive", q, k, v, scores, out, batch * heads, time, head_dim, factor
        )
        return out, None
    logsumexp = device.empty((batch, heads, time), np.float32) if wanted else None
    module.launch(
        "attention_flash", q, k, v, out, logsumexp, batch * heads, time, head_dim, factor
    )
    return out, logsumexp


def _check(
    q: kernels.DeviceArray,
    k: kernels.DeviceArray,
    v: kernels.DeviceArray,
    version: str,
    scale: float | None,
) -> None:
    """Raise ValueError unless the kernels can do it."""
    if version not in VERSIONS:
        raise ValueError(f"version is one of {', '.join(VERSIONS)}, not {version!r}")
    for name, x in (("q", q), ("k", k), ("v", v)):
        if np.dtype(x.dtype) != np.float32:
            raise ValueError(f"{name} is {x.dtype}; the kernels take float32")
        if len(x.shape) != 4 or tuple(x.shape) != tuple(q.shape):
            raise ValueError(
                f"{name} has shape {tuple(x.shape)}; q, k and v are alike, "
                "(batch, heads, time, head_dim)"
            )
    batch, heads, time, head_dim = q.shape
    if head_dim not in HEAD_DIMS:
        raise ValueError(f"head_dim is {head_dim}; the kernels are built for {HEAD_DIMS}")
    if batch * heads > MAX_GRID or (version == "naive" and time > MAX_GRID):
        raise ValueError(
            f"{batch} x {heads} heads over {time} tokens; a grid holds {MAX_GRID} heads, and as "
            "many tokens in the naive version"
        )
    if scale is not None and not scale > 0:
        raise ValueError(f"scale is {scale}; it must be above 0")
