"""Views of random arrays for task 2.1, and what numpy makes of them in float64."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import hw2_cuda_kernels_drivers as drivers
import numpy as np

from autograder.testing import Hint, assert_close, cuda

LAYOUTS = ["plain", "transposed", "reversed", "stepped", "rows apart"]
_SCALE = np.sqrt(2 / np.pi)
MAPS = {
    "negate": np.negative,
    "exp": np.exp,
    "log": np.log,
    "tanh": np.tanh,
    "relu": lambda x: np.where(x < 0, 0.0, x),
    "gelu": lambda x: 0.5 * x * (1 + np.tanh(_SCALE * (x + 0.044715 * x**3))),
}
ZIPS = {
    "add": np.add, "subtract": np.subtract, "multiply": np.multiply, "divide": np.divide,
    "maximum": np.maximum,
}  # fmt: skip
HINT = Hint(
    values="print position_of(i, layout) for a shape of (2, 3), and compare with numpy's order",
    not_finite="a result of NaN may be one that no thread wrote: new memory holds NaN",
)


@dataclass(frozen=True)
class Viewed:
    """A view of a buffer, both numpy's, and how it came about."""

    buffer: np.ndarray
    array: np.ndarray
    layout: str

    def sent(self) -> dict[str, Any]:
        """As the driver takes it: strides and offset in elements."""
        start = self.array.__array_interface__["data"][0]
        offset = (start - self.buffer.__array_interface__["data"][0]) // 4
        return {
            "buffer": self.buffer, "shape": list(self.array.shape),
            "strides": [s // 4 for s in self.array.strides],
            "offset": offset if self.array.size else 0,
        }  # fmt: skip

    def __str__(self) -> str:
        return f"{self.array.shape} ({self.layout})"


def floats(
    rng: np.random.Generator, shape: tuple[int, ...], layout: str = "plain", positive: bool = False
) -> Viewed:
    """Normal numbers, or numbers from 0.1 to 3, of a shape in one of LAYOUTS."""
    ahead = shape[:-1]
    inside = {
        "transposed": shape[::-1],
        "stepped": (*ahead, 2 * shape[-1]) if shape else (),
        "rows apart": (*(n + 1 for n in ahead), shape[-1] + 8) if shape else (),
    }.get(layout, shape)
    x = rng.uniform(0.1, 3, inside) if positive else rng.standard_normal(inside)
    buffer = np.asarray(x, np.float32)
    cut = (*(slice(1, 1 + n) for n in ahead), slice(3, 3 + shape[-1])) if shape else ()
    keys: dict[str, Any] = {
        "reversed": tuple(slice(None, None, -1) for _ in shape),
        "stepped": (..., slice(None, None, 2)),
        "rows apart": cut,
    }
    array = buffer.T if layout == "transposed" else buffer[keys.get(layout, ...)]
    return Viewed(buffer, array, layout)


def viewed(buffer: np.ndarray, array: np.ndarray, layout: str) -> Viewed:
    """A view that a test has made itself."""
    return Viewed(buffer, array, layout)


def case(operation: str, *views: Viewed, blocks: int = 1024) -> dict[str, Any]:
    """A question for `drivers.element_wise`, with what `check` needs."""
    return {"operation": operation, "views": list(views), "blocks": blocks}


def label(question: dict[str, Any]) -> str:
    """What a question is about."""
    shapes = " and ".join(str(view) for view in question["labels"])
    few = f", at most {question['blocks']} blocks" if question["blocks"] < 1024 else ""
    return f"{question['operation']} of {shapes}{few}"


def answers_to(student: Any, cases: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Ask all cases in one call; each report is checked and each answer compared with numpy's."""
    sent = [
        {**c, "views": [v.sent() for v in c["views"]], "labels": [str(v) for v in c["views"]]}
        for c in cases
    ]
    answers = student.run_cases(drivers.element_wise, sent, label)
    for question, shown, answer in zip(cases, sent, answers, strict=True):
        cuda.check(answer["report"])  # before the values: it says why they are wrong
        arrays = [view.array.astype(np.float64) for view in question["views"]]
        operations = MAPS if len(arrays) == 1 else ZIPS
        with np.errstate(all="ignore"):
            wanted = np.asarray(operations[question["operation"]](*arrays)).astype(np.float32)
        # expf, logf and tanhf are right to 2 units in the last place (2.4e-7 each); gelu multiplies
        # what is left of 1 + tanh by x, hence an absolute part, for |x| of some units.
        assert_close(
            answer["out"], wanted, rtol=2e-6, atol=1e-6, name=label(shown), hint=HINT,
            same_dtype=True,
        )  # fmt: skip
    return answers
