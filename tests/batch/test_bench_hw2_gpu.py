"""The GPU's benchmarks, where there is none: on the emulator, with torch on the CPU as the peer."""

from __future__ import annotations

import shutil
import sys
import time

import numpy as np
import pytest

from autograder import kernels
from autograder.batch import bench, bench_hw2_gpu, gpu_cases, gpu_peers
from autograder.kernels import gpu
from autograder.kernels.emulator_backend import EmulatorBackend

HOMEWORK = bench_hw2_gpu.REPOSITORY / bench_hw2_gpu.HOMEWORK
pytestmark = pytest.mark.skipif(not (HOMEWORK / "solution").is_dir(), reason="a student's copy")
SMALL = [
    gpu_cases.matmul(64), gpu_cases.layernorm(4, 256), gpu_cases.softmax(4, 256),
    gpu_cases.transpose(64), gpu_cases.attention(1, 2, 64, 32), gpu_cases.block(1, 32, 64, 2),
]  # fmt: skip


@pytest.fixture
def emulated(tmp_path, monkeypatch):
    """A device that can be timed, and the reference beside the given files."""
    def timed(self, work):
        started = time.perf_counter()
        work()
        return 1e3 * (time.perf_counter() - started)

    def of_entry(self, handle, entry, values):
        return timed(self, lambda: self.call(handle, entry, values, {}))

    monkeypatch.setattr(EmulatorBackend, "timed", timed, raising=False)
    monkeypatch.setattr(EmulatorBackend, "time", of_entry, raising=False)
    monkeypatch.setattr(EmulatorBackend, "copy", lambda *_: None, raising=False)
    monkeypatch.setattr(bench_hw2_gpu, "ROUNDS", 1)
    monkeypatch.setattr(bench_hw2_gpu, "WARM", 0)
    shutil.copytree(HOMEWORK / "cuda_kernels", tmp_path / "k")
    shutil.copytree(HOMEWORK / "solution" / "cuda_kernels", tmp_path / "k", dirs_exist_ok=True)
    return kernels.Device(backend="emulator", mode="fast"), tmp_path / "k"


def measured(case, emulated):
    device, folder = emulated
    torch = pytest.importorskip("torch")
    peers = {"torch": gpu_peers.Torch(torch, "cpu"), bench_hw2_gpu.COPY: gpu_peers.Copy(device)}
    return bench_hw2_gpu.measure(case, device, folder / f"{case.file}.cu", peers), peers


@pytest.mark.parametrize("case", SMALL, ids=lambda case: case.name)
def test_every_case_is_the_peers_operation(case, emulated):
    times, _ = measured(case, emulated)
    assert len(times.own) == 1
    assert set(times.peers) == {"torch", *([bench_hw2_gpu.COPY] if case.bytes else [])}


@pytest.mark.parametrize("case", SMALL, ids=lambda case: case.name)
def test_an_output_that_is_off_is_told(case):
    torch = pytest.importorskip("torch")
    given = case.make(np.random.default_rng(0))
    work, result = gpu_peers.Torch(torch, "cpu").prepare(case, given)
    work()
    out = result()
    bench_hw2_gpu.verify(case, given, out, {"torch": result})
    bad = out.copy()
    bad.flat[3] = 1.01 * bad.flat[3] + 0.01
    with pytest.raises(bench_hw2_gpu.Wrong, match="off by .* from torch"):
        bench_hw2_gpu.verify(case, given, bad, {"torch": result})
    bad.flat[3] = np.nan
    with pytest.raises(bench_hw2_gpu.Wrong):
        bench_hw2_gpu.verify(case, given, bad, {"torch": result})


def test_rows_name_the_device_and_the_peer():
    case = bench_hw2_gpu.sizes()[0]
    times = bench_hw2_gpu.Times([2.0, 1.0, 2.0], {"torch": [2.0, 1.0, 1.0]})
    peers = {"torch": type("Peer", (), {"name": "a peer"})}
    (row,) = bench_hw2_gpu.rows_of(case, times, peers, "a device")
    assert (row.value, row.peer) == (1.0, "a peer")
    assert "68.7 TFLOP/s" in row.note  # 2 * 4096**3 in 2 ms
    assert row.note.endswith("a device")
    (row,) = bench_hw2_gpu.rows_of(case, bench_hw2_gpu.Times([2.0]), {}, "a device")
    assert row.value is None
    assert "not found" in row.note


def test_without_a_gpu_every_row_says_so_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu, "missing", lambda: "no GPU on this machine")
    monkeypatch.setitem(sys.modules, "torch", None)  # an import would fail
    rows = bench.run_benchmarks("gpu_", tmp_path, lambda row: None)
    assert {row["name"] for row in rows} == {*bench_hw2_gpu.ROWS, "gpu_block_ms"}
    assert {(row["value"], row["note"]) for row in rows} == {(None, "no GPU on this machine")}
    names = {case.name for case in bench_hw2_gpu.sizes()}
    assert {row[0] for row in bench_hw2_gpu.ROWS.values()} == names
