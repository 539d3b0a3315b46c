"""Real data in a run: what a test without it comes to, and that workers may read it and no more."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import testing_samples as samples

from autograder.course import data

TASK = [("9.1", 100, [])]
TESTS = """
@number("9.1")
@weight(50)
def test_real(student):
    path = packaged("shakespeare")
    assert student.run(drivers.first_bytes, path=str(path)) == "read: Words"
    beside = str(path.parent / "secret.txt")
    note("beside", student.run(drivers.first_bytes, path=beside))

@number("9.1")
@weight(25)
def test_made_up(student):
    pass

@number("9.1")
@speed
@weight(25)
def test_fast(student):
    note("ran", "fast")
"""
DRIVERS = """\
def first_bytes(path):
    import os
    try:
        name = os.path.join(path, "hamlet_gut.txt") if os.path.isdir(path) else path
        with open(name) as file:
            return "read: " + file.read(5)
    except OSError as error:
        return type(error).__name__
"""


@pytest.fixture
def folder():
    folder = samples.open_folder()
    yield folder
    samples.remove(folder)


@pytest.fixture
def homework(folder, monkeypatch):
    """A homework that names data; the cache is empty."""
    monkeypatch.setenv(data.CACHE_VARIABLE, str(folder / "cache"))
    made = samples.make_homework(
        folder, TASK, {"test_9_1_data.py": TESTS}, name="hw9_data", drivers=DRIVERS
    )
    path = made.root / "assignment.toml"
    path.write_text(path.read_text().replace("[needs]", 'data = ["shakespeare"]\n[needs]', 1))
    return samples.load_assignment(made.root)


def outcome_of(homework, folder, transport):
    outcome = samples.run_job(samples.make_job(homework, folder / "job", transport=transport))
    return {test.rpartition("::")[2]: record for test, record in outcome.records.items()}


def test_without_the_data_a_test_is_skipped_for_no_points_and_the_others_count(homework, folder):
    records = outcome_of(homework, folder, "inprocess")
    skipped = records["test_real"]
    assert (skipped.status, skipped.fraction, skipped.fault) == ("skipped", 0.0, "none")
    assert skipped.message == "skipped: needs the real data (shakespeare): run make fetch"
    assert records["test_made_up"].status == records["test_fast"].status == "passed"


@pytest.mark.skipif(sys.platform != "linux", reason="needs Landlock")
def test_a_worker_reads_the_data_and_not_what_lies_beside_it(homework, folder):
    place = data.DATA["shakespeare"].folder
    place.mkdir(parents=True)
    (place / "hamlet_gut.txt").write_text("Words, words, words")
    (place.parent / "secret.txt").write_text("of another homework")
    for path in (place.parent, place):
        path.chmod(0o755)
    records = outcome_of(homework, folder, "sandbox")
    assert records["test_real"].status == "passed", records["test_real"].message
    notes = (homework.root / "tests" / "notes.jsonl").read_text()
    if os.geteuid() == 0:
        assert '["beside", "PermissionError"]' in notes
