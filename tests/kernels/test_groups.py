"""Cooperative groups, CUB's reductions and asynchronous copies of the emulator's headers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from autograder import kernels

CUDA = Path(__file__).parent / "cuda"
SOURCE, COPIES = CUDA / "groups.cu", CUDA / "group_copies.cu"


@pytest.fixture(scope="module")
def device() -> kernels.Device:
    return kernels.Device("emulator", mode="full")


def run(device, name, *arguments, shape, dtype, expect="", source=SOURCE) -> np.ndarray:
    """Call an entry point, with an output array where "out" stands; no diagnostics but `expect`."""
    device.report()
    out = device.empty(shape, dtype)
    given = [device.array(v) if isinstance(v, np.ndarray) else out if v == "out" else v
             for v in arguments]  # fmt: skip
    device.load(source).launch(name, *given)
    found = [d["message"] for d in device.report()["diagnostics"]]
    if expect:
        assert any(expect in message for message in found), found
    else:
        assert not found, "\n".join(found)
    return out.numpy()


def lines_with(text: str) -> set[int]:
    """Numbers of the source's lines in which `text` stands."""
    return {n for n, line in enumerate(SOURCE.read_text().splitlines(), 1) if text in line}


@pytest.mark.parametrize("size", [8, 32])
def test_threads_know_their_places(device, size):
    """A block of 16 x 4 threads: ranks row by row, tiles of `size` and of half of that."""
    got = run(device, "launch_describe", "out", size, shape=(64, 12), dtype=np.int32)
    rank = np.arange(64)
    inner = rank % size
    columns = [rank, 64 + 0 * rank, 0 * rank, rank // 16, rank % size, size + 0 * rank,
               rank // size, 64 // size + 0 * rank, inner % (size // 2), inner // (size // 2),
               rank, 64 + 0 * rank]  # fmt: skip
    np.testing.assert_array_equal(got, np.stack(columns, axis=1))


@pytest.mark.parametrize("size", [8, 32])
def test_tiles_exchange_values(device, size):
    values = np.random.default_rng().integers(0, 50, 64).astype(np.int32)
    got = run(device, "launch_exchange", values, "out", size, shape=(64, 10), dtype=np.int32)
    for thread in range(64):
        first, rank = thread // size * size, thread % size
        tile = values[first : first + size]
        own = values[thread]
        bits = [1 << i for i in range(size)]
        expected = [
            tile[3],
            tile[rank + 2] if rank + 2 < size else own,
            tile[rank - 3] if rank >= 3 else own,
            tile[rank ^ 5],
            int((tile == 7).any()),
            1,
            sum(bit for bit, value in zip(bits, tile, strict=True) if value % 3 == 0),
            sum(bit for bit, value in zip(bits, tile, strict=True) if value % 4 == own % 4),
            tile.sum(),
            tile.max(),
        ]
        np.testing.assert_array_equal(got[thread].view(np.uint32), np.array(expected, np.uint32))


def test_some_lanes_of_a_warp_form_a_group(device):
    """11 lanes of 32: ranks, shuffles, ballots and sums are theirs alone."""
    values = np.random.default_rng().integers(0, 1000, 32).astype(np.int32)
    filled = run(device, "launch_coalesced", values, "out", shape=(32, 6), dtype=np.int32)
    own = values[1::3]
    following = np.append(own[1:], own[-1])
    constant = np.ones(11, np.int32)
    columns = [np.arange(11), 11 * constant, own[2] * constant, following, 7 * constant,
               own.sum() * constant]  # fmt: skip
    np.testing.assert_array_equal(filled[1::3], np.stack(columns, axis=1))


def test_a_function_of_any_group_sums_blocks_and_tiles(device):
    values = np.random.default_rng().integers(0, 1000, 128).astype(np.int32)
    got = run(device, "launch_group_sums", values, "out", shape=(9,), dtype=np.int32)
    np.testing.assert_array_equal(got, [values.sum(), *values.reshape(8, 16).sum(1)])


@pytest.mark.parametrize("threads, valid", [(128, 100), (128, 33), (128, 1), (48, 40), (32, 7)])
def test_block_and_warp_reductions(device, threads, valid):
    values = np.random.default_rng().standard_normal(threads).astype(np.float32)
    whole = threads // 32
    got = run(device, "launch_reduce_block", values, threads, valid, "out",
              shape=(3 + whole,), dtype=np.float32)  # fmt: skip
    wide = values.astype(np.float64)
    warps = wide[: 32 * whole].reshape(whole, 32).sum(1)
    # At most log2(32) + 3 roundings of partial sums, each below the sum of sizes.
    bound = 8 * 2.0**-24 * np.abs(wide).sum()
    assert got[1] == values.max()
    np.testing.assert_allclose(got[0], wide.sum(), atol=bound)
    np.testing.assert_allclose(got[2], wide[:valid].sum(), atol=bound)
    np.testing.assert_allclose(got[3:], warps, atol=bound)


def test_reductions_of_arrays_and_of_parts_of_warps(device):
    values = np.random.default_rng().integers(-1000, 1000, 256).astype(np.int32)
    got = run(device, "launch_reduce_items", values, "out", shape=(9,), dtype=np.int32)
    parts = values[::4].reshape(8, 8)[:, :5].sum(1)
    np.testing.assert_array_equal(got, [values.sum(), *parts])


def test_a_block_sum_costs_its_barriers_and_shared_accesses_in_the_students_line(device):
    """Three reductions of 4 warps: 4 stores and 3 loads of one lane each, and a barrier.

    Loads: thread 0 reads the other three warps' results; with 100 valid items too.
    """
    device.report()
    values = device.array(np.ones(128, np.float32))
    out = device.empty((7,), np.float32)
    device.load(SOURCE).launch("launch_reduce_block", values, 128, 100, out)
    launch = device.report()["launches"][0]
    assert launch["counts"]["barriers"] == 3 + 2  # and two __syncthreads of the kernel's own
    assert launch["counts"]["shared_store_requests"] == 3 * 4
    assert launch["counts"]["shared_load_requests"] == 3 * 3
    stores = {entry["line"] for entry in launch["lines"] if entry["access"] == "shared_store"}
    following = min(lines_with("void reduce_items"))
    assert stores == {n for n in lines_with("Block(storage)") if n < following}


def test_storage_used_again_without_a_barrier_is_a_race(device):
    values = np.ones(64, np.float32)
    run(device, "launch_reuse_storage", values, "out", shape=(1,), dtype=np.float32,
        expect="race")  # fmt: skip


def test_copies_in_flight_arrive_at_the_wait(device):
    rows = np.random.default_rng().standard_normal((5, 32, 4)).astype(np.float32)
    got = run(device, "launch_reverse_rows", rows, "out", 5, 1, shape=rows.shape, dtype=np.float32)
    np.testing.assert_array_equal(got, rows[:, ::-1])


def test_a_missing_wait_is_an_uninitialised_read(device):
    rows = np.ones((2, 32, 4), np.float32)
    run(device, "launch_reverse_rows", rows, "out", 2, 0, shape=rows.shape, dtype=np.float32,
        expect="has not arrived")  # fmt: skip


def test_the_end_of_a_short_copy_is_zeros(device):
    values = np.arange(1, 102, dtype=np.float32)
    got = run(device, "launch_copy_ragged", values, "out", 101, shape=(32, 4), dtype=np.float32)
    expected = np.zeros(128, np.float32)
    expected[:101] = values
    np.testing.assert_array_equal(got, expected.reshape(32, 4)[::-1])


@pytest.mark.parametrize("n", [1, 64, 252, 255])
def test_a_group_copies_together(device, n):
    values = np.arange(n, dtype=np.int32)
    got = run(device, "launch_copy_by_group", values, "out", n, shape=(n,), dtype=np.int32,
              source=COPIES)  # fmt: skip
    np.testing.assert_array_equal(got, values[::-1])
