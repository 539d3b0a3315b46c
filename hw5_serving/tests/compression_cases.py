"""Oracles of tasks 5.5 to 5.8 in plain numpy, float64: what codes, masks and losses must mean."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np

Array = np.ndarray


def unpacked(codes: Array) -> Array:
    """Two codes a byte, the first low: (out, in / 2) -> (out, in)."""
    return np.stack([codes & 15, codes >> 4], 2).reshape(len(codes), 2 * codes.shape[1])


def meaning(parts: dict[str, Array], bits: int) -> Array:
    """scale · (code − zero), (out, in) float64, from what crossed the wire; sizes are checked."""
    codes, scales = np.asarray(parts["codes"]), np.asarray(parts["scales"])
    assert codes.dtype == np.uint8, f"codes are {codes.dtype}, uint8 is asked"
    assert scales.dtype == np.float32, f"scales are {scales.dtype}, float32 is asked"
    codes = unpacked(codes) if bits <= 4 else codes
    assert int(codes.max(initial=0)) < 2**bits, f"a code of {codes.max()} does not fit {bits} bits"
    assert codes.shape[1] % scales.shape[1] == 0, f"{scales.shape} scales for {codes.shape} codes"
    zeros = np.asarray(parts["zeros"])
    centre = np.full(scales.shape, 2.0 ** (bits - 1)) if zeros.size == 0 else zeros.astype(float)
    run = codes.shape[1] // scales.shape[1]
    steps = codes.astype(np.float64) - np.repeat(centre, run, 1)
    return steps * np.repeat(scales.astype(np.float64), run, 1)


def grid(weight: Array, bits: int, group: int, symmetric: bool) -> tuple[Array, Array]:
    """Scale and zero of each group by the formula, in float32 as the task says."""
    by_group = weight.astype(np.float32).reshape(len(weight), weight.shape[1] // group, group)
    if symmetric:
        scales = np.abs(by_group).max(2) / np.float32(2 ** (bits - 1) - 1)
        scales = np.where(scales == 0, np.float32(1), scales)
        return scales, np.full(scales.shape, 2 ** (bits - 1))
    low, high = np.minimum(by_group.min(2), 0), np.maximum(by_group.max(2), 0)
    scales = (high - low) / np.float32(2**bits - 1)
    scales = np.where(scales == 0, np.float32(1), scales)
    return scales, np.round(-low / scales).astype(int)


def nearest(weight: Array, scales: Array, zeros: Array, bits: int) -> Array:
    """Codes of the nearest grid points: (out, in)."""
    run = weight.shape[1] // scales.shape[1]
    steps = np.round(weight.astype(np.float32) / np.repeat(scales, run, 1))
    return np.clip(steps + np.repeat(zeros, run, 1), 0, 2**bits - 1).astype(np.uint8)


def rounded(weight: Array, bits: int, group: int, symmetric: bool) -> Array:
    """Round to nearest and back: (out, in) float64."""
    scales, zeros = grid(weight, bits, group, symmetric)
    run = weight.shape[1] // scales.shape[1]
    steps = nearest(weight, scales, zeros, bits).astype(float) - np.repeat(zeros, run, 1)
    return steps * np.repeat(scales.astype(float), run, 1)


def loss(weight: Array, other: Array, inputs: Array) -> float:
    """Mean over inputs of |W x − V x|², in float64."""
    gap = inputs.astype(np.float64) @ (weight.astype(np.float64) - other).T
    return float((gap**2).sum(1).mean())


def damped(hessian: Array, damping: float) -> Array:
    """The hessian with ones for dead inputs and `damping` of the mean on the diagonal."""
    out = hessian.astype(np.float64).copy()
    places = np.arange(len(out))
    out[places, places] = np.where(np.diag(out) == 0, 1.0, np.diag(out))
    out[places, places] += damping * np.diag(out).mean()
    return out


def greedy(
    weight: Array, hessian: Array, bits: int, group: int, symmetric: bool, damping: float,
    by_importance: bool,
) -> Array:  # fmt: skip
    """The weights that GPTQ must end with, without its factorisation: (out, in) float64.

    After each column the free columns are set to the minimum of the quadratic form, given those
    that are fixed: a linear system solved afresh.
    """
    second, columns = damped(hessian, damping), weight.shape[1]
    order = list(range(columns))
    if by_importance:
        order = np.argsort(-np.diag(hessian), kind="stable").tolist()
    original, now = weight.astype(np.float64), weight.astype(np.float64)
    scales, zeros = grid(weight, bits, group, symmetric)
    done = np.zeros_like(now)
    for step, j in enumerate(order):
        which = j // group
        if j % group == 0 and not by_importance:
            fresh, fresh_zeros = grid(now[:, j : j + group], bits, group, symmetric)
            scales[:, which], zeros[:, which] = fresh[:, 0], fresh_zeros[:, 0]
        column = (scales[:, which, None], zeros[:, which, None])
        code = nearest(now[:, j, None], *column, bits)[:, 0].astype(float)
        done[:, j] = (code - zeros[:, which]) * scales[:, which].astype(float)
        fixed, free = order[: step + 1], order[step + 1 :]
        if free:
            lost = (original - done)[:, fixed] @ second[np.ix_(fixed, free)]
            now[:, free] = original[:, free] + np.linalg.solve(second[np.ix_(free, free)], lost.T).T
    return done


def best_of_all(weight: Array, inputs: Array, bits: int) -> float:
    """The least loss over all code assignments, one symmetric grid for each row of four."""
    scales, zeros = grid(weight, bits, weight.shape[1], True)
    codes = np.array(list(product(range(2**bits), repeat=weight.shape[1])), float)
    total = 0.0
    for row, scale, zero in zip(weight.astype(float), scales[:, 0], zeros[:, 0], strict=True):
        gaps = (row - (codes - zero) * float(scale)) @ inputs.astype(np.float64).T
        total += (gaps**2).mean(1).min()
    return total


def correlated(rng: Any, rows: int, features: int, rank: int) -> Array:
    """Inputs that share directions, with features of very different size: (rows, features)."""
    base = rng.standard_normal((rows, rank)) @ rng.standard_normal((rank, features))
    sizes = np.exp(rng.standard_normal(features))
    return ((base + 0.3 * rng.standard_normal((rows, features))) * sizes).astype(np.float32)


def stays(scores: Array, keep: int) -> Array:
    """True at the `keep` highest of each row, of equal ones the lower place."""
    mask = np.zeros(scores.shape, bool)
    for row, into in zip(scores, mask, strict=True):
        into[sorted(range(len(row)), key=lambda j: (-row[j], j))[:keep]] = True
    return mask
