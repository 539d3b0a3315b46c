"""The zip a student uploads, and the zip an instructor uploads."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from autograder.course.bundle import BundleError, make_bundle
from autograder.course.intake import read_submission
from autograder.course.submit import SubmitError, make_submission_zip
from tests.course.samples import make_course, write


def test_a_submission_holds_the_listed_files_and_reads_back(tmp_path: Path) -> None:
    assignment = make_course(tmp_path / "course")
    write(assignment.root / "tiny/conftest.py", "boom\n")
    write(assignment.root / "tiny/add.py", "def f(:\n")
    path = make_submission_zip(assignment, tmp_path / "deep/out.zip")
    assert zipfile.ZipFile(path).namelist() == assignment.files
    submission = read_submission(path, assignment)
    assert submission.files["tiny/add.py"] == b"def f(:\n" and submission.notes == []
    os.utime(assignment.root / "tiny/add.py", (0, 0))
    again = make_submission_zip(assignment, tmp_path / "again.zip")
    assert again.read_bytes() == path.read_bytes()


def test_a_missing_or_unreadable_file_is_named_and_nothing_is_written(tmp_path: Path) -> None:
    assignment = make_course(tmp_path / "course")
    stub = assignment.root / "tiny/add.py"
    stub.unlink()
    with pytest.raises(SubmitError, match=r"add\.py is missing; restore it"):
        make_submission_zip(assignment, tmp_path / "out.zip")
    stub.mkdir()
    with pytest.raises(SubmitError, match=r"add\.py cannot be read"):
        make_submission_zip(assignment, tmp_path / "out.zip")
    assert not (tmp_path / "out.zip").exists()


def test_a_bundle_holds_scripts_harness_and_the_graded_parts_of_one_homework(
    tmp_path: Path,
) -> None:
    root = tmp_path / "course"
    assignment = make_course(root)
    make_course(root, "hw8_other")
    path = make_bundle(assignment, root, tmp_path / "bundle.zip")
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == [
            "autograder/__init__.py", "autograder/course/marks.py", "hw9_tiny/assignment.toml",
            "hw9_tiny/hidden/test_9_1_add.py", "hw9_tiny/tests/drivers.py",
            "hw9_tiny/tests/test_9_1_add.py", "hw9_tiny/tiny/__init__.py",
            "hw9_tiny/tiny/add.py", "hw9_tiny/tiny/nested/__init__.py",
            "hw9_tiny/tiny/nested/scale.py", "pyproject.toml", "requirements.lock",
            "run_autograder", "setup.sh",
        ]  # fmt: skip
        for name in ("run_autograder", "setup.sh"):
            assert archive.getinfo(name).external_attr >> 16 & 0o777 == 0o755
            assert b"@HOMEWORK@" not in archive.read(name)
    assert make_bundle(assignment, root, tmp_path / "2.zip").read_bytes() == path.read_bytes()


def test_a_bundle_takes_the_stub_of_the_solution_not_what_lies_in_the_folder(
    tmp_path: Path,
) -> None:
    root = tmp_path / "course"
    assignment = make_course(root)
    write(assignment.root / "tiny/add.py", "my own attempt = 1\n")
    with zipfile.ZipFile(make_bundle(assignment, root, tmp_path / "b.zip")) as archive:
        assert b"NotImplementedError" in archive.read("hw9_tiny/tiny/add.py")


def test_a_bundle_without_pinned_versions_is_refused(tmp_path: Path) -> None:
    root = tmp_path / "course"
    assignment = make_course(root)
    (root / "requirements.lock").unlink()
    with pytest.raises(BundleError, match=r"requirements\.lock is missing"):
        make_bundle(assignment, root, tmp_path / "b.zip")


def _lay_out(tmp_path: Path, main: str) -> Path:
    """Gradescope's folders with a bundle whose harness is `main`; returns their root."""
    course, root = tmp_path / "course", tmp_path / "autograder"
    assignment = make_course(course)
    write(course / "autograder/__main__.py", main)
    with zipfile.ZipFile(make_bundle(assignment, course, tmp_path / "b.zip")) as archive:
        archive.extractall(root / "source")
    write(root / "submission_metadata.json", "{}")
    (root / "submission").mkdir()
    return root


def _run(root: Path) -> dict:
    script = root / "source/run_autograder"
    result = subprocess.run(
        ["sh", script], env={**os.environ, "AUTOGRADER_ROOT": str(root)}, timeout=30,
        capture_output=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    return json.loads((root / "results/results.json").read_text())


def _give_python(root: Path, python: str = sys.executable) -> None:
    (root / "venv/bin").mkdir(parents=True)
    (root / "venv/bin/python").symlink_to(python)


def test_run_autograder_runs_the_harness_for_its_homework(tmp_path: Path) -> None:
    root = _lay_out(
        tmp_path,
        "import json, os, sys\n"
        "out = os.environ['AUTOGRADER_ROOT'] + '/results/results.json'\n"
        "json.dump({'score': 7, 'arguments': sys.argv[1:]}, open(out, 'w'))\n"
        "sys.exit(1)\n",
    )
    _give_python(root)
    assert _run(root) == {"score": 7, "arguments": ["gradescope", "hw9_tiny"]}
    assert (root / "results").stat().st_mode & 0o777 == 0o700
    assert (root / "submission_metadata.json").stat().st_mode & 0o777 == 0o600
    assert (root / "source/hw9_tiny/hidden").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("python", ["", "/bin/false", "/nowhere/python", sys.executable])
def test_run_autograder_leaves_a_zero_where_python_or_the_harness_is_broken(
    tmp_path: Path, python: str
) -> None:
    root = _lay_out(tmp_path, "import os\nos.abort()\n")
    write(root / "results/results.json", '{"score": 100}')
    if python:
        _give_python(root, python)
    results = _run(root)
    assert results["score"] == 0 and results["tests"] == []
    assert "fault of the grader" in results["output"]


@pytest.mark.parametrize("script", ["setup.sh", "run_autograder"])
def test_scripts_are_plain_sh(tmp_path: Path, script: str) -> None:
    root = _lay_out(tmp_path, "")
    shell = shutil.which("dash") or "sh"
    subprocess.run([shell, "-n", root / "source" / script], check=True)


def test_setup_makes_a_venv_and_hides_the_hidden_tests(tmp_path: Path) -> None:
    """With an interpreter that only notes what it was asked: nothing is installed here."""
    root = _lay_out(tmp_path, "")
    fake = write(
        tmp_path / "bin/python",
        f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\n'
        f'if [ "$2" = venv ]; then mkdir -p "$3/bin" && cp "$0" "$3/bin/python"; fi\n',
    )
    fake.chmod(0o755)
    environment = {
        **os.environ, "AUTOGRADER_ROOT": str(root), "AUTOGRADER_PYTHON": str(fake),
        "TORCH_INDEX_URL": "https://example.org/cpu",
    }  # fmt: skip
    subprocess.run(["sh", root / "source/setup.sh"], env=environment, check=True, timeout=30)
    calls = (tmp_path / "calls").read_text()
    assert f"-m venv {root}/venv" in calls
    assert (
        "pip install --no-cache-dir --extra-index-url https://example.org/cpu -r "
        f"{root}/source/requirements.lock" in calls
    )
    assert "-m autograder fetch hw9_tiny\n" in calls
    hidden = root / "source/hw9_tiny/hidden"
    assert hidden.stat().st_mode & 0o777 == 0o700
    assert (hidden / "test_9_1_add.py").stat().st_mode & 0o077 == 0
