"""SmolLM2-135M on the trusted side: weights layer by layer, what each matrix reads, perplexity.

The file is read by the `gguf` package, and a layer's weights are made into floats when its turn
comes: 14 MB are held, not the whole model. A test that compares variants of the model takes all of
them through a layer before the next, so each is read once. None of this is the student's code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

Layer = dict[str, Tensor]
# Which matrices read the same vectors, in the order of a layer.
READERS = {"input": ["q_proj", "k_proj", "v_proj"], "mixed": ["o_proj"],
           "post": ["gate_proj", "up_proj"], "opened": ["down_proj"]}  # fmt: skip
MATRICES = tuple(name for names in READERS.values() for name in names)
_FILED = {"input_norm": "attn_norm", "q_proj": "attn_q", "k_proj": "attn_k", "v_proj": "attn_v",
          "o_proj": "attn_output", "post_norm": "ffn_norm", "gate_proj": "ffn_gate",
          "up_proj": "ffn_up", "down_proj": "ffn_down"}  # fmt: skip


@dataclass(frozen=True)
class Sizes:
    """What a forward pass has to know."""

    layers: int
    heads: int
    kv_heads: int
    theta: float
    eps: float


class RealModel:
    """A Llama in a GGUF file with tied embeddings."""

    def __init__(self, path: Path) -> None:
        file = gguf.GGUFReader(path)
        self._tensors = {tensor.name: tensor for tensor in file.tensors}

        def field(name: str) -> Any:
            return file.fields[f"llama.{name}"].contents()

        self.sizes = Sizes(
            layers=int(field("block_count")), heads=int(field("attention.head_count")),
            kv_heads=int(field("attention.head_count_kv")), theta=float(field("rope.freq_base")),
            eps=float(field("attention.layer_norm_rms_epsilon")),
        )  # fmt: skip

    def _floats(self, name: str) -> Tensor:
        tensor = self._tensors[name]
        return torch.from_numpy(np.array(gguf.quants.dequantize(tensor.data, tensor.tensor_type)))

    def layer(self, number: int) -> Layer:
        """The layer's norms (in,) and matrices (out, in), float32, made anew at each call."""
        found = {
            name: self._floats(f"blk.{number}.{filed}.weight") for name, filed in _FILED.items()
        }
        for name, heads in (("q_proj", self.sizes.heads), ("k_proj", self.sizes.kv_heads)):
            # Rows 2i and 2i + 1 of a head turn together in the file, i and i + half here.
            pairs = found[name].unflatten(0, (heads, -1, 2))
            found[name] = pairs.transpose(1, 2).flatten(0, 2).contiguous()
        return found

    @property
    def embedding(self) -> Tensor:
        """(vocabulary, hidden) float32; also the head."""
        return self._floats("token_embd.weight")

    def embedded(self, ids: np.ndarray) -> Tensor:
        """The embeddings of `ids` (texts, time) only: (texts, time, hidden)."""
        tensor = self._tensors["token_embd.weight"]
        rows = gguf.quants.dequantize(tensor.data[ids.reshape(-1)], tensor.tensor_type)
        return torch.from_numpy(np.array(rows)).view(*ids.shape, -1)

    @torch.no_grad()
    def run_layer(
        self, weights: Layer, stream: Tensor, seen: dict[str, Tensor] | None = None
    ) -> Tensor:
        """One layer over (texts, time, hidden); `seen` gets what each matrix reads, by READERS."""
        texts, time, _ = stream.shape
        inputs = self._norm(stream, weights["input_norm"])
        query, key, value = (
            F.linear(inputs, weights[name]).view(texts, time, heads, -1).transpose(1, 2)
            for name, heads in (("q_proj", self.sizes.heads), ("k_proj", self.sizes.kv_heads),
                                ("v_proj", self.sizes.kv_heads))
        )  # fmt: skip
        attended = F.scaled_dot_product_attention(
            self._turned(query), self._turned(key), value, is_causal=True, enable_gqa=True
        )
        mixed = attended.transpose(1, 2).flatten(2)
        stream = stream + F.linear(mixed, weights["o_proj"])
        post = self._norm(stream, weights["post_norm"])
        opened = F.silu(F.linear(post, weights["gate_proj"])) * F.linear(post, weights["up_proj"])
        if seen is not None:
            seen.update(input=inputs, mixed=mixed, post=post, opened=opened)
        return stream + F.linear(opened, weights["down_proj"])

    def _norm(self, stream: Tensor, weight: Tensor) -> Tensor:
        return F.rms_norm(stream, weight.shape, weight, self.sizes.eps)

    def _turned(self, heads: Tensor) -> Tensor:
        """Rotary positions 0, 1, … over (texts, heads, time, head_dim), halves turned together."""
        half, time = heads.shape[-1] // 2, heads.shape[-2]
        rates = self.sizes.theta ** (-torch.arange(half, dtype=torch.float64) / half)
        angles = torch.arange(time, dtype=torch.float64)[:, None] * rates
        cos, sin = angles.cos().float(), angles.sin().float()
        a, b = heads[..., :half], heads[..., half:]
        return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)

    def logits(self, stream: Tensor) -> Tensor:
        """(…, vocabulary), from the last layer's output."""
        return self._norm(stream, self._floats("output_norm.weight")) @ self.embedding.T

    @torch.no_grad()
    def perplexity(self, stream: Tensor, ids: np.ndarray) -> float:
        """exp of the mean loss of each token after its text's first, from the last layer's output."""
        normed = self._norm(stream, self._floats("output_norm.weight"))[:, :-1].flatten(0, 1)
        head, wanted = self.embedding, torch.from_numpy(ids)[:, 1:].flatten()
        losses = [
            F.cross_entropy(rows @ head.T, targets, reduction="sum")
            for rows, targets in zip(normed.split(128), wanted.split(128), strict=True)
        ]  # so that 25 MB of logits are held at a time
        return float(torch.stack(losses).sum().div(len(wanted)).exp())


def arrays(layer: Layer, names: Sequence[str] = MATRICES) -> dict[str, np.ndarray]:
    """The named parts of a layer as they cross the wire."""
    return {name: layer[name].numpy() for name in names}


def flat(seen: dict[str, Tensor]) -> dict[str, np.ndarray]:
    """What the matrices read, one row a token: (rows, in) by READERS."""
    return {source: inputs.flatten(0, -2).numpy() for source, inputs in seen.items()}


def dequantized(parts: dict[str, np.ndarray], shape: torch.Size, bits: int, group: int) -> Tensor:
    """scale · (code − zero), float32, from what crossed the wire. Wrong types and sizes fail.

    The number of scales is checked first: with one for each weight nothing would be lost.
    """
    rows, columns = shape
    width = columns // 2 if bits <= 4 else columns
    for name, dtype, size in (
        ("codes", np.uint8, (rows, width)), ("scales", np.float32, (rows, columns // group)),
    ):  # fmt: skip
        got = np.asarray(parts[name])
        assert (got.dtype, got.shape) == (dtype, size), (
            f"{name} are {got.dtype} {got.shape}; {np.dtype(dtype)} {size} is asked"
        )
    codes = torch.from_numpy(np.array(parts["codes"]))
    if bits <= 4:
        codes = torch.stack((codes & 15, codes >> 4), 2).flatten(1)
    assert int(codes.max()) < 2**bits, f"a code of {codes.max()} does not fit {bits} bits"
    scales, zeros = torch.from_numpy(np.array(parts["scales"])), np.asarray(parts["zeros"])
    centre = torch.full_like(scales, 2.0 ** (bits - 1))
    if zeros.size:
        assert (zeros.dtype, zeros.shape) == (np.uint8, tuple(scales.shape)), (
            f"zeros are {zeros.dtype} {zeros.shape}; uint8 {tuple(scales.shape)} is asked"
        )
        centre = torch.from_numpy(np.array(zeros)).float()
    grouped = codes.view(rows, columns // group, group).float()
    return ((grouped - centre[..., None]) * scales[..., None]).view(rows, columns)


def nearest_layer(layer: Layer, bits: int, group: int) -> Layer:
    """The layer rounded to nearest on asymmetric grids: what GPTQ and AWQ are compared with."""
    found = dict(layer)
    for name in MATRICES:
        rows = layer[name].unflatten(1, (-1, group))
        low, high = rows.amin(2, True).clamp(max=0), rows.amax(2, True).clamp(min=0)
        step = (high - low).clamp(min=1e-12) / (2**bits - 1)
        zero = (-low / step).round()
        codes = ((rows / step).round() + zero).clamp(0, 2**bits - 1)
        found[name] = ((codes - zero) * step).flatten(1)
    return found


@dataclass
class Block:
    """A layer, and the activations around it of some texts."""

    weights: Layer
    stream: Tensor  # (texts, time, hidden), what goes in
    output: Tensor  # the same shape, what comes out
    seen: dict[str, Tensor]


def block_of(model: RealModel, ids: np.ndarray, number: int) -> Block:
    """Layer `number` with the activations of `ids` (texts, time)."""
    stream = model.embedded(ids)
    for before in range(number):
        stream = model.run_layer(model.layer(before), stream)
    weights, seen = model.layer(number), {}
    return Block(weights, stream, model.run_layer(weights, stream, seen), seen)


def block_error(model: RealModel, block: Block, weights: Layer) -> float:
    """Mean over tokens of |output with these weights − output as it was|²."""
    return float((model.run_layer(weights, block.stream) - block.output).square().sum(-1).mean())


def window(ids: np.ndarray, rng: np.random.Generator, tokens: int) -> np.ndarray:
    """A stretch of a text, at a place nobody knows in advance: (1, tokens)."""
    start = int(rng.integers(0, len(ids) - tokens + 1))
    return ids[None, start : start + tokens]


@lru_cache(maxsize=1)
def open_model(path: Path) -> RealModel:
    """The file, opened once for all tests of a run."""
    return RealModel(path)
