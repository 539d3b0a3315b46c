"""results.json: the published schema, sums that agree, and nothing hidden in it."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import reporting_samples as samples

from autograder.reporting.outcome import FAULT_SENTENCE, NOT_REACHED, build_report
from autograder.reporting.results import (
    Results,
    ResultsError,
    TestResult,
    results_of,
    write_results,
    zero_results,
)
from autograder.testing.records import Measure, TestRecord

FORMATS = {"text", "html", "simple_format", "md", "ansi"}
VISIBILITIES = {"hidden", "after_due_date", "after_published", "visible"}
TOP = {
    "score": (int, float), "execution_time": (int, float), "output": str, "output_format": FORMATS,
    "test_output_format": FORMATS, "test_name_format": FORMATS, "visibility": VISIBILITIES,
    "stdout_visibility": VISIBILITIES, "extra_data": dict, "tests": list, "leaderboard": list,
}  # fmt: skip
TEST = {
    "score": (int, float), "max_score": (int, float), "status": {"passed", "failed"}, "name": str,
    "name_format": FORMATS, "number": str, "output": str, "output_format": FORMATS, "tags": list,
    "visibility": VISIBILITIES, "extra_data": dict,
}  # fmt: skip
COLUMN = {"name": str, "value": (int, float, str), "order": {"asc", "desc"}}


def check_published_schema(data: Any) -> None:
    """Gradescope's published schema, written out by hand: independent of the models under test."""
    _check(data, TOP)
    assert "score" in data or any("score" in test for test in data.get("tests", []))
    for test in data.get("tests", []):
        _check(test, TEST)
        assert all(isinstance(tag, str) for tag in test.get("tags", []))
        assert test.get("score", 0) <= test.get("max_score", math.inf)
    for column in data.get("leaderboard", []):
        _check(column, COLUMN)
        assert "name" in column
        assert "value" in column


def _check(part: Any, fields: dict[str, Any]) -> None:
    assert isinstance(part, dict)
    assert set(part) <= set(fields), f"unknown: {set(part) - set(fields)}"
    for name, value in part.items():
        form = fields[name]
        if isinstance(form, set):
            assert value in form, name
        else:
            assert isinstance(value, form), name
            assert not isinstance(value, bool), name
        if isinstance(value, str):
            assert len(value) < 100_000, name
        if isinstance(value, float):
            assert math.isfinite(value), name


def written(tmp_path: Path, results: Results) -> dict[str, Any]:
    path = tmp_path / "results.json"
    write_results(path, results)
    data = json.loads(path.read_bytes(), parse_constant=lambda name: pytest.fail(name))
    check_published_schema(data)
    assert path.stat().st_size < 8_000_000
    assert [p.name for p in tmp_path.glob(".*.tmp")] == []
    return data


def build(tmp_path: Path, records: dict[str, TestRecord], **more: Any) -> Results:
    report = build_report(samples.assignment(tmp_path), samples.manifest(), records, **more)
    return results_of(report)


def test_full_records_score_exactly_100(tmp_path: Path) -> None:
    data = written(tmp_path, build(tmp_path, samples.full_records(), seconds=12.345, seed=7))
    assert data["score"] == 100.0
    assert {test["status"] for test in data["tests"]} == {"passed"}
    assert math.isclose(sum(test["max_score"] for test in data["tests"]), 100.0)
    assert data["extra_data"]["seed"] == 7
    assert data["stdout_visibility"] == "hidden"


def test_no_records_score_zero_and_say_that_nothing_was_reached(tmp_path: Path) -> None:
    data = written(tmp_path, build(tmp_path, {}))
    assert data["score"] == 0.0
    assert all(test["score"] == 0.0 for test in data["tests"])
    assert all(NOT_REACHED in test["output"] for test in data["tests"])


def test_one_missing_record_costs_its_own_points_only(tmp_path: Path) -> None:
    records = samples.full_records()
    gone = samples.manifest()[7]
    del records[gone.test]
    data = written(tmp_path, build(tmp_path, records))
    assert data["score"] == pytest.approx(100 - gone.weight)
    assert data["extra_data"]["not_reached"] == [gone.test]


def test_records_of_tests_outside_the_manifest_earn_nothing(tmp_path: Path) -> None:
    extra = TestRecord(test="tests/test_9.py::test_x", number="1.4", status="passed", fraction=1.0)
    data = written(tmp_path, build(tmp_path, {extra.test: extra}))
    assert data["score"] == 0.0


@pytest.mark.parametrize(
    ("fraction", "share"), [(0.5, 0.5), (7.0, 1.0), (-3.0, 0.0), (math.nan, 0.0), (math.inf, 0.0)]
)
def test_a_fraction_is_clipped_to_the_weight(tmp_path: Path, fraction: float, share: float) -> None:
    entry = next(entry for entry in samples.manifest() if entry.partial)
    record = TestRecord(test=entry.test, number=entry.number, status="passed", fraction=fraction)
    data = written(tmp_path, build(tmp_path, {entry.test: record}))
    assert data["score"] == pytest.approx(round(share * entry.weight, 2))


@pytest.mark.parametrize(
    "change",
    [{"status": "failed"}, {"status": "skipped"}, {"fault": "grader"}],
    ids=["failed", "skipped", "grader fault"],
)
def test_a_test_that_did_not_pass_earns_nothing_whatever_its_fraction(
    tmp_path: Path, change: dict[str, str]
) -> None:
    entry = samples.manifest()[0]
    record = samples.full_records()[entry.test].model_copy(update=change)
    assert written(tmp_path, build(tmp_path, {entry.test: record}))["score"] == 0.0


def test_almost_full_never_rounds_to_full(tmp_path: Path) -> None:
    records = samples.full_records()
    entry = next(entry for entry in samples.manifest() if entry.partial)
    records[entry.test] = records[entry.test].model_copy(update={"fraction": 0.9999})
    data = written(tmp_path, build(tmp_path, records))
    assert data["score"] == 99.99
    assert any(test["status"] == "failed" for test in data["tests"])


def test_public_only_counts_public_tests_and_names_the_rest(tmp_path: Path) -> None:
    records = samples.full_records()
    data = written(tmp_path, build(tmp_path, records, public_only=True))
    assert data["score"] == 60.0
    assert data["output"].startswith(
        "hw1_autodiff: 60 / 60 public points; hidden tests carry the other 40"
    )
    assert not any("hidden" in test.get("tags", []) for test in data["tests"])


def test_a_skipped_test_is_failed_for_gradescope_and_says_what_it_needs(tmp_path: Path) -> None:
    data = written(tmp_path, build(tmp_path, samples.mixed_records()))
    skipped = [test for test in data["tests"] if test["number"] == "1.10"]
    assert {test["status"] for test in skipped} == {"failed"}
    assert {test["output"] for test in skipped} == {"skipped: needs 1.4"}


def test_a_fault_of_the_grader_is_told_apart_and_detailed_for_staff_only(tmp_path: Path) -> None:
    results = build(tmp_path, samples.mixed_records(), grader_fault="zygote did not start")
    data = written(tmp_path, results)
    [test] = [test for test in data["tests"] if FAULT_SENTENCE in test["output"]]
    assert "golden" not in test["output"]
    assert test["extra_data"]["grader_fault"] == "FileNotFoundError: golden file missing"
    assert FAULT_SENTENCE in data["output"]
    assert "zygote" not in data["output"]
    assert data["extra_data"]["grader_fault"] == "zygote did not start"


SECRET = "SECRET31337"


def hostile_hidden_record(status: str, fault: str) -> TestRecord:
    frame = samples.frame(42, f"topological_order_{SECRET}")
    return TestRecord(
        test="hidden/test_1_4.py::test_scale_1_4", number="1.4", status=status, fault=fault,
        fraction=0.0, property=SECRET, exception=f"Leak_{SECRET}", message=f"got {SECRET}",
        frames=[
            samples.frame(),
            frame,
            frame.model_copy(update={"file": f"/tmp/{SECRET}.py"}),
            frame.model_copy(update={"file": f"autodiff/../{SECRET}.py"}),
        ],
        output=SECRET, measures=[Measure(name=SECRET, value=31337.0)],
        figures=[samples.Figure(kind="loss_curve", title=SECRET, data={"series": {SECRET: [1]}})],
        leaderboard={"name": SECRET, "value": 31337},
    )  # fmt: skip


@pytest.mark.parametrize("status", ["failed", "skipped", "passed"])
@pytest.mark.parametrize("fault", ["student", "grader", "none"])
def test_a_hidden_test_shows_no_value_text_or_name_that_the_student_chose(
    tmp_path: Path, status: str, fault: str
) -> None:
    record = hostile_hidden_record(status, fault)
    text = json.dumps(written(tmp_path, build(tmp_path, {record.test: record}, seed=1)))
    assert SECRET not in text
    assert "31337" not in text
    report = build_report(
        samples.assignment(tmp_path), samples.manifest(), {record.test: record}, seed=1
    )
    assert SECRET not in repr(report)


def hidden_output(tmp_path: Path, **change: Any) -> str:
    record = hostile_hidden_record("failed", "student").model_copy(update=change)
    data = written(tmp_path, build(tmp_path, {record.test: record}))
    [test] = [t for t in data["tests"] if t["number"] == "1.4" and "Twice" in t["name"]]
    return test["output"]


@pytest.mark.parametrize(
    ("title", "shown"),
    [
        ("ZeroDivisionError", "ZeroDivisionError"),
        ("numba.core.errors.TypingError", "TypingError"),
        ("time limit", "time limit"),
        ("the process was killed by SIGSEGV (signal 11)", "SIGSEGV (signal 11)"),
        ("the process was killed by SIGRTMIN+7 (signal 41)", "killed by a signal"),
        ("the process exited with status 137", "the process exited"),
        ("Value137", "an exception of another class"),
        ("barrier divergence", "barrier divergence"),
        ("KernelError", "KernelError"),
    ],
)
def test_a_hidden_test_names_well_known_ends_but_no_number_the_student_chose(
    tmp_path: Path, title: str, shown: str
) -> None:
    output = hidden_output(tmp_path, exception=title, frames=[])
    assert output.split("\n")[1].startswith("Error: ")
    assert output.endswith(shown)
    assert "137" not in output


def test_a_hidden_frame_needs_a_line_that_exists(tmp_path: Path) -> None:
    real = samples.frame(42)
    invented = real.model_copy(update={"line": 31_337})
    assert "31337" not in hidden_output(tmp_path, frames=[invented, real])
    assert "engine.py:42" in hidden_output(tmp_path, frames=[invented, real])


@pytest.mark.parametrize(
    ("reason", "is_shown"),
    [
        ("skipped: needs 1.4, 1.5", True),
        ("skipped: speed counts once the other tests of 1.3 pass", True),
        (f"skipped: needs {SECRET}", False),
    ],
)
def test_a_hidden_skip_gives_only_the_graders_own_reasons(
    tmp_path: Path, reason: str, is_shown: bool
) -> None:
    output = hidden_output(tmp_path, status="skipped", message=reason, exception="", frames=[])
    assert (output == reason) is is_shown
    assert output.startswith("skipped: ")


def test_a_hidden_test_still_shows_the_exception_and_own_frames(tmp_path: Path) -> None:
    data = written(tmp_path, build(tmp_path, samples.mixed_records()))
    [test] = [t for t in data["tests"] if t["number"] == "1.4" and "Twice" in t["name"]]
    assert "RecursionError" in test["output"]
    assert "autodiff/engine.py:42, in topological_order" in test["output"]
    assert "> 42 |         if expanded" in test["output"]
    assert "50000" not in test["output"]
    assert "make test" not in test["output"]


def test_hostile_text_of_a_megabyte_is_cut_and_cleaned(tmp_path: Path) -> None:
    line = "\x1b[31m<script>alert(1)</script>\u202e\x00\ud800" * 8
    flood = f"{line}\n" * 4_000
    assert len(flood) > 1_000_000
    records = {
        test: record.model_copy(
            update={
                "status": "failed",
                "message": flood,
                "output": flood,
                "exception": flood,
                "frames": [samples.frame()] * 9,
            }
        )
        for test, record in samples.full_records().items()
    }
    public = [entry.model_copy(update={"hidden": False}) for entry in samples.manifest()]
    report = build_report(
        samples.assignment(tmp_path), public, records, notes=[flood] * 50, grader_fault=flood
    )
    data = written(tmp_path, results_of(report))
    text = json.dumps(data, ensure_ascii=False)
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert sum(len(test["output"]) for test in data["tests"]) <= 1_000_000
    assert {test["output_format"] for test in data["tests"]} == {"text"}


def test_nan_and_infinity_anywhere_leave_valid_json(tmp_path: Path) -> None:
    entry = samples.manifest()[0]
    record = samples.full_records()[entry.test].model_copy(
        update={
            "seconds": math.inf,
            "measures": [Measure(name="m", value=math.nan, full=math.inf, zero=-math.inf)],
            "leaderboard": {"name": "ratio", "value": math.nan, "order": "sideways"},
        }
    )
    data = written(tmp_path, build(tmp_path, {entry.test: record}, seconds=math.nan))
    assert "leaderboard" not in data


def test_a_public_leaderboard_value_is_published_once_per_column(tmp_path: Path) -> None:
    records = samples.full_records()
    for entry in samples.manifest()[:2]:
        records[entry.test].leaderboard = {"name": "ratio", "value": 1.5, "order": "asc"}
    data = written(tmp_path, build(tmp_path, records))
    assert data["leaderboard"] == [{"name": "ratio", "value": 1.5, "order": "asc"}]


def test_a_large_seed_keeps_its_digits(tmp_path: Path) -> None:
    data = written(tmp_path, build(tmp_path, {}, seed=2**127 + 1))
    assert data["extra_data"]["seed"] == str(2**127 + 1)


def test_zero_results_are_valid_with_and_without_an_assignment(tmp_path: Path) -> None:
    for assignment in (None, samples.assignment(tmp_path)):
        data = written(tmp_path, zero_results(assignment, "The zip is \x1b[31mempty."))
        assert data["score"] == 0.0
        assert data["output"] == "The zip is empty."


def test_results_that_break_the_schema_are_refused_and_the_old_file_stays(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    write_results(path, zero_results(None, "zero first"))
    before = path.read_bytes()
    bad = Results.model_construct(score=math.nan, tests=[])
    with pytest.raises(ResultsError):
        write_results(path, bad)
    above = Results(score=1.0, tests=[TestResult(score=1.0, max_score=1.0)])
    above.tests[0].score = 2.0
    with pytest.raises(ResultsError, match="above its maximum"):
        write_results(path, above)
    assert path.read_bytes() == before
