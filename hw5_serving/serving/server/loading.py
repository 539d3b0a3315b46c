"""Models for serve.py and its like."""

from __future__ import annotations

from pathlib import Path

import click
import torch

from serving.experiment import find_data
from serving.gguf_loader import load_gguf
from serving.model import Llama
from serving.packed_linear import PackedLinear
from serving.quantize import quantize
from serving.server.text import Tokenizer
from serving.server.tiny import ByteTokenizer, tiny_model
from serving.tokenizer import Tokenizer as PackagedTokenizer

GROUP = 32  # in 4 bits SmolLM2's matrices are then 8% off (in the norm); 9% with groups of 64


def load_model(path: Path | None, tiny: bool, seed: int) -> tuple[str, Llama, Tokenizer]:
    """Name, model, tokenizer: a GGUF file's, those of `make fetch`, or tiny ones.

    Raises click.UsageError where there is nothing to load.
    """
    if tiny:
        return "tiny", tiny_model(seed), ByteTokenizer()
    path = path or find_data("SmolLM2-135M-Instruct*.gguf")
    if path is None:
        raise click.UsageError(
            "no weights: run `make fetch`, name a GGUF file by --model, or take --tiny"
        )
    name = path.stem.split(".")[0].lower()
    try:
        return name, load_gguf(path), PackagedTokenizer.from_gguf(path)
    except (ValueError, OSError) as error:
        raise click.UsageError(f"{path} can't be served: {error}") from None


def quantise_model(model: Llama, bits: int) -> None:
    """Put packed integers in the place of every layer's matrices (5.5); the embedding stays."""
    for layer in model.layers:
        for name, module in list(layer.named_children()):
            if isinstance(module, torch.nn.Linear):
                weight = quantize(module.weight.detach(), bits, GROUP, symmetric=bits == 8)
                setattr(layer, name, PackedLinear(weight))
