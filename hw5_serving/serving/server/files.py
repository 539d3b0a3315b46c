"""Adapters and weights in files: what the admin routes load, and what make_version.py writes."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import torch
from torch import Tensor

from serving.lora_batch import Adapter
from serving.model import Llama
from serving.tensor_file import read_tensors, write_tensors
from serving.versions import state_checksum

# layers.3.q_proj.lora_A, or as peft writes it: base_model.model.model.layers.3.self_attn.q_proj.lora_A.weight
PART = re.compile(r"(?:^|\.)layers\.(\d+)\.(?:self_attn\.|mlp\.)?(\w+_proj)\.lora_([AB])(?:\.weight)?")


def inside(folder: Path, name: str) -> Path:
    """The file or folder `name` in `folder`; ValueError where it leads out, FileNotFoundError."""
    base = folder.resolve()
    path = (base / name).resolve()
    if not path.is_relative_to(base) or path == base:
        raise ValueError(f"{name!r} does not lie in the server's folder for such files")
    if not path.exists():
        raise FileNotFoundError(f"there is no {name!r} in the server's folder for such files")
    return path


def read_adapter(path: Path, dtype: torch.dtype) -> tuple[Adapter, float | None]:
    """A LoRA adapter, layer -> (A (rank, in), B (out, rank)), and its scale if the files tell it.

    A safetensors file of `write_adapter`, or a folder of peft's (adapter_model.safetensors and
    adapter_config.json). Raises ValueError, OSError.
    """
    scale: float | None = None
    if path.is_dir():
        config = json.loads((path / "adapter_config.json").read_text(encoding="utf-8"))
        rank = config["r"]
        scale = config["lora_alpha"] / (math.sqrt(rank) if config.get("use_rslora") else rank)
        path = path / "adapter_model.safetensors"
    tensors, notes = read_tensors(path)
    if "scale" in notes:
        scale = float(notes["scale"])
    parts: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        found = PART.search(name)
        if found is None or found.end() != len(name):
            raise ValueError(f"{path.name}: {name} is no part of a LoRA adapter that fits this model")
        number, layer, side = found.groups()
        if not bool(torch.isfinite(tensor).all()):
            raise ValueError(f"{path.name}: {name} has nan or infinite values")
        parts.setdefault(f"layers.{number}.{layer}", {})[side] = tensor.to(dtype)
    for layer, both in parts.items():
        if set(both) != {"A", "B"}:
            raise ValueError(f"{path.name}: {layer} has only {' '.join(both)} of A and B")
    return {layer: (both["A"], both["B"]) for layer, both in parts.items()}, scale


def write_adapter(path: Path, adapter: Adapter, scale: float) -> None:
    """Write an adapter for `read_adapter`."""
    tensors = {}
    for layer, (a, b) in adapter.items():
        tensors[f"{layer}.lora_A"], tensors[f"{layer}.lora_B"] = a, b
    write_tensors(path, tensors, {"scale": repr(scale)})


def write_weights(path: Path, model: Llama) -> str:
    """Write a model's state with its checksum; returns the checksum."""
    state = model.state_dict()
    checksum = state_checksum(state)
    write_tensors(path, state, {"checksum": checksum})
    return checksum
