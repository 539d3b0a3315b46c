"""Calls `block.cu`: a transformer block whose weights stay on the device."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from pathlib import Path

import numpy as np

from autograder import kernels

HEAD_DIMS = (32, 64)  # what attention.cu is built for
SOURCE = Path(__file__).with_name("block.cu")


def weight_shapes(dim: int, hidden: int) -> dict[str, tuple[int, ...]]:
    """The shapes of a block's weights, in the order in which `transformer_block` takes them."""
    return {
        "gamma1": (dim,), "beta1": (dim,), "w_qkv": (dim, 3 * dim), "w_out": (dim, dim),
        "gamma2": (dim,), "beta2": (dim,), "w_up": (dim, hidden), "b_up": (hidden,),
        "w_down": (hidden, dim), "b_down": (dim,),
    }  # fmt: skip


def random_weights(rng: np.random.Generator, dim: int, hidden: int) -> dict[str, np.ndarray]:
    """Weights as before training: matrices that keep a row's size, gains of 1 and biases of 0."""
    made = {}
    for name, shape in weight_shapes(dim, hidden).items():
        if len(shape) == 2:
            made[name] = (rng.standard_normal(shape) / np.sqrt(shape[0])).astype(np.float32)
        else:
            made[name] = np.full(shape, 1.0 if name.startswith("gamma") else 0.0, np.float32)
    return made


class TransformerBlock:
    """h = x + attention(norm(x)), then h + mlp(norm(h)); `heads` heads of 32 or 64.

    The weights are copied to the device once. A call takes and returns (batch, time, dim), and
    raises ValueError for another shape.
    """

    def __init__(
        self, device: kernels.Device, weights: Mapping[str, np.ndarray], heads: int
    ) -> None:
        dim, hidden = weights["w_up"].shape
        for name, shape in weight_shapes(dim, hidden).items():
            if tuple(weights[name].shape) != shape or weights[name].dtype != np.float32:
                raise ValueError(
                    f"{name} is {weights[name].dtype} of shape {tuple(weights[name].shape)}; a "
                    f"block of {dim} with {hidden} hidden units wants float32 of {shape}"
                )
        if heads < 1 or dim % heads or dim // heads not in HEAD_DIMS:
            raise ValueError(f"{heads} heads of {dim}: a head is {HEAD_DIMS[0]} or {HEAD_DIMS[1]}")
        if hidden % 4:
            raise ValueError(f"{hidden} hidden units: rows of them are read as float4s")
        self.device, self.dim, self.heads, self.hidden = device, dim, heads, hidden
        self.weights = [device.array(weights[name]) for name in weight_shapes(dim, hidden)]
        self.module = device.load(SOURCE)

    def __call__(self, x: kernels.DeviceArray) -> kernels.DeviceArray:
        """The block's output for x, (batch, time, dim) float32; x stays as it is."""
        shape = tuple(x.shape)
        if len(shape) != 3 or shape[2] != self.dim or np.dtype(x.dtype) != np.float32:
            raise ValueError(f"x is {x.dtype} of {shape}, not float32 of (batch, time, {self.dim})")
        batch, time, dim = shape
        out = self.device.empty(shape, np.float32)
        floats = batch * time * (dim + 2 * max(self.hidden, 3 * dim) + 2)
        workspace = self.device.empty((floats,), np.float32)
        self.module.launch(
            "transformer_block", x, out, *self.weights, workspace, batch, time, dim, self.heads,
            self.hidden,
        )  # fmt: skip
        return out

    def flops(self, batch: int, time: int) -> int:
        """Floating-point operations of the products of a call, a multiply-add counted as two.

        Attention's are those of the pairs that the causal mask leaves: time * (time + 1) / 2.
        """
        inside = prod(weight_shapes(self.dim, self.hidden)["w_qkv"])
        inside += self.dim * self.dim + 2 * self.dim * self.hidden
        return 2 * batch * time * inside + 2 * batch * time * (time + 1) * self.dim


def residual(
    device: kernels.Device,
    x: kernels.DeviceArray,
    y: kernels.DeviceArray,
    bias: kernels.DeviceArray | None = None,
    out: kernels.DeviceArray | None = None,
) -> kernels.DeviceArray:
    """x + y + bias, (rows, cols) float32, cols a multiple of 4, into `out`; it may be x or y."""
    for name, array, shape in (("x", x, None), ("y", y, x.shape), ("bias", bias, x.shape[-1:])):
        fits = array is None or np.dtype(array.dtype) == np.float32 and (
            tuple(array.shape) == tuple(shape) if shape is not None else len(array.shape) == 2
        )  # fmt: skip
        if not fits:
            raise ValueError(f"{name} is {array.dtype} of shape {tuple(array.shape)}")
    rows, cols = x.shape
    if cols % 4:
        raise ValueError(f"rows of {cols} floats are not read as float4s")
    out = device.empty(x.shape, np.float32) if out is None else out
    device.load(SOURCE).launch("residual_add", x, y, bias, out, rows, cols)
    return out
