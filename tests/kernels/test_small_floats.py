"""__half and __nv_bfloat16 of the emulator's headers against numpy, torch and exact fractions."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from autograder import kernels

SOURCE = Path(__file__).parent / "cuda" / "small_floats.cu"
HALF, BFLOAT16 = 0, 1
KINDS = pytest.mark.parametrize("kind", [HALF, BFLOAT16], ids=["half", "bfloat16"])
# Bits of the fraction, exponent of the smallest normal number, bits of infinity.
FORMATS = {HALF: (10, -14, 0x7C00), BFLOAT16: (7, -126, 0x7F80)}
EVERY_NUMBER = np.arange(1 << 16, dtype=np.uint32)
ADD, SUB, MUL, DIV, FMA, MAX, MIN, SQRT, NEG, ABS = range(10)


@pytest.fixture(scope="module")
def device() -> kernels.Device:
    return kernels.Device("emulator", mode="fast")


def run(device, name, *inputs, outputs=1, dtype=np.uint32):
    """Call an entry point with numbers and arrays; get back as many arrays as it writes."""
    n = next(value.size for value in inputs if isinstance(value, np.ndarray))
    given = [device.array(v) if isinstance(v, np.ndarray) else v for v in inputs]
    results = [device.empty((n,), dtype) for _ in range(outputs)]
    device.load(SOURCE).launch(name, *given, *results, n)
    values = [result.numpy() for result in results]
    return values[0] if outputs == 1 else values


def widened(kind: int, bits: np.ndarray) -> np.ndarray:
    """The float32 values of 16-bit numbers, by numpy and by shifting."""
    if kind == HALF:
        return bits.astype(np.uint16).view(np.float16).astype(np.float32)
    return (bits.astype(np.uint32) << 16).view(np.float32)


def narrowed(kind: int, values: np.ndarray) -> np.ndarray:
    """The nearest 16-bit numbers to float32 values, by numpy and by torch."""
    with np.errstate(over="ignore"):
        if kind == HALF:
            return values.astype(np.float16).view(np.uint16).astype(np.uint32)
    numbers = torch.from_numpy(values.astype(np.float32)).to(torch.bfloat16)
    return numbers.view(torch.int16).numpy().view(np.uint16).astype(np.uint32)


def exactly_rounded(kind: int, value: Fraction) -> int:
    """The bits of the nearest number, ties to even, from the definition of the format."""
    digits, lowest, infinity = FORMATS[kind]
    sign, size = (0x8000, -value) if value < 0 else (0, value)
    exponent = lowest
    while size >= Fraction(2) ** (exponent + 1):
        exponent += 1
    steps = round(size / Fraction(2) ** (exponent - digits))  # round() takes ties to even
    bits = steps if exponent == lowest else steps + ((exponent - lowest) << digits)
    return sign | min(bits, infinity)


def same_numbers(kind: int, got: np.ndarray, expected: np.ndarray) -> None:
    """Equal bits; one NaN is as good as another."""
    nan = np.isnan(widened(kind, expected))
    np.testing.assert_array_equal(np.isnan(widened(kind, got)), nan)
    np.testing.assert_array_equal(got[~nan], expected[~nan])


def any_floats(rng: np.random.Generator, n: int) -> np.ndarray:
    """Random bit patterns as floats, and floats around the numbers of both formats."""
    patterns = rng.integers(0, 1 << 32, n, dtype=np.uint32).view(np.float32)
    small = rng.standard_normal(n, np.float32) * np.float32(2.0) ** rng.integers(-30, 18, n)
    return np.concatenate([patterns, small.astype(np.float32)])


def midpoints(kind: int) -> np.ndarray:
    """Halfway between neighbours, where ties go to even, and a float's distance to either side."""
    numbers = widened(kind, EVERY_NUMBER[: FORMATS[kind][2]]).astype(np.float64)
    middle = ((numbers[:-1] + numbers[1:]) / 2).astype(np.float32)
    around = [middle, np.nextafter(middle, np.float32(np.inf)), np.nextafter(middle, np.float32(0))]
    return np.concatenate([*around, *(-value for value in around)])


@KINDS
def test_every_number_becomes_the_float_it_is(device, kind):
    got = run(device, "launch_widen", kind, EVERY_NUMBER, dtype=np.float32)
    np.testing.assert_array_equal(got, widened(kind, EVERY_NUMBER))
    assert np.signbit(got[0x8000])


@KINDS
def test_floats_round_to_the_nearest(device, kind):
    values = np.concatenate([any_floats(np.random.default_rng(), 40_000), midpoints(kind)])
    same_numbers(kind, run(device, "launch_narrow", kind, values), narrowed(kind, values))


@KINDS
def test_every_number_survives_the_way_to_float_and_back(device, kind):
    values = widened(kind, EVERY_NUMBER)
    same_numbers(kind, run(device, "launch_narrow", kind, values), EVERY_NUMBER)


@KINDS
def test_doubles_are_rounded_once(device, kind):
    """A double just above a midpoint would, through float, land on the midpoint."""
    rng = np.random.default_rng()
    high = np.concatenate([rng.choice(midpoints(kind), 2000), any_floats(rng, 500)])
    high = high[np.isfinite(high) & (np.abs(high) < 1e30)]
    low = (high * rng.choice([0.0, 2.0**-30, -(2.0**-30)], high.size)).astype(np.float32)
    got = run(device, "launch_narrow_double", kind, high, low)
    exact = [Fraction(float(h) + float(s)) for h, s in zip(high, low, strict=True)]
    expected = np.array([exactly_rounded(kind, value) for value in exact], np.uint32)
    np.testing.assert_array_equal(got & 0x7FFF, expected & 0x7FFF)


@KINDS
def test_integers_are_rounded_once(device, kind):
    """Also next to bfloat16's midpoints, by less than a float can tell."""
    rng = np.random.default_rng()
    values = rng.integers(-(1 << 31), 1 << 31, 2000).astype(np.int32)
    values[:1000] >>= rng.integers(8, 30, 1000)
    middles = (2 * rng.integers(128, 256, 500) + 1) << 21
    values[:500] = (middles + rng.integers(-1, 2, 500)) * rng.choice([-1, 1], 500)
    expected = [exactly_rounded(kind, Fraction(int(value))) for value in values]
    got = run(device, "launch_narrow_int", kind, values)
    np.testing.assert_array_equal(got, np.array(expected, np.uint32))


def test_directed_roundings(device):
    """Towards zero, up and down: the neighbours of the exact value, or the value if it is one."""
    values = np.random.default_rng().standard_normal(4000).astype(np.float32)
    values *= np.float32(2.0) ** np.random.default_rng().integers(-27, 18, 4000)
    values[:500] = np.clip(values[:500], -60_000, 60_000).astype(np.float16)
    zero, up, down = run(device, "launch_narrow_half_modes", values, outputs=3)
    low, high = widened(HALF, down), widened(HALF, up)
    assert (low <= values).all() and (values <= high).all()
    inexact = low != high
    assert inexact.any() and not inexact[:500].any()
    with np.errstate(over="ignore"):
        between = np.nextafter(low[inexact].astype(np.float16), np.float16(np.inf))
    np.testing.assert_array_equal(between.astype(np.float32), high[inexact])
    np.testing.assert_array_equal(widened(HALF, zero), np.where(values > 0, low, high))


@KINDS
def test_conversion_to_int_truncates_and_clamps(device, kind):
    with np.errstate(invalid="ignore"):
        wide = np.trunc(widened(kind, EVERY_NUMBER)).astype(np.float64)
        expected = np.clip(np.nan_to_num(wide, nan=0.0), -(2.0**31), 2.0**31 - 1).astype(np.int32)
    got = run(device, "launch_truncated", kind, EVERY_NUMBER, dtype=np.int32)
    np.testing.assert_array_equal(got, expected)


@KINDS
@pytest.mark.parametrize("operation", [ADD, SUB, MUL, DIV, MAX, MIN, SQRT, NEG, ABS])
def test_arithmetic_is_rounded_after_each_operation(device, kind, operation):
    rng = np.random.default_rng()
    a, b = (rng.integers(0, 1 << 16, 30_000, dtype=np.uint32) for _ in range(2))
    a[:10_000] = narrowed(kind, rng.standard_normal(10_000).astype(np.float32))
    b[:10_000] = narrowed(kind, rng.standard_normal(10_000).astype(np.float32))
    got = run(device, "launch_arithmetic", kind, operation, a, b, a)
    with np.errstate(all="ignore"):
        x, y = widened(kind, a).astype(np.float64), widened(kind, b).astype(np.float64)
        exact = {
            ADD: x + y, SUB: x - y, MUL: x * y, DIV: x / y, MAX: np.fmax(x, y),
            MIN: np.fmin(x, y), SQRT: np.sqrt(x), NEG: -x, ABS: np.abs(x),
        }[operation]  # fmt: skip
        # Exact, or so close that rounding to float first changes nothing (small_floats.h).
        expected = narrowed(kind, exact.astype(np.float32))
        if kind == HALF:
            expected = exact.astype(np.float16).view(np.uint16).astype(np.uint32)
    if operation in (MAX, MIN):  # of 0 and -0 either may come out of numpy
        zeros = (x == 0) & (y == 0)
        expected[zeros] = (a & b if operation == MAX else a | b)[zeros]
    same_numbers(kind, got, expected)


@KINDS
def test_fused_multiply_add_is_rounded_once(device, kind):
    """Also where the product and the addend are too far apart for a double to hold their sum."""
    rng = np.random.default_rng()
    digits, lowest, infinity = FORMATS[kind]
    a, b, c = (rng.integers(0, infinity, 3000, dtype=np.uint32) for _ in range(3))
    a[:2000] = narrowed(kind, 1 + rng.random(2000, np.float32))
    b[:2000] = narrowed(kind, 1 + rng.random(2000, np.float32))
    # 1.5 times an odd number below 4/3 lies halfway between two numbers, and then an addend
    # decides that is too small to be seen beside it.
    one = (1 - lowest) << digits
    a[:1000] = one + 2 * rng.integers(0, (1 << digits) // 6, 1000) + 1
    b[:1000] = one + (1 << digits) // 2
    c[:2000] = rng.integers(1, 1 << digits, 2000)
    c ^= np.where(rng.random(3000) < 0.5, 0x8000, 0).astype(np.uint32)
    got = run(device, "launch_arithmetic", kind, FMA, a, b, c)
    x, y, z = (widened(kind, bits) for bits in (a, b, c))
    exact = [
        Fraction(float(p)) * Fraction(float(q)) + Fraction(float(r))
        for p, q, r in zip(x, y, z, strict=True)
    ]
    expected = np.array([exactly_rounded(kind, value) for value in exact], np.uint32)
    nonzero = np.array([value != 0 for value in exact])
    np.testing.assert_array_equal(got[nonzero], expected[nonzero])


@KINDS
def test_comparisons_with_numbers_infinities_and_nan(device, kind):
    rng = np.random.default_rng()
    a, b = (rng.integers(0, 1 << 16, 20_000, dtype=np.uint32) for _ in range(2))
    infinity = FORMATS[kind][2]
    special = np.array([0, 0x8000, infinity, infinity | 0x8000, infinity | 1, 1, 0x3C00], np.uint32)
    a[:49], b[:49] = np.repeat(special, 7), np.tile(special, 7)
    a[100:2000] = b[100:2000]
    x, y = widened(kind, a), widened(kind, b)
    nan = np.isnan(x) | np.isnan(y)
    ordered = [x == y, x != y, x < y, x <= y, x > y, x >= y]
    tests = [*ordered, *(test | nan for test in ordered), (x != y) & ~nan]
    expected = sum(test.astype(np.uint32) << i for i, test in enumerate(tests))
    np.testing.assert_array_equal(run(device, "launch_compare", kind, a, b), expected)


@KINDS
def test_pairs_compute_both_halves_in_one_access(kind):
    """2a + b with the halves exchanged; each pair is loaded and stored as four bytes."""
    device = kernels.Device("emulator", mode="full")
    rng = np.random.default_rng()
    a, b = (narrowed(kind, rng.standard_normal(512).astype(np.float32)) for _ in range(2))
    pairs = [bits[0::2] | bits[1::2] << 16 for bits in (a, b)]
    got = run(device, "launch_pairs", kind, *pairs)
    x, y = widened(kind, a).astype(np.float64), widened(kind, b).astype(np.float64)
    expected = narrowed(kind, (2 * x + y).astype(np.float32))
    np.testing.assert_array_equal(got >> 16, expected[0::2])
    np.testing.assert_array_equal(got & 0xFFFF, expected[1::2])
    report = device.report()
    assert not report["diagnostics"]
    counts = report["launches"][-1]["counts"]
    # 256 pairs are 8 warps; each loads 2 rows of 128 bytes and stores one.
    assert counts["global_load_requests"] == 16 and counts["global_load_sectors"] == 64
    assert counts["global_store_requests"] == 8 and counts["global_store_sectors"] == 32


def test_pairs_go_through_shuffles():
    device = kernels.Device("emulator", mode="full")
    values = np.arange(32, dtype=np.float16)
    packed = device.array(values.view(np.uint32))
    out = device.empty((32,), np.float32)
    device.load(SOURCE).launch("launch_half_warp_sum", packed, out)
    np.testing.assert_array_equal(out.numpy(), np.full(32, 2 * 496, np.float32))


@KINDS
def test_atomic_add_rounds_each_addition(kind):
    """32 additions of 1/4 to 256: lost one by one in bfloat16, exact in half."""
    device = kernels.Device("emulator", mode="full")
    bits = narrowed(kind, np.full(32, 0.25, np.float32))
    start = int(narrowed(kind, np.array([256.0], np.float32))[0])
    sums = device.array(np.array([start, 0], np.uint32))
    packed = device.array(bits[0::2] | bits[1::2] << 16)
    device.load(SOURCE).launch("launch_atomic_sum", kind, packed, sums)
    got = sums.numpy()
    total = widened(kind, got[:1] & 0xFFFF)[0]
    assert total == (264.0 if kind == HALF else 256.0)
    if kind == HALF:
        pair = widened(kind, np.array([got[1] & 0xFFFF, got[1] >> 16]))
        np.testing.assert_array_equal(pair, [8.0, -8.0])
    assert not device.report()["diagnostics"]
