"""Drivers of task 2.7: arrays in; arrays and the emulator's report out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from autograder import kernels


def bias_gelu_forward(
    x: np.ndarray, bias: np.ndarray, version: str = "fused", mode: str = "full"
) -> dict[str, Any]:
    """gelu(x + bias) by the student's kernel."""
    from cuda_kernels import fused as module

    device = kernels.Device(mode=mode)
    out = module.bias_gelu(device, device.array(x), device.array(bias), version)
    return {"out": out.numpy(), "report": device.report()}


def bias_gelu_backward(
    upstream: np.ndarray, x: np.ndarray, bias: np.ndarray, mode: str = "full"
) -> dict[str, Any]:
    """The gradients of gelu(x + bias) by the student's kernels."""
    from cuda_kernels import fused as module

    device = kernels.Device(mode=mode)
    arrays = [device.array(a) for a in (upstream, x, bias)]
    grad_x, grad_bias = module.bias_gelu_backward(device, *arrays)
    return {
        "grad_x": grad_x.numpy(), "grad_bias": grad_bias.numpy(), "report": device.report()
    }  # fmt: skip


def adamw_steps(
    parameter: np.ndarray, gradients: list[np.ndarray], options: dict[str, Any],
    mode: str = "full",
) -> dict[str, Any]:  # fmt: skip
    """Parameter and moments after one step for each gradient, from moments of 0.

    The report is that of the last step.
    """
    from cuda_kernels import fused as module

    device = kernels.Device(mode=mode)
    x = device.array(parameter)
    first = device.zeros(parameter.shape, np.float32)
    second = device.zeros(parameter.shape, np.float32)
    report: dict[str, Any] = {}
    diagnostics: list[Any] = []
    for step, gradient in enumerate(gradients, 1):
        module.adamw_step(device, x, device.array(gradient), first, second, step=step, **options)
        report = device.report()
        diagnostics += report["diagnostics"]
    return {
        "parameter": x.numpy(), "first": first.numpy(), "second": second.numpy(),
        "report": {**report, "diagnostics": diagnostics},
    }  # fmt: skip


def build_fused() -> None:
    """Builds the student's file for the emulator."""
    from cuda_kernels import fused as module

    kernels.build(Path(module.__file__).with_suffix(".cu"), mode="full")


WARM_UP_FUSED = {"2.7": build_fused}
