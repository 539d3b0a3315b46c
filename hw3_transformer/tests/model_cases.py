"""What task 3.5 is compared with, on the oracle of tiny_model. Trusted side."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from tiny_model import Sizes, Weights, reference_hidden, reference_logits, tensors

from autograder.testing import assert_close

GOLDEN = Path(__file__).parent / "golden" / "smollm2.npz"
# The rotation tables are float32 and turn a float64 model, hence no closer.
CLOSE = {"rtol": 1e-4, "atol": 2e-5}
MODEL = (
    "compare layer by layer: the embedding is not scaled; each block adds to x twice, from a "
    "normalised copy; the last norm comes before the head"
)


def expected_answer(
    weights: Weights, sizes: Sizes, call: dict[str, Any], upstream: np.ndarray | None = None
) -> dict[str, Any]:
    """Hidden states, logits and gradients by the oracle, float64; call: ids, positions, documents."""
    leaves = tensors(weights, grad=upstream is not None)
    inputs = {name: torch.tensor(array) for name, array in call.items()}
    hidden = reference_hidden(leaves, sizes, **inputs)
    value = reference_logits(leaves, sizes, **inputs)
    reply: dict[str, Any] = {"hidden": hidden.detach().numpy(), "logits": value.detach().numpy()}
    if upstream is not None:
        value.backward(torch.tensor(upstream))
        reply["gradients"] = {name: leaf.grad.numpy() for name, leaf in leaves.items()}
    return reply


def check_gradients(got: dict[str, Any], expected: dict[str, np.ndarray], text: str) -> None:
    """Every parameter's gradient, each within 1e-4 of its own largest entry."""
    assert sorted(got) == sorted(expected), (
        f"{text}: gradients of {sorted(got)}, expected {sorted(expected)}"
    )
    for name, gradient in expected.items():
        size = float(np.abs(gradient).max())
        assert_close(
            got[name], gradient, rtol=1e-3, atol=1e-4 * size, name=f"gradient of {name}, {text}",
            hint="a tied embedding gets the sum of two gradients: the lookup's and the head's",
        )  # fmt: skip


def random_ids(rng: np.random.Generator, sizes: Sizes, batch: int, time: int) -> np.ndarray:
    """(batch, time) token ids."""
    return rng.integers(0, sizes.vocab_size, (batch, time))


def expected_shapes(sizes: Sizes) -> dict[str, list[int]]:
    """The parameters that a Llama of these sizes has."""
    from tiny_model import random_weights

    weights = random_weights(np.random.default_rng(0), sizes)
    return {name: list(array.shape) for name, array in weights.items()}
