"""Calls `cross_entropy.cu`: losses from logits, whose gradient takes the place of the logits."""

from __future__ import annotations

from math import prod
from pathlib import Path

import numpy as np

from autograder import kernels

VERSIONS = {"naive": "cross_entropy_naive", "fused": "cross_entropy"}
IGNORE_INDEX = -100  # as in torch


def cross_entropy(
    device: kernels.Device,
    logits: kernels.DeviceArray,
    targets: kernels.DeviceArray,
    scale: float = 1.0,
    ignore_index: int = IGNORE_INDEX,
    version: str = "fused",
) -> kernels.DeviceArray:
    """The loss of each row, targets.shape; logits (*targets.shape, vocabulary) become the gradient.

    targets are int32. The gradient is that of `scale` times the sum of the losses, so the mean over
    n kept rows wants scale = 1 / n. A row whose target is ignore_index has loss 0 and gradient 0; a
    target that is no class has loss and gradient nan. Raises ValueError for what does not fit.
    """
    if version not in VERSIONS:
        raise ValueError(f"version is one of {', '.join(VERSIONS)}, not {version!r}")
    if np.dtype(targets.dtype) != np.int32:
        raise ValueError(f"targets are {targets.dtype}; the kernels take int32")
    if len(logits.shape) < 1 or np.dtype(logits.dtype) != np.float32:
        shape = tuple(logits.shape)
        raise ValueError(f"logits are {logits.dtype} of shape {shape}; rows of float32 are wanted")
    *leading, vocabulary = logits.shape
    if tuple(leading) != tuple(targets.shape):
        raise ValueError(
            f"logits of shape {tuple(logits.shape)} want targets of shape {tuple(leading)}, not "
            f"{tuple(targets.shape)}"
        )
    if vocabulary == 0:
        raise ValueError("a vocabulary of no classes has no loss")
    losses = device.empty(targets.shape, np.float32)
    module = device.load(Path(__file__).with_suffix(".cu"))
    module.launch(
        VERSIONS[version], logits, targets, losses, prod(leading), vocabulary, float(scale),
        int(ignore_index),
    )  # fmt: skip
    return losses
