"""Drivers around a whole model; other drivers make theirs with `build_model`."""

from __future__ import annotations

from typing import Any

import numpy as np


def build_model(sizes: dict[str, Any], weights: dict[str, np.ndarray], dtype: str = "float32") -> Any:
    """The student's Llama with these weights."""
    import torch
    from language_model.config import ModelConfig
    from language_model.model import Llama

    model = Llama(ModelConfig(**sizes))
    state = {name: torch.tensor(array) for name, array in weights.items()}
    model.load_state_dict(state)
    return model.to(getattr(torch, dtype))


def logits(
    sizes: dict[str, Any], weights: dict[str, np.ndarray], ids: np.ndarray,
    positions: np.ndarray | None = None, documents: np.ndarray | None = None,
    dtype: str = "float32",
) -> np.ndarray:  # fmt: skip
    """Logits of every position as float32 (float64 where that is the model's type)."""
    import torch

    model = build_model(sizes, weights, dtype)
    given = {"positions": positions, "documents": documents}
    extra = {name: torch.tensor(a) for name, a in given.items() if a is not None}
    with torch.no_grad():
        result = model(torch.tensor(ids), **extra)
    return (result if dtype == "float64" else result.float()).numpy()
