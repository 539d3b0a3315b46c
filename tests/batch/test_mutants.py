"""Mutants: patches that must lose points where they say, and nowhere else."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import batch_samples

from autograder.batch import mutants
from autograder.batch.check import describe
from autograder.batch.mutants import (
    Mutant,
    MutantError,
    check_mutants,
    judge,
    mutated_files,
    read_mutants,
    reference_files,
)
from autograder.testing.records import TestRecord

TRIPLE = ("2 * x\n", "3 * x\n")
HARMLESS = ("opposite = -x", "opposite = 0 - x")


@pytest.fixture
def homework(tmp_path):
    return batch_samples.make_homework(tmp_path)


def test_mutants_are_read_in_task_order_with_their_claims(homework):
    batch_samples.add_mutant(homework, "a_harmless", "9.3", HARMLESS)
    batch_samples.add_mutant(homework, "b_triple", "9.1", TRIPLE)
    read = read_mutants(homework)
    assert [(m.name, m.task, m.error) for m in read] == [
        ("b_triple", "9.1", "b triple"), ("a_harmless", "9.3", "a harmless"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "head", ["", "# task: 9.1\n", "# error: wrong\n", "# task: 9.7\n# error: no such task\n"]
)
def test_a_malformed_mutant_is_refused_by_name(homework, head):
    path = batch_samples.add_mutant(homework, "bad", "9.1", TRIPLE)
    path.write_text(head + path.read_text().split("\n", 2)[2])
    with pytest.raises(MutantError, match=r"bad\.patch: must start with '# task"):
        read_mutants(homework)


def test_a_mutant_is_the_reference_with_its_patch(homework):
    batch_samples.add_mutant(homework, "triple", "9.1", TRIPLE)
    (mutant,) = read_mutants(homework)
    before = reference_files(homework)
    files = mutated_files(homework, mutant)
    assert before == {"tiny/ops.py": batch_samples.REFERENCE.encode()} == reference_files(homework)
    assert files == {"tiny/ops.py": batch_samples.REFERENCE.replace(*TRIPLE).encode()}


def test_a_mutant_that_does_not_apply_or_changes_nothing_is_refused(homework):
    path = batch_samples.add_mutant(homework, "stale", "9.1", TRIPLE)
    path.write_text(path.read_text().replace("-    result = 2 * x", "-    result = 4 * x"))
    with pytest.raises(MutantError, match=r"stale\.patch does not apply"):
        mutated_files(homework, read_mutants(homework)[0])
    one, *others = batch_samples.REFERENCE.splitlines()[:4]
    hunk = [f"-{one}", f"+{one}", *(f" {line}" for line in others)]
    head = ["# task: 9.1", "# error: x", "--- solution/tiny/ops.py", "+++ solution/tiny/ops.py"]
    path.write_text("\n".join([*head, "@@ -1,4 +1,4 @@", *hunk]) + "\n")
    with pytest.raises(MutantError, match="changes nothing"):
        mutated_files(homework, read_mutants(homework)[0])


def test_a_patch_can_not_write_outside_the_editable_files(homework, tmp_path):
    path = batch_samples.add_mutant(homework, "escape", "9.1", TRIPLE)
    path.write_text(path.read_text().replace("solution/tiny/ops.py", "../../escaped.py"))
    with pytest.raises(MutantError, match="does not apply"):
        mutated_files(homework, read_mutants(homework)[0])


def record(number: str, status: str) -> TestRecord:
    return TestRecord(test=f"t_{number}_{status}", number=number, status=status, seconds=0.5)


@pytest.mark.parametrize(
    ("records", "caught", "stray"),
    [
        ([("9.1", "failed"), ("9.2", "skipped"), ("9.3", "passed")], True, []),
        ([("9.1", "failed"), ("9.3", "failed")], True, ["9.3"]),
        ([("9.1", "failed"), ("9.3", "skipped")], True, ["9.3"]),
        ([("9.1", "passed"), ("9.2", "failed")], False, []),
        ([("9.1", "passed"), ("9.2", "passed"), ("9.3", "passed")], False, []),
        ([("9.1", "skipped")], False, []),
        ([], False, []),
    ],
)
def test_judgement_by_what_was_lost_where(homework, records, caught, stray):
    mutant = Mutant(Path("m.patch"), "9.1", "error")
    verdict = judge(homework, mutant, [record(*entry) for entry in records])
    assert (verdict.caught, verdict.stray) == (caught, stray)
    assert verdict.good == (caught and not stray)


@pytest.fixture
def quick(monkeypatch):
    """Without torch, which these mutants do not need."""
    monkeypatch.setattr(mutants, "_preload", lambda: None)


@pytest.fixture
def temporary(monkeypatch):
    """Where these runs keep what is temporary."""
    folder = batch_samples.samples.open_folder()
    monkeypatch.setattr(mutants.tempfile, "tempdir", str(folder))
    monkeypatch.setenv("TMPDIR", str(folder))
    yield folder
    batch_samples.samples.remove(folder)


@pytest.fixture
def several(homework):
    batch_samples.add_mutant(homework, "triple", "9.1", TRIPLE)
    batch_samples.add_mutant(homework, "harmless", "9.3", HARMLESS)
    batch_samples.add_mutant(homework, "stray", "9.3", TRIPLE, ("opposite = -x", "opposite = x"))
    stale = batch_samples.add_mutant(homework, "stale", "9.2", ("twice + 1", "twice"))
    stale.write_text(stale.read_text().replace("-    return twice + 1", "-    return thrice + 1"))
    return homework


@pytest.mark.parametrize("full", [False, True])
def test_caught_uncaught_stray_and_stale_are_told_apart(several, quick, temporary, full):
    told = []
    verdicts = check_mutants(several, full=full, on_verdict=told.append)
    assert told == verdicts
    assert os.listdir(temporary) == []
    by_name = {verdict.mutant.name: verdict for verdict in verdicts}
    assert len(by_name) == 4
    assert by_name["triple"].good
    assert not by_name["harmless"].caught
    assert "loses nothing in task 9.3" in describe(by_name["harmless"])
    assert "does not apply" in describe(by_name["stale"])
    assert not by_name["stale"].caught
    # Only the full run sees the loss in another task.
    assert by_name["stray"].caught
    assert by_name["stray"].stray == (["9.1", "9.2"] if full else [])
    if full:
        assert "also loses points in 9.1" in describe(by_name["stray"])
        assert set(by_name["triple"].lost) == {"9.1", "9.2"}
        assert len(by_name["triple"].lost["9.1"]) == 2
    else:
        assert set(by_name["triple"].lost) == {"9.1"}
        assert len(by_name["triple"].lost["9.1"]) == 1  # stopped at the first loss


def test_a_choice_by_name(several, quick):
    assert [v.mutant.name for v in check_mutants(several, full=False, only=["trip"])] == ["triple"]


def test_a_named_test_alone_is_run_and_must_catch(homework, quick):
    path = batch_samples.add_mutant(homework, "triple", "9.1", TRIPLE)
    text = path.read_text()
    for name, caught in (("test_double_of_a_secret_number", True), ("test_no_such", False)):
        path.write_text(f"# caught by: {name}\n{text}")
        (verdict,) = check_mutants(homework, full=False)
        assert verdict.good == caught
        lost = ["hidden/test_9_1_hidden.py::test_double_of_a_secret_number"]
        assert verdict.lost == ({"9.1": lost} if caught else {})


def test_a_parametrized_test_catches_at_any_case(homework, quick):
    path = homework.root / "tests" / "test_9_3_negate.py"
    path.write_text(
        path.read_text()
        + (
            '@pytest.mark.parametrize("x", [1, 2, 3])\n@number("9.3")\n@weight(1)\n'
            "def test_cases(student, x):\n    assert student.run(drivers.negate, x=x) == -x\n"
        )
    )
    batch_samples.add_mutant(
        homework, "first", "9.3", ("opposite = -x", "opposite = x if x == 1 else -x")
    )
    (verdict,) = check_mutants(homework, full=False)
    assert verdict.good, verdict.problem


def test_a_mutant_that_never_ends_or_kills_the_run_is_a_problem_and_no_catch(
    homework, quick, monkeypatch
):
    batch_samples.add_mutant(homework, "endless", "9.1", ("result = 2 * x", "while True: pass"))
    monkeypatch.setattr(mutants, "SECONDS", 2.0)
    (verdict,) = check_mutants(homework, full=False)
    assert not verdict.caught
    assert "not finished within 2 s" in describe(verdict)
    monkeypatch.setattr(mutants, "SECONDS", 300.0)
    path = homework.root / "tests" / "test_9_1_double.py"
    path.write_text(
        path.read_text()
        + ('\n@number("9.1")\n@weight(1)\ndef test_dies(student):\n    import os; os._exit(9)\n')
    )
    batch_samples.add_mutant(homework, "endless", "9.1", ("result = 2 * x", "result = x + x"))
    (verdict,) = check_mutants(homework, full=True)
    assert not verdict.good
    assert "ended with status 9" in describe(verdict)


def test_a_fault_of_the_grader_is_no_catch(homework, quick):
    path = homework.root / "tests" / "test_9_1_double.py"
    path.write_text(
        path.read_text()
        + ('\n@number("9.1")\n@weight(1)\ndef test_faulty(student):\n    None + 1\n')
    )
    batch_samples.add_mutant(homework, "harmless", "9.1", ("result = 2 * x", "result = x + x"))
    (verdict,) = check_mutants(homework, full=True)
    assert not verdict.caught
    assert "TypeError" in describe(verdict)
