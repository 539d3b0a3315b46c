"""What the tests of task 2.11 share: quantised weights, and the product in float64."""

from __future__ import annotations

from typing import Any

import numpy as np

from autograder.testing import assert_close, assert_equal, cuda

HINTS = {
    8: "the lowest byte of a word is the first column; bytes are signed; column c of a row has the "
    "scale of its group, c / group",
    4: "byte j of 64 columns has column j in its lower and j + 32 in its upper four bits, each plus "
    "8; column c of a row has the scale of its group, c / group",
}


def random_weights(
    rng: np.random.Generator, rows: int, columns: int, bits: int, group: int
) -> tuple[np.ndarray, np.ndarray]:
    """(integers over the whole range of `bits`, scales that differ much from group to group)."""
    most = 1 << (bits - 1)
    integers = rng.integers(-most, most, (rows, columns)).astype(np.int8)
    scales = (10 ** rng.uniform(-3, 0, (rows, columns // group))).astype(np.float32)
    return integers, scales


def check(
    student: Any, driver: Any, integers: np.ndarray, scales: np.ndarray, x: np.ndarray, bits: int,
    exact: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """Runs the driver and compares with the dequantised product in float64; its result.

    Tolerance: however a row of n products is added up, float32 loses at most n + 2 roundings of
    2**-24 of the sum of their absolute values; that of the largest row is allowed to all.
    """
    rows, columns = integers.shape
    got = student.run(driver, integers=integers, scales=scales, x=x, bits=bits)
    cuda.check(got["report"])  # first: a race is the better explanation of a wrong number
    groups = integers.reshape(rows, scales.shape[1], columns // scales.shape[1]).astype(np.float64)
    weights = (groups * scales[:, :, None].astype(np.float64)).reshape(rows, columns)
    expected = weights @ x.astype(np.float64)
    name = f"int{bits} product, {rows} rows of {columns} in groups of {columns // scales.shape[1]}"
    if exact:
        assert_equal(got["y"], expected.astype(np.float32), name=name, hint=HINTS[bits])
    else:
        sizes = np.abs(weights) @ np.abs(x.astype(np.float64))
        room = (columns + 2) * 2.0**-24 * float(sizes.max())
        assert_close(got["y"], expected, rtol=0, atol=room, name=name, hint=HINTS[bits])
    return got
