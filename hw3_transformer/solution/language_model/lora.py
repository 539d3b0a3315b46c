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
        # BEGIN SOLUTION 3.8
        weight = base.weight
        dtype = torch.promote_types(weight.dtype, torch.float32)
        bound = base.in_features**-0.5
        # Drawn on the CPU: the same numbers wherever the base lies.
        a = torch.empty(rank, base.in_features, dtype=torch.float64)
        a.uniform_(-bound, bound, generator=generator)
        self.lora_a = nn.Parameter(a.to(weight.device, dtype))
        self.lora_b = nn.Parameter(weight.new_zeros(base.out_features, rank, dtype=dtype))
        # A new module starts in training mode, the model it joins may be evaluating.
        self.train(base.training)
        # END SOLUTION

    @property
    def update(self) -> Tensor:
        """(alpha / rank) · B · A, (out_features, in_features), in the adapter's type."""
        # BEGIN SOLUTION 3.8
        return self.scale * (self.lora_b @ self.lora_a)
        # END SOLUTION

    @property
    def weight(self) -> Tensor:
        """The weight that acts now, with gradients to A and B while it is not merged.

        The base's where the adapter is off, `merged` where it is merged, else base + update in the
        base's type. For callers that read a head's weight as a matrix (`Llama.head_weight`).
        """
        # BEGIN SOLUTION 3.8
        base = self.base.weight
        if not self.enabled:
            return base
        if self.merged is not None:
            return self.merged
        return (base + self.update).to(base.dtype)
        # END SOLUTION

    def forward(self, x: Tensor) -> Tensor:
        """x: (…, in_features) -> (…, out_features) in the base's type.

        The adapter costs rank · (in + out) multiplications a row, not in · out: its product is never
        formed here. Dropout acts on the adapter's input, and only in training mode. Merged, one
        product with `merged` is all.
        """
        # BEGIN SOLUTION 3.8
        if not self.enabled:
            return self.base(x)
        if self.merged is not None:
            return F.linear(x, self.merged)
        result = self.base(x)
        inputs = F.dropout(x.to(self.lora_a.dtype), self.dropout, self.training)
        low = F.linear(inputs, self.lora_a)  # (…, rank)
        return result + (self.scale * F.linear(low, self.lora_b)).to(result.dtype)
        # END SOLUTION


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
    # BEGIN SOLUTION 3.8
    found: dict[str, BaseLinear] = {}
    for target in targets:
        layers = {n: m for n, m in model.named_modules() if n.rpartition(".")[2] == target}
        for name, layer in layers.items():
            if isinstance(layer, LoRALinear):
                raise ValueError(f"{name} has an adapter already")
        fit = {n: m for n, m in layers.items() if isinstance(m, BaseLinear)}
        if not fit:
            config = getattr(model, "config", None)
            tied = target in ("head", "embedding") and getattr(config, "tie_embeddings", False)
            why = ": its weight is shared by embedding and head" if tied else ""
            raise ValueError(f"the model has no linear layer named {target!r}{why}")
        if target == "head" and dropout > 0:
            raise ValueError("an adapter on the head can't have dropout")
        found |= fit
    generator = torch.Generator().manual_seed(seed)
    order = [name for name, _ in model.named_modules() if name in found]
    new = {n: LoRALinear(found[n], rank, alpha, dropout, generator) for n in order}
    for name, layer in new.items():
        parent, _, last = name.rpartition(".")
        setattr(model.get_submodule(parent), last, layer)
    model.requires_grad_(False)
    for layer in lora_layers(model).values():  # those attached earlier learn on
        layer.lora_a.requires_grad_(True)
        layer.lora_b.requires_grad_(True)
    return list(new.values())
    # END SOLUTION


@contextmanager
def adapters_disabled(model: nn.Module) -> Iterator[None]:
    """Inside the `with` block the model is its base, merged or not, bit for bit.

    At the end, also by an exception, each adapter is as it was before: an inner block does not
    switch on what an outer one switched off.
    """
    # BEGIN SOLUTION 3.8
    with ExitStack() as put_back:
        for layer in lora_layers(model).values():
            put_back.callback(setattr, layer, "enabled", layer.enabled)
            layer.enabled = False
        yield
    # END SOLUTION


@torch.no_grad()
def merge(model: nn.Module) -> None:
    """Give each adapted layer its merged weight: one product a layer, no cost of an adapter.

    The sum is formed in the adapter's type and rounded once to the base's; over a quantised base
    the merged weight is float, since quantising it again would round away most of the update.
    Merging again takes A and B as they are now, from the base: nothing is added twice. Costs one
    more copy of the adapted weights while merged. Adapters do not learn while merged.
    """
    # BEGIN SOLUTION 3.8
    for layer in lora_layers(model).values():
        base = layer.base.weight
        layer.merged = (base.to(layer.lora_a.dtype) + layer.update).to(base.dtype)
    # END SOLUTION


def unmerge(model: nn.Module) -> None:
    """Back to base and adapter, each with every bit it had before `merge`."""
    # BEGIN SOLUTION 3.8
    for layer in lora_layers(model).values():
        layer.merged = None
    # END SOLUTION


def merged_state(model: nn.Module) -> dict[str, Tensor]:
    """Weights for a plain model without adapters, under its names, with the adapters in them.

    A layer `query` that is adapted has "….query.base.weight" and more in `state_dict`; here it has
    "….query.weight", merged. The model itself is unchanged; what is returned shares no memory with
    it. Quantised layers come out as floats.
    """
    # BEGIN SOLUTION 3.8
    state: dict[str, Tensor] = {}
    inside: list[str] = []
    for name, layer in model.named_modules():
        if name.startswith(tuple(inside)):
            continue
        if isinstance(layer, (LoRALinear, QuantizedLinear)):
            inside.append(f"{name}.")
            weight = layer.base.weight if isinstance(layer, LoRALinear) else layer.weight
            if isinstance(layer, LoRALinear):
                weight = (weight.to(layer.lora_a.dtype) + layer.update).to(weight.dtype)
            state[f"{name}.weight"] = weight.detach().clone()
        else:
            for last, weight in layer.named_parameters(recurse=False):
                state[f"{name}.{last}" if name else last] = weight.detach().clone()
    return state
    # END SOLUTION


def adapter_state(model: nn.Module) -> dict[str, Tensor]:
    """Copies of every A and B, "blocks.0.attention.query.lora_a" and so on, and nothing else."""
    # BEGIN SOLUTION 3.8
    return {
        f"{name}.{part}": getattr(layer, part).detach().clone()
        for name, layer in lora_layers(model).items()
        for part in ("lora_a", "lora_b")
    }
    # END SOLUTION


@torch.no_grad()
def load_adapter_state(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Set every A and B from `state`.

    Raises ValueError that names the first tensor which is missing, unknown or of another shape (an
    adapter of another rank), and RuntimeError while a layer is merged, whose merged weight would be
    that of the old adapter. Then nothing was changed.
    """
    # BEGIN SOLUTION 3.8
    own: dict[str, Tensor] = {}
    for name, layer in lora_layers(model).items():
        if layer.merged is not None:
            raise RuntimeError(f"{name} is merged; unmerge before loading another adapter")
        own[f"{name}.lora_a"], own[f"{name}.lora_b"] = layer.lora_a, layer.lora_b
    for name in sorted(own.keys() | state.keys()):
        if name not in state:
            raise ValueError(f"the adapter's state has no {name}")
        if name not in own:
            raise ValueError(f"the model has no adapter for {name}")
        if state[name].shape != own[name].shape:
            raise ValueError(
                f"{name} has shape {tuple(state[name].shape)}, the model's is "
                f"{tuple(own[name].shape)}"
            )
    for name, tensor in own.items():
        tensor.copy_(state[name])
    # END SOLUTION


def count_parameters(model: nn.Module) -> tuple[int, int]:
    """(trainable, all) numbers of weights, adapters included, a shared tensor counted once.

    A quantised weight counts as its out_features · in_features entries.
    """
    # BEGIN SOLUTION 3.8
    trainable = total = 0
    for weight in model.parameters():  # which yields a shared one once
        total += weight.numel()
        trainable += weight.numel() if weight.requires_grad else 0
    for layer in model.modules():
        if isinstance(layer, QuantizedLinear):
            total += layer.out_features * layer.in_features
    return trainable, total
    # END SOLUTION
