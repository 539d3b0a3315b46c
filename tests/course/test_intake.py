"""What is taken from a submission."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from autograder.course.assignment import Assignment
from autograder.course.intake import SubmissionError, clean_text, read_submission
from tests.course.intake_samples import (  # noqa: F401  homework is a fixture
    ADD,
    BOTH,
    SCALE,
    both_ways,
    folder_of,
    homework,
    refusal,
)
from tests.course.samples import make_zip, make_zip_with_mode, write

WRAPPERS = ["", "my_work/", "hw9_tiny/", "solution/", "hw9_tiny/solution/", "main/hw9_tiny/"]


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_wrapping_folders_are_seen_through(
    tmp_path: Path, homework: Assignment, wrapper: str
) -> None:
    files = {wrapper + name: content for name, content in BOTH.items()}
    for submission in both_ways(tmp_path, files, homework):
        assert submission.files == BOTH


@pytest.mark.parametrize("wrapper", ["", "my_work/", "hw9_tiny/", "tiny_copy/"])
def test_files_without_the_package_folder_are_taken(
    tmp_path: Path, homework: Assignment, wrapper: str
) -> None:
    files = {wrapper + "add.py": ADD, wrapper + "nested/scale.py": SCALE}
    for submission in both_ways(tmp_path, files, homework):
        assert submission.files == BOTH
        assert any("as tiny/add.py" in note for note in submission.notes)


def test_one_loose_file_joins_the_package_beside_it(tmp_path: Path, homework: Assignment) -> None:
    folder = folder_of(tmp_path / "s", {"add.py": ADD, "tiny/nested/scale.py": SCALE})
    assert read_submission(folder, homework).files == BOTH


def test_the_students_copy_wins_over_a_solution_folder_beside_it(
    tmp_path: Path, homework: Assignment
) -> None:
    files = {**BOTH, "solution/tiny/add.py": b"other\n", "old/tiny/add.py": b"old\n"}
    assert read_submission(folder_of(tmp_path / "s", files), homework).files == BOTH


@pytest.mark.parametrize("wrapper", ["aa", "zz"])
def test_a_students_copy_in_any_folder_wins_over_a_solution_folder(
    tmp_path: Path, homework: Assignment, wrapper: str
) -> None:
    files = {f"{wrapper}/tiny/add.py": ADD, "solution/tiny/add.py": b"other\n"}
    assert read_submission(folder_of(tmp_path / "s", files), homework).files == {"tiny/add.py": ADD}


FOREIGN = ["a/b/tiny/add.py", "a/b/add.py", "hw7_else/add.py", "engine/add.py", "bigger/add.py"]


@pytest.mark.parametrize("name", FOREIGN)
def test_a_file_of_the_right_name_elsewhere_is_not_taken(
    tmp_path: Path, homework: Assignment, name: str
) -> None:
    files = {name: ADD, "engine/__init__.py": b""}
    assert "none of this homework's files" in refusal(folder_of(tmp_path / "s", files), homework)


def test_two_equal_candidates_are_refused(tmp_path: Path, homework: Assignment) -> None:
    folder = folder_of(tmp_path / "s", {"v1/tiny/add.py": ADD, "v2/tiny/add.py": ADD})
    assert "v1/ and in v2/" in refusal(folder, homework)


def test_leftovers_of_other_systems_are_passed_over(tmp_path: Path, homework: Assignment) -> None:
    leftovers = {
        "__MACOSX/tiny/._add.py": b"\0\5", "tiny/._add.py": b"\0\5", ".DS_Store": b"\0",
        "tiny/Thumbs.db": b"\0", "desktop.ini": b"x", ".git/config": b"x",
        "tiny/__pycache__/add.cpython-311.pyc": b"\0",
    }  # fmt: skip
    for submission in both_ways(tmp_path, {**BOTH, **leftovers}, homework)[:2]:
        assert submission.files == BOTH
        assert submission.notes == ["ignored tiny/__pycache__: a cache"]


def test_backslash_names_crlf_and_byte_order_marks_are_read(
    tmp_path: Path, homework: Assignment
) -> None:
    text = b"\xef\xbb\xbf" + ADD.replace(b"\n", b"\r\n")
    path = make_zip(tmp_path / "w.zip", {"tiny\\add.py": text, "tiny\\nested\\scale.py": SCALE})
    assert read_submission(path, homework).files == BOTH


OTHERS = ["conftest.py", "tiny/conftest.py", "pytest.ini", "pyproject.toml", "sitecustomize.py",
          "x.pth", "tiny/add.cpython-311-x86_64-linux-gnu.so", "random.py",
          "hidden/test_9_1_add.py", "tests/test_9_1_mine.py"]  # fmt: skip


@pytest.mark.parametrize("other", OTHERS)
def test_files_off_the_list_are_left_behind_and_named(
    tmp_path: Path, homework: Assignment, other: str
) -> None:
    for submission in both_ways(tmp_path, {**BOTH, other: b"boom\n"}, homework)[:2]:
        assert submission.files == BOTH
        assert submission.notes == [f"ignored {other}: not one of the files this homework takes"]


@pytest.mark.parametrize("given", ["tiny/__init__.py", "tests/test_9_1_add.py"])
def test_files_of_the_course_are_left_behind_in_a_word(
    tmp_path: Path, homework: Assignment, given: str
) -> None:
    for submission in both_ways(tmp_path, {**BOTH, given: b"boom\n"}, homework)[:2]:
        assert submission.files == BOTH
        assert submission.notes == ["ignored 1 files of the course itself: they are given"]


def test_a_package_zipped_from_the_inside_is_read(tmp_path: Path, homework: Assignment) -> None:
    files = {"__init__.py": b"", "add.py": ADD, "nested/scale.py": SCALE}
    for submission in both_ways(tmp_path, files, homework)[:2]:
        assert submission.files == BOTH


def test_many_other_files_are_summed_up(tmp_path: Path, homework: Assignment) -> None:
    files = {**BOTH, **{f"data/{n}.txt": b"x" for n in range(50)}}
    notes = read_submission(folder_of(tmp_path / "s", files), homework).notes
    assert len(notes) == 21 and notes[-1] == "ignored 30 more"


def test_a_missing_file_is_named_with_the_place_looked_at(
    tmp_path: Path, homework: Assignment
) -> None:
    folder = folder_of(tmp_path / "s", {"w/tiny/add.py": ADD, "w/Tiny/nested/Scale.py": SCALE})
    submission = read_submission(folder, homework)
    assert submission.files == {"tiny/add.py": ADD}
    (note,) = [note for note in submission.notes if "missing" in note]
    assert "tiny/nested/scale.py is missing (looked for w/tiny/nested/scale.py)" in note
    assert "rename w/Tiny/nested/Scale.py" in note


def test_nothing_of_the_homework_lists_expected_and_found(
    tmp_path: Path, homework: Assignment
) -> None:
    files = {f"notes/{n:02}.txt": b"x" for n in range(30)}
    message = refusal(folder_of(tmp_path / "s", files), homework)
    assert "Expected: tiny/add.py, tiny/nested/scale.py." in message
    assert "Found: notes/00.txt" in message and "and 10 more" in message
    assert "make submit HW=hw9_tiny" in message


@pytest.mark.parametrize("name", ["hw8_other/x.py", "bigger/add.py", "w/bigger/add.py"])
def test_the_wrong_homework_is_recognised(tmp_path: Path, homework: Assignment, name: str) -> None:
    message = refusal(folder_of(tmp_path / "s", {name: ADD}), homework)
    assert "looks like hw8_other, and hw9_tiny is being graded" in message


def test_empty_and_broken_zips_and_missing_paths_get_a_sentence(
    tmp_path: Path, homework: Assignment
) -> None:
    assert "empty" in refusal(make_zip(tmp_path / "a.zip", {}), homework)
    assert "0 bytes" in refusal(write(tmp_path / "b.zip", b""), homework)
    assert "not a zip" in refusal(write(tmp_path / "c.zip", b"PK\3\4 garbage"), homework)
    whole = make_zip(tmp_path / "d.zip", dict(BOTH)).read_bytes()
    for cut in range(1, len(whole), 17):
        refusal(write(tmp_path / "e.zip", whole[:cut]), homework)
    assert "cannot be opened" in refusal(tmp_path / "nowhere", homework)
    (tmp_path / "empty").mkdir()
    assert "empty" in refusal(tmp_path / "empty", homework)


ESCAPES = ["../tiny/add.py", "tiny/../../add.py", "/tiny/add.py", "C:\\tiny\\add.py", "c:tiny.py",
           "\\\\server\\add.py", "tiny\\..\\..\\add.py", "tiny/add.py\0.txt"]  # fmt: skip


@pytest.mark.parametrize("name", ESCAPES)
def test_names_that_lead_out_are_refused(tmp_path: Path, homework: Assignment, name: str) -> None:
    path = make_zip(tmp_path / "w.zip", {**BOTH, name.replace("\0", "@"): b"x"})
    if "\0" in name:
        path.write_bytes(path.read_bytes().replace(b"add.py@", b"add.py\0"))
    assert "points outside" in refusal(path, homework)


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFBLK])
def test_special_files_in_a_zip_are_refused(
    tmp_path: Path, homework: Assignment, kind: int
) -> None:
    path = make_zip_with_mode(tmp_path / "w.zip", "tiny/add.py", "/etc/passwd", kind | 0o777)
    assert "link or a special file" in refusal(path, homework)


def test_modes_of_a_zip_count_for_nothing(tmp_path: Path, homework: Assignment) -> None:
    path = make_zip_with_mode(tmp_path / "w.zip", "tiny/add.py", "x = 1\n", 0o106777)
    assert read_submission(path, homework).files == {"tiny/add.py": b"x = 1\n"}


TEXTS = {
    "utf-16": ("x = 1\n".encode("utf-16"), "UTF-16"),
    "utf-16, not Western": ("# 名前名前名前名前名前".encode("utf-16"), "UTF-16"),
    "utf-16 without a mark": ("x = 1\n".encode("utf-16-le"), "UTF-16"),
    "latin-1": (b"a = 1\n# caf\xe9\n", "line 2: not UTF-8 (byte 0xe9)"),
    "nul": (b"a = 1\nb = '\0'\n", "line 2: holds a NUL"),
    "binary": (bytes(range(256)), "tiny/add.py"),
}


@pytest.mark.parametrize("case", TEXTS)
def test_files_that_are_no_utf8_text_are_refused_by_name(
    tmp_path: Path, homework: Assignment, case: str
) -> None:
    content, what = TEXTS[case]
    message = refusal(make_zip(tmp_path / "a.zip", {"tiny/add.py": content}), homework)
    assert "tiny/add.py" in message and what in message


def test_names_are_shown_without_control_characters(tmp_path: Path, homework: Assignment) -> None:
    name = "\x1b[31mred\u202e<b>.txt"
    for submission in both_ways(tmp_path, {**BOTH, name: b"x"}, homework)[:2]:
        assert all(note.isprintable() for note in submission.notes)
        assert any("red" in note for note in submission.notes)


def test_a_syntax_error_is_no_reason_to_refuse(tmp_path: Path, homework: Assignment) -> None:
    path = make_zip(tmp_path / "a.zip", {"tiny/add.py": "def f(:\n"})
    assert read_submission(path, homework).files == {"tiny/add.py": b"def f(:\n"}


_parts = st.sampled_from(
    ["tiny", "nested", "add.py", "scale.py", "..", ".", "", "C:", "hw9_tiny", "solution", "a\\b",
     "..\\x", "__MACOSX", "CON", "\x00", "ü", "add.py ", "x" * 300]
)  # fmt: skip


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(names=st.lists(st.lists(_parts, min_size=1, max_size=5).map("/".join), max_size=6))
def test_any_names_give_listed_files_or_a_sentence(
    tmp_path: Path, homework: Assignment, names: list[str]
) -> None:
    path = make_zip(tmp_path / "any.zip", dict.fromkeys(names, ADD))
    try:
        submission = read_submission(path, homework)
    except SubmissionError as error:
        assert str(error).isprintable()
    else:
        assert submission.files and set(submission.files) <= set(homework.files)
        assert set(submission.files.values()) == {ADD}


@settings(max_examples=150, deadline=None)
@example(data=b"x\r\r\n")
@given(data=st.one_of(st.binary(), st.text().map(lambda text: text.encode("utf-16"))))
def test_cleaned_text_is_utf8_without_carriage_returns_at_line_ends(data: bytes) -> None:
    try:
        text = clean_text("x.py", data)
    except SubmissionError:
        return
    text.decode("utf-8")
    assert b"\r\n" not in text and b"\0" not in text
