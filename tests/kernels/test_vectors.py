"""Vector types and device mathematics of the emulator's headers."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from scipy import special

from autograder import kernels

SOURCE = Path(__file__).parent / "cuda" / "vectors.cu"


@pytest.fixture(scope="module")
def device() -> kernels.Device:
    return kernels.Device("emulator", mode="full")


def run(device, name, *arguments, shape, dtype=np.float32) -> tuple[np.ndarray, dict]:
    """What an entry point wrote where "out" stands, and the report without diagnostics."""
    device.report()
    out = device.empty(shape, dtype)
    given = [device.array(v) if isinstance(v, np.ndarray) else out if isinstance(v, str) else v
             for v in arguments]  # fmt: skip
    device.load(SOURCE).launch(name, *given)
    report = device.report()
    assert not report["diagnostics"], report["diagnostics"][0]["message"]
    return out.numpy(), report


def test_a_float4_is_one_access(device):
    """100 threads: 3 full warps of 16 sectors and one of 4 lanes, 64 bytes, 2 sectors."""
    values = np.random.default_rng().standard_normal((100, 4)).astype(np.float32)
    got, report = run(device, "launch_affine", values, "out", 3.0, 100, shape=(100, 4))
    expected = np.float32(3.0) * values + np.arange(4, dtype=np.float32)
    np.testing.assert_array_equal(got, expected)
    counts = report["launches"][0]["counts"]
    for kind in ("load", "store"):
        assert counts[f"global_{kind}_requests"] == 4
        assert counts[f"global_{kind}_sectors"] == 3 * 16 + 2


# A warp's requests for the copy of a type, and its sectors: 32 times its size over 32 bytes. A
# float3 is three scalars 12 bytes apart, each of which touches all of its 12 sectors.
COPIES = {
    "float": (1, 4), "float2": (1, 8), "float3": (3, 36), "float4": (1, 16), "int4": (1, 16),
    "char4": (1, 4), "short2": (1, 4), "double2": (1, 16), "longlong2": (1, 16), "uchar2": (1, 2),
}  # fmt: skip


@pytest.mark.parametrize("name", COPIES)
def test_copies_cost_what_their_size_says(device, name):
    values = np.random.default_rng().integers(0, 255, 512, np.uint8).view(np.float32)
    requests, sectors = COPIES[name]
    moved = 32 * sectors if name != "float3" else 384
    got, report = run(device, "launch_copy", list(COPIES).index(name), values, "out", shape=(128,))
    assert got.tobytes()[:moved] == values.tobytes()[:moved]
    counts = report["launches"][0]["counts"]
    for kind in ("load", "store"):
        assert counts[f"global_{kind}_requests"] == requests
        assert counts[f"global_{kind}_sectors"] == sectors


def test_brace_initialisation_as_in_cuda(device):
    got, _ = run(device, "launch_initialise", "out", shape=(8, 4))
    expected = [[1, 2, 0, 0], [0] * 4, [1, 9, 9, 9], [1, 2, 3, 4], [2] * 4, [1, 12, 3, 4],
                [1, 2, 3, 4], [5, 0, 0, 0]]  # fmt: skip
    np.testing.assert_array_equal(got, expected)


def float_functions(x: np.ndarray) -> list[np.ndarray]:
    """In float64, in the order of the kernel `functions`."""
    p = (np.abs(x.astype(np.float32)) + np.float32(0.01)).astype(np.float64)
    sin, cos, exp = np.sin(x), np.cos(x), np.exp(x)
    return [
        *(exp, exp, np.exp2(x), 10.0**x, np.log(p), np.log(p), np.log2(p), np.log10(p)),
        *(1 / np.sqrt(p), np.sqrt(p), np.tanh(x), special.erf(x), x * x + p, p**x, p**x, x / p),
        *(1 / p, np.sqrt(p), sin, cos, sin, cos, sin, cos, special.ndtr(x), exp),
        *(np.maximum(x, 0.5), np.minimum(x, 0.5), np.maximum(x, 0.5), np.minimum(x, 0.5)),
        *(np.clip(x, 0, 1), np.rint(x), np.trunc(x), np.floor(x), np.ceil(x)),
        np.copysign(1.0, x),
    ]


def test_float_functions(device):
    """Within 4 units in the last place; near a zero of the result, of the largest argument."""
    x = np.random.default_rng().uniform(-8, 8, 200).astype(np.float32)
    expected = float_functions(x.astype(np.float64))
    got, _ = run(device, "launch_functions", x, "out", x.size, shape=(len(expected), x.size))
    for index, (values, exact) in enumerate(zip(got, expected, strict=True)):
        bound = 4 * 2.0**-23 * np.abs(exact) + 2.0**-25
        assert (np.abs(values - exact) <= bound).all(), f"function {index}"


def signed(value: int) -> int:
    return (value + (1 << 31)) % (1 << 32) - (1 << 31)


def integer_functions(x: int, y: int) -> list[int]:
    """In Python's integers, in the order of the kernel `integers`."""
    p, q = x % (1 << 32), y % (1 << 32)
    low, high = ((value << 8 & 0xFFFFFFFF) for value in (p, q))
    bytes_p, bytes_q = p.to_bytes(4, "little"), q.to_bytes(4, "little")
    signed_p, signed_q = ((np.frombuffer(b, np.int8).astype(int)) for b in (bytes_p, bytes_q))
    dot = int((signed_p * signed_q).sum())
    # Bytes 5, 1 and 7 of y:x, and the sign of byte 3, as the selector says.
    chosen = [bytes_q[1], bytes_p[1], bytes_q[3], 255 if bytes_p[3] & 0x80 else 0]
    return [
        *(p.bit_count(), 32 - p.bit_length(), (p & -p).bit_length(), int(f"{p:032b}"[::-1], 2)),
        *(x * y >> 32, p * q >> 32, (signed(low) >> 8) * (signed(high) >> 8), dot + 7),
        *(sum(a * b for a, b in zip(bytes_p, bytes_q, strict=True)) + 7, dot + 7),
        int.from_bytes(bytes(chosen), "little"),
        *(min(x, y), max(x, y), max(p, q), (q << 32 | p) << 5 >> 32, abs(x - y) + 1, abs(x >> 1)),
        x,
    ]


def test_integer_functions(device):
    rng = np.random.default_rng()
    a, b = (rng.integers(-(1 << 31), 1 << 31, 200).astype(np.int32) for _ in range(2))
    a[:6], b[:6] = [0, 1, -1, 0, -(1 << 31), (1 << 31) - 1], [0, -1, -1, 5, 1, -(1 << 31)]
    expected = [integer_functions(int(x), int(y)) for x, y in zip(a, b, strict=True)]
    # A float's signalling NaN may be quietened on its way: leave those out of the last row.
    got, _ = run(device, "launch_integers", a, b, "out", a.size, shape=(18, a.size), dtype=np.int32)
    expected = np.array([[signed(value) for value in row] for row in expected], np.int64).T
    np.testing.assert_array_equal(got[:17], expected[:17])
    number = ~np.isnan(a.view(np.float32))
    np.testing.assert_array_equal(got[17, number], a[number])


def test_conversions_round_and_clamp(device):
    """Halfway cases, what does not fit the integer, infinities and NaN (PTX ISA, cvt)."""
    inf, nan = math.inf, math.nan
    x = np.array([0.5, 1.5, -0.5, -2.5, 2.5, 3e9, -3e9, 5e9, inf, -inf, nan, -0.0, 1e-40])
    x = x.astype(np.float32)
    largest, least = 2**31 - 1, -(2**31)
    expected = [
        [0, 2, 0, -2, 2, largest, least, largest, largest, least, 0, 0, 0],
        [0, 1, 0, -2, 2, largest, least, largest, largest, least, 0, 0, 0],
        [1, 2, 0, -2, 3, largest, least, largest, largest, least, 0, 0, 1],
        [0, 1, -1, -3, 2, largest, least, largest, largest, least, 0, 0, 0],
        [0, 2, 0, 0, 2, signed(3 * 10**9), 0, -1, -1, 0, 0, 0, 0],
        [0] * 10 + [1, 0, 0],
        [0] * 8 + [1, 1, 0, 0, 0],
        [0, 0, 1, 1, 0, 0, 1, 0, 0, 1, 0, 1, 0],
        [1] * 8 + [0, 0, 0, 1, 1],
        [0] * 8 + [1, 0, 0, 0, 0],
        [1] * 8 + [0, 1, 0, 1, 1],
    ]
    got, _ = run(device, "launch_conversions", x, "out", x.size, shape=(11, x.size), dtype=np.int32)
    np.testing.assert_array_equal(got, expected)


def test_loads_with_hints_count_in_the_students_line(device):
    values = np.arange(128, dtype=np.float32)
    got, report = run(device, "launch_hinted", values, "out", shape=(32, 4))
    np.testing.assert_array_equal(got[:, :3], values.reshape(32, 4)[:, :3])
    np.testing.assert_array_equal(got[:, 3], values[:32])
    text = SOURCE.read_text().splitlines()
    lines = {text[entry["line"] - 1].split("(")[0].strip(): entry["sectors"]
             for entry in report["launches"][0]["lines"]}  # fmt: skip
    assert lines == {"const float4 v = __ldg": 16, "const float w = __ldcs": 4, "__stcs": 16}
