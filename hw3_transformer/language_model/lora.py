"""Task 3.8: low-rank adapters (Hu et al., 2021) beside a frozen, possibly quantised, base.

An adapter adds (alpha / rank) · B · A to a weight that stays as it is. Here the base layer is kept
untouched in every state, so that switching off, merging and unmerging are exact by construction:
(W + D) − D is not W in floating point.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from language_model.quantized import QuantizedLinear

BaseLinear = nn.Linear | QuantizedLinear


class LoRALinear(nn.Module):
    """base(x) + (alpha / rank) · dropout(x) · Aᵀ · Bᵀ.

    lora_a: (rank, in_features), uniform in ±1/sqrt(in_features) drawn from `generator`; lora_b:
    (out_features, rank), zeros, so that a new adapter changes nothing. Both are float32, or float64
    where the base is, whatever small type the base has: the steps of an optimizer are lost in
    bfloat16. enabled: whether the adapter counts. merged: None, or the weight with the adapter in
    it, as a plain tensor of the base's float type. Raises ValueError where rank < 1 or dropout is
    outside [0, 1).
    """

    def __init__(
        self,
        base: BaseLinear,
        rank: int,
        alpha: float,
        dropout: float = 0.0,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if rank < 1:
            raise ValueError(f"rank {rank}; at least 1 is needed")
        if not 0.0 <= dropout < 1.0:
            raise ValueError(f"dropout {dropout} is not in [0, 1)")
        self.base = base
        self.scale = alpha / rank
        self.dropout = dropout
        self.enabled = True
        self.merged: Tensor | None = None
        raise NotImplementedError("task 3.8: LoRALinear.__init__")

    @property
    def update(self) -> Tensor:
        """(alpha / rank) · B · A, (out_features, in_features), in the adapter's type."""
        raise NotImplementedError("task 3.8: LoRALinear.update")

    @property
    def weight(self) -> Tensor:
        """The weight that acts now, with gradients to A and B while it is not merged.

        The base's where the adapter is off, `merged` where it is merged, else base + update in the
        base's type. For callers that read a head's weight as a matrix (`Llama.head_weight`).
        """
        raise NotImplementedError("task 3.8: LoRALinear.weight")

    def forward(self, x: Tensor) -> Tensor:
        """x: (…, in_features) -> (…, out_features) in the base's type.

        The adapter costs rank · (in + out) multiplications a row, not in · out: its product is never
        formed here. Dropout acts on the adapter's input, and only in training mode. Merged, one
        product with `merged` is all.
        """
        raise NotImplementedError("task 3.8: LoRALinear.forward")


def lora_layers(model: nn.Module) -> dict[str, LoRALinear]:
    """The adapted layers by name, in the model's order. Given."""
    return {n: layer for n, layer in model.named_modules() if isinstance(layer, LoRALinear)}


def attach_lora(
    model: nn.Module,
    rank: int,
    alpha: float,
    targets: Sequence[str] = ("query", "value"),
    dropout: float = 0.0,
    seed: int = 0,
) -> list[LoRALinear]:
    """Put a LoRALinear around each layer whose last name is in `targets`; freeze all but adapters.

    Every A is drawn from one generator of `seed`, in the model's order. Returns the new layers.
    Raises ValueError, before anything is changed, where a target names no linear layer (a tied
    "head" is the embedding's matrix: an adapter there would have to act on the lookup too, or untie
    them), where a layer has an adapter already, and for "head" with dropout, since the head's weight
    is read as a matrix and there is no input to drop from.
    """
    raise NotImplementedError("task 3.8: attach_lora")


@contextmanager
def adapters_disabled(model: nn.Module) -> Iterator[None]:
    """Inside the `with` block the model is its base, merged or not, bit for bit.

    At the end, also by an exception, each adapter is as it was before: an inner block does not
    switch on what an outer one switched off.
    """
    raise NotImplementedError("task 3.8: adapters_disabled")


@torch.no_grad()
def merge(model: nn.Module) -> None:
    """Give each adapted layer its merged weight: one product a layer, no cost of an adapter.

    The sum is formed in the adapter's type and rounded once to the base's; over a quantised base
    the merged weight is float, since quantising it again would round away most of the update.
    Merging again takes A and B as they are now, from the base: nothing is added twice. Costs one
    more copy of the adapted weights while merged. Adapters do not learn while merged.
    """
    raise NotImplementedError("task 3.8: merge")


def unmerge(model: nn.Module) -> None:
    """Back to base and adapter, each with every bit it had before `merge`."""
    raise NotImplementedError("task 3.8: unmerge")


def merged_state(model: nn.Module) -> dict[str, Tensor]:
    """Weights for a plain model without adapters, under its names, with the adapters in them.

    A layer `query` that is adapted has "….query.base.weight" and more in `state_dict`; here it has
    "….query.weight", merged. The model itself is unchanged; what is returned shares no memory with
    it. Quantised layers come out as floats.
    """
    raise NotImplementedError("task 3.8: merged_state")


def adapter_state(model: nn.Module) -> dict[str, Tensor]:
    """Copies of every A and B, "blocks.0.attention.query.lora_a" and so on, and nothing else."""
    raise NotImplementedError("task 3.8: adapter_state")


@torch.no_grad()
def load_adapter_state(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Set every A and B from `state`.

    Raises ValueError that names the first tensor which is missing, unknown or of another shape (an
    adapter of another rank), and RuntimeError while a layer is merged, whose merged weight would be
    that of the old adapter. Then nothing was changed.
    """
    raise NotImplementedError("task 3.8: load_adapter_state")


def count_parameters(model: nn.Module) -> tuple[int, int]:
    """(trainable, all) numbers of weights, adapters included, a shared tensor counted once.

    A quantised weight counts as its out_features · in_features entries.
    """
    raise NotImplementedError("task 3.8: count_parameters")
