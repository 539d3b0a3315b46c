"""The project's checks of itself, the benchmark's rows, and one run's plan."""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import batch_samples

from autograder.batch import bench, check, grade
from autograder.batch.check import CheckFailed, Result, run_checks
from autograder.batch.mutants import reference_files
from autograder.batch.run import Job, environment
from autograder.course.intake import Submission


def results_of(*lanes) -> list[Result]:
    told: list[Result] = []
    results = run_checks([list(lane) for lane in lanes], told.append)
    assert told == results
    return results


def fails(error: BaseException):
    def check() -> str:
        raise error

    return check


def test_a_check_that_does_not_hold_or_breaks_is_a_failure_and_the_next_one_runs():
    results = results_of([
        ("holds", lambda: "fine"),
        ("does not", fails(CheckFailed("found 3"))),
        ("breaks", fails(ZeroDivisionError("by zero"))),
        ("exits", fails(SystemExit(0))),
        ("last", lambda: "reached"),
    ])  # fmt: skip
    assert [(r.name, r.passed, r.detail) for r in results] == [
        ("holds", True, "fine"), ("does not", False, "found 3"),
        ("breaks", False, "ZeroDivisionError: by zero"), ("exits", False, "SystemExit: 0"),
        ("last", True, "reached"),
    ]  # fmt: skip


def test_lanes_run_side_by_side_and_each_in_its_order():
    met = threading.Barrier(2, timeout=20)
    results = results_of(
        [("a1", lambda: str(met.wait() >= 0)), ("a2", lambda: "x")],
        [("b1", lambda: str(met.wait() >= 0))],
        [],
    )
    assert all(result.passed for result in results)
    assert {r.name for r in results} == {"a1", "a2", "b1"}
    assert [r.name for r in results if r.name.startswith("a")] == ["a1", "a2"]


@pytest.fixture
def homework(tmp_path, monkeypatch):
    monkeypatch.setattr(grade, "run_tests", batch_samples.forked)
    return batch_samples.make_homework(tmp_path)


def test_a_homeworks_checks_hold_for_a_sound_one_and_name_what_is_not(homework, monkeypatch):
    named = dict(check.homework_checks(homework, full=False))
    assert list(named) == [
        "hw9_tiny: stubs in step, points agree", "hw9_tiny: reference 100", "hw9_tiny: stub 0",
        "hw9_tiny: both transports agree", "hw9_tiny: mutants caught",
    ]  # fmt: skip
    assert named["hw9_tiny: stubs in step, points agree"]() == (
        "5 tests, 80 points public, 20 hidden"
    )
    assert named["hw9_tiny: reference 100"]().startswith("100.0 points")
    assert named["hw9_tiny: stub 0"]().startswith("0 points")
    assert (
        named["hw9_tiny: both transports agree"]() == "4 tests agree, 0 need a process of their own"
    )
    stub = homework.root / "tiny" / "ops.py"
    stub.write_text(stub.read_text() + "\n# edited\n")
    with pytest.raises(Exception, match=r"ops\.py"):
        named["hw9_tiny: stubs in step, points agree"]()


def test_full_checks_add_every_set_of_layers_and_a_busy_neighbour(homework):
    names = [name for name, _ in check.homework_checks(homework, full=True)]
    for layers in check.LAYER_SETS:
        assert f"hw9_tiny: reference 100 with layers [{layers}]" in names
    assert any("busy neighbour" in name for name in names)
    assert names[-1] == "hw9_tiny: mutants caught"  # what takes longest


def test_a_reference_below_100_a_stub_above_0_and_a_grader_fault_fail(homework):
    wrong = {"tiny/ops.py": batch_samples.REFERENCE.replace("-x\n", "x\n").encode()}
    how = check.Grading(transport="inprocess")
    with pytest.raises(CheckFailed, match=r"80\.0 points\n(.*\n)*.*::test_negate: result"):
        check._hundred(homework, Submission(wrong, []), how)
    with pytest.raises(CheckFailed, match=r"100\.0 points: .*test_double"):
        check._stub(homework, Submission(reference_files(homework), []))
    path = homework.root / "tests" / "test_9_1_double.py"
    path.write_text(path.read_text().replace("    x = float", "    None + 1\n    x = float"))
    stub = Submission({"tiny/ops.py": homework.stub_path("tiny/ops.py").read_bytes()}, [])
    with pytest.raises(CheckFailed, match=r"faults: .*test_double"):
        check._stub(homework, stub)
    with pytest.raises(CheckFailed, match="test_double in process"):
        check._transports(homework, Submission(reference_files(homework), []))


def test_the_mutants_check_fails_on_one_that_is_not_caught(homework, monkeypatch):
    monkeypatch.setattr("autograder.batch.mutants._preload", lambda: None)
    batch_samples.add_mutant(homework, "triple", "9.1", ("2 * x\n", "3 * x\n"))
    assert check._mutants(homework, False).startswith("1 of 1 caught")
    batch_samples.add_mutant(homework, "harmless", "9.3", ("= -x", "= 0 - x"))
    with pytest.raises(
        CheckFailed, match=r"harmless\.patch \(harmless\) loses nothing in task 9\.3"
    ):
        check._mutants(homework, False)


def test_a_students_copy_is_checked_by_its_public_tests(homework):
    ((name, look),) = check.released_checks([homework])[0]
    assert name.startswith("hw9_tiny")
    assert "0 / 80 public points" in look()


# --- a run's plan -----------------------------------------------------------------------------


def test_a_grading_loads_no_conftest_no_plugin_and_no_settings_of_others(homework, tmp_path):
    job = Job(homework, tmp_path, tmp_path / "work", seed=51423)
    for wanted in ("--noconftest", "--import-mode=importlib", "no:cacheprovider"):
        assert wanted in job.arguments()
    assert environment(job)["LLM_SYSTEMS_SEED"] == "51423"
    assert "51423" not in " ".join(job.arguments()), "a command line can be read by others"
    assert environment()["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] == "1"


def test_what_the_caller_has_set_does_not_reach_a_grading(monkeypatch):
    for name in ("PYTEST_ADDOPTS", "PYTEST_PLUGINS", "PYTHONSTARTUP", "LD_PRELOAD", "SECRET"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert not {"PYTEST_ADDOPTS", "PYTEST_PLUGINS", "LD_PRELOAD", "SECRET"} & set(environment())
    assert environment()["OMP_NUM_THREADS"] == "1"


def test_only_the_cache_of_a_runs_folder_may_be_read_by_others(homework, tmp_path):
    job = Job(homework, tmp_path, tmp_path / "deep" / "work")
    job.prepare()
    modes = {path.name: path.stat().st_mode & 0o777 for path in job.work.iterdir()}
    assert modes == {"records": 0o700, "cache": 0o755}
    assert job.work.stat().st_mode & 0o777 == 0o711


def test_each_run_draws_a_seed_of_its_own(homework, tmp_path):
    assert len({Job(homework, tmp_path, tmp_path).seed for _ in range(5)}) == 5


# --- bench ------------------------------------------------------------------------------------

# The names that DESIGN.md keeps for homework 1.
NAMES = {"worker_overhead_ms", "grade_seconds_hw1_autodiff", "matmul_512_vs_blas",
         "matmul_1024_vs_blas"}  # fmt: skip
FIELDS = {"name", "value", "unit", "better", "peer", "target", "note"}


@pytest.fixture
def made_up(monkeypatch, tmp_path):
    """Two benchmarks in the place of the real ones."""
    bench.register_all()  # before the swap, or the run registers the real ones among these
    assert set(bench.BENCHMARKS) >= NAMES
    monkeypatch.setattr(bench, "BENCHMARKS", {})

    @bench.benchmark("made_up_ms", "made_up_ratio")
    def both(work):
        assert work.is_dir()
        yield bench.Row("made_up_ms", 1.5, "ms", "lower")
        yield bench.Row("made_up_ratio", None, "x", "higher", "a peer", 0.6, "it is not installed")

    @bench.benchmark("other")
    def other(work):
        yield bench.Row("other", 2.0, "s", "lower", target=3)

    return tmp_path


def test_rows_have_the_fields_of_the_schema_and_can_be_written(made_up):
    told = []
    rows = bench.run_benchmarks("", made_up, told.append)
    assert [row["name"] for row in rows] == ["made_up_ms", "made_up_ratio", "other"]
    assert [row.name for row in told] == [row["name"] for row in rows]
    for row in json.loads(json.dumps(rows, allow_nan=False)):
        assert set(row) == FIELDS
        assert row["better"] in ("higher", "lower")
        assert row["value"] is None or isinstance(row["value"], float)
        assert isinstance(row["unit"], str)
        assert isinstance(row["peer"], str)
    assert rows[1]["value"] is None
    assert rows[1]["note"] == "it is not installed"


def test_a_choice_of_benchmarks_runs_and_shows_only_those(made_up):
    (row,) = bench.run_benchmarks("ratio", made_up, lambda row: None)
    assert row["name"] == "made_up_ratio"
    assert bench.run_benchmarks("no such", made_up, lambda row: None) == []
