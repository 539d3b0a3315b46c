"""Drivers of task 4.10: ring attention and experts on one rank.

A barrier after each forward and each backward lets the switch count what it sent.
"""

from __future__ import annotations

import contextlib
import weakref
from typing import Any

import numpy as np

MMAP_THRESHOLD = -3  # glibc's number of it


def _leaf(values: np.ndarray, dtype: str = "float64", needs_grad: bool = True) -> Any:
    import torch

    return torch.tensor(values).to(getattr(torch, dtype)).requires_grad_(needs_grad)


def _pack(tensor: Any) -> Any:
    from drivers_collectives import pack

    return None if tensor is None else pack(tensor.detach())


def _across(values: np.ndarray, dtype: str, transposed: bool) -> Any:
    """A leaf of (batch, heads, time, head_dim); transposed: heads and time lie the other way round
    in memory, as after a projection's view."""
    leaf = _leaf(values, dtype, False)
    if transposed:
        leaf = leaf.transpose(1, 2).contiguous().transpose(1, 2)
    return leaf.requires_grad_()


def ring_attentions(cases: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Attention of each case's chunk, and the gradients.

    case: "query", "key", "value", "upstream" (this rank's chunks), "causal", "dtype", "transposed".
    """
    from distributed_training.communicator import connect
    from distributed_training.ring_attention import ring_attention

    ranks, found = connect(), []
    for case in cases:
        leaves = [
            _across(case[k], case["dtype"], case["transposed"]) for k in ("query", "key", "value")
        ]
        before = [leaf.detach().clone() for leaf in leaves]
        y = ring_attention(*leaves, ranks, causal=case["causal"])
        ranks.barrier()
        y.backward(_across(case["upstream"], case["dtype"], case["transposed"]).detach())
        ranks.barrier()
        intact = all(bool((a == b).all()) for a, b in zip(leaves, before, strict=True))
        found.append({
            "output": _pack(y), "query": _pack(leaves[0].grad), "key": _pack(leaves[1].grad),
            "value": _pack(leaves[2].grad), "intact": intact or bool(np.isnan(case["key"]).any()),
        })  # fmt: skip
    return found


def attention_without_a_graph(cases: list[dict[str, Any]]) -> list[Any]:
    """The outputs where nothing is recorded."""
    import torch

    from distributed_training.communicator import connect
    from distributed_training.ring_attention import ring_attention

    ranks, found = connect(), []
    for case in cases:
        parts = [_leaf(case[k], case["dtype"], False) for k in ("query", "key", "value")]
        with torch.no_grad():
            found.append(_pack(ring_attention(*parts, ranks, causal=case["causal"])))
    return found


class _Watched:
    """A communicator that keeps account of the memory that messages were received into."""

    def __init__(self, ranks: Any) -> None:
        self.ranks, self.rank, self.size = ranks, ranks.rank, ranks.size
        self.held, self.most = 0, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.ranks, name)

    def irecv(self, tensor: Any, source: int, tag: int = 0) -> Any:
        storage = tensor.untyped_storage()
        self.held += storage.nbytes()
        self.most = max(self.most, self.held)
        weakref.finalize(storage, self._freed, storage.nbytes())
        return self.ranks.irecv(tensor, source, tag)

    def recv(self, tensor: Any, source: int, tag: int = 0) -> None:
        self.irecv(tensor, source, tag).wait()

    def _freed(self, size: int) -> None:
        self.held -= size


def attention_costs(case: dict[str, Any]) -> dict[str, Any]:
    """What a forward and a backward of one rank hold of others' chunks, and compute.

    {"forward" and "backward": {"held": the most bytes received and not let go of, "flops": of matrix
    products}, "left": bytes still held between the two}.
    """
    from torch.utils.flop_counter import FlopCounterMode

    from distributed_training.communicator import connect
    from distributed_training.ring_attention import ring_attention

    watched = _Watched(connect())
    leaves = [_leaf(case[k], case["dtype"]) for k in ("query", "key", "value")]
    found: dict[str, Any] = {}
    with FlopCounterMode(display=False) as counter:
        y = ring_attention(*leaves, watched, causal=case["causal"])
    found["forward"] = {"held": watched.most, "flops": counter.get_total_flops()}
    found["left"], watched.most = watched.held, watched.held
    with FlopCounterMode(display=False) as counter:
        y.backward(_leaf(case["upstream"], case["dtype"], False))
    found["backward"] = {"held": watched.most, "flops": counter.get_total_flops()}
    return found


def large_attention(seed: int, shape: tuple[int, ...]) -> dict[str, np.ndarray]:
    """A causal forward and backward of chunks that are made here, with the queries as the upstream
    gradient. The first two columns of the output and of the gradients.

    What is let go of is given back at once: else the allocator keeps what it finds no use for.
    """
    import ctypes

    import torch

    from distributed_training.communicator import connect
    from distributed_training.ring_attention import ring_attention

    ranks = connect()
    with contextlib.suppress(AttributeError, OSError):  # not glibc
        ctypes.CDLL(None).mallopt(MMAP_THRESHOLD, 1 << 17)
    leaves = [torch.tensor(part).requires_grad_() for part in large_chunk(seed, ranks.rank, shape)]
    y = ring_attention(*leaves, ranks)
    y.backward(leaves[0].detach())
    tensors = [y.detach(), *(leaf.grad for leaf in leaves)]
    names = ("output", "query", "key", "value")
    return {n: t[0, 0, :, :2].clone().numpy() for n, t in zip(names, tensors, strict=True)}


def large_chunk(seed: int, rank: int, shape: tuple[int, ...]) -> list[np.ndarray]:
    """A rank's queries, keys and values, float32: the trusted side makes the same."""
    rng = np.random.default_rng([seed, rank])
    return [rng.standard_normal(shape, np.float32) for _ in range(3)]


def mixtures(cases: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Output of the experts for this rank's tokens, and all gradients that this rank has.

    case: "x", "upstream", "router", "experts": {"0": {"gate", "up", "down"}, …} of this rank,
    "count", "top_k", "needs_grad": whether x needs a gradient, "frozen": the experts need none.
    """
    import torch

    from distributed_training.communicator import connect
    from distributed_training.experts import MixtureOfExperts

    ranks, found = connect(), []
    for case in cases:
        layer = MixtureOfExperts(
            case["x"].shape[-1], case["inner"], case["count"], case["top_k"], ranks
        ).double()
        with torch.no_grad():
            layer.router.copy_(torch.tensor(case["router"]))
            for name, expert in layer.experts.items():
                for part, values in case["experts"][name].items():
                    getattr(expert, part).weight.copy_(torch.tensor(values))
        x = _leaf(case["x"], needs_grad=case["needs_grad"])
        y = layer(x)
        ranks.barrier()
        y.backward(_leaf(case["upstream"], needs_grad=False))
        ranks.barrier()
        gradients = {
            name: {
                part: _pack(getattr(expert, part).weight.grad) for part in ("gate", "up", "down")
            }
            for name, expert in layer.experts.items()
        }
        found.append({"output": _pack(y), "x": _pack(x.grad), "router": _pack(layer.router.grad),
                      "experts": gradients})  # fmt: skip
    return found


def mixture_without_a_graph(case: dict[str, Any], steps: int) -> list[Any]:
    """The outputs of `steps` calls in a row with no barrier and nothing recorded."""
    import torch

    from distributed_training.communicator import connect
    from distributed_training.experts import MixtureOfExperts

    ranks = connect()
    layer = MixtureOfExperts(
        case["x"].shape[-1], case["inner"], case["count"], case["top_k"], ranks
    ).double()
    with torch.no_grad():
        layer.router.copy_(torch.tensor(case["router"]))
        for name, expert in layer.experts.items():
            for part, values in case["experts"][name].items():
                getattr(expert, part).weight.copy_(torch.tensor(values))
        x = _leaf(case["x"], needs_grad=False)
        found = []
        for _step in range(steps):
            x = layer(x)
            found.append(_pack(x))
    return found


def routes(cases: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Experts chosen, their weights, and the gradient of the logits. case: "logits", "top_k",
    "upstream"."""
    from distributed_training.experts import route

    found = []
    for case in cases:
        logits = _leaf(case["logits"])
        chosen, weights = route(logits, case["top_k"])
        weights.backward(_leaf(case["upstream"], needs_grad=False))
        found.append({"chosen": _pack(chosen), "weights": _pack(weights),
                      "gradient": _pack(logits.grad)})  # fmt: skip
    return found


def balance_losses(cases: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The loss and the gradient of the logits. case: "logits", "chosen", "scale"."""
    from distributed_training.experts import balance_loss

    found = []
    for case in cases:
        logits = _leaf(case["logits"])
        loss = balance_loss(logits, _leaf(case["chosen"], "int64", needs_grad=False))
        (loss * case["scale"]).backward()
        found.append({"loss": _pack(loss), "gradient": _pack(logits.grad)})
    return found
