"""What the kernels of `cuda/counts.cu` must count, each number derived by hand.

A request is one load or store of a warp; a sector is 32 bytes, so 32 floats in a row are 4 sectors.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Case:
    """A launch and its counts: `why` says how they come about; arrays are filled by `launch`.

    arguments: ("in" | "out", dtype, elements) for device arrays, numbers for numbers.
    """

    name: str
    function: str
    arguments: tuple[Any, ...]
    expected: dict[str, float]
    why: str = field(compare=False, default="")


def floats(count: int) -> tuple[str, str, int]:
    """An input of random floats."""
    return ("in", "float32", count)


def result(count: int) -> tuple[str, str, int]:
    """An output of floats."""
    return ("out", "float32", count)


def loads(requests: int, sectors: int, **more: float) -> dict[str, float]:
    """Counts of global loads."""
    return {"global_load_requests": requests, "global_load_sectors": sectors, **more}


N = 128 * 128

CASES = [
    Case("row copy", "run_copy", (floats(1024), result(1024), 1024),
         loads(32, 128, global_store_requests=32, global_store_sectors=128, partial_requests=0),
         "1024 / 32 warps, 32 x 4 bytes = 4 sectors each"),
    Case("column copy", "run_columns", (floats(1024), result(1024)),
         loads(32, 1024, global_store_requests=32, global_store_sectors=1024),
         "32 steps; lanes are 128 bytes apart, so each has a sector of its own"),
    Case("float4 copy", "run_vectors", (floats(1024), result(1024), 1024),
         loads(8, 128, global_store_requests=8, global_store_sectors=128),
         "256 vectors are 8 warps; 32 x 16 bytes = 16 sectors"),
    *[Case(f"load stride {stride}", "run_stride", (floats(1024), result(32), stride, 0),
           loads(1, sectors), "32 lanes over 32 x 4 x stride bytes, at most a sector a lane")
      for stride, sectors in ((1, 4), (2, 8), (4, 16), (8, 32), (32, 32))],
    Case("load from the same place", "run_stride", (floats(64), result(32), 0, 5), loads(1, 1),
         "one element for all lanes: one sector"),
    Case("load one float off", "run_stride", (floats(64), result(32), 1, 1), loads(1, 5),
         "128 bytes that begin 4 bytes behind a sector's start touch 5 sectors"),
    Case("bytes", "run_bytes", (("in", "int8", 64), ("out", "int8", 64)),
         loads(2, 2, global_load_bytes=64), "32 lanes of one byte are one sector"),
    Case("doubles", "run_doubles", (("in", "float64", 64), ("out", "float64", 64)),
         loads(2, 16), "32 x 8 bytes = 8 sectors"),
    Case("a guard around the access", "run_copy", (floats(100), result(100), 100),
         loads(4, 13, partial_requests=0),
         "100 = 3 x 32 + 4: the last warp's 4 lanes take 1 sector; the others have nothing more to "
         "do, so they have ended"),
    Case("a guard that returns", "run_copy_return", (floats(100), result(100), 100),
         loads(4, 13, partial_requests=0), "the same"),
    Case("grid-stride loop", "run_grid_stride", (floats(1000), result(1000), 1000),
         loads(32, 125), "1000 = 31 x 32 + 8 elements: 32 requests; 1000 x 4 / 32 sectors"),
    Case("even and odd lanes", "run_even_and_odd", (floats(64), result(32), 32),
         loads(2, 8, partial_requests=2),
         "each branch is a load and a store of 16 lanes, 8 bytes apart, over 4 sectors; those of the "
         "second branch are not partial, since the lanes of the first have ended"),
    Case("transpose [32][32]", "run_transpose_32", (floats(1024), result(1024)),
         {"worst_bank_degree": 32, "shared_load_requests": 32, "shared_load_wavefronts": 1024,
          "shared_store_wavefronts": 32, "barriers": 1},
         "a column of 32 words a row apart: all in one bank"),
    Case("transpose [32][33]", "run_transpose_33", (floats(1024), result(1024)),
         {"worst_bank_degree": 1, "shared_load_wavefronts": 32, "shared_store_wavefronts": 32},
         "33 words apart: 32 different banks"),
    Case("matmul 16 x 16", "run_matmul", (floats(N), floats(N), result(N), 128, 16),
         loads(131072, 262144),
         "512 warps x 128 steps x 2; a warp is 2 rows of 16: 2 sectors of A, 2 of B: 2.0 a load"),
    Case("matmul 16 x 16, swapped", "run_matmul_swapped", (floats(N), floats(N), result(N), 128),
         loads(131072, 1114112), "16 rows of A: 16 sectors; 2 neighbours of B: 1; 8.5 a load"),
    Case("matmul 32 x 32", "run_matmul", (floats(N), floats(N), result(N), 128, 32),
         loads(131072, 327680), "one element of A: 1 sector; 32 of B: 4; 2.5 a load"),
    Case("matmul, tiles of 16", "run_matmul_tile_16", (floats(N), floats(N), result(N), 128),
         loads(8192, 32768, barriers=1024),
         "64 blocks x 8 steps x 2 tiles x 8 warps, 4 sectors each; 64 x 8 x 2 barriers"),
    Case("matmul, tiles of 32", "run_matmul_tile_32", (floats(N), floats(N), result(N), 128),
         loads(4096, 16384, barriers=128, worst_bank_degree=1),
         "16 blocks x 4 steps x 2 tiles x 32 warps; 16 x 4 x 2 barriers"),
    Case("matmul, registers", "run_matmul_register", (floats(N), floats(N), result(N), 128),
         loads(2048, 8192, barriers=64),
         "4 blocks x 8 steps x 2 tiles of 1024 elements / 32; 4 x 8 x 2 barriers"),
    Case("softmax in three passes", "run_softmax", (floats(16384), result(16384), 16, 1024),
         loads(1536, 6144, global_store_requests=512, global_store_sectors=2048, shuffles=160),
         "16 rows x 32 requests x 3 passes; 16 rows x 2 reductions x 5 shuffles"),
    Case("layernorm, float4", "run_layernorm",
         (floats(16384), floats(1024), floats(1024), result(16384), 16, 1024),
         loads(512, 8192, global_store_requests=128, global_store_sectors=2048),
         "16 rows x 8 requests x (x twice, scale, shift), 16 sectors each; one store"),
    *[Case(f"shared stride {stride}", "run_shared_stride", (result(32), stride),
           {"shared_load_requests": 1, "shared_load_wavefronts": degree,
            "worst_bank_degree": degree, "shared_store_requests": 33, "warp_syncs": 1},
           "gcd(stride, 32) lanes meet on a bank; 0 is one word for all: a broadcast")
      for stride, degree in ((0, 1), (1, 1), (2, 2), (3, 1), (8, 8), (32, 32), (33, 1))],
    Case("shared float4", "run_shared_vectors", (result(128),),
         {"shared_load_requests": 1, "shared_load_wavefronts": 4, "shared_load_wavefronts_min": 4,
          "worst_bank_degree": 1}, "512 bytes: a quarter of the warp at a time"),
    Case("shared double", "run_shared_doubles", (("out", "float64", 32),),
         {"shared_load_wavefronts": 2, "worst_bank_degree": 1}, "256 bytes: half a warp at a time"),
    Case("shared counters, one each", "run_shared_counter", (("out", "int32", 32), 1),
         {"shared_atomic_requests": 1, "shared_atomic_wavefronts": 1, "warp_syncs": 2},
         "32 banks, one atomic each"),
    Case("one shared counter", "run_shared_counter", (("out", "int32", 32), 0),
         {"shared_atomic_requests": 1, "shared_atomic_wavefronts": 32, "worst_bank_degree": 32},
         "32 atomics on one word come one after the other"),
    Case("cp.async", "run_async", (floats(256), result(256)),
         loads(2, 32, shared_store_requests=2, shared_store_wavefronts=8),
         "2 warps x 16 sectors; 4 wavefronts for 512 bytes"),
    Case("tree in shared memory", "run_tree", (floats(256), result(1)),
         {"barriers": 9, "shared_load_requests": 25, "shared_store_requests": 20,
          "partial_requests": 15},
         "barriers 1 + 8. Steps 128, 64, 32 are 4 + 2 + 1 whole warps, the other 5 a part of one: "
         "12 warp steps with 2 loads and 1 store, and 1 load at the end, 8 stores before; partial: "
         "5 x 3; at the last load the other lanes have ended"),
    Case("shuffles and an atomic", "run_shuffle", (floats(256), ("zeros", "float32", 1)),
         loads(8, 32, shuffles=40, barriers=0, global_atomic_requests=8, global_atomic_sectors=8),
         "8 warps x 5 shuffles; one lane of each adds"),
    Case("ragged loops", "run_ragged", (floats(512), result(32), 4),
         loads(16, 64, partial_requests=12),
         "4 rows x 4 steps in lock step; in step j the lanes with lane % 4 >= j are active, some in "
         "each sector; only step 0 has all of them"),
    Case("a branch in a loop", "run_branch_in_loop", (floats(16384), result(2048), 1024),
         loads(512, 2048, global_store_requests=64, partial_requests=0),
         "16 rows x 1024 / 32: lanes that take the branch meet the others before the next load"),
    Case("a function called in one of two branches", "run_called", (floats(64), result(32)),
         loads(2, 8), "2 requests of 16 lanes, 8 bytes apart, over 4 sectors"),
]  # fmt: skip


def launch(case: Case, module: Any) -> None:
    """Call the case's function: inputs drawn by one seed, outputs that nobody has written yet."""
    rng, device = np.random.default_rng(0), module.device
    passed: list[Any] = []
    for argument in case.arguments:
        if not isinstance(argument, tuple):
            passed.append(argument)
            continue
        kind, dtype, count = argument
        if kind == "in":
            passed.append(device.array((rng.standard_normal(count) * 10).astype(dtype)))
        else:
            passed.append(device.zeros(count, dtype) if kind == "zeros" else device.empty(count, dtype))
    module.launch(case.function, *passed)
