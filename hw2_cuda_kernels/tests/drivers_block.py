"""Drivers of task 2.12: arrays in; arrays and the emulator's report out."""

from __future__ import annotations

from typing import Any

import numpy as np

from autograder import kernels


def transformer_block(
    x: np.ndarray, weights: dict[str, np.ndarray], heads: int, mode: str = "full"
) -> dict[str, Any]:
    """The output of the student's block, and its inputs as they are afterwards."""
    from cuda_kernels import transformer as module

    device = kernels.Device(mode=mode)
    block = module.TransformerBlock(device, weights, heads)
    source = device.array(x)
    device.report()
    out = block(source)
    report = device.report()
    after = {
        name: array.numpy()
        for name, array in zip(module.weight_shapes(1, 1), block.weights, strict=True)
    }
    return {"out": out.numpy(), "x": source.numpy(), "weights": after, "report": report}


def residual(
    x: np.ndarray, y: np.ndarray, bias: np.ndarray | None, into: str = "new", mode: str = "full"
) -> dict[str, Any]:
    """x + y + bias by the student's kernel, into new memory or over "x" or "y"."""
    from cuda_kernels import transformer as module

    device = kernels.Device(mode=mode)
    held = {"x": device.array(x), "y": device.array(y)}
    on_device = None if bias is None else device.array(bias)
    out = module.residual(device, held["x"], held["y"], on_device, held.get(into))
    return {"out": out.numpy(), "report": device.report()}


def build_block() -> None:
    """Builds the student's file, and with it those that it includes, for the emulator."""
    from cuda_kernels import transformer as module

    kernels.build(module.SOURCE, mode="full")


WARM_UP_BLOCK = {"2.12": build_block}
