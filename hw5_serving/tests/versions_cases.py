"""Generators, oracle and peer of task 5.11."""

from __future__ import annotations

from typing import Any

import numpy as np


def drawn_adapters(
    rng: np.random.Generator, count: int, wide: int, tall: int, ranks: tuple[int, ...] = (1, 4, 8)
) -> list[dict[str, Any]]:
    """Adapters of layer "q" with ranks in turn, float32."""
    found = []
    for place in range(count):
        rank = ranks[place % len(ranks)]
        a = rng.standard_normal((rank, wide)) / wide**0.5
        b = rng.standard_normal((tall, rank)) / rank**0.5
        parts = {"q": [a.astype(np.float32), b.astype(np.float32)]}
        found.append({"parts": parts, "scale": float(rng.uniform(0.5, 3))})
    return found


def merged_answers(
    weight: np.ndarray, adapters: list[dict[str, Any]], x: np.ndarray, slots: np.ndarray
) -> np.ndarray:
    """Each slot's tokens through W + scale · B · A, in float64."""
    out = x.astype(np.float64) @ weight.T.astype(np.float64)
    for slot in np.unique(slots[slots >= 0]):
        parts = adapters[slot]["parts"]
        if "q" in parts:
            a, b = (part.astype(np.float64) for part in parts["q"])
            whole = weight + adapters[slot]["scale"] * (b @ a)
            out[slots == slot] = x[slots == slot].astype(np.float64) @ whole.T
    return out
