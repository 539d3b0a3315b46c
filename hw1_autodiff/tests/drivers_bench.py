"""Drivers of `make bench`: your code and a peer in turn, in one process, on one thread.

These report their own times: they earn no points.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np


def _in_turn(
    own: Callable[[], Any], peer: Callable[[], Any], rounds: int, repeat: int = 1
) -> list[list[float]]:
    """CPU seconds of the process for `repeat` calls of each, a pair a round, after a first call.

    All of its threads count: numba computes in threads of its own, even when there is one. The
    clock may run in ticks of 4 ms here, so a round should take tens of them.
    """
    own()
    peer()
    pairs = []
    for _ in range(rounds):
        pair = []
        for function in (own, peer):
            started = time.process_time()
            for _call in range(repeat):
                function()
            pair.append(time.process_time() - started)
        pairs.append(pair)
    return pairs


def bench_matmul(kind: str, n: int, rounds: int) -> list[list[float]]:
    """A float32 product of (n, n) matrices: `kind` of your kernels against numpy's BLAS."""
    from autodiff import matmul_kernel

    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal((n, n)).astype(np.float32) for _ in "ab")
    own = {"register": matmul_kernel.matmul_register, "blocked": matmul_kernel.matmul_blocked}
    function = own[kind] if kind in own else _naive_product()
    return _in_turn(lambda: function(a, b), lambda: np.matmul(a, b), rounds, matmul_calls(n))


def matmul_calls(n: int) -> int:
    """How many products of size n make a round: some 0.2 seconds."""
    return max(1, int(1e10 / n**3))


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
        lambda: kernels.map_array("gelu", x), lambda: backend.map_array("gelu", x), rounds, 200
    )


def bench_sum(size: int, rounds: int) -> list[list[float]]:
    """The sum over the last axis of (size / 1024, 1024): your reduction against numpy."""
    import numba

    from autodiff import kernels

    numba.set_num_threads(1)
    x = np.random.default_rng(0).standard_normal((size // 1024, 1024)).astype(np.float32)
    return _in_turn(
        lambda: kernels.reduce_array("sum", x, 1, False), lambda: x.sum(axis=1), rounds, 600
    )
