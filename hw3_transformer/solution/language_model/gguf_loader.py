"""Task 3.5: weights and sizes from a GGUF file, the format of llama.cpp."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import torch
from torch import Tensor

from language_model.config import ModelConfig
from language_model.model import Llama


def read_config(reader: gguf.GGUFReader) -> ModelConfig:
    """The model's sizes from the file's metadata (`llama.embedding_length` and so on).

    vocab_size is the number of rows of `token_embd.weight`; embeddings are tied where the file has
    no `output.weight`. A missing `llama.attention.head_count_kv` means as many as query heads, a
    missing `llama.rope.freq_base` 10,000. Raises ValueError that names what is wrong: another
    architecture than llama; a field or `token_embd.weight` that is missing; a
    `llama.rope.dimension_count` that is not head_dim; a `llama.rope.scaling.type` other than none.
    """

    # BEGIN SOLUTION 3.5
    def field(name: str, default: Any = None) -> Any:
        entry = reader.get_field(name)
        if entry is None:
            if default is None:
                raise ValueError(f"the file has no {name}")
            return default
        return entry.contents()

    architecture = field("general.architecture")
    if architecture != "llama":
        raise ValueError(f"a model of architecture {architecture!r}; this loader reads llama")
    scaling = field("llama.rope.scaling.type", "none")
    if scaling != "none":
        raise ValueError(
            f"llama.rope.scaling.type is {scaling!r}; only plain rotation is supported"
        )
    shapes = {tensor.name: tensor.shape for tensor in reader.tensors}
    if "token_embd.weight" not in shapes:
        raise ValueError("the file has no token_embd.weight")
    heads = int(field("llama.attention.head_count"))
    config = ModelConfig(
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
    turned = int(field("llama.rope.dimension_count", config.head_dim))
    if turned != config.head_dim:
        raise ValueError(f"llama.rope.dimension_count is {turned}, a head has {config.head_dim}")
    return config
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
    twice at a time: the model is made on the meta device and filled tensor by tensor. Nothing of
    it lies in the file, which may be deleted afterwards. Raises ValueError where a tensor is
    unknown or of another shape (naming it as the file does) or missing (naming the parameter).
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
        shape, wanted = tuple(tensor.shape[::-1].tolist()), tuple(expected[name])
        if shape != wanted:
            raise ValueError(f"{tensor.name}: shape {shape}, the model has {wanted}")
        array = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        weight = torch.tensor(array, dtype=dtype)  # a copy: float32 tensors lie in the mapped file
        if name.endswith("attention.query.weight"):
            weight = unpermute(weight, config.num_heads)
        elif name.endswith("attention.key.weight"):
            weight = unpermute(weight, config.num_kv_heads)
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
