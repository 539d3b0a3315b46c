"""Cases and oracles of task 3.3: formulas in float64, by torch's autograd. Trusted side."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from autograder.testing import Hint, Student, assert_close, assert_equal

GOLDEN = Path(__file__).parent / "golden" / "layers.npz"
# By the type of the tensors: float64 to rounding, float32 in another order, one rounding of 16 bits.
TOLERANCES = {
    "float64": (1e-9, 1e-11), "float32": (1e-4, 1e-5), "bfloat16": (1.6e-2, 1e-2),
    "float16": (2e-3, 2e-3),
}  # fmt: skip
NORM = Hint(
    values="x / sqrt(mean(x * x) + eps) * weight, the mean over the last dimension alone; no mean "
    "is subtracted, and eps is inside the root",
    shape="keepdim=True keeps the mean beside its row",
    not_finite="in float16 the square of 300 is infinite: square and divide in float32",
)
TURN = Hint(
    values="HF's convention: entry i turns with entry i + head_dim/2, not with its neighbour: "
    "x * cos + rotate_half(x) * sin, rotate_half(x) = cat([-second half, first half])",
    sign="rotate_half puts the minus before the second half",
    shape="cos and sin of (batch, time, head_dim) need a dimension for the heads",
)


def golden(case: str) -> dict[str, np.ndarray]:
    """The arrays of one case of layers.npz."""
    with np.load(GOLDEN) as arrays:
        start = f"{case}/"
        return {name[len(start) :]: arrays[name] for name in arrays if name.startswith(start)}


def upstream_of(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """Random, no entry near 0, so that no constant gradient is right."""
    array = rng.uniform(0.5, 1.5, shape) * rng.choice([-1, 1], shape)
    return array.astype(numpy_type(dtype))


def numpy_type(dtype: str) -> str:
    """How tensors of `dtype` cross to the worker."""
    return "float64" if dtype == "float64" else "float32"


def norm_formula(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """RMSNorm as it is written in the paper."""
    return x / torch.sqrt((x * x).mean(-1, keepdim=True) + eps) * weight


def norm_case(
    rng: np.random.Generator, shape: tuple[int, ...], dtype: str, layout: str = "plain",
    eps: float = 1e-5, scale: float = 2.0,
) -> dict[str, Any]:  # fmt: skip
    """A case for `drivers_layers.norms`."""
    kind = numpy_type(dtype)
    return {
        "x": (scale * rng.standard_normal(shape)).astype(kind),
        "weight": rng.uniform(0.3, 1.8, shape[-1:]).astype(kind),
        "eps": eps, "dtype": dtype, "layout": layout, "upstream": upstream_of(rng, shape, dtype),
    }  # fmt: skip


def gated_formula(x: Tensor, gate: Tensor, up: Tensor, down: Tensor) -> Tensor:
    """SwiGLU with silu written out."""
    before = x @ gate.T
    return (before * torch.sigmoid(before) * (x @ up.T)) @ down.T


def gated_case(
    rng: np.random.Generator, shape: tuple[int, ...], inner: int, dtype: str,
    layout: str = "plain", scale: float = 1.0,
) -> dict[str, Any]:  # fmt: skip
    """A case for `drivers_layers.gated`; shape is x's."""
    kind, width = numpy_type(dtype), shape[-1]
    weights = {
        name: (0.5 * rng.standard_normal(size)).astype(kind)
        for name, size in (
            ("gate", (inner, width)),
            ("up", (inner, width)),
            ("down", (width, inner)),
        )
    }
    return {
        "x": (scale * rng.standard_normal(shape)).astype(kind), **weights, "dtype": dtype,
        "layout": layout, "upstream": upstream_of(rng, shape, dtype),
    }  # fmt: skip


def angles_of(positions: np.ndarray, head_dim: int, theta: float) -> np.ndarray:
    """Angles in float64, (…, head_dim): position · theta^(−2i/head_dim), at i and i + head_dim/2."""
    half = np.arange(head_dim // 2)
    angles = np.asarray(positions, np.float64)[..., None] * float(theta) ** (-2.0 * half / head_dim)
    return np.concatenate([angles, angles], axis=-1)


def turn_formula(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Pairs as complex numbers, multiplied by cos + i sin."""
    if cos.ndim > 2:
        cos, sin = cos.unsqueeze(1), sin.unsqueeze(1)
    half = x.shape[-1] // 2
    number = torch.complex(x[..., :half], x[..., half:])
    number = number * torch.complex(cos[..., :half], sin[..., :half])
    return torch.cat([number.real, number.imag], dim=-1)


def turn_case(
    rng: np.random.Generator, shape: tuple[int, int, int, int], positions: np.ndarray, dtype: str,
    layout: str = "plain", theta: float = 10_000.0,
) -> dict[str, Any]:  # fmt: skip
    """A case for `drivers_layers.turned`; the tables are ours, in float32 as the task has them."""
    angles = angles_of(positions, shape[-1], theta)
    kind = numpy_type(dtype)
    return {
        "x": rng.standard_normal(shape).astype(kind), "cos": np.cos(angles).astype(np.float32),
        "sin": np.sin(angles).astype(np.float32), "dtype": dtype, "layout": layout,
        "upstream": upstream_of(rng, shape, dtype),
    }  # fmt: skip


def expected_answer(
    formula: Callable[..., Tensor], case: dict[str, Any], leaves: tuple[str, ...],
    others: tuple[str, ...] = (),
) -> dict[str, Any]:  # fmt: skip
    """Value and gradients of `formula(*leaves, *others)` in float64, inputs rounded to the dtype."""
    kind = getattr(torch, case["dtype"])
    inputs = [torch.tensor(case[name]).to(kind).double().requires_grad_() for name in leaves]
    rest = [torch.tensor(v).double() if np.ndim(v := case[name]) else v for name in others]
    value = formula(*inputs, *rest)
    expected: dict[str, Any] = {"value": value.detach().numpy()}
    if "upstream" in case:
        value.backward(torch.tensor(case["upstream"]).to(kind).double())
        expected["gradients"] = {
            name: x.grad.numpy() for name, x in zip(leaves, inputs, strict=True)
        }
    return expected


def label(case: dict[str, Any]) -> str:
    """A case in a few words."""
    layout = case.get("layout", "plain")
    more = "" if layout == "plain" else f", {layout} in memory"
    eps = f", eps={case['eps']:g}" if "eps" in case else ""
    return f"x of {case['x'].shape} {case['dtype']}{more}{eps}"


def check(
    student: Student, driver: Callable[..., Any], formula: Callable[..., Tensor],
    cases: list[dict[str, Any]], leaves: tuple[str, ...], others: tuple[str, ...] = (),
    hint: Hint | str = "", result: str = "",
) -> None:  # fmt: skip
    """Every case's value, its type, its gradients, and that no input was written into."""
    name = result or driver.__name__
    for case, reply in zip(cases, student.run_cases(driver, cases, label), strict=True):
        text, dtype = f"{name}, {label(case)}", case["dtype"]
        assert reply["dtype"] == dtype, (
            f"{text}: the result is {reply['dtype']}, x is {dtype}\nhint: convert back with .to()"
        )
        rtol, atol = TOLERANCES[dtype]
        expected = expected_answer(formula, case, leaves, others)
        assert_close(reply["value"], expected["value"], rtol=rtol, atol=atol, name=text, hint=hint)
        for leaf, gradient in expected.get("gradients", {}).items():
            size = max(1.0, float(np.abs(gradient).max(initial=0.0)))
            assert_close(
                reply["gradients"][leaf], gradient, rtol=rtol, atol=atol * size,
                name=f"gradient for {leaf} of {text}",
                hint="autograd knows the slope of every torch operation: no .data, no .detach(), "
                "no numpy on the way",
            )  # fmt: skip
        for leaf, after in reply["inputs"].items():
            if leaf in case:
                kind = getattr(
                    torch, case.get("weight_dtype", dtype) if leaf == "weight" else dtype
                )
                before = torch.tensor(case[leaf]).to(kind)
                before = before.float() if kind in (torch.bfloat16, torch.float16) else before
                assert_equal(after, before.numpy(), name=f"{leaf} after {text}",
                             hint="the input is the caller's: don't work in place")  # fmt: skip
