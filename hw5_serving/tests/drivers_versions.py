"""Drivers of task 5.11: adapters in one batch."""

from __future__ import annotations

from typing import Any

import numpy as np


def segments(slots: list[np.ndarray]) -> list[dict[str, Any]]:
    """By case: the order, and (slot, start, stop) of each segment."""
    import torch

    from serving.lora_batch import token_segments

    found = []
    for own in slots:
        order, parts = token_segments(torch.from_numpy(own))
        found.append({"order": order.numpy(), "segments": [list(map(int, p)) for p in parts]})
    return found


def _adapter(parts: dict[str, list[np.ndarray]]) -> dict[str, Any]:
    import torch

    return {layer: (torch.from_numpy(a), torch.from_numpy(b)) for layer, (a, b) in parts.items()}


def batch_of_adapters(
    weight: np.ndarray, adapters: list[dict[str, Any]], x: np.ndarray, slots: np.ndarray, repeats: int = 1
) -> np.ndarray:  # fmt: skip
    """The layer "q" for tokens with slots; adapters: {"parts", "scale"}, into slots 0, 1, …"""
    import torch

    from serving.lora_batch import BatchedLoRALinear, LoRABank

    tall, wide = weight.shape
    base = torch.nn.Linear(wide, tall, bias=False)
    with torch.no_grad():
        base.weight.copy_(torch.from_numpy(weight))
        bank = LoRABank({"q": (wide, tall), "v": (wide, 3)}, max(1, len(adapters)))
        for place, adapter in enumerate(adapters):
            bank.load(f"adapter {place}", _adapter(adapter["parts"]), adapter["scale"])
        layer = BatchedLoRALinear(base, bank, "q")
        layer.slots = torch.from_numpy(slots)
        tokens = torch.from_numpy(x)
        for _ in range(repeats):
            out = layer(tokens)
    return out.numpy()


def bank_story(
    events: list[list[Any]], slots: int, wide: int, tall: int, value: float = 1.0
) -> list[dict[str, Any]]:
    """Load, acquire, release, remove: the slot or error of each, the names held, what x = 1 gives.

    load: [name, A rows, B columns, size of the entries]. "sums": by slot the update of a token of ones.
    """
    import torch

    from serving.lora_batch import LoRABank

    bank, found = LoRABank({"q": (wide, tall)}, slots), []
    for kind, *rest in events:
        got: Any = ""
        try:
            if kind == "load":
                name, rank, columns, size = rest
                parts = {"q": (torch.full((rank, columns), size), torch.ones(tall, rank))}
                got = bank.load(name, parts, 2.0)
            else:
                got = getattr(bank, kind)(*rest)
        except (KeyError, ValueError) as error:
            got = type(error).__name__
        except RuntimeError as error:
            if isinstance(error, NotImplementedError):
                raise
            got = "RuntimeError"
        out = torch.zeros(slots, tall)
        bank.add_updates("q", torch.full((slots, wide), value), torch.arange(slots), out)
        found.append(
            {"got": got, "names": [u.name if u else "" for u in bank.use], "sums": out.numpy()}
        )
    return found
