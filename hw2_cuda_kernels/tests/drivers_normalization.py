"""Drivers of task 2.6: arrays in; arrays and the emulator's report out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from autograder import kernels


def layernorm_forward(
    x: np.ndarray, gamma: np.ndarray, beta: np.ndarray, eps: float = 1e-5, mode: str = "full"
) -> dict[str, Any]:
    """LayerNorm of the rows of x by the student's kernel."""
    from cuda_kernels import normalization as module

    device = kernels.Device(mode=mode)
    arrays = [device.array(a) for a in (x, gamma, beta)]
    out, mean, rstd = module.layernorm(device, *arrays, eps)
    return {
        "out": out.numpy(), "mean": mean.numpy(), "rstd": rstd.numpy(), "report": device.report()
    }  # fmt: skip


def layernorm_backward(
    upstream: np.ndarray, x: np.ndarray, gamma: np.ndarray, mean: np.ndarray, rstd: np.ndarray,
    mode: str = "full",
) -> dict[str, Any]:  # fmt: skip
    """The gradients of LayerNorm by the student's kernels."""
    from cuda_kernels import normalization as module

    device = kernels.Device(mode=mode)
    arrays = [device.array(a) for a in (upstream, x, gamma, mean, rstd)]
    grad_x, grad_gamma, grad_beta = module.layernorm_backward(device, *arrays)
    return {
        "grad_x": grad_x.numpy(), "grad_gamma": grad_gamma.numpy(),
        "grad_beta": grad_beta.numpy(), "report": device.report(),
    }  # fmt: skip


def rmsnorm_forward(
    x: np.ndarray, gamma: np.ndarray, eps: float = 1e-5, mode: str = "full"
) -> dict[str, Any]:
    """RMSNorm of the rows of x by the student's kernel."""
    from cuda_kernels import normalization as module

    device = kernels.Device(mode=mode)
    out, rstd = module.rmsnorm(device, device.array(x), device.array(gamma), eps)
    return {"out": out.numpy(), "rstd": rstd.numpy(), "report": device.report()}


def rmsnorm_backward(
    upstream: np.ndarray, x: np.ndarray, gamma: np.ndarray, rstd: np.ndarray, mode: str = "full"
) -> dict[str, Any]:
    """The gradients of RMSNorm by the student's kernels."""
    from cuda_kernels import normalization as module

    device = kernels.Device(mode=mode)
    arrays = [device.array(a) for a in (upstream, x, gamma, rstd)]
    grad_x, grad_gamma = module.rmsnorm_backward(device, *arrays)
    return {
        "grad_x": grad_x.numpy(), "grad_gamma": grad_gamma.numpy(), "report": device.report()
    }  # fmt: skip


def build_normalization() -> None:
    """Builds the student's file for the emulator."""
    from cuda_kernels import normalization as module

    kernels.build(Path(module.__file__).with_suffix(".cu"), mode="full")


WARM_UP_NORMALIZATION = {"2.6": build_normalization}
