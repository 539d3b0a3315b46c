"""nvcc's figures beside a launch: the right kernel's, their range, and what they change."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest
from rich.console import Console

sys.path.insert(0, str(Path(__file__).parents[1] / "testing"))
import kernel_samples as samples

from autograder.kernels.nvcc import Resources
from autograder.reporting.kernel_panel import panel_of, version_of
from autograder.reporting.kernel_registers import register_facts, resources_of
from autograder.reporting.kernel_terminal import print_panel
from autograder.testing.kernel_report import Launch, read_report

PTXAS = [
    Resources("matmul::tiled<1, false>", 121, 16384), Resources("matmul::tiled<1, true>", 79, 16384),
    Resources("matmul::tiled<2, true>", 128, 16384, 8, 4, 12), Resources("other::tiled<2, true>", 9),
    Resources("matmul::naive", 32), Resources("matmul::naive_too", 40),
    Resources("k<float, (int)4>", 50), Resources("k<float, (int)8>", 60),
]  # fmt: skip


@pytest.mark.parametrize(
    ("kernel", "shared", "registers"),
    [("naive", 0, [32]), ("matmul::naive", 0, [32]), ("tiled<G, true>", 16384, [79, 128]),
     ("tiled<1, INSIDE>", 16384, [121, 79]), ("other::tiled<G, true>", 0, [9]),
     ("k<T, 8>", 0, [60]), ("k<float, N>", 128, [50, 60]), ("nobody", 0, [])],
)  # fmt: skip
def test_a_launch_gets_the_figures_of_its_own_kernel(kernel, shared, registers):
    found = resources_of(Launch(kernel, shared_bytes=shared), PTXAS)
    assert [one.registers for one in found] == registers


def test_registers_and_spills_are_told_as_a_range():
    facts = dict(register_facts(Launch("tiled<G, true>", shared_bytes=16384), PTXAS))
    assert facts["registers"].startswith("79 to 128 a thread (by its template arguments)")
    assert facts["spills"] == "4 bytes stored, 12 bytes loaded again"
    assert dict(register_facts(Launch("naive"), PTXAS))["spills"] == "none"
    assert register_facts(Launch("nobody"), PTXAS) == []


def test_registers_reach_the_modelled_time_and_the_terminal():
    """255 registers leave an SM room for one block of 256 threads: an eighth of 2,048."""
    data = samples.report(samples.tiled())
    many = [Resources("transpose_tiled", 255, 4224)]
    (plain,), (full,) = (panel_of(data, False, resources=r).kernels for r in ((), many))
    assert "limited by registers" not in dict(plain.facts)["occupancy"]
    assert dict(full.facts)["occupancy"] == "12%, limited by registers"
    out = io.StringIO()
    print_panel(panel_of(data, False, resources=many), Console(file=out, width=100))
    assert "255 a thread, by nvcc for sm_80" in out.getvalue()
    report = read_report(samples.report({**samples.tiled(), "grid": [500, 20, 1]}))
    assert version_of("x", report, resources=many)["seconds"] > version_of("x", report)["seconds"]
