"""Benchmarks of homework 5's compression: ratios of what was measured, no value without the weights."""

from __future__ import annotations

import pytest

from autograder.batch import bench
from autograder.batch import bench_hw5_compression as compression

ROWS = {
    "int8_perplexity_ratio": (compression.int8, {"float32": 20.0, "int8": 20.1}, 1.005),
    "awq_vs_rtn_perplexity": (
        compression.awq, {"float32": 9.0, "nearest": 40.0, "awq": 30.0}, 0.75,
    ),
    "wanda_vs_magnitude_perplexity": (
        compression.wanda, {"float32": 9.0, "magnitude": 200.0, "wanda": 50.0}, 0.25,
    ),
}  # fmt: skip


def test_the_names_that_stay_are_registered():
    bench.register_all()
    assert set(bench.BENCHMARKS) >= set(ROWS)


@pytest.mark.parametrize("name", ROWS)
def test_a_row_is_the_ratio_and_tells_all_perplexities(name, tmp_path, monkeypatch):
    benchmark, found, ratio = ROWS[name]
    monkeypatch.setattr(compression, "_measured", lambda work, kind: found)
    (row,) = benchmark(tmp_path)
    assert (row.name, row.value) == (name, pytest.approx(ratio))
    assert all(f"{key} {value:.2f}" in row.note for key, value in found.items())


def test_without_the_weights_no_row_has_a_value(tmp_path, monkeypatch):
    monkeypatch.setenv("LLM_SYSTEMS_DATA", str(tmp_path / "empty"))
    for benchmark, _, _ in ROWS.values():
        (row,) = benchmark(tmp_path)
        assert row.value is None
        assert "make fetch" in row.note
