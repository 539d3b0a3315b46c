"""Grading one submission: zero first, points from the manifest, closed when anything fails."""

from __future__ import annotations

import json
import os
import stat
import sys
import zipfile
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import batch_samples

from autograder.batch import grade as grade_module
from autograder.batch import gradescope
from autograder.batch.grade import NOT_YET, Grading, grade, grade_files
from autograder.batch.mutants import reference_files
from autograder.course.intake import Submission
from autograder.reporting.results import Results
from autograder.sandbox.host import GraderFault


@pytest.fixture
def homework(tmp_path):
    return batch_samples.make_homework(tmp_path)


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def results(out: Path) -> Results:
    return Results.model_validate_json((out / "results.json").read_text())


def states(graded) -> dict[str, tuple[str, float]]:
    return {test.function: (test.state, test.points) for test in graded.report.tests()}


def quick(**options) -> Grading:
    """Without a sandbox: for what does not depend on one."""
    return Grading(transport="inprocess", seed=1, **options)


@pytest.fixture
def forked(monkeypatch):
    """Tests run in a fork: for what does not depend on how they are started."""
    monkeypatch.setattr(grade_module, "run_tests", batch_samples.forked)


def test_reference_scores_100_and_the_stub_0_in_confinement(homework, out):
    graded = grade(homework, homework.root / "solution", out, Grading(seed=3))
    assert graded.score == 100.0
    assert results(out).score == 100.0
    assert (out / "report.html").stat().st_size > 1000
    assert graded.report.seed == 3
    graded = grade(homework, homework.root, out, Grading())
    assert results(out).score == graded.score == 0.0
    assert not graded.report.full
    assert {state for state, _ in states(graded).values()} == {"failed", "skipped"}


def test_part_of_the_tasks_scores_exactly_their_points(forked, homework, out):
    part = batch_samples.REFERENCE.replace("opposite = -x", 'raise NotImplementedError("9.3")')
    graded = grade_files(homework, Submission({"tiny/ops.py": part.encode()}, []), out, quick())
    assert results(out).score == 80.0
    assert states(graded)["test_negate_is_fast"] == ("skipped", 0.0)


def test_public_tests_only_count_public_points(forked, homework, out):
    files = Submission(reference_files(homework), [])
    graded = grade_files(homework, files, out, quick(hidden=False))
    assert (graded.score, graded.report.maximum) == (80.0, 80.0)
    assert "test_double_of_a_secret_number" not in states(graded)
    assert "secret" not in (out / "results.json").read_text()


def test_without_speed_tests_a_correct_task_keeps_its_other_points(forked, homework):
    files = Submission(reference_files(homework), [])
    graded = grade_files(homework, files, None, quick(speed=False))
    assert graded.score == 95.0
    assert states(graded)["test_negate_is_fast"] == ("not reached", 0.0)


def test_a_choice_of_tasks_or_names_shows_and_counts_only_that(forked, homework):
    files = Submission(reference_files(homework), [])
    graded = grade_files(homework, files, None, quick(tasks=["9.3"]))
    assert set(states(graded)) == {"test_negate", "test_negate_is_fast"}
    graded = grade_files(homework, files, None, quick(expression="shift"))
    assert set(states(graded)) == {"test_shift"}
    assert graded.score == 30.0


@pytest.mark.parametrize("kind", ["missing", "empty folder", "empty zip", "no zip", "utf-16"])
def test_a_broken_submission_ends_in_results_of_0_that_say_why(homework, out, tmp_path, kind):
    path = tmp_path / "submission"
    if kind == "empty folder":
        path.mkdir()
    elif kind == "empty zip":
        zipfile.ZipFile(path, "w").close()
    elif kind == "no zip":
        path.write_bytes(b"not a zip")
    elif kind == "utf-16":
        (path / "tiny").mkdir(parents=True)
        (path / "tiny" / "ops.py").write_bytes("x = 1".encode("utf-16"))
    graded = grade(homework, path, out, Grading())
    assert graded.report is None
    assert graded.refused
    assert graded.score == 0.0
    read = results(out)
    assert read.score == 0
    assert graded.refused in json.dumps(read.model_dump(), ensure_ascii=False).replace("\\n", "\n")
    assert NOT_YET not in read.model_dump_json()


def test_results_of_0_are_there_before_anything_else_happens(homework, out, monkeypatch):
    seen = []

    def stopped(*_, **__):
        seen.append(results(out))
        raise KeyboardInterrupt

    monkeypatch.setattr(grade_module, "read_submission", stopped)
    with pytest.raises(KeyboardInterrupt):
        grade(homework, homework.root / "solution", out, Grading())
    assert seen[0].score == 0
    assert NOT_YET in seen[0].model_dump_json()
    assert results(out).score == 0


def test_notes_of_the_submission_and_of_syntax_reach_the_report(forked, homework):
    files = {"tiny/ops.py": b"def double(x:\n    return 2 * x\n"}
    submission = Submission(files, ["a note of the intake"])
    graded = grade_files(homework, submission, None, quick(notes=["a note of the caller"]))
    notes = "\n".join(graded.report.notes)
    assert "a note of the intake" in notes
    assert "a note of the caller" in notes
    (broken,) = graded.report.broken
    assert broken.startswith("tiny/ops.py:1: SyntaxError: ")
    assert graded.score == 0.0
    assert "grader fault" not in {state for state, _ in states(graded).values()}


def test_a_fault_of_the_grader_scores_0_and_is_told_apart(homework, out, monkeypatch):
    def broken(*_, **__):
        raise GraderFault("no worker could be started")

    monkeypatch.setattr(grade_module, "run_tests", broken)
    files = Submission(reference_files(homework), [])
    graded = grade_files(homework, files, out, quick())
    assert graded.score == results(out).score == 0.0
    assert "no worker could be started" in graded.report.grader_fault
    assert {state for state, _ in states(graded).values()} == {"not reached"}


def test_a_run_that_dies_keeps_what_was_reached_and_no_more(homework, out):
    path = homework.root / "tests" / "test_9_2_shift.py"
    path.write_text(
        path.read_text().replace("    x = float", "    import os; os._exit(0)\n    x = float")
    )
    graded = grade_files(homework, Submission(reference_files(homework), []), out, quick())
    assert states(graded) == {
        "test_double": ("passed", 30.0), "test_double_of_a_secret_number": ("passed", 20.0),
        "test_shift": ("not reached", 0.0), "test_negate": ("not reached", 0.0),
        "test_negate_is_fast": ("not reached", 0.0),
    }  # fmt: skip
    assert results(out).score == 50.0


def test_out_of_time_is_said_and_the_rest_scores_0(homework, out):
    files = Submission(reference_files(homework), [])
    graded = grade_files(homework, files, out, quick(minutes=1e-9))
    assert results(out).score == 0.0
    assert any("time for grading ran out" in note for note in graded.report.notes)
    assert not graded.report.grader_fault


def test_answers_that_are_no_numbers_end_in_a_valid_results_file(forked, homework, out):
    ops = batch_samples.REFERENCE.replace("2 * x\n", "float('nan')\n").replace(
        "-x\n", "'\\ud800'\n"
    )
    graded = grade_files(homework, Submission({"tiny/ops.py": ops.encode()}, []), out, Grading())
    assert results(out).score == 0.0
    assert {state for state, _ in states(graded).values()} == {"failed", "skipped"}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root shares a machine with a throwaway user")
def test_as_root_the_staffs_folders_are_closed_to_other_users(forked, homework):
    for name in ("hidden", "solution"):
        (homework.root / name).chmod(0o755)
    grade_files(homework, Submission(reference_files(homework), []), None, quick())
    for name in ("hidden", "solution"):
        assert stat.S_IMODE((homework.root / name).stat().st_mode) == 0o700


def test_points_that_do_not_agree_stop_the_grading_of_hidden_tests(homework, out):
    path = homework.root / "hidden" / "test_9_1_hidden.py"
    path.write_text(path.read_text().replace("@weight(20)", "@weight(19)"))
    with pytest.raises(Exception, match=r"task 9\.1 is worth 50 points, its tests sum to 49"):
        grade(homework, homework.root / "solution", out, quick())
    assert results(out).score == 0


def test_progress_is_told_from_the_manifest_on(homework):
    started, recorded = [], []
    how = quick(on_start=started.extend, on_record=lambda record: recorded.append(record.test))
    graded = grade_files(homework, Submission(reference_files(homework), []), None, how)
    assert [entry.test for entry in started] == [test.test for test in graded.report.tests()]
    assert sorted(recorded) == sorted(entry.test for entry in started)


# --- Gradescope -------------------------------------------------------------------------------


@pytest.fixture
def container(homework, tmp_path):
    root = tmp_path / "autograder"
    (root / "submission" / "tiny").mkdir(parents=True)
    (root / "submission" / "tiny" / "ops.py").write_text(batch_samples.REFERENCE)
    (root / "submission_metadata.json").write_text("{}")
    (root / "submission_metadata.json").chmod(0o644)
    return root


def test_the_container_grades_into_results_and_closes_the_metadata(forked, homework, container):
    how = quick()
    graded = gradescope.grade_in_container(homework, container, how)
    assert graded is not None
    assert graded.score == results(container / "results").score == 100.0
    assert stat.S_IMODE((container / "submission_metadata.json").stat().st_mode) == 0o600
    assert stat.S_IMODE((container / "results").stat().st_mode) == 0o700
    assert how.minutes == homework.needs.minutes - gradescope.MARGIN_MINUTES


@pytest.mark.parametrize(
    "error", [RuntimeError("x"), SystemExit(1), KeyboardInterrupt(), MemoryError()]
)
def test_the_container_survives_anything_and_leaves_results(
    homework, container, monkeypatch, error, capsys
):
    def fails(*_, **__):
        raise error

    monkeypatch.setattr(gradescope, "grade", fails)
    assert gradescope.grade_in_container(homework, container, quick()) is None
    read = results(container / "results")
    assert read.score == 0
    assert "not your code" in read.model_dump_json()
    assert type(error).__name__ in capsys.readouterr().err


def test_the_container_refuses_an_empty_submission_with_a_sentence(homework, container):
    (container / "submission" / "tiny" / "ops.py").unlink()
    graded = gradescope.grade_in_container(homework, container, quick())
    assert graded is not None
    assert graded.refused
    assert results(container / "results").score == 0
