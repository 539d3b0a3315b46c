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

    raise NotImplementedError("task 3.5: read_config")


def unpermute(weight: Tensor, heads: int) -> Tensor:
    """Rows of a query or key projection in the order for rotating halves.

    GGUF stores the two numbers that turn together beside each other (rows 2i and 2i + 1 of a head);
    `apply_rope` wants them head_dim/2 apart. weight: (heads · head_dim, hidden_size).
    """
    raise NotImplementedError("task 3.5: unpermute")


def load_gguf(path: str | Path, dtype: torch.dtype = torch.float32) -> Llama:
    """A model with the weights of a GGUF file, dequantised to `dtype`, in eval mode.

    Uses the `gguf` package (`GGUFReader`, `gguf.quants.dequantize`). At most one tensor is held
    twice at a time: the model is made on the meta device and filled tensor by tensor. Nothing of
    it lies in the file, which may be deleted afterwards. Raises ValueError where a tensor is
    unknown or of another shape (naming it as the file does) or missing (naming the parameter).
    """
    raise NotImplementedError("task 3.5: load_gguf")


def parameter_name(gguf_name: str) -> str | None:
    """The name in `Llama.state_dict()` of a tensor of the file; None where there is none."""
    raise NotImplementedError("task 3.5: parameter_name")
