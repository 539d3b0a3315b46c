"""What the tests of task 2.12 share: weights with nothing trivial in them, and torch's block."""

from __future__ import annotations

import numpy as np
import torch


def trained_weights(rng: np.random.Generator, dim: int, hidden: int) -> dict[str, np.ndarray]:
    """Weights none of which is 0 or 1, so that each of them shows in the output."""
    shapes = {
        "gamma1": (dim,), "beta1": (dim,), "w_qkv": (dim, 3 * dim), "w_out": (dim, dim),
        "gamma2": (dim,), "beta2": (dim,), "w_up": (dim, hidden), "b_up": (hidden,),
        "w_down": (hidden, dim), "b_down": (dim,),
    }  # fmt: skip
    made = {}
    for name, shape in shapes.items():
        size = 1 / np.sqrt(shape[0]) if len(shape) == 2 else 0.5
        made[name] = (size * rng.standard_normal(shape)).astype(np.float32)
    return made


def expected_block(x: np.ndarray, weights: dict[str, np.ndarray], heads: int) -> np.ndarray:
    """The block in float64, by torch's own operations."""
    functions = torch.nn.functional
    w = {name: torch.tensor(value, dtype=torch.float64) for name, value in weights.items()}
    h = torch.tensor(x, dtype=torch.float64)
    batch, time, dim = h.shape
    normal = functions.layer_norm(h, (dim,), w["gamma1"], w["beta1"], eps=1e-5)
    qkv = (normal @ w["w_qkv"]).reshape(batch, time, 3, heads, dim // heads)
    q, k, v = qkv.permute(2, 0, 3, 1, 4)
    attended = functions.scaled_dot_product_attention(q, k, v, is_causal=True)
    h = h + attended.transpose(1, 2).reshape(batch, time, dim) @ w["w_out"]
    normal = functions.layer_norm(h, (dim,), w["gamma2"], w["beta2"], eps=1e-5)
    inside = functions.gelu(normal @ w["w_up"] + w["b_up"], approximate="tanh")
    return (h + inside @ w["w_down"] + w["b_down"]).numpy()
