"""Task 5.5, hidden: odd groups, other types, refusals, the packed product, the real model in int8."""

from __future__ import annotations

from pathlib import Path

import drivers_compression as drivers
import drivers_layer
import numpy as np
from compression_cases import grid, meaning, nearest, rounded, unpacked
from gradescope_utils.autograder_utils.decorators import number, weight
from real_cases import MATRICES, arrays, dequantized, open_model, window

from autograder.testing import Measure, assert_close, assert_equal, packaged

PROSE = Path(__file__).with_name("prose_hidden.npy")


def codes_of(got: dict, bits: int) -> np.ndarray:
    """The codes one a byte."""
    codes = np.asarray(got["codes"])
    return codes if bits > 4 else unpacked(codes)


@number("5.5")
@weight(0.9)
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
    for got, case, name in zip(
        student.run(drivers.quantized, cases=cases), cases, names, strict=True
    ):
        scales, zero = grid(case["weight"], case["bits"], 16, case["symmetric"])
        wanted = nearest(case["weight"], scales, zero, case["bits"])
        assert_equal(codes_of(got, case["bits"]), wanted, name=f"{name}: codes")
        floats = (wanted - np.repeat(zero, 16, 1).astype(float)) * np.repeat(
            scales.astype(float), 16, 1
        )
        assert_close(meaning(got, case["bits"]), floats, rtol=1e-6, atol=1e-9, name=name)
        assert_equal(got["unchanged"], case["weight"], name=f"{name}: the weight given, afterwards")


@number("5.5")
@weight(0.7)
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


@number("5.5")
@weight(0.2)
def test_what_has_no_grid_is_refused(student, rng):
    """Bits, groups and shapes that do not fit, NaN and infinity: ValueError, and half types work."""
    good = {"weight": rng.standard_normal((3, 16)).astype(np.float32), "bits": 4, "group": 8,
            "symmetric": False}  # fmt: skip
    bad = good["weight"].copy()
    bad[1, 3] = np.nan
    for change in (
        {"bits": 1}, {"bits": 9}, {"group": 5}, {"group": 0}, {"group": 32}, {"weight": bad},
        {"weight": np.where(np.isnan(bad), -np.inf, bad)}, {"weight": good["weight"][0]},
        {"weight": good["weight"][:, :15], "group": 5},
    ):  # fmt: skip
        student.raises(drivers.quantized, "ValueError", cases=[{**good, **change}])
    # These lines come with the stub: what is asked must work next to them, here in float16.
    case = {**good, "weight": good["weight"].astype(np.float16)}
    got = student.run(drivers.quantized, cases=[case])[0]
    wide = case["weight"].astype(np.float32)
    assert_equal(
        codes_of(got, 4), nearest(wide, *grid(wide, 4, 8, False), 4), name="codes of float16"
    )


@number("5.5")
@weight(1.4)
def test_smollm2_in_int8_stays_as_good(student, rng):
    """All 210 matrices of the layers in 8 bits, asymmetric groups of 192: perplexity at most +1%."""
    model, ids = open_model(packaged("smollm2")), window(np.load(PROSE), rng, 640)
    plain = small = model.embedded(ids)
    for place in range(model.sizes.layers):
        weights = model.layer(place)
        plain = model.run_layer(weights, plain)
        got = student.run(drivers_layer.rounded_layer, layer=arrays(weights), bits=8, group=192,
                          symmetric=False)  # fmt: skip
        for name in MATRICES:
            weights[name] = dequantized(got[name], weights[name].shape, 8, 192)
        small = model.run_layer(weights, small)
    ratio = model.perplexity(small, ids) / model.perplexity(plain, ids)
    student.measure(Measure(name="perplexity of SmolLM2 in int8, of float32's", value=ratio))
    assert ratio <= 1.01, f"perplexity is {ratio:.4f} times float32's, at most 1.01 is asked"
