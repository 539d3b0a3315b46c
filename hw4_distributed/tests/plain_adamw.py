"""AdamW by the formulas of Loshchilov and Hutter, 2019, in float64: an oracle with nothing divided."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np


@dataclass
class PlainAdamW:
    """Steps arrays by name, in place."""

    weights: dict[str, np.ndarray]
    lr: float
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.01
    steps: int = 0
    first: dict[str, np.ndarray] = field(default_factory=dict)
    second: dict[str, np.ndarray] = field(default_factory=dict)

    def step(self, gradients: dict[str, np.ndarray]) -> None:
        """One step of the named weights; those without a gradient here stay as they are."""
        self.steps += 1
        one, two = self.betas
        for name, gradient in gradients.items():
            weight = self.weights[name]
            mean = self.first.setdefault(name, np.zeros_like(weight))
            square = self.second.setdefault(name, np.zeros_like(weight))
            mean += (1 - one) * (gradient - mean)
            square += (1 - two) * (gradient**2 - square)
            unbiased = mean / (1 - one**self.steps)
            root = np.sqrt(square / (1 - two**self.steps))
            weight -= self.lr * self.weight_decay * weight
            weight -= self.lr * unbiased / (root + self.eps)
