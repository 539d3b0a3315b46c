"""The modelled time: hand-computed cases, and what must hold for any counts."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from autograder.kernels.model import GPUS, DoesNotFit, Gpu, modelled_time, occupancy

# Round numbers: 10 SMs at 1 GHz, 100 GB/s of DRAM, 1000 bytes a clock of L2, 32 FMA a clock.
TOY = Gpu("toy", 10, 1e9, 100e9, 1000, 32, 2048, 32, 64 << 10, l2_bytes_per_clock_and_sm=64,
          global_latency=400, shared_latency=20)  # fmt: skip
COUNTED = (
    *(f"global_{kind}_{what}" for kind in ("load", "store", "atomic")
      for what in ("requests", "sectors")),
    *(f"shared_{kind}_{what}" for kind in ("load", "store", "atomic")
      for what in ("requests", "wavefronts")),
    "barriers", "warp_syncs", "shuffles",
)  # fmt: skip


def launch(blocks: int = 20, threads: int = 256, shared: int = 0, **counts: int) -> dict[str, Any]:
    return {
        "kernel": "k", "grid": [blocks, 1, 1], "block": [threads, 1, 1], "shared_bytes": shared,
        "blocks": blocks, "blocks_run": blocks, "counts": counts,
    }  # fmt: skip


# Each by hand; the busiest of the 10 SMs has 2 of the 20 blocks, a tenth of the work.
TERMS = [
    # 32 × 1000 bytes over 100 GB/s.
    ("DRAM bandwidth", dict(global_load_sectors=1000), {}, 320e-9),
    # DRAM is told: 100 bytes. L2: 32000 bytes over min(1000, 10 ports of 64 = 640) a clock.
    ("L2 bandwidth", dict(global_load_sectors=1000), dict(dram_bytes=100), 50e-9),
    # An atomic counts twice.
    ("L2 bandwidth", dict(global_atomic_sectors=1000), dict(dram_bytes=100), 100e-9),
    # A tenth of 5000 wavefronts, one a clock.
    ("L1 and shared memory", dict(shared_load_wavefronts=5000), {}, 500e-9),
    # 4 scattered requests of 32 sectors are 8 wavefronts each; a tenth of 400 such requests.
    ("L1 and shared memory", dict(global_load_requests=400, global_load_sectors=12800),
     dict(dram_bytes=0), 320e-9),
    # 3 instructions a request, 4 a clock: a tenth of 4000 requests is 400, 1200 instructions.
    ("instruction issue", dict(shared_store_requests=4000), {}, 300e-9),
    # A barrier is an instruction of each of the 8 warps.
    ("instruction issue", dict(barriers=100), {}, 20e-9),
    ("instruction issue", dict(shuffles=4000), {}, 100e-9),
    # 64000 flops are 32000 FMA; a tenth, 32 a clock.
    ("arithmetic", {}, dict(flops=64000), 100e-9),
    # A tenth of 100 barriers, 30 clocks each, 2 blocks side by side.
    ("barriers", dict(barriers=100), {}, 150e-9),
    # A tenth of 1000 loads, 400 clocks each, 2 blocks of 8 warps with 2 loads in flight.
    ("latency", dict(global_load_requests=1000), {}, 1250e-9),
    ("latency", dict(shared_load_requests=1000), {}, 62.5e-9),
]  # fmt: skip


@pytest.mark.parametrize(("term", "counts", "options", "seconds"), TERMS)
def test_each_term_is_the_work_over_the_rate(term, counts, options, seconds):
    estimate = modelled_time(launch(**counts), TOY, **options)
    assert estimate.terms[term] == pytest.approx(seconds, rel=1e-12)
    assert estimate.seconds == max(estimate.terms.values())
    assert estimate.terms[estimate.bound] == estimate.seconds


def test_a_copy_is_bound_by_dram_and_a_kernel_of_flops_by_arithmetic():
    # 64 MiB in and out: 2^22 floats in rows of 32, 4 sectors each.
    rows = (1 << 24) // 32
    copy = launch(1 << 16, 256, global_load_requests=rows, global_load_sectors=4 * rows,
                  global_store_requests=rows, global_store_sectors=4 * rows)  # fmt: skip
    estimate = modelled_time(copy, GPUS["A100"])
    assert estimate.bound == "DRAM bandwidth"
    assert estimate.seconds == pytest.approx(2 * (1 << 26) / 1555e9)
    busy = modelled_time(copy, GPUS["A100"], flops=1e12)
    assert busy.bound == "arithmetic"
    # 65536 blocks on 108 SMs: the busiest has 607, where an even share would be 606.8.
    assert busy.seconds == pytest.approx(1e12 / 19.49e12, rel=2e-3)


def test_one_block_uses_one_sm():
    """The same work in one block takes ten times as long as in twenty on ten SMs."""
    counts = dict(shared_load_wavefronts=1000)
    one = modelled_time(launch(1, **counts), TOY).seconds
    assert one == pytest.approx(10 * modelled_time(launch(20, **counts), TOY).seconds)
    eleven = modelled_time(launch(11, **counts), TOY).seconds  # one SM has two of eleven
    assert eleven == pytest.approx(one * 2 / 11)


@pytest.mark.parametrize(
    ("threads", "shared", "registers", "gpu", "blocks", "limit"),
    [
        (1024, 0, None, "A100", 2, "threads"),
        (256, 0, None, "A100", 8, "threads"),
        (32, 0, None, "A100", 32, "blocks"),
        (33, 0, None, "A100", 32, "blocks"),  # two warps: 32 × 64 threads fill the SM
        (256, 0, None, "RTX 4060 Laptop", 6, "threads"),
        # 164 KiB over 32 KiB and one of the system's: 4 blocks.
        (256, 32 << 10, None, "A100", 4, "shared memory"),
        # 128 registers × 32 = 4096 a warp, 16 warps, 2 blocks of 8.
        (256, 0, 128, "A100", 2, "registers"),
        # 33 registers × 32 = 1056, given as 1280: 51 warps, 6 blocks of 8.
        (256, 0, 33, "A100", 6, "registers"),
        (256, 0, 32, "A100", 8, "threads"),
    ],
)
def test_occupancy_by_hand(threads, shared, registers, gpu, blocks, limit):
    held = occupancy(threads, shared, registers, GPUS[gpu])
    assert (held.blocks, held.limit) == (blocks, limit)
    warps = math.ceil(threads / 32)
    assert held.warps == blocks * warps
    assert held.fraction == blocks * warps * 32 / GPUS[gpu].threads_per_sm <= 1


@pytest.mark.parametrize(
    ("threads", "shared", "registers", "said"),
    [(1025, 0, None, "threads"), (256, 164 << 10, None, "bytes"), (1024, 0, 255, "registers")],
)
def test_a_block_that_no_sm_can_hold_is_refused(threads, shared, registers, said):
    with pytest.raises(DoesNotFit, match=f"too many {said}"):
        occupancy(threads, shared, registers)


def test_nothing_counted_is_bound_by_nothing():
    estimate = modelled_time(launch(), TOY)
    assert (estimate.seconds, estimate.bound) == (0.0, "nothing")


@settings(max_examples=60, deadline=None)
@given(
    counts=some.fixed_dictionaries({name: some.integers(0, 10**9) for name in COUNTED}),
    more=some.sampled_from(COUNTED),
    blocks=some.integers(1, 10**5),
    threads=some.integers(1, 1024),
    shared=some.integers(0, 40 << 10),
    flops=some.floats(0, 1e13),
    gpu=some.sampled_from(sorted(GPUS)),
)
def test_less_work_is_never_slower(counts, more, blocks, threads, shared, flops, gpu):
    """Each count, flops, registers and shared memory only ever add time; a faster GPU takes some."""
    card = GPUS[gpu]
    base = modelled_time(launch(blocks, threads, shared, **counts), card, flops=flops)

    def slower(**changed: Any) -> float:
        options: dict[str, Any] = {"flops": flops, **changed}
        own = options.pop("counts", counts)
        held = options.pop("shared", shared)
        return modelled_time(launch(blocks, threads, held, **own), card, **options).seconds

    assert slower(counts=counts | {more: 2 * counts[more] + 1}) >= base.seconds
    assert slower(flops=2 * flops) >= base.seconds
    assert slower(shared=shared + 4096) >= base.seconds
    assert slower(registers=64) >= base.seconds
    faster = replace(card, clock_hz=2 * card.clock_hz,
                     dram_bytes_per_second=2 * card.dram_bytes_per_second)  # fmt: skip
    timed = modelled_time(launch(blocks, threads, shared, **counts), faster, flops=flops)
    assert timed.seconds == pytest.approx(base.seconds / 2)


def test_the_named_gpus_have_the_published_peaks():
    assert GPUS["A100"].flops_per_second == pytest.approx(19.5e12, rel=0.01)
    assert GPUS["H100"].flops_per_second == pytest.approx(59.3e12, rel=0.01)  # at 1.755 GHz
    assert GPUS["A100"].l2_bytes_per_second == pytest.approx(7.219e12, rel=0.01)
