"""What tasks 1.10 to 1.13 are checked against: torch, closed forms, and a bigram model."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import hw1_autodiff_drivers as drivers
import numpy as np
import torch

from autograder.testing import assert_close

# The tree of drivers_modules: "again" is "first" once more, the leaf in groups[1] shares its scale.
TREE_NAMES = [
    "frozen", "bias", "twin", "first.scale", "groups.0.0.scale", "groups.0.1.weight",
    "groups.0.1.bias",
]  # fmt: skip
TREE_SHAPES = [[4], [0], [4], [2, 3], [2, 3], [3, 4], [4]]


def check_layer(
    student: Any, layer: str, options: dict[str, Any], parameters: dict[str, np.ndarray],
    reference: Callable[[torch.Tensor, dict[str, torch.Tensor]], torch.Tensor], x: np.ndarray,
    rng: np.random.Generator, *, transposed: bool = False, rtol: float = 1e-9, hint: str = "",
) -> None:  # fmt: skip
    """Compare a layer's value and every gradient with torch's for the same float64 arrays."""
    leaf = torch.tensor(x, requires_grad=True)
    theirs = {name: torch.tensor(p, requires_grad=True) for name, p in parameters.items()}
    value = reference(leaf, theirs)
    upstream = rng.standard_normal(tuple(value.shape))
    value.backward(torch.tensor(upstream))
    got = student.run(
        drivers.layer_gradients, layer=layer, options=options, parameters=parameters, x=x,
        upstream=upstream, transposed=transposed,
    )  # fmt: skip
    about = f"{layer} of x {x.shape}"
    scale = max(1.0, float(np.abs(x).max(initial=0.0)))
    # Rounding x ~ 1e6 to float64 already moves x − mean by 1e-10, and the gradient with it.
    near = 1e-12 * scale
    assert_close(
        got["value"], value.detach().numpy(), rtol=rtol, atol=near, name=f"{about}: value",
        hint=hint,
    )  # fmt: skip
    assert_close(
        got["x"], leaf.grad.numpy(), rtol=rtol, atol=near, name=f"{about}: gradient of x", hint=hint
    )
    for name, tensor in theirs.items():
        assert_close(
            got[name], tensor.grad.numpy(), rtol=rtol, atol=near,
            name=f"{about}: gradient of {name}", hint=hint,
        )  # fmt: skip


def dropout_problem(
    value: Any, gradient: Any, x: np.ndarray, upstream: np.ndarray, p: float
) -> str:
    """What is wrong with a training pass of Dropout over positive x, or ""."""
    value, gradient = np.asarray(value), np.asarray(gradient)
    if value.shape != x.shape or gradient.shape != x.shape:
        return f"shapes {value.shape} and {gradient.shape}, expected {x.shape}"
    kept = value != 0
    if not np.allclose(value[kept], x[kept] / (1 - p), rtol=1e-6, atol=0):
        return "what is kept must be x / (1 − p)"
    if not np.allclose(gradient, np.where(kept, upstream / (1 - p), 0), rtol=1e-6, atol=0):
        return "the gradient must be dropped and scaled where the value was"
    # Chernoff: at these bounds a row or column is off with probability below 1e-10 for the sizes
    # and p used here (n ≥ 60, p ≤ 0.9); there are fewer than 800 of them in a grading.
    for axis, name in ((None, "all elements"), (0, "a column"), (1, "a row")):
        count = kept.size if axis is None else kept.shape[axis]
        off = np.abs(kept.mean(axis=axis) - (1 - p))
        if np.any(off > 6.5 * math.sqrt(p * (1 - p) / count) + 6 / count):
            return f"in {name} the share kept is off {1 - p:g} by {np.max(off):.3f}"
    return ""


def torch_optimized(
    make: Callable[[list[torch.Tensor]], Any], parameters: list[np.ndarray],
    gradients: list[list[Any]], rates: list[float] | None = None,
) -> list[list[np.ndarray]]:  # fmt: skip
    """The parameters after each step of a torch optimizer."""
    leaves = [torch.tensor(p, requires_grad=True) for p in parameters]
    optimizer = make(leaves)
    seen = []
    for step, row in enumerate(gradients):
        for leaf, given in zip(leaves, row, strict=True):
            leaf.grad = None if given is None else torch.tensor(dense(given))
        if rates is not None:
            optimizer.param_groups[0]["lr"] = rates[step]
        optimizer.step()
        seen.append([leaf.detach().numpy().copy() for leaf in leaves])
    return seen


def dense(given: Any) -> np.ndarray:
    """A gradient as an array, from an array or {"rows", "values", "shape"}."""
    if isinstance(given, np.ndarray):
        return given
    array = np.zeros(given["shape"], given["values"].dtype)
    array[given["rows"]] = given["values"]
    return array


def assert_same_path(
    got: Any, expected: list[list[np.ndarray]], *, rtol: float, atol: float = 0.0, about: str
) -> None:
    """Compare parameters step by step, so that the first wrong step is named."""
    assert len(got) == len(expected), f"{about}: {len(got)} steps came back, expected {len(expected)}"
    for step, (ours, theirs) in enumerate(zip(got, expected, strict=True), 1):
        for place, (one, other) in enumerate(zip(ours, theirs, strict=True)):
            assert_close(
                one, other, rtol=rtol, atol=atol,
                name=f"{about}: parameter {place} after step {step}",
            )  # fmt: skip


def checkpoint_reference(
    x: np.ndarray, weights: list[Any], upstream: np.ndarray
) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """Value and gradients of checkpointed_network without dropout, by torch."""
    leaf = torch.tensor(x, requires_grad=True)
    pairs = [[torch.tensor(w, requires_grad=True) for w in pair] for pair in weights]
    h = leaf
    for wide, narrow in pairs:
        h = h + torch.nn.functional.gelu(h @ wide, approximate="tanh") @ narrow
    h.backward(torch.tensor(upstream))
    return h.detach().numpy(), leaf.grad.numpy(), [w.grad.numpy() for pair in pairs for w in pair]


def chain_gradients(x: np.ndarray, weights: list[Any], scale: float) -> list[np.ndarray]:
    """The gradients of drivers_modules.BlockChain by torch, in float32."""
    leaf = torch.tensor(x, requires_grad=True)
    pairs = [[torch.tensor(w, requires_grad=True) for w in pair] for pair in weights]
    h = leaf
    for wide, narrow in pairs:
        inner = torch.nn.functional.gelu(h @ wide, approximate="tanh")
        h = h + torch.tanh(inner * 1.5) @ narrow
    h.backward(torch.full_like(h, scale))
    return [leaf.grad.numpy(), *(w.grad.numpy() for pair in pairs for w in pair)]


def bigram_bits(train: np.ndarray, before: np.ndarray, after: np.ndarray) -> float:
    """Bits per byte of a bigram smoothed towards the frequencies of single bytes.

    (count(a, b) + d · P(b)) / (count(a) + d), a Dirichlet prior of strength d, the best d of eight
    chosen on the very bytes it is measured on (which can only flatter the bigram).
    Source: MacKay & Peto, A Hierarchical Dirichlet Language Model, 1995.
    """
    counts = np.zeros((256, 256))
    np.add.at(counts, (train[:-1], train[1:]), 1)
    single = np.bincount(train, minlength=256) + 0.5
    single = single / single.sum()
    totals = counts.sum(axis=1, keepdims=True)
    return min(
        float(-np.log2(((counts + d * single) / (totals + d))[before, after]).mean())
        for d in (0.1, 0.3, 1, 3, 10, 30, 100, 300)
    )


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """log of the softmax over the last axis, in float64."""
    shifted = logits.astype(np.float64)
    shifted = shifted - shifted.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
