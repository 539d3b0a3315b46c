"""The modelled time of a launch: a roofline with more roofs, from counts alone. A teaching aid.

Every resource gets a time, as if it were the only one: its work, taken from the emulator's counts,
over its rate on a named GPU. The longest is the launch's time, and its resource the bound. What the
emulator does not count is assumed, in the constants below, and nothing is tuned to measurements: the
model ranks the steps of a ladder and says what to look at; it does not predict a stopwatch. Neither
points nor tests hang on it. The time to start a launch (some microseconds) is not in it.

Idea: S. Williams, A. Waterman, D. Patterson, "Roofline", 2009; occupancy by the CUDA programming
guide's table of compute capabilities; latency by Little's law.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

WARP = 32
SECTOR_BYTES = 32
# A wavefront moves at most 128 bytes: 4 sectors of global memory, or one word from each bank.
SECTORS_A_WAVEFRONT = 4
# Not counted by the emulator: a memory request comes with an address and a share of a loop.
INSTRUCTIONS_A_REQUEST = 3
ISSUED_A_CLOCK = 4  # warp instructions, by the four schedulers of an SM
BARRIER_CYCLES = 30  # from the last warp's arrival until all go on
LOADS_IN_FLIGHT = 2  # of one warp, before it needs the first of them
ATOMIC_SECTORS = 2  # an atomic reads its sector and writes it
RESERVED_SHARED_BYTES = 1024  # of each block, for the system, since compute capability 8.0
REGISTER_UNIT = 256  # registers are given to warps in such units
MAX_THREADS_A_BLOCK = 1024


class DoesNotFit(ValueError):
    """No SM of this GPU can hold a single block of the launch."""


@dataclass(frozen=True)
class Gpu:
    """What the model needs to know of a GPU; bandwidths are the vendor's, not measured ones."""

    name: str
    sms: int
    clock_hz: float
    dram_bytes_per_second: float
    l2_bytes_per_clock: float
    fma_per_clock: int  # of one SM, fp32
    threads_per_sm: int
    blocks_per_sm: int
    shared_bytes_per_sm: int
    registers_per_sm: int = 65_536
    l2_bytes_per_clock_and_sm: float = 64.0
    global_latency: int = 500  # cycles, from DRAM
    shared_latency: int = 25

    @property
    def flops_per_second(self) -> float:
        """The fp32 peak, a fused multiply-add counted as two."""
        return 2.0 * self.fma_per_clock * self.sms * self.clock_hz

    @property
    def l2_bytes_per_second(self) -> float:
        """The L2 cache's bandwidth, as far as the SMs can take it."""
        ports = self.sms * self.l2_bytes_per_clock_and_sm
        return min(self.l2_bytes_per_clock, ports) * self.clock_hz


GPUS: dict[str, Gpu] = {
    gpu.name: gpu
    for gpu in (
        Gpu("A100", 108, 1.410e9, 1555e9, 5120, 64, 2048, 32, 164 << 10),
        Gpu("H100", 132, 1.755e9, 3352e9, 5120, 128, 2048, 32, 228 << 10),
        # The L2 figure of this one is an estimate: none is published.
        Gpu("RTX 4060 Laptop", 24, 2.100e9, 256e9, 1024, 128, 1536, 24, 100 << 10),
    )
}
DEFAULT_GPU = "A100"


@dataclass(frozen=True)
class Occupancy:
    """How many blocks an SM holds at once, and which resource ends first."""

    blocks: int
    warps: int
    fraction: float
    limit: str


@dataclass(frozen=True)
class Estimate:
    """`seconds` is the largest of `terms` (seconds by resource), `bound` its name."""

    seconds: float
    bound: str
    occupancy: Occupancy
    terms: dict[str, float] = field(default_factory=dict)


def occupancy(
    threads: int, shared_bytes: int = 0, registers: int | None = None, gpu: Gpu | None = None
) -> Occupancy:
    """Blocks of `threads` threads that one SM holds at once.

    registers: of one thread, by ptxas (`nvcc -Xptxas -v`); None where they are not known, and then
    they limit nothing. Raises DoesNotFit where not even one block fits.
    """
    gpu = gpu or GPUS[DEFAULT_GPU]
    warps = math.ceil(threads / WARP)
    rooms = {
        "blocks": gpu.blocks_per_sm,
        "threads": gpu.threads_per_sm // (warps * WARP) if threads <= MAX_THREADS_A_BLOCK else 0,
        "shared memory": gpu.shared_bytes_per_sm // (shared_bytes + RESERVED_SHARED_BYTES),
    }
    if registers:
        a_warp = REGISTER_UNIT * math.ceil(registers * WARP / REGISTER_UNIT)
        rooms["registers"] = gpu.registers_per_sm // a_warp // warps
    limit = min(rooms, key=lambda name: rooms[name])
    blocks = rooms[limit]
    if blocks == 0:
        known = f" and {registers} registers a thread" if registers else ""
        raise DoesNotFit(
            f"a block of {threads} threads with {shared_bytes} bytes of shared memory{known} does "
            f"not fit on an SM of {gpu.name}: too many {limit.replace('shared memory', 'bytes')}"
        )
    held = blocks * warps
    return Occupancy(blocks, held, held * WARP / gpu.threads_per_sm, limit)


def modelled_time(
    launch: Mapping[str, Any],
    gpu: Gpu | None = None,
    *,
    flops: float = 0.0,
    dram_bytes: float | None = None,
    registers: int | None = None,
) -> Estimate:
    """The modelled time of one launch, as `Device.report()` describes it: counts of the whole grid.

    flops: floating-point operations of the launch, a fused multiply-add counted as two; the
    emulator does not count them. dram_bytes: what must come from and go to DRAM at least; None
    takes every sector as such traffic, which is right for kernels that touch everything once and
    too slow for those that find it in a cache again. Raises DoesNotFit.
    """
    gpu = gpu or GPUS[DEFAULT_GPU]
    blocks = max(int(math.prod(launch["grid"])), 1)
    threads = max(int(math.prod(launch["block"])), 1)
    warps = math.ceil(threads / WARP)
    held = occupancy(threads, int(launch.get("shared_bytes", 0)), registers, gpu)
    known: Mapping[str, Any] = launch.get("counts", {})

    def counts(name: str) -> float:
        return float(known.get(name, 0))

    # The SM with the most blocks ends last: this is its part of the work.
    busiest = math.ceil(blocks / gpu.sms)
    part = busiest / blocks
    together = min(held.blocks, busiest)  # blocks that run side by side there
    sectors = (
        counts("global_load_sectors")
        + counts("global_store_sectors")
        + ATOMIC_SECTORS * counts("global_atomic_sectors")
    )
    moved = SECTOR_BYTES * sectors
    loads = counts("global_load_requests")
    cycles = {
        "L2 bandwidth": max(
            moved / gpu.l2_bytes_per_clock, part * moved / gpu.l2_bytes_per_clock_and_sm
        ),
        "L1 and shared memory": part * _wavefronts(counts),
        "instruction issue": part * _instructions(counts, warps, flops) / ISSUED_A_CLOCK,
        "arithmetic": part * flops / 2 / gpu.fma_per_clock,
        "barriers": part * counts("barriers") * BARRIER_CYCLES / together,
        "latency": part
        * (loads * gpu.global_latency + counts("shared_load_requests") * gpu.shared_latency)
        / (together * warps * LOADS_IN_FLIGHT),
    }
    terms = {"DRAM bandwidth": (moved if dram_bytes is None else dram_bytes)
             / gpu.dram_bytes_per_second}  # fmt: skip
    terms |= {name: value / gpu.clock_hz for name, value in cycles.items()}
    bound = max(terms, key=lambda name: terms[name])
    return Estimate(terms[bound], bound if terms[bound] > 0 else "nothing", held, terms)


def _wavefronts(counts: Callable[[str], float]) -> float:
    """Passes through the L1 and shared-memory pipe, one a clock."""
    kinds = [f"global_{kind}" for kind in ("load", "store", "atomic")]
    through = sum(
        max(counts(f"{kind}_requests"), counts(f"{kind}_sectors") / SECTORS_A_WAVEFRONT)
        for kind in kinds
    )
    return through + sum(counts(f"shared_{kind}_wavefronts") for kind in ("load", "store", "atomic"))


def _instructions(counts: Callable[[str], float], warps: int, flops: float) -> float:
    """Warp instructions, those of addresses and loops by an assumed number a request."""
    requests = sum(
        counts(f"{space}_{kind}_requests")
        for space in ("global", "shared")
        for kind in ("load", "store", "atomic")
    )
    others = counts("shuffles") + counts("warp_syncs") + counts("barriers") * warps
    return INSTRUCTIONS_A_REQUEST * requests + others + flops / 2 / WARP
