"""Task 5.5, hidden: zeros, one sign, ties, strides, float64, the packed product."""

from __future__ import annotations

import drivers_compression as drivers
import numpy as np
from compression_cases import grid, meaning, nearest, rounded, unpacked
from gradescope_utils.autograder_utils.decorators import number, weight

from autograder.testing import assert_close, assert_equal


def codes_of(got: dict, bits: int) -> np.ndarray:
    """The codes one a byte."""
    codes = np.asarray(got["codes"])
    return codes if bits > 4 else unpacked(codes)


@number("5.5")
@weight(1.7)
def test_groups_that_are_unlike_others(student, rng):
    """A group of zeros, of one sign, of exact ties; strided, float64 and no rows at all."""
    half = rng.integers(-14, 15, (2, 32)) / 2
    half[:, ::16] = 7.0
    usual = rng.standard_normal((4, 32))
    zeros = usual.copy()
    zeros[1] = zeros[2, 16:] = 0.0
    shapes = {
        "zeros": zeros, "positive": np.abs(usual) + 1, "negative": -np.abs(usual) - 1,
        "ties": half, "no rows": usual[:0],
    }  # fmt: skip
    cases, names = [], []
    for name, array in shapes.items():
        for bits in (8, 4):
            for symmetric in (True, False):
                names.append(f"{name}, {bits} bits, symmetric {symmetric}")
                dtype = np.float32 if symmetric else np.float64
                cases.append({"weight": array.astype(dtype), "bits": bits, "group": 16,
                              "symmetric": symmetric, "strided": len(cases) % 3 == 1})  # fmt: skip
    for got, case, name in zip(student.run(drivers.quantized, cases=cases), cases, names, strict=True):
        scales, zero = grid(case["weight"], case["bits"], 16, case["symmetric"])
        wanted = nearest(case["weight"], scales, zero, case["bits"])
        assert_equal(codes_of(got, case["bits"]), wanted, name=f"{name}: codes")
        floats = (wanted - np.repeat(zero, 16, 1).astype(float)) * np.repeat(scales.astype(float), 16, 1)
        assert_close(meaning(got, case["bits"]), floats, rtol=1e-6, atol=1e-9, name=name)
        assert_equal(got["unchanged"], case["weight"], name=f"{name}: the weight given, afterwards")


@number("5.5")
@weight(1.5)
def test_the_packed_layer_multiplies_by_what_the_codes_mean(student, rng):
    """One row through the kernel and many through floats, at 8 and at 4 bits."""
    matrix = rng.standard_normal((24, 64)).astype(np.float32)
    for bits, symmetric in ((8, True), (4, False)):
        for rows in (1, 9):
            x = rng.standard_normal((rows, 64)).astype(np.float32)
            got = student.run(drivers.multiplied, timeout=60, x=x, weight=matrix, bits=bits, group=32,
                              symmetric=symmetric)  # fmt: skip
            wanted = x.astype(float) @ rounded(matrix, bits, 32, symmetric).T
            assert_close(got, wanted, rtol=1e-4, atol=1e-4, name=f"{rows} rows at {bits} bits")
