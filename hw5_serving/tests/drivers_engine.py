"""Drivers of tasks 5.3 and 5.4: the scheduler and the engine."""

from __future__ import annotations

from typing import Any

import numpy as np


def generated(
    sizes: dict[str, Any], weights: dict[str, np.ndarray], config: dict[str, Any],
    prompts: list[list[int]], lengths: list[int],
) -> dict[str, Any]:  # fmt: skip
    """Greedy answers of the engine in float64, each step's plan, and the blocks free at the end."""
    import torch

    from serving.config import EngineConfig, LlamaSizes
    from serving.engine import Engine
    from serving.model import Llama
    from serving.sequence import SamplingParams

    model = Llama(LlamaSizes(**sizes)).double()
    model.load_state_dict({name: torch.tensor(array).double() for name, array in weights.items()})
    engine = Engine(model, EngineConfig(**config))
    answers = engine.generate(prompts, [SamplingParams(max_new_tokens=n) for n in lengths])
    return {
        "answers": answers,
        "plans": [[list(entry) for entry in step.counts] for step in engine.history],
        "preempted": [list(step.preempted) for step in engine.history],
        "free": engine.blocks.num_free,
    }
