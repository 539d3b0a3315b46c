"""What task 3.7 is given: batches, settings, the optimizer, generators as text."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

IGNORED = -100


@dataclass(frozen=True)
class Batch:
    """What one forward pass is made of, all (rows, time) int64.

    targets: the token to predict at each place, IGNORED where none is (padding, the last token of a
    document). documents and positions as `Llama.hidden_states` takes them.
    """

    ids: Tensor
    targets: Tensor
    documents: Tensor | None = None
    positions: Tensor | None = None

    def counted(self) -> int:
        """How many targets count."""
        return int((self.targets != IGNORED).sum())


class BatchStream(Protocol):
    """An endless source of batches that knows where it is: state_dict of plain data."""

    def __next__(self) -> Batch: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any]) -> None: ...


@dataclass(frozen=True)
class Settings:
    """How to train.

    accumulate: batches to an optimizer step. bf16: the forward and backward pass under autocast;
    weights, gradients and moments stay float32. rematerialize: blocks are run again in the backward
    pass, for memory. Schedule as in `cosine_rate`; chunk_rows as in `chunked_cross_entropy`.
    """

    peak: float
    warmup_steps: int
    total_steps: int
    floor: float = 0.0
    max_norm: float | None = 1.0
    accumulate: int = 1
    chunk_rows: int = 512
    bf16: bool = False
    rematerialize: bool = False


@dataclass(frozen=True)
class StepResult:
    """loss: the mean over all targets that counted, `tokens` of them; norm: before clipping.

    taken: whether the optimizer was allowed to step.
    """

    loss: float
    norm: float
    tokens: int
    taken: bool


def make_optimizer(
    model: nn.Module, weight_decay: float, betas: tuple[float, float] = (0.9, 0.95)
) -> torch.optim.AdamW:
    """AdamW over what is not frozen; matrices decay, norms do not. A tied matrix is in once.

    The rate is set by each step.
    """
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.dim() >= 2], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.dim() < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([g for g in groups if g["params"]], lr=0.0, betas=betas)


def generator_state(generator: torch.Generator | np.random.Generator) -> str:
    """The state of a generator of torch or numpy as text."""
    if isinstance(generator, torch.Generator):
        return generator.get_state().numpy().tobytes().hex()
    return json.dumps(generator.bit_generator.state, default=np.ndarray.tolist)


def set_generator_state(generator: torch.Generator | np.random.Generator, text: str) -> None:
    """The inverse of `generator_state`, in place."""
    if isinstance(generator, torch.Generator):
        state = np.frombuffer(bytes.fromhex(text), dtype=np.uint8)
        generator.set_state(torch.tensor(state))
    else:
        generator.bit_generator.state = json.loads(text)
