"""Drivers of `make bench`: your code and a peer in turn, in one process, on one thread.

These report their own times: they earn no points.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np


def _in_turn(own: Callable[[], Any], peer: Callable[[], Any], rounds: int) -> list[list[float]]:
    """CPU seconds of this thread in both, a pair a round, after one untimed call each."""
    own()
    peer()
    pairs = []
    for _ in range(rounds):
        pair = []
        for function in (own, peer):
            started = time.thread_time()
            function()
            pair.append(time.thread_time() - started)
        pairs.append(pair)
    return pairs


def bench_matmul(kind: str, n: int, rounds: int) -> list[list[float]]:
    """A float32 product of (n, n) matrices: `kind` of your kernels against numpy's BLAS."""
    from autodiff import matmul_kernel

    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal((n, n)).astype(np.float32) for _ in "ab")
    own = {"register": matmul_kernel.matmul_register, "blocked": matmul_kernel.matmul_blocked}
    repeat = max(1, int(2e8 / n**3))
    function = own[kind] if kind in own else _naive_product()
    return _in_turn(
        lambda: [function(a, b) for _ in range(repeat)],
        lambda: [np.matmul(a, b) for _ in range(repeat)],
        rounds,
    )


def _naive_product() -> Callable[..., np.ndarray]:
    from autodiff import naive_kernels

    return naive_kernels.matmul_ikj


def bench_gelu(size: int, rounds: int) -> list[list[float]]:
    """GELU of `size` float32 numbers: your map kernel on one thread against numpy."""
    import numba

    from autodiff import backend, kernels

    numba.set_num_threads(1)
    x = np.random.default_rng(0).standard_normal(size).astype(np.float32)
    return _in_turn(
        lambda: kernels.map_array("gelu", x), lambda: backend.map_array("gelu", x), rounds
    )


def bench_sum(size: int, rounds: int) -> list[list[float]]:
    """The sum over the last axis of (size / 1024, 1024): your reduction against numpy."""
    import numba

    from autodiff import kernels

    numba.set_num_threads(1)
    x = np.random.default_rng(0).standard_normal((size // 1024, 1024)).astype(np.float32)
    return _in_turn(
        lambda: kernels.reduce_array("sum", x, 1, False), lambda: x.sum(axis=1), rounds
    )
