"""What the tests of task 2.7 share: torch's answers in float64, and how close."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from autograder.testing import Hint, assert_close, cuda

UNIT = 2.0**-24  # the most by which one float32 operation rounds, relatively

THREADS = 1024 * 256  # that AdamW's launch has at most

GELU_HINT = Hint(
    values="gelu(v) = v / 2 * (1 + tanh(sqrt(2 / pi) * (v + 0.044715 v^3))), of v = x + bias",
    not_finite="exp overflows to inf: write the formula so that inf is divided by, not multiplied",
)


def leaves_of(*arrays: np.ndarray) -> list[torch.Tensor]:
    """Leaves in float64."""
    return [torch.from_numpy(a.astype(np.float64)).requires_grad_() for a in arrays]


def check_gelu(got: dict[str, Any], x: np.ndarray, bias: np.ndarray, name: str) -> None:
    """Assert that the kernels ran clean, and that out is torch's gelu(x + bias).

    x + bias rounds once, and gelu's slope is at most 1.13. 1 + tanh is off by 2 UNITs of 1 where
    tanh is near -1, which |v| / 2 with |v| < 6 multiplies (below -6 gelu is less than 1e-8).
    """
    cuda.check(got["report"])
    v = torch.from_numpy(x.astype(np.float64) + bias)
    expected = torch.nn.functional.gelu(v, approximate="tanh").numpy()
    assert_close(got["out"], expected, rtol=2e-6, atol=1e-6, name=name, hint=GELU_HINT)


def check_gelu_gradients(
    got: dict[str, Any], upstream: np.ndarray, x: np.ndarray, bias: np.ndarray, name: str
) -> None:
    """Assert that the kernels ran clean, and that the gradients of x and bias are torch's.

    Near |v| = 5 the derivative multiplies 1 - tanh^2, which is off by 4 UNITs, by v * dz = 18, that
    is about 4e-6; upstream is about 5 at most. A sum over the rows rounds once a row.
    """
    cuda.check(got["report"])
    leaves = leaves_of(x, bias)
    out = torch.nn.functional.gelu(leaves[0] + leaves[1], approximate="tanh")
    out.backward(torch.from_numpy(upstream.astype(np.float64)))
    grad_x, grad_bias = (leaf.grad.numpy() for leaf in leaves)
    off = 5e-6 * np.abs(upstream).max(initial=1.0)
    assert_close(
        got["grad_x"], grad_x, rtol=1e-5, atol=off, name=f"{name}: grad_x",
        hint="upstream * gelu'(x + bias): the product rule gives two terms, the second with the "
        "inner derivative sqrt(2 / pi) * (1 + 3 * 0.044715 v^2)",
    )  # fmt: skip
    rows = max(1, x.size // max(1, x.shape[-1]))
    axes = tuple(range(x.ndim - 1))
    total = np.abs(grad_x).sum(axis=axes).max(initial=0.0)
    assert_close(
        got["grad_bias"], grad_bias, rtol=0, atol=rows * (off + UNIT * total) + 1e-7,
        name=f"{name}: grad_bias", hint="the sum of grad_x over all rows; partial is not zeroed",
    )  # fmt: skip


def torch_adamw(
    parameter: np.ndarray, gradients: list[np.ndarray], options: dict[str, Any]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Parameter and moments after torch.optim.AdamW's steps in float64.

    The kernel gets its numbers as floats, so torch gets what is left of them: 0.999 as a float is
    1.3e-8 too large, which is 1.3e-5 of 1 - 0.999.
    """

    def rounded(value: float) -> float:
        return float(np.float32(value))

    (leaf,) = leaves_of(parameter)
    optimizer = torch.optim.AdamW(
        [leaf], lr=rounded(options["learning_rate"]), eps=rounded(options.get("eps", 1e-8)),
        betas=tuple(map(rounded, options.get("betas", (0.9, 0.999)))),
        weight_decay=rounded(options.get("weight_decay", 0.01)),
    )  # fmt: skip
    for gradient in gradients:
        leaf.grad = torch.from_numpy(gradient.astype(np.float64))
        optimizer.step()
    state = optimizer.state[leaf]
    return leaf.detach().numpy(), state["exp_avg"].numpy(), state["exp_avg_sq"].numpy()


def check_adamw(
    got: dict[str, Any], parameter: np.ndarray, gradients: list[np.ndarray],
    options: dict[str, Any], name: str,
) -> None:  # fmt: skip
    """Assert that the kernels ran clean, and that parameter and moments are torch's.

    Each step rounds a parameter three times, and its move, at most about 3 * learning_rate where
    gradients change sign, by about 10 UNITs; a moment is a sum of two products.
    """
    cuda.check(got["report"])
    steps = len(gradients)
    x, first, second = torch_adamw(parameter, gradients, options)
    size = max(float(np.abs(g).max(initial=0.0)) for g in gradients)
    late = got["first"][THREADS:] if isinstance(got["first"], np.ndarray) else np.ones(1)
    assert_close(
        got["first"], first, rtol=4 * steps * UNIT, atol=4 * steps * UNIT * size,
        name=f"{name}: first moment",
        hint="beta1 * first + (1 - beta1) * gradient: no decay in it" if late.any() or not late.size
        else f"elements from {THREADS:,} on, 1,024 blocks of 256 threads, took no step: a thread "
        "takes every (gridDim.x * blockDim.x)-th, in a loop",
    )  # fmt: skip
    assert_close(
        got["second"], second, rtol=8 * steps * UNIT, atol=0, name=f"{name}: second moment",
        hint="beta2 * second + (1 - beta2) * gradient^2",
    )  # fmt: skip
    off = 40 * steps * UNIT * options["learning_rate"]
    assert_close(
        got["parameter"], x, rtol=4 * steps * UNIT, atol=off, name=f"{name}: parameter",
        hint="decay * parameter - rate * first / (sqrt(second) * root_scale + eps), moments new",
    )  # fmt: skip
