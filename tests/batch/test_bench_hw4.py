"""Homework 4's benchmarks: rows from what ranks found, a wrong result never timed, no guess."""

from __future__ import annotations

import json
import sys

import pytest

from autograder.batch import bench, bench_hw4

NAMES = {
    "ring_1mb_vs_gloo", "ring_4mb_vs_gloo", "ring_16mb_vs_gloo", "ring_64mb_vs_gloo",
    "ddp_step_vs_torch_ddp", "ring_model_error", "pipeline_model_error",
}  # fmt: skip
WRONG = "\n\nring_all_reduce = lambda ranks, tensor, average=False: tensor.detach().add_(1)\n"


def of(benchmark, work):
    return {row.name: row for row in benchmark(work)}


def test_the_names_that_stay_are_registered():
    bench.register_all()
    assert set(bench.BENCHMARKS) >= NAMES


def test_ratios_are_medians_of_pairs_and_errors_of_what_was_not_fitted(tmp_path, monkeypatch):
    pairs = [[0.2, 0.1], [0.3, 0.1], [9.0, 1.0]]
    model = [
        {"at": 1, "measured": 1.0, "predicted": 9.0, "fitted": True},
        {"at": 4, "measured": 2.0, "predicted": 1.0, "fitted": False},
        {"at": 64, "measured": 2.0, "predicted": 2.5, "fitted": False},
    ]
    found = {"seconds": {str(size): pairs for size in bench_hw4.MEGABYTES}, "model": model}
    monkeypatch.setattr(bench_hw4, "ranks", lambda work, kind: found)
    rows = of(bench_hw4.ring, tmp_path)
    assert rows["ring_16mb_vs_gloo"].value == pytest.approx(3)
    assert [row.name for row in rows.values() if row.target] == ["ring_16mb_vs_gloo"]
    assert rows["ring_model_error"].value == pytest.approx(50)


def test_where_ranks_cannot_talk_the_rows_say_so(tmp_path, monkeypatch):
    monkeypatch.setattr(bench_hw4, "no_loopback", lambda: "gloo can't use loopback: no")
    for benchmark in (bench_hw4.ring, bench_hw4.data_parallel_step, bench_hw4.pipeline_model):
        for row in benchmark(tmp_path):
            assert (row.value, row.note) == (None, "gloo can't use loopback: no")


@pytest.mark.skipif(bench_hw4.no_loopback() != "", reason="no loopback sockets")
def test_a_wrong_sum_is_told_and_not_timed(tmp_path, monkeypatch):
    files = bench_hw4.own_or_reference(bench_hw4.load_assignment(
        bench_hw4.REPOSITORY / bench_hw4.HOMEWORK
    ))  # fmt: skip
    name = "distributed_training/collectives.py"
    monkeypatch.setattr(
        bench_hw4, "own_or_reference", lambda _: {**files, name: files[name] + WRONG.encode()}
    )
    rows = of(bench_hw4.ring, tmp_path)
    assert {row.value for row in rows.values()} == {None}
    assert "differ from gloo's" in rows["ring_1mb_vs_gloo"].note


@pytest.mark.skipif(bench_hw4.no_loopback() != "", reason="no loopback sockets")
def test_two_ranks_measure_the_pipeline(tmp_path):
    found = bench_hw4.ranks(tmp_path, "pipeline")
    assert not isinstance(found, str), found
    assert [line["at"] for line in found["model"]] == [2, 4, 8]
    assert all(line["measured"] > 0 for line in found["model"])
    # 1F1B on two stages takes M + 1 slots: 3, 5 and 9.
    first = found["model"][0]["measured"]
    assert found["model"][2]["predicted"] == pytest.approx(3 * first)
    json.dumps(found)
    assert "distributed_training" not in sys.modules
