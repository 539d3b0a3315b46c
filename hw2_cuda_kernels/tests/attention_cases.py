"""Checks that the tests of task 2.10 share, and the closed form of the traffic."""

from __future__ import annotations

from math import sqrt
from typing import Any

import hw2_cuda_kernels_drivers as drivers
import numpy as np
import torch

from autograder.testing import Hint, assert_close, cuda

UNIT = 2.0**-24  # the relative rounding error of float32
QUERIES, KEYS = 64, 32  # the tiles that attention.cu states
Shape = tuple[int, int, int, int]
HINT = Hint(
    values="when a tile brings a larger score, what was summed before must shrink: the total and "
    "the output alike. Query i sees the keys 0 to i, itself included",
    not_finite="exp(-inf + inf) is NaN, and so is 0 times what lay in shared memory past the end",
)
NO_TOTAL = (
    "infinity is a number divided by 0: the total of a row is that of its 8 threads together, add "
    "theirs up before dividing"
)


def attention_case(
    rng: np.random.Generator, shape: Shape, version: str = "flash", scale: float | None = None,
    logsumexp: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """A question for `drivers.attentions`: normal numbers, shape (batch, heads, time, head_dim)."""
    q, k, v = (rng.standard_normal(shape, dtype=np.float32) for _ in range(3))
    return {"q": q, "k": k, "v": v, "version": version, "scale": scale, "logsumexp": logsumexp}


def attention_label(case: dict[str, Any]) -> str:
    """What a question is about."""
    scale = "" if case["scale"] is None else f", scale {case['scale']:g}"
    return f"attention of {case['q'].shape}, {case['version']}{scale}"


def attended(
    student: Any, cases: list[dict[str, Any]], error: float | None = None, first: int = 0
) -> list[dict[str, Any]]:
    """Ask all cases in one call; each answer is compared with float64 and its report checked.

    error: how far a score may be off. Unless given, by the bound for a sum of head_dim products in
    any order. A p is off by that relative to itself, and so is their sum, which it is divided by; a
    sum over the keys adds a rounding error each, and exp and the division a few. Only rows from
    `first` on are compared.
    """
    answers = student.run_cases(drivers.attentions, cases, attention_label)
    for case, answer in zip(cases, answers, strict=True):
        cuda.check(answer["report"])  # first: a race explains wrong values, not the other way round
        q, k, v = (torch.tensor(case[name], dtype=torch.float64) for name in "qkv")
        time, head_dim = q.shape[-2:]
        scale = 1 / sqrt(head_dim) if case["scale"] is None else case["scale"]
        wanted = torch.nn.functional.scaled_dot_product_attention(
            q, k, v, is_causal=True, scale=scale
        ).numpy()
        products = scale * np.abs(case["q"]) @ np.abs(case["k"]).swapaxes(-1, -2)
        bound = (head_dim + 2) * UNIT * float(products.max(initial=0)) if error is None else error
        atol = (2 * bound + (time + 8) * UNIT) * float(v.abs().max()) if v.numel() else 0.0
        name = attention_label(case)
        rows = (Ellipsis, slice(first, None), slice(None))
        out = _rows(answer["out"], rows)
        infinite = isinstance(out, np.ndarray) and out.dtype.kind == "f" and np.isinf(out).any()
        hint = Hint(values=NO_TOTAL, not_finite=NO_TOTAL) if infinite else HINT
        assert_close(out, wanted[rows], rtol=0, atol=atol, name=name, hint=hint)
        if case["logsumexp"]:
            scores = (scale * q @ k.transpose(-1, -2)).masked_fill(
                torch.ones(time, time, dtype=torch.bool).triu(1), -torch.inf
            )
            total = torch.logsumexp(scores, -1).numpy()
            assert_close(
                answer["logsumexp"], total, rtol=4 * UNIT, atol=bound + (time + 8) * UNIT,
                name=f"the logsumexp of {name}",
                hint="scale * largest score + log(total), in natural logarithms",
            )  # fmt: skip
    return answers


def _rows(value: Any, rows: Any) -> Any:
    """value[rows], or the value itself if it has not the dimensions for it."""
    return value[rows] if isinstance(value, np.ndarray) and value.ndim == 4 else value


def key_rows(time: int) -> int:
    """Rows of k (or of v) that all query tiles of a head read: each those up to its last query."""
    return sum(min(time, first + QUERIES) for first in range(0, time, QUERIES))


def load_sectors(shape: Shape) -> int:
    """Sectors of 32 bytes that flash attention loads: q once, k and v once a query tile."""
    batch, heads, time, head_dim = shape
    return batch * heads * (time + 2 * key_rows(time)) * head_dim // 8


def multiply_adds(shape: Shape) -> int:
    """Multiply-adds on tiles of 64 x 32, the skipped ones left out: head_dim a score, and again."""
    batch, heads, time, head_dim = shape
    tiles = sum(-(-min(time, first + QUERIES) // KEYS) for first in range(0, time, QUERIES))
    return batch * heads * tiles * QUERIES * KEYS * head_dim * 2
