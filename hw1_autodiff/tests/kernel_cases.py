"""Random inputs for the kernels of task 1.2 and what numpy makes of them in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import hw1_autodiff_drivers as drivers
import numpy as np

from autograder.testing import assert_close

BLOCK = 8192
LAYOUTS = ["plain", "transposed", "reversed", "strided", "rows apart"]
_SCALE = np.sqrt(2 / np.pi)
MAPS = {
    "neg": np.negative,
    "exp": np.exp,
    "log": np.log,
    "tanh": np.tanh,
    "relu": lambda x: np.where(x < 0, 0.0, x),
    "gelu": lambda x: 0.5 * x * (1 + np.tanh(_SCALE * (x + 0.044715 * x**3))),
}
ZIPS = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide, "maximum": np.maximum
}  # fmt: skip
REDUCTIONS = {"sum": np.sum, "max": np.max}


def case(function: str, name: str, *arrays: np.ndarray, **more: Any) -> dict[str, Any]:
    """A question for `drivers.element_wise`."""
    return {"function": function, "name": name, "arrays": list(arrays), **more}


def floats(rng: np.random.Generator, *shape: int, positive: bool = False) -> np.ndarray:
    """Normal float32 numbers, or numbers from 0.1 to 3."""
    x = rng.uniform(0.1, 3, shape) if positive else rng.standard_normal(shape)
    return np.asarray(x, np.float32)


def expected_of(question: dict[str, Any]) -> np.ndarray:
    """The answer in float64."""
    arrays = [x.astype(np.float64) for x in question["arrays"]]
    with np.errstate(all="ignore"):
        if question["function"] == "map_array":
            return np.asarray(MAPS[question["name"]](*arrays))
        if question["function"] == "zip_arrays":
            return np.asarray(ZIPS[question["name"]](*arrays))
        keepdims = bool(question.get("keepdims"))
        return np.asarray(
            REDUCTIONS[question["name"]](arrays[0], axis=question["axis"], keepdims=keepdims)
        )


def check_cases(
    student: Any, cases: list[dict[str, Any]], hint: Callable[[dict[str, Any]], str] = lambda _: "",
    rtol: float = 2e-6,
) -> None:  # fmt: skip
    """Ask all cases in one call and compare; hint(question): what to try if that one is wrong."""
    results = student.run_cases(drivers.element_wise, cases, named)
    for question, result in zip(cases, results, strict=True):
        check(question, result, hint(question), rtol)


def over_one_block(question: dict[str, Any]) -> bool:
    """Whether an array of the question needs several blocks."""
    return any(x.size > BLOCK for x in question["arrays"])


def named(question: dict[str, Any]) -> str:
    """A question as the messages name it."""
    shapes = " and ".join(str(x.shape) for x in question["arrays"])
    layouts = question.get("layouts")
    axis = f" over axis {question['axis']}" if "axis" in question else ""
    kernel = "the parallel kernel: " if question.get("kernel") else ""
    return f"{kernel}{question['name']} of {shapes}{axis}{f', {layouts}' if layouts else ''}"


def check(question: dict[str, Any], result: Any, hint: str = "", rtol: float = 2e-6) -> None:
    """Compare one result."""
    assert_close(
        result, expected_of(question).astype(np.float32), rtol=rtol, atol=1e-6, same_dtype=True,
        name=named(question), hint=hint,
    )  # fmt: skip
