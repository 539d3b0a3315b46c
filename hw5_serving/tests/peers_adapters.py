"""The peer of task 5.11's timed test: each request's adapter merged, used, and taken out again."""

from __future__ import annotations

from typing import Any

import numpy as np


def merged_in_turn(
    weight: np.ndarray, adapters: list[dict[str, Any]], x: np.ndarray, slots: np.ndarray, repeats: int = 1
) -> np.ndarray:  # fmt: skip
    """Rows of one slot after the other through the merged weight; one thread, float32."""
    import torch

    merged, tokens, chosen = torch.from_numpy(weight.copy()), torch.from_numpy(x), torch.from_numpy(slots)
    pairs = [[torch.from_numpy(part) for part in own["parts"]["q"]] for own in adapters]
    out = torch.empty(len(x), weight.shape[0])
    for _ in range(repeats):
        for slot in torch.unique(chosen).tolist():
            rows = (chosen == slot).nonzero()[:, 0]
            if slot >= 0:
                a, b = pairs[slot]
                merged.addmm_(b, a, alpha=adapters[slot]["scale"])
            out[rows] = tokens[rows] @ merged.T
            if slot >= 0:
                merged.addmm_(b, a, alpha=-adapters[slot]["scale"])
    return out.numpy()
