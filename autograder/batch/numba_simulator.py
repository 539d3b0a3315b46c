"""The peer of the emulator's benchmark: numba's CUDA simulator on the same tiled product.

    NUMBA_ENABLE_CUDASIM=1 python -m autograder.batch.numba_simulator 64 128

Prints a JSON object: size -> [seconds, seconds of CPU time, largest error] of one launch. A process of its own, because
the simulator has to be chosen before numba is imported.
"""

from __future__ import annotations

import json
import sys
import time

import numpy as np
from numba import cuda, float32  # the simulator replaces what the module itself calls `cuda`

TILE = 16


@cuda.jit
def tiled(a, b, c, n):  # type: ignore[no-untyped-def]
    """c = a b, each block one tile of c; n is a multiple of TILE."""
    a_tile = cuda.shared.array((TILE, TILE), float32)
    b_tile = cuda.shared.array((TILE, TILE), float32)
    x, y = cuda.threadIdx.x, cuda.threadIdx.y
    row, column = cuda.blockIdx.y * TILE + y, cuda.blockIdx.x * TILE + x
    total = np.float32(0)
    for start in range(0, n, TILE):
        a_tile[y, x] = a[row, start + x]
        b_tile[y, x] = b[start + y, column]
        cuda.syncthreads()
        for k in range(TILE):
            total += a_tile[y, k] * b_tile[k, x]
        cuda.syncthreads()
    c[row, column] = total


def measure(sizes: list[int]) -> dict[int, tuple[float, float, float]]:
    """Seconds, seconds of CPU time and the largest error for each size, a multiple of 16."""
    found = {}
    rng = np.random.default_rng(0)
    for n in sizes:
        a, b = (rng.standard_normal((n, n), dtype=np.float32) for _ in range(2))
        c = np.zeros((n, n), np.float32)
        started, cpu = time.perf_counter(), time.process_time()
        tiled[(n // TILE, n // TILE), (TILE, TILE)](a, b, c, n)
        seconds = time.perf_counter() - started, time.process_time() - cpu
        found[n] = (*seconds, float(np.abs(c - a @ b).max()))
    return found


if __name__ == "__main__":
    print(json.dumps(measure([int(n) for n in sys.argv[1:]])))
