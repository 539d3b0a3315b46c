"""The emulator's benchmarks: the same product on both sides, ratios only where both sides ran."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from autograder.batch import bench, bench_hw2
from autograder.batch.bench_hw2 import Seconds
from autograder.course.release import is_released

ROOT = bench_hw2.REPOSITORY
NAMES = {
    "emulator_fast_vs_numba_simulator", "emulator_counted_vs_numba_simulator",
    "emulator_sampled_1024_seconds", "emulator_512_seconds", "fiber_switches_per_second",
}  # fmt: skip


def test_the_names_that_stay_are_registered():
    assert set(bench.BENCHMARKS) >= NAMES


def test_the_product_is_checked_and_timed(tmp_path, monkeypatch):
    own = bench_hw2.product_seconds(tmp_path, "fast", 32, repeats=2)
    assert 0 <= own.cpu < 5
    assert 0 < own.wall
    monkeypatch.setattr(bench_hw2.np, "allclose", lambda *_, **__: False)
    with pytest.raises(ValueError, match="product of 32 × 32 is wrong"):
        bench_hw2.product_seconds(tmp_path, "fast", 32, repeats=1)


def test_the_peer_computes_the_same_product():
    environment = {**os.environ, "NUMBA_ENABLE_CUDASIM": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, str(bench_hw2.PEER_SOURCE), "16"], env=environment, capture_output=True,
        text=True,
    )  # fmt: skip
    wall, cpu, error = json.loads(done.stdout)["16"]
    assert min(wall, cpu) > 0
    assert 0 <= error < 1e-4


def test_rows_are_ratios_of_cpu_time_at_both_sizes(tmp_path, monkeypatch):
    peers = {False: {128: Seconds(50.0, 20.0)}, True: {128: Seconds(12.0, 10.0)}}
    monkeypatch.setattr(bench_hw2, "peer_seconds", lambda pinned: peers[pinned])
    own = {"fast": Seconds(0.1, 0.005)}
    monkeypatch.setattr(
        bench_hw2, "product_seconds",
        lambda work, mode, n, repeats, threads=1: own.get(mode, Seconds(1.0, 0.1)),
    )  # fmt: skip
    rows = {row.name: row for row in bench_hw2.against_numba(tmp_path)}
    assert np.isclose(rows["emulator_fast_vs_numba_simulator"].value, 4000)
    assert np.isclose(rows["emulator_counted_vs_numba_simulator"].value, 200)
    assert rows["emulator_counted_vs_numba_simulator"].target == 500
    assert np.isclose(rows["emulator_fast_vs_pinned_numba_simulator"].value, 2000)
    assert np.isclose(rows["emulator_two_threads_vs_numba_simulator"].value, 500)  # by the clock
    missing = rows["emulator_fast_vs_numba_simulator_64"]
    assert missing.value is None
    assert missing.note == "the simulator did not run"


def test_students_have_no_kernel_to_copy_and_are_told(tmp_path, monkeypatch):
    assert not is_released(str(bench_hw2.SOURCE.relative_to(ROOT)), [])
    assert not is_released(str(bench_hw2.PEER_SOURCE.relative_to(ROOT)), [])
    monkeypatch.setattr(bench_hw2, "SOURCE", tmp_path / "none.cu")
    rows = [*bench_hw2.against_numba(tmp_path), *bench_hw2.alone(tmp_path)]
    assert [row.value for row in rows] == [None, None, None]
    assert {row.note for row in rows} == {bench_hw2.NOT_HERE}
