"""Small GGUF files in the form of the real one, and the weights that are in them. Trusted side.

As in SmolLM2's file: embedding Q8_0, matrices Q4_1, norms F32; query and key rows interleaved, so
that the two numbers that turn together stand beside each other. Q4_1 and Q8_0 store blocks of 32:
hidden and intermediate size must be multiples of it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Kind
from tiny_model import Sizes

AS_REAL = {"embedding": Kind.Q8_0, "matrix": Kind.Q4_1, "head": Kind.Q8_0}
_INNER = {
    "attention_norm": "attn_norm", "attention.query": "attn_q", "attention.key": "attn_k",
    "attention.value": "attn_v", "attention.output": "attn_output", "ffn_norm": "ffn_norm",
    "ffn.gate": "ffn_gate", "ffn.up": "ffn_up", "ffn.down": "ffn_down",
}  # fmt: skip
_OUTER = {"embedding": "token_embd", "norm": "output_norm", "head": "output"}
_QUANTISED = {Kind.Q4_1, Kind.Q8_0, Kind.Q4_0, Kind.BF16}


def gguf_name(parameter: str) -> str:
    """The name in a file of a parameter of `Llama.state_dict()`."""
    stem = parameter.removesuffix(".weight")
    if stem in _OUTER:
        return f"{_OUTER[stem]}.weight"
    _, layer, rest = stem.split(".", 2)
    return f"blk.{layer}.{_INNER[rest]}.weight"


def interleaved(weight: np.ndarray, heads: int) -> np.ndarray:
    """Rows in the file's order: row i of a head's first half, row i of its second half, and so on."""
    width = len(weight) // heads
    order = [
        head * width + part * (width // 2) + pair
        for head in range(heads) for pair in range(width // 2) for part in range(2)
    ]  # fmt: skip
    return weight[order]


def straightened(weight: np.ndarray, heads: int) -> np.ndarray:
    """The inverse of `interleaved`."""
    order = interleaved(np.arange(len(weight))[:, None], heads)[:, 0]
    back = np.empty_like(weight)
    back[order] = weight
    return back


def metadata_of(sizes: Sizes) -> dict[str, Any]:
    """The fields that llama.cpp's converter writes for a Llama of these sizes."""
    return {
        "llama.block_count": sizes.num_layers,
        "llama.context_length": sizes.max_positions,
        "llama.embedding_length": sizes.hidden_size,
        "llama.feed_forward_length": sizes.intermediate_size,
        "llama.attention.head_count": sizes.num_heads,
        "llama.attention.head_count_kv": sizes.num_kv_heads,
        "llama.rope.freq_base": sizes.rope_theta,
        "llama.attention.layer_norm_rms_epsilon": sizes.norm_eps,
        "llama.vocab_size": sizes.vocab_size,
        "llama.rope.dimension_count": sizes.head_dim,
    }


@dataclass
class GGUFFile:
    """What a file shall hold; `written` gives its bytes.

    kinds: types of "embedding", "matrix" and "head"; norms are F32. metadata: changed fields, None
    leaves one out. tensors: changed arrays by the file's names, None leaves one out, new names add.
    """

    sizes: Sizes
    weights: Mapping[str, np.ndarray]
    kinds: Mapping[str, Kind] = field(default_factory=lambda: AS_REAL)
    architecture: str = "llama"
    metadata: Mapping[str, Any] = field(default_factory=dict)
    tensors: Mapping[str, np.ndarray | None] = field(default_factory=dict)

    def stored(self) -> dict[str, np.ndarray]:
        """The weights after the file's rounding, under the names of `Llama.state_dict()`."""
        found = {}
        for name, array in self.weights.items():
            kind = self._kind(name)
            raw = _encoded(self._ordered(name, array), kind)
            back = gguf.quants.dequantize(raw, kind).astype(np.float32).reshape(array.shape)
            found[name] = self._ordered(name, back, straightened)
        return found

    def written(self) -> np.ndarray:
        """The file's bytes, (size,) uint8."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.gguf"
            writer = gguf.GGUFWriter(str(path), self.architecture)
            for name, value in {**metadata_of(self.sizes), **self.metadata}.items():
                if value is not None:
                    _add_field(writer, name, value)
            tensors = {gguf_name(name): name for name in self.weights}
            for name in [*tensors, *(extra for extra in self.tensors if extra not in tensors)]:
                parameter = tensors.get(name)
                if name in self.tensors:
                    changed = self.tensors[name]
                    if changed is not None:
                        writer.add_tensor(name, np.ascontiguousarray(changed, np.float32))
                    continue
                kind = self._kind(parameter)
                raw = _encoded(self._ordered(parameter, self.weights[parameter]), kind)
                writer.add_tensor(name, raw, raw_dtype=kind)
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_tensors_to_file()
            writer.close()
            return np.frombuffer(path.read_bytes(), np.uint8)

    def _kind(self, parameter: str) -> Kind:
        stem = parameter.removesuffix(".weight")
        if self.weights[parameter].ndim == 1:
            return Kind.F32
        return self.kinds[stem if stem in ("embedding", "head") else "matrix"]

    def _ordered(
        self, parameter: str, array: np.ndarray, order: Callable[..., np.ndarray] = interleaved
    ) -> np.ndarray:
        if parameter.endswith("attention.query.weight"):
            return order(array, self.sizes.num_heads)
        if parameter.endswith("attention.key.weight"):
            return order(array, self.sizes.num_kv_heads)
        return array


def _encoded(array: np.ndarray, kind: Kind) -> np.ndarray:
    array = np.ascontiguousarray(array, np.float32)
    if kind in _QUANTISED:
        return gguf.quants.quantize(array, kind)
    return array.astype(np.float16 if kind == Kind.F16 else np.float32)


def _add_field(writer: gguf.GGUFWriter, name: str, value: Any) -> None:
    if isinstance(value, str):
        writer.add_string(name, value)
    elif isinstance(value, float):
        writer.add_float32(name, value)
    else:
        writer.add_uint32(name, value)
