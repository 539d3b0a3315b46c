"""Given: a `Llama` with the weights of a GGUF file, the format of llama.cpp.

    model = load_gguf("SmolLM2-135M-Instruct.Q4_1.gguf", torch.bfloat16)

The file's quantised blocks are made floats by the `gguf` package; `packed_linear` makes them small
again, on a grid of your own. Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from torch import Tensor

from serving.config import LlamaSizes
from serving.model import Llama

# Stems of the file's names in blk.N.….weight, and of ours in layers.N.….weight.
LAYER_NAMES = {
    "attn_norm": "input_norm", "attn_q": "q_proj", "attn_k": "k_proj", "attn_v": "v_proj",
    "attn_output": "o_proj", "ffn_norm": "post_norm", "ffn_gate": "gate_proj",
    "ffn_up": "up_proj", "ffn_down": "down_proj",
}  # fmt: skip
OTHER_NAMES = {"token_embd": "embedding", "output_norm": "norm", "output": "lm_head"}


class Metadata:
    """The fields of a GGUF file, by name, and its tensors. Raises ValueError for any other file."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            self._reader = gguf.GGUFReader(self.path)
        except OSError:
            raise  # it says what is wrong with the file itself
        except Exception as error:  # numpy's, struct's and its own, as the damage falls
            raise ValueError(f"{self.path.name} is no whole GGUF file ({error})") from error

    def get(self, name: str, default: Any = None) -> Any:
        """A field's value, or `default`."""
        found = self._reader.get_field(name)
        return default if found is None else found.contents()

    def __getitem__(self, name: str) -> Any:
        value = self.get(name)
        if value is None:
            raise ValueError(f"{self.path.name}: the field {name} is missing")
        return value

    @property
    def tensors(self) -> dict[str, gguf.ReaderTensor]:
        """Tensors by name; nothing of them is read before it is used."""
        return {tensor.name: tensor for tensor in self._reader.tensors}


def read_sizes(fields: Metadata) -> LlamaSizes:
    """The sizes that the metadata tells. ValueError for what this model can't express."""
    kind = fields["general.architecture"]
    if kind != "llama":
        raise ValueError(f"{fields.path.name} holds a {kind} model; only llama can be served")
    if (stretched := fields.get("llama.rope.scaling.type", "none")) != "none":
        raise ValueError(f"rotary positions scaled by {stretched!r} are not supported")
    tensors = fields.tensors
    if "token_embd.weight" not in tensors:
        raise ValueError(f"{fields.path.name}: the tensor token_embd.weight is missing")
    num_heads = int(fields["llama.attention.head_count"])
    sizes = LlamaSizes(
        len(tensors["token_embd.weight"].data),
        int(fields["llama.embedding_length"]),
        int(fields["llama.block_count"]),
        num_heads,
        int(fields.get("llama.attention.head_count_kv", num_heads)),
        int(fields["llama.feed_forward_length"]),
        int(fields["llama.context_length"]),
        float(fields.get("llama.rope.freq_base", 1e4)),
        float(fields["llama.attention.layer_norm_rms_epsilon"]),
        tied="output.weight" not in tensors,
    )
    if fields.get("llama.rope.dimension_count", sizes.head_dim) != sizes.head_dim:
        raise ValueError("only a part of each head is rotated; that is not supported")
    return sizes


def load_gguf(path: str | Path, dtype: torch.dtype = torch.float32) -> Llama:
    """The file's model, dequantised to `dtype`, ready to run and frozen.

    Floats of one tensor at most are held twice; afterwards the file is no longer needed. Raises
    OSError, and ValueError where the file is damaged, holds another kind of model, or its tensors
    are not those that its sizes ask for.
    """
    fields = Metadata(path)
    sizes = read_sizes(fields)
    with torch.device("meta"):  # shapes without memory: the weights come from the file
        model = Llama(sizes)
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    loaded: dict[str, Tensor] = {}
    for theirs, ours, weight in _floats(fields, sizes):
        if shapes.get(ours) != weight.shape:
            wanted = shapes.get(ours, "none of that name")
            raise ValueError(f"{theirs} has shape {weight.shape}, the model has {wanted}")
        loaded[ours] = torch.from_numpy(weight).to(dtype)
    if lacking := sorted(shapes.keys() - loaded.keys()):
        raise ValueError(f"{fields.path.name} lacks {len(lacking)} tensors: {lacking[0]}, …")
    model.load_state_dict(loaded, assign=True)
    return model.requires_grad_(False).eval()


def _floats(fields: Metadata, sizes: LlamaSizes) -> Iterator[tuple[str, str, np.ndarray]]:
    """(the file's name, ours, float32 values in memory of their own) of each tensor, in turn."""
    turning = {"q_proj": sizes.num_heads, "k_proj": sizes.num_kv_heads}
    for theirs, tensor in fields.tensors.items():
        try:
            weight = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        except NotImplementedError as error:
            raise ValueError(f"{theirs}: {error}") from error
        ours = our_name(theirs)
        heads = turning.get(ours.split(".")[-2], 0)
        if heads and weight.ndim == 2 and len(weight) % (2 * heads) == 0:
            weight = halves_apart(weight, heads)
        yield theirs, ours, np.array(weight, np.float32)  # float tensors lie in the mapped file


def our_name(theirs: str) -> str:
    """Name in `Llama.state_dict()` of the file's tensor. ValueError: no part of this model."""
    parts = theirs.split(".")
    if len(parts) == 2 and parts[0] in OTHER_NAMES and parts[1] == "weight":
        return f"{OTHER_NAMES[parts[0]]}.weight"
    if len(parts) == 4 and parts[2] in LAYER_NAMES:
        return f"layers.{parts[1]}.{LAYER_NAMES[parts[2]]}.{parts[3]}"
    raise ValueError(f"the tensor {theirs} is no part of a plain Llama")


def halves_apart(weight: np.ndarray, heads: int) -> np.ndarray:
    """(heads · head_dim, columns): rows 2i, 2i + 1 of each head go to i, i + head_dim / 2.

    llama.cpp turns neighbours by the rotary angle, `rotate` the two halves of a head.
    """
    by_pair = weight.reshape(heads, -1, 2, weight.shape[-1])
    return np.swapaxes(by_pair, 1, 2).reshape(weight.shape)
