"""Kernels without a fault get no diagnostic, and compute what they should, in every mode.

The references of homework 2 are checked in the same way by its own tests: each of them asks for a
report without diagnostics.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from autograder import kernels

SOURCE = Path(__file__).parent / "cuda" / "correct.cu"


def by_group(x, size, function):
    """function of each group of `size`, repeated for its members."""
    return np.repeat(function(x.reshape(-1, size), axis=1), size)


def half_warps(x):
    """Sums of the lower, maxima of the upper half of each warp."""
    halves = x.reshape(-1, 2, 16)
    found = np.stack([halves[:, 0].sum(1), halves[:, 1].max(1)], 1)
    return np.repeat(found.reshape(-1), 16)


EXPECTED = {
    "last_block": lambda x: x.sum()[None],
    "chained": lambda x: 2 * x[::-1],
    "warp_scan": lambda x: x.reshape(-1, 32).cumsum(1).reshape(-1),
    "warp_tree": lambda x: by_group(x, 32, np.sum),
    "half_warps": half_warps,
    "histogram": lambda x: np.bincount(np.abs(x).astype(int) % 16, minlength=16),
    "bitonic": np.sort,
    "bytes": lambda x: x.astype(np.uint8)[::-1],
    "two_stages": lambda x: 2 * x.reshape(4, 64)[:, ::-1].reshape(-1),
    "locked": lambda x: x[::32].sum()[None],
    "polynomial": lambda x: 1 + 2 * x + 4 * x**2 + 8 * x**3,
    "libraries": lambda x: by_group(x, 8, np.max) + by_group(x, 128, np.sum),
}


@pytest.fixture(scope="module", params=kernels.MODES)
def module(request):
    """The kernels, on the emulator in one of its modes."""
    return kernels.Device("emulator", request.param).load(SOURCE)


@pytest.mark.parametrize("name", EXPECTED)
def test_a_correct_kernel_gets_no_diagnostic(module, name):
    """No error, no warning, and the values of numpy; twice, since state could be left behind."""
    rng = np.random.default_rng(len(name))
    for _ in range(2):
        x = rng.integers(0, 20, 256).astype(np.float32)
        expected = EXPECTED[name](x.astype(np.float64))
        device = module.device
        out = device.empty(expected.shape)
        module.launch(f"run_{name}", device.array(x), out)
        assert device.report()["diagnostics"] == []
        np.testing.assert_allclose(out.numpy(), expected, rtol=1e-5)
