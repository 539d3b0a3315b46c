"""What tasks 1.5 to 1.9 are compared with: torch in float64. Trusted side only.

A case holds a question for `drivers_operations.answers` and the answer that is expected.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from autograder.testing import Hint, assert_close, assert_equal

# float32 arithmetic in another order than ours; float64 to rounding.
TOLERANCES = {"float32": (2e-4, 2e-5), "float64": (1e-9, 1e-10)}


@dataclass(frozen=True)
class Case:
    """A question, its expected value, and its expected gradients (None for a constant input)."""

    label: str
    question: dict[str, Any]
    value: np.ndarray
    gradients: list[np.ndarray | None]


def make_case(
    function: str,
    reference: Callable[..., torch.Tensor],
    inputs: Sequence[np.ndarray],
    rng: np.random.Generator,
    *,
    options: dict[str, Any] | None = None,
    layouts: Sequence[str] | None = None,
    constants: Sequence[int] = (),
    same: bool = False,
    upstream: np.ndarray | None = None,
) -> Case:
    """The case of `function` ("module.name"); `reference` is the same with torch tensors.

    The expected answer is computed in float64 and rounded to the inputs' dtype. The upstream
    gradient is random unless given, so that no constant gradient can be right.
    """
    inputs = [np.asarray(x) for x in inputs]
    dtype = inputs[0].dtype
    tensors = [torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in inputs]
    value = reference(*([tensors[0]] * 2 if same else tensors))
    if upstream is None:
        upstream = rng.uniform(0.5, 1.5, tuple(value.shape)) * rng.choice([-1, 1], value.shape)
    upstream = np.asarray(upstream, dtype)
    value.backward(torch.tensor(upstream, dtype=torch.float64))
    gradients = [
        None if place in constants else _as(dtype, tensor.grad, tensor)
        for place, tensor in enumerate(tensors)
    ]
    question = {
        "function": function,
        "inputs": inputs,
        "upstream": upstream,
        "options": options or {},
        "layouts": list(layouts or ["plain"] * len(inputs)),
        "constants": list(constants),
        "same": same,
    }
    return Case(_label(question), question, _as(dtype, value.detach(), value), gradients)


def _as(dtype: np.dtype, value: torch.Tensor | None, shaped: torch.Tensor) -> np.ndarray:
    if value is None:  # torch leaves no gradient where nothing depends on the input
        return np.zeros(tuple(shaped.shape), dtype)
    with np.errstate(over="ignore"):
        return value.numpy().astype(dtype)


def _label(question: dict[str, Any]) -> str:
    name = question["function"].split(".")[1]
    parts = []
    for array, layout in zip(question["inputs"], question["layouts"], strict=True):
        parts.append(f"{array.shape}" + ("" if layout == "plain" else f" ({layout} in memory)"))
    options = ", ".join(f"{key}={value}" for key, value in question["options"].items())
    if question["same"]:
        parts = [f"one tensor {parts[0]} on both sides"]
    shown = " and ".join(parts)
    return f"{name} of {shown} {question['inputs'][0].dtype}" + (f", {options}" if options else "")


def broadcast_shapes(
    rng: np.random.Generator, max_dims: int, sizes: Sequence[int]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Two random shapes that broadcast: a common one, of which each loses axes or has them as 1."""
    common = rng.choice(sizes, size=int(rng.integers(max_dims + 1)))

    def thinned() -> tuple[int, ...]:
        stretched = np.where(rng.random(len(common)) < 0.35, 1, common)
        return tuple(int(size) for size in stretched[int(rng.integers(len(common) + 1)) :])

    full = tuple(int(size) for size in common)
    pairs = [(full, thinned()), (thinned(), full), (thinned(), thinned())]
    return pairs[int(rng.integers(3))]


def check_cases(
    student: Any,
    driver: Callable[..., Any],
    cases: Sequence[Case],
    hint: Hint | str | Callable[[Case], Hint | str] = "",
    value_hint: Hint | str = "",
    float32_rtol: float = TOLERANCES["float32"][0],
) -> None:
    """Ask all cases in one call and compare values, gradients, dtypes, and inputs left alone.

    hint: what to try where a gradient is wrong, perhaps other things for other cases; value_hint:
    where the value is.
    """
    by_question = {id(case.question): case.label for case in cases}
    replies = student.run_cases(
        driver, [case.question for case in cases], lambda question: by_question[id(question)],
        argument="questions",
    )  # fmt: skip
    for case, reply in zip(cases, replies, strict=True):
        advice = hint(case) if callable(hint) else hint
        check_case(case, reply, advice, value_hint, float32_rtol)


def check_case(
    case: Case, reply: Any, hint: Hint | str = "", value_hint: Hint | str = "",
    float32_rtol: float = TOLERANCES["float32"][0],
) -> None:  # fmt: skip
    """Compare one reply of `drivers_operations.answer` with what is expected."""
    assert isinstance(reply, dict), f"{case.label}: not an answer"
    rtol, atol = TOLERANCES[case.value.dtype.name]
    if case.value.dtype == np.float32:
        rtol = float32_rtol
    label = case.label
    close = {"rtol": rtol, "atol": atol, "same_dtype": True}
    assert_close(reply.get("value"), case.value, name=f"{label}: value", hint=value_hint, **close)
    gradients = reply.get("gradients")
    assert isinstance(gradients, list) and len(gradients) == len(case.gradients), (
        f"{label}: not one gradient for each input"
    )
    for place, (got, expected) in enumerate(zip(gradients, case.gradients, strict=True)):
        name = f"{label}: gradient of input {place}"
        if expected is None:
            assert got is None, f"{name}: it is a constant, its grad must stay None"
        else:
            assert_close(got, expected, name=name, hint=hint, **close)
    left_alone(reply, case.question, label)


def left_alone(reply: dict[str, Any], question: dict[str, Any], label: str) -> None:
    """The inputs and the upstream gradient hold what they held before."""
    hint = "write to a new array: in-place operators (+=, out=) change an array someone else holds"
    assert_equal(
        reply.get("upstream"), question["upstream"], name=f"{label}: upstream afterwards", hint=hint
    )
    for place, array in enumerate(question["inputs"]):
        now = reply["inputs"][place]
        assert_equal(now, array, name=f"{label}: input {place} afterwards", hint=hint)
