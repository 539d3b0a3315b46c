"""Task 5.11: requests with different LoRA adapters in one flat batch (Chen et al., 2024: Punica).

A step of the engine holds tokens of many requests, one after the other: (tokens, in_features). Each
token has the slot of its request's adapter, or −1 for none. The base weight is read once for all;
each adapter's two thin matrices only touch the tokens that are its own.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

Adapter = Mapping[str, tuple[Tensor, Tensor]]
_serials = itertools.count()


def token_segments(slots: Tensor) -> tuple[Tensor, list[tuple[int, int, int]]]:
    """An order in which tokens of equal slots stand together, and where each slot's tokens are then.

    slots: (tokens,) int64, −1 for tokens without adapter. Returns `order` (tokens,), stable: tokens of
    one slot keep their order; and (slot, start, stop) for each slot ≥ 0 that occurs, rising.
    """
    raise NotImplementedError("task 5.11: token_segments")


@dataclass
class SlotUse:
    """An adapter in a slot: its name, the requests that use it, whether it is to go.

    serial: never the same twice, while a name may be loaded again with other weights.
    """

    name: str
    users: int = 0
    leaving: bool = False
    serial: int = field(default_factory=lambda: next(_serials))


class LoRABank:
    """Adapters of several layers in numbered slots; loaded and removed while requests run.

    widths: by layer name (in_features, out_features). An adapter is, by layer name, A (rank,
    in_features) and B (out_features, rank), and `scale`; layers that it lacks stay as they are.
    Ranks may differ between adapters. B is kept multiplied by scale, so that a step needs no more.
    """

    def __init__(self, widths: Mapping[str, tuple[int, int]], slots: int) -> None:
        self.widths = dict(widths)
        self.use: list[SlotUse | None] = [None] * slots
        self.weights: list[dict[str, tuple[Tensor, Tensor]]] = [{} for _ in range(slots)]

    def load(self, name: str, adapter: Adapter, scale: float) -> int:
        """Put an adapter into the lowest free slot; returns the slot.

        Raises ValueError, and changes nothing, for a name that is loaded (and not leaving), a layer
        that is not in `widths`, or shapes that do not fit; RuntimeError where no slot is free.
        """
        raise NotImplementedError("task 5.11: LoRABank.load")

    def acquire(self, name: str) -> int:
        """The slot for a new request with this adapter. KeyError where it is not loaded, or leaving."""
        raise NotImplementedError("task 5.11: LoRABank.acquire")

    def release(self, slot: int) -> None:
        """A request with this slot has ended; the last user of a leaving adapter frees the slot."""
        raise NotImplementedError("task 5.11: LoRABank.release")

    def remove(self, name: str) -> None:
        """Take no new requests with this adapter; it goes when the last of those running has ended.

        KeyError where it is not loaded, or leaving already.
        """
        raise NotImplementedError("task 5.11: LoRABank.remove")

    def _free_if_unused(self, slot: int) -> None:
        """Empty the slot of a leaving adapter that nobody uses: its memory is let go."""
        raise NotImplementedError("task 5.11: LoRABank._free_if_unused")

    def add_updates(self, layer: str, x: Tensor, slots: Tensor, out: Tensor) -> None:
        """Add each token's low-rank update into `out`, in place.

        x: (tokens, in_features); slots: (tokens,) int64; out: (tokens, out_features). Costs
        tokens · rank · (in + out), whatever the number of adapters; nothing of size in × out is made.
        """
        raise NotImplementedError("task 5.11: LoRABank.add_updates")


class BatchedLoRALinear(nn.Module):
    """A linear layer whose tokens may each have an adapter; `slots` is set before each step."""

    def __init__(self, base: nn.Linear, bank: LoRABank, layer: str) -> None:
        super().__init__()
        self.base, self.bank, self.layer = base, bank, layer
        self.slots: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        """x (tokens, in_features) -> (tokens, out_features), each token with its own adapter."""
        out = self.base(x)
        if self.slots is not None:
            self.bank.add_updates(self.layer, x, self.slots, out)
        return out
