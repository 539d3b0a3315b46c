"""Task 5.5: codes, scales and zeros by the formula; bytes; the packed layer."""

from __future__ import annotations

import drivers_compression as drivers
import numpy as np
from compression_cases import grid, meaning, nearest, unpacked
from gradescope_utils.autograder_utils.decorators import number, weight

from autograder.testing import Measure, assert_close, assert_equal

CODES = "code = round(w / scale) + zero, clamped to 0 … 2^bits − 1; two codes a byte, the first low"


def check(got: dict, case: dict) -> None:
    """Codes, scales, zeros and dequantised weights of one case."""
    weight_in, bits, group = case["weight"], case["bits"], case["group"]
    name = f"{bits} bits, groups of {group}, {'' if case['symmetric'] else 'a'}symmetric"
    scales, zeros = grid(weight_in, bits, group, case["symmetric"])
    assert_close(got["scales"], scales, rtol=1e-6, atol=0, name=f"{name}: scales")
    if case["symmetric"]:
        assert np.asarray(got["zeros"]).size == 0, f"{name}: zeros must be None"
    else:
        assert_equal(got["zeros"], zeros.astype(np.uint8), name=f"{name}: zeros")
    floats = meaning(got, bits)
    wanted = nearest(weight_in, scales, zeros, bits)
    codes = unpacked(np.asarray(got["codes"])) if bits <= 4 else got["codes"]
    assert_equal(codes, wanted, name=f"{name}: codes", hint=CODES)
    assert_close(got["floats"], floats, rtol=1e-5, atol=1e-6, name=f"{name}: dequantize()")
    assert_equal(got["unchanged"], weight_in, name=f"{name}: the weight given, afterwards")


@number("5.5")
@weight(2)
def test_codes_and_scales_by_the_formula(student, rng):
    """2 to 8 bits, symmetric and not, rows and groups of several lengths, uneven magnitudes."""
    cases = [
        {"weight": (rng.standard_normal((rows, columns)) * 10.0 ** rng.integers(-3, 3)).astype("f4"),
         "bits": bits, "group": group, "symmetric": symmetric}
        for rows, columns, group in ((3, 64, 16), (1, 24, 24), (5, 96, 32))
        for bits in (8, 4, 3, 2) for symmetric in (True, False)
    ]  # fmt: skip
    for got, case in zip(
        student.run_cases(drivers.quantized, cases, lambda c: f"{c['bits']} bits"),
        cases,
        strict=True,
    ):
        check(got, case)
    # GPTQ comes with grids that are older than its weights: some of these lie beyond their ends.
    beyond = (3 * rng.standard_normal((4, 24))).astype(np.float32)
    for bits in (8, 3):
        scales = (np.abs(beyond).reshape(4, 3, 8).max(2) / 2**bits).astype(np.float32)
        centre = rng.integers(0, 2**bits, scales.shape).astype(np.uint8)
        for zeros in (None, centre):
            got = student.run(drivers.coded, weight=beyond, scales=scales, zeros=zeros, bits=bits)
            middle = np.full(scales.shape, 2 ** (bits - 1)) if zeros is None else zeros
            wanted = nearest(beyond, scales, middle.astype(int), bits)
            name = f"nearest_codes, {bits} bits, weights beyond the grid"
            assert_equal(got, wanted, name=name, hint=CODES)


@number("5.5")
@weight(1)
def test_two_codes_share_a_byte(student, rng):
    """Packing and back: the even place low, the odd place high."""
    codes = rng.integers(0, 16, (7, 22)).astype(np.uint8)
    got = student.run(drivers.packed, codes=codes)
    assert_equal(got["packed"], codes[:, 0::2] + 16 * codes[:, 1::2], name="packed bytes")
    assert_equal(got["unpacked"], codes, name="unpacked codes")


@number("5.5")
@weight(1.8)
def test_bytes_and_error(student, rng):
    """At most 0.26 and 0.15 of float32's bytes, and no entry off by more than half a step."""
    matrix = rng.standard_normal((96, 576)).astype(np.float32)
    for bits, group, most in ((8, 192, 0.26), (4, 64, 0.15)):
        for symmetric in (True, False):
            case = {"weight": matrix, "bits": bits, "group": group, "symmetric": symmetric}
            got = student.run(drivers.quantized, cases=[case])[0]
            held = sum(np.asarray(got[part]).nbytes for part in ("codes", "scales", "zeros"))
            share = held / matrix.nbytes
            student.measure(Measure(name=f"bytes at {bits} bits", value=share, unit="of float32"))
            assert share <= most, f"{bits} bits: {share:.3f} of float32's bytes, at most {most}"
            step = np.repeat(np.asarray(got["scales"], float), group, 1)
            # Rounding the zero point moves the ends of an asymmetric grid by up to half a step.
            off = np.abs(meaning(got, bits) - matrix) / step
            bound = 0.501 if symmetric else 1.001
            assert off.max() <= bound, f"{bits} bits: an entry is off by {off.max():.2f} steps"
