"""Drivers of task 3.5's loader: a file's bytes or path in, a model's weights and logits out."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np


@contextlib.contextmanager
def _file(data: np.ndarray) -> Iterator[str]:
    """The bytes as a file in a folder of its own, gone afterwards."""
    import os
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "model.gguf")
        data.tofile(path)
        yield path


def load(
    file: np.ndarray, ids: np.ndarray | None = None, dtype: str | None = None,
    as_path: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """`load_gguf`: config, mode, types, weights, and logits of ids once the file is deleted."""
    from dataclasses import asdict
    from pathlib import Path

    import torch
    from drivers_layers import plain

    from language_model.gguf_loader import load_gguf

    options = {} if dtype is None else {"dtype": getattr(torch, dtype)}
    with _file(file) as path:
        model = load_gguf(Path(path) if as_path else path, **options)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.0)  # as an optimizer would: a parameter that lies in the file crashes
    reply = {
        "config": asdict(model.config),
        "training": model.training,
        "types": sorted({str(p.dtype).removeprefix("torch.") for p in model.parameters()}),
        "trainable": all(p.requires_grad for p in model.parameters()),
        "weights": {name: plain(p)["value"] for name, p in model.state_dict().items()},
    }
    if ids is not None:
        with torch.no_grad():
            reply["logits"] = plain(model(torch.tensor(ids)))["value"]
    return reply


def config(file: np.ndarray) -> dict[str, Any]:
    """`read_config` of a file."""
    from dataclasses import asdict

    import gguf

    from language_model.gguf_loader import read_config

    with _file(file) as path:
        return asdict(read_config(gguf.GGUFReader(path)))


def names(gguf_names: list[str]) -> list[str | None]:
    """`parameter_name` of each."""
    from language_model.gguf_loader import parameter_name

    return [parameter_name(name) for name in gguf_names]


def unpermuted(weight: np.ndarray, heads: int) -> np.ndarray:
    """`unpermute` of a matrix."""
    import torch

    from language_model.gguf_loader import unpermute

    return unpermute(torch.tensor(weight), heads).numpy()


def real(path: str, ids: np.ndarray, columns: np.ndarray) -> dict[str, Any]:
    """Logits of the model in the file at `path`: some columns, and argmax and logsumexp of all.

    ids: (positions,) or (rows, positions).
    """
    import torch

    from language_model.gguf_loader import load_gguf

    model = load_gguf(path)
    with torch.no_grad():
        rows = model(torch.tensor(np.atleast_2d(ids))).view(*ids.shape, -1)
    return {
        "logits": rows[..., torch.tensor(columns)].numpy(),
        "highest": rows.argmax(-1).numpy(),
        "logsumexp": rows.logsumexp(-1).numpy(),
    }
