"""Drivers of task 3.8: adapters on one layer, adapters on a model, and what switching them costs."""

from __future__ import annotations

from typing import Any

import numpy as np

Arrays = dict[str, np.ndarray]


def _model(sizes: dict[str, Any], weights: Arrays, dtype: str = "float32", bits: int = 0,
           group: int = 8) -> Any:  # fmt: skip
    """The student's Llama, its blocks quantised where bits are given."""
    from drivers_model import build_model
    from language_model.quantized import quantize_base

    model = build_model(sizes, weights, dtype)
    if bits:
        quantize_base(model, bits, group)
    return model


def _tensors(arrays: Arrays) -> dict[str, Any]:
    import torch

    return {name: torch.tensor(array) for name, array in arrays.items()}


def _arrays(tensors: dict[str, Any]) -> Arrays:
    """As they cross: bfloat16 becomes float32, which holds it exactly."""
    import torch

    return {
        name: (t.detach().float() if t.dtype == torch.bfloat16 else t.detach()).numpy()
        for name, t in tensors.items()
    }


def _logits(model: Any, ids: np.ndarray) -> np.ndarray:
    import torch

    with torch.no_grad():
        return _arrays({"": model(torch.tensor(ids))})[""]


def _loss(model: Any, ids: Any) -> Any:
    from torch.nn import functional as F

    return F.cross_entropy(model(ids[:, :-1]).flatten(0, 1).float(), ids[:, 1:].flatten())


def one_layer(
    weight: np.ndarray, a: np.ndarray, b: np.ndarray, alpha: float, x: np.ndarray,
    upstream: np.ndarray, bits: int = 0, group: int = 8,
) -> dict[str, Any]:  # fmt: skip
    """Output and gradients of a LoRALinear with given A and B."""
    import torch
    from language_model.lora import LoRALinear
    from language_model.quantized import QuantizedLinear

    if bits:
        base: Any = QuantizedLinear(torch.tensor(weight), bits, group)
    else:
        base = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=False)
        base.weight = torch.nn.Parameter(torch.tensor(weight), requires_grad=False)
    layer = LoRALinear(base, len(a), alpha)
    kind = [str(p.dtype) for p in (layer.lora_a, layer.lora_b)]
    started = {
        "a": layer.lora_a.detach().clone().numpy(), "b": layer.lora_b.detach().clone().numpy()
    }  # fmt: skip
    with torch.no_grad():
        layer.lora_a.copy_(torch.tensor(a))
        layer.lora_b.copy_(torch.tensor(b))
    inputs = torch.tensor(x, requires_grad=True)
    result = layer(inputs)
    result.backward(torch.tensor(upstream))
    return _arrays({
        "output": result, "a": layer.lora_a.grad, "b": layer.lora_b.grad, "x": inputs.grad,
        "update": layer.update, "weight": layer.weight, "base": base.weight,
    }) | {"dtypes": kind, "started": started, "base gradient": base.weight.grad is not None}  # fmt: skip


def fresh_adapters(
    sizes: dict[str, Any], weights: Arrays, ids: np.ndarray, rank: int, targets: list[str],
    seed: int, dropout: float = 0.0, evaluating: bool = False, dtype: str = "float32",
) -> dict[str, Any]:  # fmt: skip
    """What attaching does: logits before and after, names, A and B, what is trainable, counts."""
    import torch
    from language_model.lora import LoRALinear, adapter_state, attach_lora, count_parameters

    model = _model(sizes, weights, dtype).train(not evaluating)
    before = _logits(model, ids)
    global_state = torch.get_rng_state()
    layers = attach_lora(model, rank, 2.0 * rank, targets, dropout, seed)
    undisturbed = bool(torch.equal(global_state, torch.get_rng_state()))
    names = [n for n, m in model.named_modules() if isinstance(m, LoRALinear)]
    modules = dict(model.named_modules())
    state = adapter_state(model)
    return {
        "before": before, "after": _logits(model, ids), "names": names,
        "returned": [n for layer in layers for n in names if modules[n] is layer],
        "trainable": [n for n, p in model.named_parameters() if p.requires_grad],
        "counts": list(count_parameters(model)), "state": _arrays(state),
        "dtypes": sorted({str(t.dtype) for t in state.values()}), "undisturbed": undisturbed,
    }  # fmt: skip


def attach_twice(sizes: dict[str, Any], weights: Arrays) -> dict[str, Any]:
    """Adapters on the attention, then more on the MLP: what is trainable after the second call."""
    from language_model.lora import attach_lora

    model = _model(sizes, weights)
    attach_lora(model, 2, 4.0, ["query"])
    new = attach_lora(model, 3, 4.0, ["down"])
    return {
        "new": len(new), "trainable": [n for n, p in model.named_parameters() if p.requires_grad]
    }  # fmt: skip


def attach_wrongly(
    sizes: dict[str, Any], weights: Arrays, first: list[str], then: list[str], dropout: float = 0.0,
    rank: int = 2,
) -> bool:  # fmt: skip
    """Attach to `first` where there is one, then to `then`, which should raise."""
    from language_model.lora import attach_lora

    model = _model(sizes, weights)
    if first:
        attach_lora(model, 2, 4.0, first)
    attach_lora(model, rank, 4.0, then, dropout)
    return True


def unchanged_by_refusal(sizes: dict[str, Any], weights: Arrays, targets: list[str]) -> list[Any]:
    """After a refused call: [the error's type, adapters in the model, frozen parameters]."""
    from language_model.lora import LoRALinear, attach_lora

    model, raised = _model(sizes, weights), ""
    try:
        attach_lora(model, 2, 4.0, targets)
    except Exception as error:
        if isinstance(error, NotImplementedError):
            raise
        raised = type(error).__name__
    frozen = [n for n, p in model.named_parameters() if not p.requires_grad]
    return [raised, sum(isinstance(m, LoRALinear) for m in model.modules()), len(frozen)]


def train_adapter(
    sizes: dict[str, Any], weights: Arrays, ids: np.ndarray, rank: int, steps: int,
    bits: int = 0, dtype: str = "float32", targets: list[str] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """A few steps of AdamW, which is given every parameter: only adapters may move or get state."""
    import torch
    from language_model.lora import adapter_state, attach_lora

    model = _model(sizes, weights, dtype, bits)
    attach_lora(model, rank, 2.0 * rank, targets or ["query", "value"], seed=1)
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    rows, losses = torch.tensor(ids), []
    for _step in range(steps):
        optimizer.zero_grad()
        loss = _loss(model, rows)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    named = dict(model.named_parameters())
    return {
        "losses": losses, "names": sorted(adapter_state(model)),
        "moved": sorted(n for n, p in named.items() if not torch.equal(p, before[n])),
        "gradients": sorted(n for n, p in named.items() if p.grad is not None),
        "with state": sorted(n for n, p in named.items() if optimizer.state.get(p)),
    }  # fmt: skip


def adapted(
    sizes: dict[str, Any], weights: Arrays, ids: np.ndarray, adapter: Arrays, rank: int,
    alpha: float, targets: list[str], steps: list[str], dtype: str = "float32", bits: int = 0,
    group: int = 8,
) -> list[Any]:  # fmt: skip
    """A model with the given A and B, and the result of each step taken with it.

    "logits": logits now. "disabled": logits with the adapters off. "nested": logits in an outer
    block after an inner one has ended. "raising": logits after a block that raised. "merge",
    "unmerge": None. "base": every weight of the base by its plain name. "state": the adapter's
    arrays. "merged_state": those of `merged_state`. "plain": logits of a plain model with that
    state. "train": None, a step that moves A and B. "head": the matrix that the head is read as.
    """
    from language_model import lora

    model = _model(sizes, weights, dtype, bits, group)
    lora.attach_lora(model, rank, alpha, targets)
    if adapter:
        lora.load_adapter_state(model, _tensors(adapter))
    doings = _doings(model, sizes, ids, dtype)
    return [doings[step]() for step in steps]


def _doings(model: Any, sizes: dict[str, Any], ids: np.ndarray, dtype: str) -> dict[str, Any]:
    """What `adapted` can do."""
    import torch
    from drivers_model import build_model
    from language_model import lora

    def disabled() -> np.ndarray:
        with lora.adapters_disabled(model):
            return _logits(model, ids)

    def nested() -> np.ndarray:
        with lora.adapters_disabled(model):
            with lora.adapters_disabled(model):
                pass
            return _logits(model, ids)

    def raising() -> np.ndarray:
        try:
            with lora.adapters_disabled(model):
                raise KeyError("inside")
        except KeyError:
            return _logits(model, ids)

    def base() -> Arrays:
        state = model.state_dict()
        kept = {n.replace(".base.", "."): t for n, t in state.items() if ".lora_" not in n}
        return _arrays(kept)

    def plain() -> np.ndarray:
        state = _arrays(lora.merged_state(model))
        return _logits(build_model(sizes, state, dtype), ids)

    def train() -> None:
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if ".lora_" in name:
                    weight += 0.25

    return {
        "logits": lambda: _logits(model, ids), "disabled": disabled, "nested": nested,
        "raising": raising, "base": base, "plain": plain, "train": train,
        "merge": lambda: lora.merge(model), "unmerge": lambda: lora.unmerge(model),
        "state": lambda: _arrays(lora.adapter_state(model)),
        "merged_state": lambda: _arrays(lora.merged_state(model)),
        "head": lambda: _arrays({"": model.head_weight})[""],
    }  # fmt: skip


def load_into(
    sizes: dict[str, Any], weights: Arrays, state: Arrays, rank: int, merged: bool = False
) -> bool:
    """Load `state` into a model with adapters of `rank` on query and value; it may raise."""
    from language_model import lora

    model = _model(sizes, weights)
    lora.attach_lora(model, rank, 1.0)
    if merged:
        lora.merge(model)
    lora.load_adapter_state(model, _tensors(state))
    return True


def refused_load(
    sizes: dict[str, Any], weights: Arrays, good: Arrays, bad: Arrays, rank: int
) -> list[Any]:
    """[the error's type, the adapter after `good` was loaded and `bad` refused, saved shared]."""
    import torch
    from language_model import lora

    model, raised = _model(sizes, weights), ""
    lora.attach_lora(model, rank, 1.0)
    lora.load_adapter_state(model, _tensors(good))
    saved = lora.adapter_state(model)
    try:
        lora.load_adapter_state(model, _tensors(bad))
    except Exception as error:
        raised = type(error).__name__
    after = _arrays(lora.adapter_state(model))
    with torch.no_grad():
        for layer in lora.lora_layers(model).values():
            layer.lora_b.fill_(9.0)
    return [raised, after, _arrays(saved)]


def with_dropout(
    sizes: dict[str, Any], weights: Arrays, ids: np.ndarray, adapter: Arrays, rank: int,
    alpha: float, dropout: float, evaluating: bool,
) -> dict[str, Any]:  # fmt: skip
    """Two passes in training mode, two in evaluation mode, one with the adapters off."""
    import torch
    from language_model import lora

    model = _model(sizes, weights).train(not evaluating)
    lora.attach_lora(model, rank, alpha, dropout=dropout)
    lora.load_adapter_state(model, _tensors(adapter))
    torch.manual_seed(1)
    as_attached = [_logits(model, ids) for _ in range(2)]
    model.train()
    training = [_logits(model, ids) for _ in range(2)]
    with lora.adapters_disabled(model):
        off = _logits(model, ids)
    model.eval()
    return {
        "as attached": as_attached, "training": training, "off": off,
        "evaluating": [_logits(model, ids) for _ in range(2)],
    }  # fmt: skip


def dropped_layer(x: np.ndarray, a: np.ndarray, b: np.ndarray, weight: np.ndarray, dropout: float,
                  times: int) -> np.ndarray:  # fmt: skip
    """`times` outputs of a layer in training mode, (times, rows, out)."""
    import torch
    from language_model.lora import LoRALinear

    base = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    base.weight = torch.nn.Parameter(torch.tensor(weight), requires_grad=False)
    layer = LoRALinear(base, len(a), float(len(a)), dropout).train()
    torch.manual_seed(int(1e3 * abs(x[0, 0])))
    with torch.no_grad():
        layer.lora_a.copy_(torch.tensor(a))
        layer.lora_b.copy_(torch.tensor(b))
        return torch.stack([layer(torch.tensor(x)) for _ in range(times)]).numpy()


class QuantizedTraining:
    """A model over a 4-bit base with an adapter on every layer, to see what a graph of it holds."""

    def __init__(self, sizes: dict[str, Any]) -> None:
        from language_model.config import ModelConfig
        from language_model.lora import attach_lora
        from language_model.model import Llama
        from language_model.quantized import quantize_base

        self.model = Llama(ModelConfig(**sizes)).initialize(0)
        quantize_base(self.model, 4)
        names = ["query", "key", "value", "output", "gate", "up", "down"]
        attach_lora(self.model, 2, 4.0, names, seed=2)
        self.loss: Any = None

    def without_graph(self, ids: np.ndarray) -> float:
        """A loss for which nothing is kept."""
        import torch

        with torch.no_grad():
            return _loss(self.model, torch.tensor(ids)).item()

    def with_graph(self, ids: np.ndarray) -> float:
        """The same; what backward will need is kept."""
        import torch

        self.loss = _loss(self.model, torch.tensor(ids))
        return self.loss.item()

    def backward(self) -> list[float]:
        """The norms of the gradients of every B."""
        self.loss.backward()
        weights = self.model.named_parameters()
        return [p.grad.norm().item() for name, p in weights if name.endswith("lora_b")]


def fine_tune_adapter(
    sizes: dict[str, Any], weights: Arrays, rows: np.ndarray, order: np.ndarray, rank: int,
    alpha: float, targets: list[str], rate: float, seed: int,
) -> dict[str, Any]:  # fmt: skip
    """AdamW on the adapter over the batches rows[order[i]]: its A and B, and what was trainable.

    order: (steps, batch) int64. The rate warms up for a tenth of the steps, then falls by a cosine.
    """
    import math

    import torch
    from language_model.lora import adapter_state, attach_lora, count_parameters

    model = _model(sizes, weights).train()
    attach_lora(model, rank, alpha, targets, seed=seed)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=rate, betas=(0.9, 0.99), weight_decay=0.0)
    text = torch.tensor(rows.astype(np.int64))
    steps = len(order)
    for step, places in enumerate(order):
        warm = min(1.0, (step + 1) / max(1, steps // 10))
        falling = 0.5 * (1 + math.cos(math.pi * step / steps))
        optimizer.param_groups[0]["lr"] = rate * warm * falling
        loss = _loss(model, text[torch.tensor(places)])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
    return {
        "state": _arrays(adapter_state(model)), "counts": list(count_parameters(model)),
        "in the optimizer": sum(p.numel() for p in optimizer.state),
    }  # fmt: skip
