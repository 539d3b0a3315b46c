"""Drivers of task 2.8: arrays in; arrays and the emulator's report out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from autograder import kernels


def embedding_forward(
    table: np.ndarray, ids: np.ndarray, version: str = "warp", mode: str = "full"
) -> dict[str, Any]:
    """table[ids] by the student's kernel."""
    from cuda_kernels import embedding as module

    device = kernels.Device(mode=mode)
    out = module.embedding(device, device.array(table), device.array(ids), version)
    return {"out": out.numpy(), "report": device.report()}


def embedding_backward(
    upstream: np.ndarray,
    ids: np.ndarray,
    grad: np.ndarray,
    version: str = "grouped",
    mode: str = "full",
) -> dict[str, Any]:
    """grad after the student's kernel has added upstream to its rows `ids`."""
    from cuda_kernels import embedding as module

    device = kernels.Device(mode=mode)
    total = device.array(grad)
    module.embedding_backward(device, device.array(upstream), device.array(ids), total, version)
    return {"grad": total.numpy(), "report": device.report()}


def build_embedding() -> None:
    """Builds the student's file for the emulator."""
    from cuda_kernels import embedding as module

    kernels.build(Path(module.__file__).with_suffix(".cu"), mode="full")


WARM_UP_EMBEDDING = {"2.8": build_embedding}
