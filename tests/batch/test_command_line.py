"""The command line: its help, what it refuses, and the status it ends with."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

sys.path.insert(0, str(Path(__file__).parent))
import batch_samples

from autograder import cli as command_line
from autograder import commands_staff, commands_student
from autograder.batch import bench, check, grade
from autograder.batch.check import CheckFailed
from autograder.batch.mutants import reference_files
from autograder.sandbox.host import GraderFault

COMMANDS = ["bench", "bundle", "check", "debug", "demo", "doctor", "grade", "gradescope",
            "kernels", "release", "stubs", "submit", "test"]  # fmt: skip


def call(*arguments: object) -> Result:
    return CliRunner().invoke(command_line.cli, [str(argument) for argument in arguments])


@pytest.fixture
def homework(tmp_path, monkeypatch):
    monkeypatch.setattr(grade, "run_tests", batch_samples.forked)
    return batch_samples.make_homework(tmp_path)


def write_own(homework, text: str) -> None:
    """The student's own code."""
    homework.stub_path("tiny/ops.py").write_text(text)


def test_every_command_has_help_with_a_sentence():
    result = call("--help")
    assert result.exit_code == 0
    assert set(COMMANDS) <= set(command_line.cli.commands)
    for name in command_line.cli.commands:
        result = call(name, "--help")
        assert result.exit_code == 0, name
        assert result.output.startswith("Usage:")
        sentence = command_line.cli.commands[name].help
        assert sentence
        assert sentence.split("\n")[0].endswith((".", "!")), name


@pytest.mark.parametrize("command", ["test", "submit", "debug", "bundle", "gradescope"])
def test_an_unknown_homework_is_refused_with_the_known_ones(command):
    result = call(command, "hw77_none")
    assert result.exit_code == 2
    assert "there is no homework 'hw77_none'; there are: hw1_autodiff" in result.output


def test_a_wrong_assignment_is_refused_with_its_line(homework):
    path = homework.root / "assignment.toml"
    path.write_text(path.read_text().replace("points = 50", "points = 51"))
    result = call("test", homework.root)
    assert result.exit_code == 2
    assert "assignment.toml:" in result.output
    assert "total 101" in result.output.replace("\n", " ")


def test_grade_ends_with_0_at_full_points_and_1_below(homework, tmp_path):
    out = tmp_path / "out"
    options = ("--out", out, "--transport", "inprocess")
    result = call("grade", homework.root, "--submission", homework.root / "solution", *options)
    assert result.exit_code == 0, result.output
    assert json.loads((out / "results.json").read_text())["score"] == 100.0
    assert "100" in result.output
    part = tmp_path / "part" / "tiny"
    part.mkdir(parents=True)
    (part / "ops.py").write_text(batch_samples.REFERENCE.replace("= -x", "= x"))
    result = call("grade", homework.root, "--submission", part.parent, *options)
    assert result.exit_code == 1
    assert json.loads((out / "results.json").read_text())["score"] == 80.0


def test_grade_says_why_a_submission_is_refused_and_ends_with_1(homework, tmp_path):
    result = call(
        "grade", homework.root, "--submission", tmp_path / "none.zip", "--out", tmp_path / "o"
    )
    assert result.exit_code == 1
    assert "not graded:" in result.output
    assert json.loads((tmp_path / "o" / "results.json").read_text())["score"] == 0.0


def test_a_seed_is_replayed(homework, tmp_path):
    options = ("--seed", 12345, "--transport", "inprocess", "--task", "9.3")
    solution = homework.root / "solution"
    call("grade", homework.root, "--submission", solution, "--out", tmp_path / "o", *options)
    text = (tmp_path / "o" / "results.json").read_text()
    assert "12345" in text
    assert {test["number"] for test in json.loads(text)["tests"]} == {"9.3"}


def test_the_students_loop_runs_public_tests_on_the_code_in_the_folder(homework, tmp_path):
    out = tmp_path / "not" / "there" / "yet"
    write_own(homework, batch_samples.REFERENCE)
    result = call("test", homework.root, "--out", out)
    assert result.exit_code == 0, result.output
    assert "80 / 80 public points" in " ".join(result.output.split())
    assert (out / "report.html").is_file()
    write_own(homework, batch_samples.REFERENCE.replace("= -x", "= x"))
    result = call("test", homework.root, "--out", out, "-k", "negate")
    assert result.exit_code == 1
    assert "every wrong entry" in result.output or "expected -" in result.output


def test_the_students_loop_says_which_file_is_missing(homework, tmp_path):
    homework.stub_path("tiny/ops.py").unlink()
    result = call("test", homework.root, "--out", tmp_path / "o")
    assert result.exit_code == 1
    assert "tiny/ops.pycan'tberead" in "".join(result.output.split())  # however it was wrapped
    assert "Traceback" not in result.output


def test_submit_writes_the_zip_and_grades_what_is_in_it(homework, tmp_path, monkeypatch):
    monkeypatch.setattr(commands_student, "REPOSITORY", tmp_path)
    write_own(homework, batch_samples.REFERENCE)
    (homework.root / "tiny" / "conftest.py").write_text("")
    result = call("submit", homework.root, "--out", tmp_path / "mine.zip")
    assert result.exit_code == 0, result.output
    with zipfile.ZipFile(tmp_path / "mine.zip") as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    assert files == reference_files(homework)
    assert "80 / 80 public points" in " ".join(result.output.split())
    assert f"upload this file: {tmp_path / 'mine.zip'}" in result.output
    assert "compile" not in result.output
    write_own(homework, batch_samples.REFERENCE + "def (:\n")
    result = call("submit", homework.root, "--out", tmp_path / "broken.zip")
    assert result.exit_code == 1, result.output
    assert (tmp_path / "broken.zip").exists()
    line = batch_samples.REFERENCE.count("\n") + 1
    said, place = (result.output.index(text) for text in (
        "does not compile:", f"tiny/ops.py:{line}: SyntaxError"))  # fmt: skip
    assert said < place < result.output.index("Points")
    last = result.output.rstrip().splitlines()[-1]
    assert last == f"ops.py doesn't compile, don't upload yet: {tmp_path / 'broken.zip'}"
    homework.stub_path("tiny/ops.py").unlink()
    result = call("submit", homework.root, "--out", tmp_path / "other.zip")
    assert result.exit_code == 1
    assert not (tmp_path / "other.zip").exists()


def test_debug_runs_one_process_and_passes_options_on(homework, tmp_path):
    write_own(homework, batch_samples.REFERENCE.replace("= -x", "= x"))
    assert call("debug", homework.root, "double", "-x").exit_code == 0
    assert call("debug", homework.root, "negate", "-x").exit_code == 1


def test_the_debugger_opens_in_the_students_own_frame(homework):
    write_own(homework, "def double(x):\n    mine = 'seen'\n    raise ValueError(mine)\n")
    done = subprocess.run(
        [sys.executable, "-m", "autograder", "debug", homework.root, "double"],
        input="p mine\nq\n", capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode != 0
    assert "(Pdb) 'seen'" in done.stdout, done.stdout + done.stderr


def test_debug_asks_for_a_test_and_says_why_one_was_skipped(homework, capfd):
    result = call("debug", homework.root, "")
    assert result.exit_code == 1
    assert f"make debug HW={homework.name} K=test_" in result.output
    write_own(homework, "def double(x):\n    return 3 * x\n")
    path = next((homework.root / "tests").glob("test_9_1*.py"))
    path.write_text(path.read_text().replace("    x = ", "    student.worker.resident_bytes()\n    x = "))
    assert call("debug", homework.root, "double").exit_code == 0
    assert "measured in a process of the code's own" in capfd.readouterr().out


def test_gradescope_always_ends_with_0(homework, tmp_path, monkeypatch):
    monkeypatch.setenv("AUTOGRADER_ROOT", str(tmp_path / "root"))
    (tmp_path / "root").mkdir()
    result = call("gradescope", homework.root)
    assert result.exit_code == 0
    assert json.loads((tmp_path / "root" / "results" / "results.json").read_text())["score"] == 0


def test_check_ends_with_1_if_any_check_failed(monkeypatch):
    def bad() -> str:
        raise CheckFailed("found [3] points")

    checks = [[("good one", lambda: "fine"), ("bad one", bad)]]
    monkeypatch.setattr(commands_staff, "homework_folders", list)
    monkeypatch.setattr(check, "staff_checks", lambda *_: checks)
    result = call("check")
    assert result.exit_code == 1
    assert "1 passed, 1 failed" in result.output
    assert "FAIL bad one" in result.output
    assert "found [3] points" in result.output
    checks[0].pop()
    result = call("check")
    assert result.exit_code == 0
    assert "1 passed, 0 failed" in result.output


def test_bench_prints_and_writes_its_rows(monkeypatch, tmp_path):
    bench.register_all()  # before the swap
    row = bench.Row("made_up_vs_numpy", 0.5, "x", "higher", "numpy", 0.6)
    monkeypatch.setattr(bench, "BENCHMARKS", {row.name: lambda work: iter([row])})
    result = call("bench", "--json", tmp_path / "rows.json")
    assert result.exit_code == 0, result.output
    assert "made_up_vs_numpy" in result.output
    assert json.loads((tmp_path / "rows.json").read_text()) == [
        {"name": "made_up_vs_numpy", "value": 0.5, "unit": "x", "better": "higher",
         "peer": "numpy", "target": 0.6, "note": ""}
    ]  # fmt: skip


def test_a_fault_of_the_grader_ends_in_a_sentence_and_status_3(monkeypatch, capsys):
    def faulty() -> None:
        raise GraderFault("the zygote did not start")

    monkeypatch.setattr(command_line, "cli", faulty)
    with pytest.raises(SystemExit) as caught:
        command_line.main()
    assert caught.value.code == 3
    assert "fault of the grader: the zygote did not start" in capsys.readouterr().out
