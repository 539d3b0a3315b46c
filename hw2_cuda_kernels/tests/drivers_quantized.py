"""Drivers of task 2.11: arrays in; arrays and the emulator's report out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from autograder import kernels


def gemv(
    integers: np.ndarray, scales: np.ndarray, x: np.ndarray, bits: int, mode: str = "full"
) -> dict[str, Any]:
    """W x by the student's kernel, with the integers of W as int8 or packed into nibbles."""
    from cuda_kernels import quantized as module

    device = kernels.Device(mode=mode)
    stored = module.pack_int4(integers) if bits == 4 else integers
    y = module.gemv(device, device.array(stored), device.array(scales), device.array(x))
    return {"y": y.numpy(), "report": device.report()}


def build_quantized() -> None:
    """Builds the student's file for the emulator."""
    from cuda_kernels import quantized as module

    kernels.build(Path(module.__file__).with_suffix(".cu"), mode="full")


WARM_UP_QUANTIZED = {"2.11": build_quantized}
