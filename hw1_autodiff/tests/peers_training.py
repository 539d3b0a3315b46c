"""Peers that tasks 1.10 to 1.13 are timed against: numpy, one thread, no student code."""

from __future__ import annotations

import numpy as np


def adamw_steps(parameters: list, gradients: list, steps: int, rate: float) -> list[np.ndarray]:
    """AdamW as its formulas read, one whole array at a time; gradients in turn g and -g / 2."""
    beta1, beta2, eps, decay = 0.9, 0.999, 1e-8, 0.01
    firsts = [np.zeros_like(x) for x in parameters]
    seconds = [np.zeros_like(x) for x in parameters]
    turns = [gradients, [-0.5 * gradient for gradient in gradients]]
    for step in range(1, steps + 1):
        for x, g, m, v in zip(parameters, turns[(step - 1) % 2], firsts, seconds, strict=True):
            x *= 1 - rate * decay
            m *= beta1
            m += (1 - beta1) * g
            v *= beta2
            v += (1 - beta2) * g * g
            corrected_m = m / (1 - beta1**step)
            corrected_v = v / (1 - beta2**step)
            x -= rate * corrected_m / (np.sqrt(corrected_v) + eps)
    return parameters
