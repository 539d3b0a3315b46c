"""Drivers around a whole model; other drivers make theirs with `build_model`."""

from __future__ import annotations

from typing import Any

import numpy as np


def build_model(
    sizes: dict[str, Any], weights: dict[str, np.ndarray], dtype: str = "float32"
) -> Any:
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


def answer(
    sizes: dict[str, Any], weights: dict[str, np.ndarray], ids: np.ndarray,
    positions: np.ndarray | None = None, documents: np.ndarray | None = None,
    upstream: np.ndarray | None = None, dtype: str = "float64",
) -> dict[str, Any]:  # fmt: skip
    """Hidden states, logits of them and of `forward`, and every parameter's gradient by name."""
    import torch
    from drivers_layers import answered, plain

    model = build_model(sizes, weights, dtype)
    given = {"positions": positions, "documents": documents}
    extra = {name: torch.tensor(a) for name, a in given.items() if a is not None}
    hidden = model.hidden_states(torch.tensor(ids), **extra)
    value = model.logits(hidden)
    reply = answered(value, dict(model.named_parameters()), upstream)
    reply["hidden"] = plain(hidden)["value"]
    reply["last"] = plain(model.logits(hidden[:, -1]))["value"]
    with torch.no_grad():
        reply["forward"] = plain(model(torch.tensor(ids), **extra))["value"]
    return reply


def block(
    sizes: dict[str, Any], weights: dict[str, np.ndarray], x: np.ndarray, positions: np.ndarray,
    mask: np.ndarray,
) -> np.ndarray:  # fmt: skip
    """The first block of the model on x, float64."""
    import torch

    from language_model.layers import rope_tables

    model = build_model(sizes, weights, "float64")
    tables = rope_tables(torch.tensor(positions), model.config.head_dim, model.config.rope_theta)
    with torch.no_grad():
        return model.blocks[0](torch.tensor(x), tables, torch.tensor(mask)).numpy()


def described(sizes: dict[str, Any]) -> dict[str, Any]:
    """Parameters' names and shapes, other state, and whose memory the head's matrix is."""
    from language_model.config import ModelConfig
    from language_model.model import Llama

    model = Llama(ModelConfig(**sizes))
    parameters = dict(model.named_parameters())
    head = model.head_weight
    return {
        "shapes": {name: list(p.shape) for name, p in parameters.items()},
        "state": sorted(model.state_dict()),
        "head": [name for name, p in parameters.items() if p is head],
    }


def _noting_cache(lengths: np.ndarray) -> Any:
    """A cache that keeps every key it is given, and notes what is asked of it."""
    import torch

    class Notes:
        def __init__(self) -> None:
            self.lengths = torch.tensor(lengths)
            self.held: dict[int, tuple[Any, Any]] = {}
            self.events: list[str] = []
            self.answer: Any = None

        def mask(self, time: int) -> Any:
            self.events.append(f"mask {time}")
            return self.answer

        def update(self, layer: int, keys: Any, values: Any) -> tuple[Any, Any]:
            self.events.append(f"update {layer}")
            old = self.held.get(layer, (keys[:, :, :0], values[:, :, :0]))
            new = tuple(torch.cat(pair, dim=2) for pair in zip(old, (keys, values), strict=True))
            self.held[layer] = new
            return new

        def advance(self, time: int) -> None:
            self.events.append(f"advance {time}")
            self.lengths = self.lengths + time

    return Notes()


def with_cache(
    sizes: dict[str, Any], weights: dict[str, np.ndarray], steps: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Logits of each step on one cache. A step: ids, mask, lengths before it, maybe positions."""
    import torch

    model = build_model(sizes, weights, "float64")
    cache = _noting_cache(steps[0]["lengths"])
    replies = []
    for step in steps:
        cache.lengths, cache.events = torch.tensor(step["lengths"]), []
        cache.answer = None if step["mask"] is None else torch.tensor(step["mask"])
        extra = {"positions": torch.tensor(step["positions"])} if "positions" in step else {}
        with torch.no_grad():
            value = model(torch.tensor(step["ids"]), cache=cache, **extra)
        replies.append({"logits": value.numpy(), "events": cache.events})
    return replies


def cache_and_documents(
    sizes: dict[str, Any], weights: dict[str, np.ndarray], ids: np.ndarray
) -> None:
    """Both at once, which is refused."""
    import torch

    model = build_model(sizes, weights)
    cache = _noting_cache(np.zeros(len(ids), np.int64))
    tensor = torch.tensor(ids)
    model.hidden_states(tensor, documents=torch.zeros_like(tensor), cache=cache)
