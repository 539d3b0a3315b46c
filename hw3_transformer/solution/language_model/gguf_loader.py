"""Task 3.5: weights and sizes from a GGUF file, the format of llama.cpp."""

from __future__ import annotations

from pathlib import Path

import gguf
import torch
from torch import Tensor

from language_model.config import ModelConfig
from language_model.model import Llama


def read_config(reader: gguf.GGUFReader) -> ModelConfig:
    """The model's sizes from the file's metadata (`llama.embedding_length` and so on).

    vocab_size is the number of rows of `token_embd.weight`; embeddings are tied where the file has
    no `output.weight`. A missing `llama.attention.head_count_kv` means as many as query heads, a
    missing `llama.rope.freq_base` 10,000. Raises ValueError for another architecture than llama.
    """
    # BEGIN SOLUTION 3.5
    def field(name: str, default: float | None = None) -> float:
        entry = reader.get_field(name)
        if entry is None:
            if default is None:
                raise ValueError(f"the file has no {name}")
            return default
        return entry.contents()

    architecture = field("general.architecture")
    if architecture != "llama":
        raise ValueError(f"a model of architecture {architecture!r}; this loader reads llama")
    shapes = {tensor.name: tensor.shape for tensor in reader.tensors}
    heads = int(field("llama.attention.head_count"))
    return ModelConfig(
        vocab_size=int(shapes["token_embd.weight"][1]),  # GGUF lists the fastest dimension first
        hidden_size=int(field("llama.embedding_length")),
        num_layers=int(field("llama.block_count")),
        num_heads=heads,
        num_kv_heads=int(field("llama.attention.head_count_kv", heads)),
        intermediate_size=int(field("llama.feed_forward_length")),
        max_positions=int(field("llama.context_length")),
        rope_theta=float(field("llama.rope.freq_base", 10_000.0)),
        norm_eps=float(field("llama.attention.layer_norm_rms_epsilon")),
        tie_embeddings="output.weight" not in shapes,
    )
    # END SOLUTION


def unpermute(weight: Tensor, heads: int) -> Tensor:
    """Rows of a query or key projection in the order for rotating halves.

    GGUF stores the two numbers that turn together beside each other (rows 2i and 2i + 1 of a head);
    `apply_rope` wants them head_dim/2 apart. weight: (heads · head_dim, hidden_size).
    """
    # BEGIN SOLUTION 3.5
    rows, columns = weight.shape
    pairs = weight.reshape(heads, rows // heads // 2, 2, columns)
    return pairs.transpose(1, 2).reshape(rows, columns)
    # END SOLUTION


def load_gguf(path: str | Path, dtype: torch.dtype = torch.float32) -> Llama:
    """A model with the weights of a GGUF file, dequantised to `dtype`, in eval mode.

    Uses the `gguf` package (`GGUFReader`, `gguf.quants.dequantize`). At most one tensor is held
    twice at a time: the model is made on the meta device and filled tensor by tensor. Raises
    ValueError that names the tensor where one is missing, unknown, or of another shape.
    """
    # BEGIN SOLUTION 3.5
    reader = gguf.GGUFReader(str(path))
    config = read_config(reader)
    with torch.device("meta"):
        model = Llama(config)
    expected = {name: weight.shape for name, weight in model.named_parameters()}
    state: dict[str, Tensor] = {}
    for tensor in reader.tensors:
        name = parameter_name(tensor.name)
        if name is None or name not in expected:
            if tensor.name == "rope_freqs.weight":
                raise ValueError("rope_freqs.weight: scaled rotary frequencies are not supported")
            raise ValueError(f"{tensor.name}: the model has no such tensor")
        array = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        weight = torch.tensor(array, dtype=dtype)  # a copy: float32 tensors lie in the mapped file
        if name.endswith("attention.query.weight"):
            weight = unpermute(weight, config.num_heads)
        elif name.endswith("attention.key.weight"):
            weight = unpermute(weight, config.num_kv_heads)
        if weight.shape != expected[name]:
            raise ValueError(
                f"{tensor.name}: shape {tuple(weight.shape)}, the model has {tuple(expected[name])}"
            )
        state[name] = weight
    missing = sorted(set(expected) - set(state))
    if missing:
        raise ValueError(f"the file has no tensor for {missing[0]} ({len(missing)} are missing)")
    model.load_state_dict(state, assign=True)
    return model.eval()
    # END SOLUTION


def parameter_name(gguf_name: str) -> str | None:
    """The name in `Llama.state_dict()` of a tensor of the file; None where there is none."""
    # BEGIN SOLUTION 3.5
    outer = {
        "token_embd.weight": "embedding.weight",
        "output_norm.weight": "norm.weight",
        "output.weight": "head.weight",
    }
    if gguf_name in outer:
        return outer[gguf_name]
    inner = {
        "attn_norm": "attention_norm",
        "attn_q": "attention.query",
        "attn_k": "attention.key",
        "attn_v": "attention.value",
        "attn_output": "attention.output",
        "ffn_norm": "ffn_norm",
        "ffn_gate": "ffn.gate",
        "ffn_up": "ffn.up",
        "ffn_down": "ffn.down",
    }
    parts = gguf_name.split(".")
    if len(parts) == 4 and parts[0] == "blk" and parts[2] in inner and parts[3] == "weight":
        return f"blocks.{parts[1]}.{inner[parts[2]]}.weight"
    return None
    # END SOLUTION
