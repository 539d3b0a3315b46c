"""The peer of the emulator's benchmark: numba's CUDA simulator on the same tiled product.

    NUMBA_ENABLE_CUDASIM=1 python autograder/batch/staff/numba_simulator.py 64 128

Prints a JSON object: size -> [seconds, seconds of CPU time, largest error] of one launch. A process of its own, because
the simulator has to be chosen before numba is imported.
"""

from __future__ import annotations

import json
import sys
import time

import numpy as np
from numba import cuda, float32  # the simulator replaces what the module itself calls `cuda`

SIDE = 16


@cuda.jit
def tiled(left, right, product, n):  # type: ignore[no-untyped-def]
    """product = left right, each block one piece of it; n is a multiple of SIDE."""
    piece = cuda.shared.array((SIDE, SIDE), float32)
    other = cuda.shared.array((SIDE, SIDE), float32)
    i, j = cuda.threadIdx.y, cuda.threadIdx.x
    at, across = cuda.blockIdx.y * SIDE + i, cuda.blockIdx.x * SIDE + j
    total = np.float32(0)
    for first in range(0, n, SIDE):
        piece[i, j] = left[at, first + j]
        other[i, j] = right[first + i, across]
        cuda.syncthreads()
        for step in range(SIDE):
            total += piece[i, step] * other[step, j]
        cuda.syncthreads()
    product[at, across] = total


def measure(sizes: list[int]) -> dict[int, tuple[float, float, float]]:
    """Seconds, seconds of CPU time and the largest error for each size, a multiple of 16."""
    found = {}
    rng = np.random.default_rng(0)
    for n in sizes:
        a, b = (rng.standard_normal((n, n), dtype=np.float32) for _ in range(2))
        c = np.zeros((n, n), np.float32)
        started, cpu = time.perf_counter(), time.process_time()
        tiled[(n // SIDE, n // SIDE), (SIDE, SIDE)](a, b, c, n)
        seconds = time.perf_counter() - started, time.process_time() - cpu
        found[n] = (*seconds, float(np.abs(c - a @ b).max()))
    return found


if __name__ == "__main__":
    print(json.dumps(measure([int(n) for n in sys.argv[1:]])))
