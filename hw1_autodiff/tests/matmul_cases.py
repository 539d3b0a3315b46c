"""Checks of matrix products and the shared parts of task 1.3's tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import hw1_autodiff_drivers as drivers
import numpy as np

from autograder.testing import assert_close

INNER, WIDTH, ROWS, DEPTH = 256, 512, 3, 4
Sizes = tuple[int, int, int]


def matrix(rng: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    """Normal float32 numbers."""
    return rng.standard_normal((rows, columns), dtype=np.float32)


def check_products(
    student: Any, rng: np.random.Generator, kind: str, sizes: list[Sizes],
    layouts: list[str] | None = None, hint: str = "",
) -> None:  # fmt: skip
    """matmul_blocked or matmul_register of random matrices of each (m, k, n)."""
    pairs = [[matrix(rng, m, k), matrix(rng, k, n)] for m, k, n in sizes]
    results = student.run(drivers.products, kind=kind, pairs=pairs, layouts=layouts)
    assert isinstance(results, list) and len(results) == len(pairs), "not one result per pair"
    for (a, b), result in zip(pairs, results, strict=True):
        check_product(f"matmul_{kind} of {a.shape} and {b.shape}", result, a, b, hint)


def check_product(name: str, result: Any, a: np.ndarray, b: np.ndarray, hint: str = "") -> None:
    """Compare with the product in float64; the tolerance is that of k float32 additions."""
    expected = a.astype(np.float64) @ b.astype(np.float64)
    scale = np.sqrt(max(a.shape[1], 1)) * float(np.abs(a).max(initial=0) * np.abs(b).max(initial=0))
    assert_close(
        result, expected.astype(np.float32), rtol=1e-5, atol=2e-6 * scale, name=name, hint=hint,
        same_dtype=True,
    )  # fmt: skip


def chain_arguments(
    rng: np.random.Generator, kind: str, sizes: Sizes, times: int
) -> Callable[[int], dict[str, Any]]:
    """Arguments of a race: a @ b @ b @ …, with b scaled so that the entries keep their size."""
    m, k, n = sizes

    def make(index: int) -> dict[str, Any]:
        b = matrix(rng, k, n) / np.float32(np.sqrt(k))
        return {"kind": kind, "a": matrix(rng, m, k), "b": b, "times": times}

    return make


def check_chain(value: Any, arguments: Mapping[str, Any]) -> None:
    """The result times a few vectors, from either side, against the chain times them.

    Exact enough to show one wrong entry, and far cheaper than the chain of products itself.
    """
    a, b = arguments["a"].astype(np.float64), arguments["b"].astype(np.float64)
    square = b[:, : b.shape[0]]
    shape = (a.shape[0], b.shape[1])
    assert isinstance(value, np.ndarray) and value.shape == shape, f"not an array of shape {shape}"
    assert value.dtype == np.float32, f"a product of float32 is float32, not {value.dtype}"
    result = value.astype(np.float64)
    chosen = np.random.default_rng(a.size)
    column = chosen.standard_normal((b.shape[1], 4))
    row = chosen.standard_normal((4, a.shape[0]))
    right, left = b @ column, row @ a
    for _ in range(arguments["times"] - 1):
        right, left = square @ right, left @ square
    assert_close(result @ column, a @ right, rtol=1e-4, atol=2e-2, name="the chain times a vector")
    assert_close(row @ result, left @ b, rtol=1e-4, atol=2e-2, name="a vector times the chain")
