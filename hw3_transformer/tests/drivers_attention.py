"""Drivers of task 3.4. Torch's own attention raises while they run: building it is the task."""

from __future__ import annotations

from typing import Any

import numpy as np


def _own_attention() -> Any:
    from drivers_layers import without

    return without("scaled_dot_product", "multi_head_attention", "flash_attention", "transformer")


def masks(cases: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """`attention_mask` of each case: its positions, and its documents where it has some."""
    import torch
    from drivers_layers import plain

    from language_model.attention import attention_mask

    names = ("query_positions", "key_positions", "query_documents", "key_documents")
    return [
        plain(attention_mask(*(torch.tensor(case[name]) for name in names if name in case)))
        for case in cases
    ]


def attended(cases: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """`grouped_query_attention` of each case, with gradients where it has an upstream."""
    import torch
    from drivers_layers import answered, tensor_of

    with _own_attention():
        from language_model.attention import grouped_query_attention

        replies = []
        for case in cases:
            layout = case.get("layout", "plain")
            leaves = {
                name: tensor_of(case[name], case["dtype"], layout)
                for name in ("query", "key", "value")
            }
            mask = torch.tensor(case["mask"]) if "mask" in case else None
            value = grouped_query_attention(*leaves.values(), mask)
            replies.append(answered(value, leaves, case.get("upstream")))
        return replies


def attend_long(query: np.ndarray, key: np.ndarray, value: np.ndarray) -> np.ndarray:
    """`grouped_query_attention` without gradients and without copies of the arguments."""
    import torch

    with _own_attention(), torch.no_grad():
        from language_model.attention import grouped_query_attention

        return grouped_query_attention(*map(torch.from_numpy, (query, key, value))).numpy()


def _module(sizes: dict[str, Any], weights: dict[str, np.ndarray], layer: int, dtype: str) -> Any:
    import torch

    from language_model.attention import Attention
    from language_model.config import ModelConfig

    module = Attention(ModelConfig(**sizes), layer).to(getattr(torch, dtype))
    module.load_state_dict({f"{n}.weight": torch.tensor(array) for n, array in weights.items()})
    return module


def _tables(positions: np.ndarray, sizes: dict[str, Any]) -> tuple[Any, Any]:
    import torch

    from language_model.layers import rope_tables

    head_dim = sizes["hidden_size"] // sizes["num_heads"]
    return rope_tables(torch.tensor(positions), head_dim, sizes["rope_theta"])


def module(
    sizes: dict[str, Any], weights: dict[str, np.ndarray], x: np.ndarray, positions: np.ndarray,
    mask: np.ndarray, upstream: np.ndarray | None = None, dtype: str = "float64",
) -> dict[str, Any]:  # fmt: skip
    """`Attention` without a cache: its value, and gradients for x and the four weights."""
    import torch
    from drivers_layers import answered, tensor_of

    with _own_attention():
        attention = _module(sizes, weights, 0, dtype)
        leaf = tensor_of(x, dtype)
        value = attention(leaf, _tables(positions, sizes), torch.tensor(mask))
        leaves = {n.removesuffix(".weight"): p for n, p in attention.named_parameters()}
        return answered(value, {"x": leaf, **leaves}, upstream)


def module_with_cache(
    sizes: dict[str, Any], weights: dict[str, np.ndarray], layer: int, x: np.ndarray,
    positions: np.ndarray, mask: np.ndarray | None, past: list[np.ndarray],
) -> dict[str, Any]:  # fmt: skip
    """`Attention` on a cache that notes what it is handed and answers with `past` before it."""
    import torch

    calls: list[dict[str, Any]] = []

    class Notes:
        def update(self, layer: int, keys: Any, values: Any) -> tuple[Any, Any]:
            held = {"keys": keys.detach().numpy().copy(), "values": values.detach().numpy().copy()}
            calls.append({"layer": layer, **held})
            return tuple(
                torch.cat([torch.tensor(old), new], dim=2)
                for old, new in zip(past, (keys, values), strict=True)
            )

    with _own_attention(), torch.no_grad():
        attention = _module(sizes, weights, layer, "float64")
        seen = None if mask is None else torch.tensor(mask)
        value = attention(torch.tensor(x), _tables(positions, sizes), seen, Notes())
    return {"value": value.numpy(), "calls": calls}
