"""Tensor-core tiles of the emulator's <mma.h> against numpy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from autograder import kernels

SOURCE = Path(__file__).parent / "cuda" / "matrices.cu"
HALF_FLOAT, HALF_HALF, BFLOAT16_FLOAT = 0, 1, 2


@pytest.fixture(scope="module")
def device() -> kernels.Device:
    return kernels.Device("emulator", mode="full")


def messages(device) -> list[str]:
    return [found["message"] for found in device.report()["diagnostics"]]


def as_words(bits: np.ndarray) -> np.ndarray:
    """16-bit numbers packed for a pointer to 32-bit words."""
    return np.ascontiguousarray(bits).reshape(-1).view(np.uint32)


def stored(matrix: np.ndarray, by_columns: bool, stride: int) -> np.ndarray:
    """The matrix as it lies in memory, rows or columns `stride` apart; NaN bits between."""
    lines = matrix.T if by_columns else matrix
    padded = np.full((16, stride), -1, np.int64).astype(matrix.dtype)
    padded[:, :16] = lines
    return padded


def factors(kind: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A random 16x16 matrix: its bits and its values."""
    values = rng.standard_normal((16, 16)).astype(np.float32)
    if kind == BFLOAT16_FLOAT:
        bits = (values.view(np.uint32) >> 16).astype(np.uint16)
        return bits, (bits.astype(np.uint32) << 16).view(np.float32)
    half = values.astype(np.float16)
    return half.view(np.uint16), half.astype(np.float32)


@pytest.mark.parametrize("kind", [HALF_FLOAT, HALF_HALF, BFLOAT16_FLOAT])
@pytest.mark.parametrize("columns_a, columns_b", [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_one_tile_in_every_layout(device, kind, columns_a, columns_b):
    """d = a b + c with rows padded to 24 and 16 numbers; c and d by rows or by columns."""
    rng = np.random.default_rng()
    (a, wide_a), (b, wide_b) = factors(kind, rng), factors(kind, rng)
    sums = np.float16 if kind == HALF_HALF else np.float32
    c = rng.standard_normal((16, 16)).astype(sums)
    by_rows = columns_a != columns_b
    a_words = as_words(stored(a, bool(columns_a), 24))
    b_words = as_words(stored(b, bool(columns_b), 16))
    c_words = np.ascontiguousarray(c if by_rows else c.T).reshape(-1).view(np.float32)
    out = device.empty(c_words.shape, np.float32)
    device.report()
    device.load(SOURCE).launch(
        "launch_multiply", kind, columns_a, columns_b, device.array(a_words), 24,
        device.array(b_words), 16, device.array(c_words), out, 16, int(by_rows),
    )  # fmt: skip
    got = out.numpy().view(sums).reshape(16, 16)
    got = got if by_rows else got.T
    assert not messages(device)
    exact = wide_a.astype(np.float64) @ wide_b + c
    sizes = np.abs(wide_a).astype(np.float64) @ np.abs(wide_b) + np.abs(c)
    # 16 float additions, and for half one rounding of the result.
    bound = 17 * 2.0**-24 * sizes + (2.0**-11 * np.abs(exact) if kind == HALF_HALF else 0)
    assert (np.abs(got - exact) <= bound).all()


def test_a_product_of_tiles_through_shared_memory(device):
    """Values, no diagnostics, and the tile's accesses counted in the student's lines."""
    rng = np.random.default_rng()
    n = 48
    a, b = (rng.standard_normal((n, n)).astype(np.float16) for _ in range(2))
    out = device.empty((n, n), np.float32)
    device.report()
    device.load(SOURCE).launch("launch_scaled_product", device.array(as_words(a)),
                               device.array(as_words(b)), out, n, 0.5)  # fmt: skip
    report = device.report()
    assert not report["diagnostics"], report["diagnostics"][0]["message"]
    exact = 0.5 * (a.astype(np.float64) @ b.astype(np.float64))
    sizes = np.abs(a).astype(np.float64) @ np.abs(b).astype(np.float64)
    assert (np.abs(out.numpy() - exact) <= (n + 1) * 2.0**-24 * sizes).all()
    lines = {entry["line"]: entry for entry in report["launches"][0]["lines"]
             if entry["access"] == "shared_load"}  # fmt: skip
    text = SOURCE.read_text().splitlines()
    loads = {text[line - 1].strip(): entry["requests"] for line, entry in lines.items()}
    # 9 tiles in 3 steps: by rows, a lane reads the left one in 4 pairs, the right one in 8 numbers.
    assert loads == {
        "wmma::load_matrix_sync(x, left, 16);": 27 * 4,
        "wmma::load_matrix_sync(y, right, 16);": 27 * 8,
    }


def test_a_tile_read_without_a_barrier_is_a_race(device):
    tile = device.array(as_words(np.ones((16, 16), np.float16)))
    device.report()
    device.load(SOURCE).launch("launch_unordered", tile, device.empty((16, 16), np.float32))
    assert any("race" in message for message in messages(device))


@pytest.mark.parametrize("stride, more", [(20, 0), (24, 2)])
def test_strides_must_be_multiples_of_16_bytes(device, stride, more):
    """As tensor cores ask for: 8 numbers of 16 bits, 4 of 32."""
    words = device.array(np.zeros(1024, np.uint32))
    sums, out = device.array(np.zeros(512, np.float32)), device.empty((512,), np.float32)
    with pytest.raises(kernels.KernelError, match="stride"):
        device.load(SOURCE).launch("launch_multiply", 0, 0, 0, words, stride, words, 16,
                                   sums, out, 16 + more, 1)  # fmt: skip
