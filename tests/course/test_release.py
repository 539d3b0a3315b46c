"""The student release: complete, without staff files, and proven so."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from autograder.course.release import (
    MARKER,
    ReleaseError,
    check_release,
    make_release,
    without_staff_parts,
)
from tests.course.samples import ADD, HIDDEN, PUBLIC, make_course, write

RELEASED = [
    ".gitignore", "CHANGELOG.md", "Makefile", "README.md", "autograder/__init__.py",
    "autograder/course/marks.py", "hw9_tiny/README.md", "hw9_tiny/assignment.toml",
    "hw9_tiny/figures/plot.png", "hw9_tiny/tests/drivers.py", "hw9_tiny/tests/test_9_1_add.py",
    "hw9_tiny/tiny/__init__.py", "hw9_tiny/tiny/add.py", "hw9_tiny/tiny/nested/__init__.py",
    "hw9_tiny/tiny/nested/scale.py", "pyproject.toml", "requirements.lock",
]  # fmt: skip


def _files(out: Path) -> list[str]:
    return sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())


def _git(root: Path, *arguments: str) -> None:
    command = ["git", "-C", str(root), "-c", "user.name=n", "-c", "user.email=e@example.org"]
    subprocess.run([*command, *arguments], check=True, capture_output=True)


@pytest.mark.parametrize("checkout", [False, True])
def test_a_release_holds_what_a_student_needs_and_nothing_else(
    tmp_path: Path, checkout: bool
) -> None:
    root, out = tmp_path / "course", tmp_path / "out"
    make_course(root)
    if checkout:
        _git(tmp_path, "init", "-q", str(root))
        write(root / "hw9_tiny/bundle.zip", b"PK")
        write(root / "hw9_tiny/tiny/__pycache__/add.pyc", b"\0")
    report = make_release(root, out)
    assert report.files == RELEASED and report.homeworks == ["hw9_tiny"]
    assert _files(out) == sorted([*RELEASED, MARKER])
    assert report.secret_windows > 0 and report.secret_lines > 0
    assert "NotImplementedError" in (out / "hw9_tiny/tiny/add.py").read_text()
    readme = (out / "README.md").read_text()
    assert readme == "# A course\n\nFor everyone.\nMore for everyone.\n"
    assert not [path for path in tmp_path.iterdir() if path not in (root, out)], "no leftovers"


def _leak(tmp_path: Path, name: str, text: str) -> str:
    root, out = tmp_path / "course", tmp_path / "out"
    if not root.exists():
        make_course(root)
    path = root / name
    before = path.read_text() if path.exists() else ""
    write(path, before + text)
    with pytest.raises(ReleaseError) as caught:
        make_release(root, out)
    assert not out.exists(), "nothing is left of a refused release"
    return str(caught.value)


LEAKS = {
    "three lines in the handout": (
        "hw9_tiny/README.md",
        "```python\nfor place in range(shortest):\n  total[place]=left[place]+right[place]  # !\n\n"
        "      return total\n```\n",
        "hw9_tiny/README.md:5: repeats hw9_tiny/solution/tiny/add.py:9",
    ),
    "one long line in a test": (
        "hw9_tiny/tests/test_9_1_add.py",
        "    # as below\n    shortest = min( len(left),len(right) )\n",
        "test_9_1_add.py:5: repeats hw9_tiny/solution/tiny/add.py:7",
    ),
    "three lines in the harness": (
        "autograder/tools.py",
        "for place in range(shortest):\n    total[place] = left[place] + right[place]\n"
        "return total\n",
        "autograder/tools.py:1: repeats",
    ),
    "three lines in given code": (
        "hw9_tiny/tiny/__init__.py",
        "def f(shortest):\n    for place in range(shortest):\n"
        "        total[place] = left[place] + right[place]\n    return total\n",
        "__init__.py:3: repeats",
    ),
    "a hidden test's lines": (
        "hw9_tiny/tests/drivers.py",
        "\n".join(HIDDEN.split("\n")[2:5]) + "\n",
        "drivers.py:3: repeats hw9_tiny/hidden/test_9_1_add.py:3",
    ),
    "a mutant's lines": (
        "hw9_tiny/README.md",
        "shortest = max(len(left), len(right))\nif shortest > 7:\n    shortest = 7\n",
        "README.md:4: repeats hw9_tiny/mutants/add_longest.patch:2",
    ),
    "a copy of an attack": (
        "hw9_tiny/tests/exit.py",
        "import os\nos._exit(0)\n",
        "exit.py:1: is a copy of tests/attacks/exit_zero.py",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", LEAKS)
def test_a_leak_is_refused_with_its_place_and_origin(tmp_path: Path, case: str) -> None:
    name, text, what = LEAKS[case]
    if case.startswith("a hidden"):
        make_course(tmp_path / "course")
        write(tmp_path / "course/hw9_tiny/tests/drivers.py", "import tiny\n\n")
    # hidden and mutant lines are secret only where no public file has them: leak into the release
    if case.startswith(("a hidden", "a mutant")):
        message = _leak_after(tmp_path, name, text)
    else:
        message = _leak(tmp_path, name, text)
    assert what in message, message


def _leak_after(tmp_path: Path, name: str, text: str) -> str:
    root, out = tmp_path / "course", tmp_path / "out"
    if not root.exists():
        make_course(root)
    make_release(root, out)
    write(out / name, (out / name).read_text() + text)
    with pytest.raises(ReleaseError) as caught:
        check_release(root, out)
    return str(caught.value)


def test_lines_that_given_code_has_are_no_leak(tmp_path: Path) -> None:
    """`scale` repeats a line of `checked`, which students are given: quoting it is allowed."""
    root = tmp_path / "course"
    make_course(root)
    line = "    if not values or any(value != value for value in values):\n"
    write(root / "hw9_tiny/README.md", line)
    make_release(root, tmp_path / "out")


def test_idioms_that_hidden_and_public_tests_share_are_no_leak(tmp_path: Path) -> None:
    root = tmp_path / "course"
    make_course(root)
    write(root / "hw9_tiny/hidden/test_9_1_more.py", PUBLIC + "\n# more\n")
    make_release(root, tmp_path / "out")


def test_a_staff_folder_in_a_release_is_refused(tmp_path: Path) -> None:
    root, out = tmp_path / "course", tmp_path / "out"
    make_course(root)
    make_release(root, out)
    check_release(root, out)
    write(out / "hw9_tiny/hidden/notes.txt", "x\n")
    write(out / "hw9_tiny/tiny/copy.py", ADD)
    with pytest.raises(ReleaseError) as caught:
        check_release(root, out)
    assert "hw9_tiny/hidden/notes.txt:1: lies in a staff folder" in str(caught.value)
    assert "copy.py:1: is a copy of hw9_tiny/solution/tiny/add.py" in str(caught.value)


def test_stubs_out_of_step_are_refused(tmp_path: Path) -> None:
    root = tmp_path / "course"
    assignment = make_course(root)
    write(assignment.root / "tiny/add.py", ADD)
    with pytest.raises(ReleaseError, match="run make stubs"):
        make_release(root, tmp_path / "out")


def test_a_draft_is_not_released(tmp_path: Path) -> None:
    root, out = tmp_path / "course", tmp_path / "out"
    make_course(root)
    draft = make_course(root, "hw8_draft")
    toml = draft.root / "assignment.toml"
    toml.write_text(toml.read_text().replace("imports =", "draft = true\nimports ="))
    assert make_release(root, out).homeworks == ["hw9_tiny"]
    assert not (out / "hw8_draft").exists()


def test_releasing_again_replaces_its_own_files_only(tmp_path: Path) -> None:
    root, out = tmp_path / "course", tmp_path / "out"
    make_course(root)
    write(root / "hw9_tiny/figures/old.svg", "<svg/>\n")
    make_release(root, out)
    _git(tmp_path, "init", "-q", str(out))
    write(out / "notes.txt", "mine\n")
    (root / "hw9_tiny/figures/old.svg").unlink()
    write(root / "CHANGELOG.md", "# Changes\n\nNew.\n")
    report = make_release(root, out)
    assert report.changed == ["CHANGELOG.md", "hw9_tiny/figures/old.svg"]
    assert not (out / "hw9_tiny/figures/old.svg").exists()
    assert (out / "notes.txt").read_text() == "mine\n"
    assert (out / ".git/HEAD").is_file()
    assert make_release(root, out).changed == []


def test_a_folder_that_is_no_release_is_left_alone(tmp_path: Path) -> None:
    root, out = tmp_path / "course", tmp_path / "out"
    make_course(root)
    write(out / "thesis.tex", "years of work\n")
    with pytest.raises(ReleaseError, match="neither empty nor"):
        make_release(root, out)
    assert _files(out) == ["thesis.tex"]
    for target in (root, tmp_path):
        with pytest.raises(ReleaseError, match="holds the course"):
            make_release(root, target)


def test_a_forged_marker_deletes_nothing_outside(tmp_path: Path) -> None:
    root, out = tmp_path / "course", tmp_path / "out"
    make_course(root)
    victim = write(tmp_path / "victim.txt", "x")
    (out / "link").mkdir(parents=True)
    (out / "link").rmdir()
    (out / "link").symlink_to(tmp_path)
    names = ["../victim.txt", str(victim), "link/victim.txt", ".git/HEAD"]
    write(out / MARKER, json.dumps({"release": 1, "files": names}))
    write(out / ".git/HEAD", "ref\n")
    make_release(root, out)
    assert victim.exists() and (out / ".git/HEAD").exists()
    write(out / MARKER, "{")
    with pytest.raises(ReleaseError, match="damaged"):
        make_release(root, out)


def test_a_release_inside_the_course_does_not_swallow_itself(tmp_path: Path) -> None:
    root = tmp_path / "course"
    make_course(root)
    _git(tmp_path, "init", "-q", str(root))
    out = root / "hw9_tiny/figures/out"
    assert make_release(root, out).files == RELEASED
    assert make_release(root, out).files == RELEASED


@pytest.mark.parametrize(
    "text",
    ["a\n<!-- staff -->\nb\n", "<!-- /staff -->\n", "<!-- staff -->\n<!-- staff -->\n"
     "<!-- /staff -->\n<!-- /staff -->\n"],
)  # fmt: skip
def test_staff_parts_that_do_not_pair_are_refused(text: str) -> None:
    with pytest.raises(ReleaseError, match="do not pair"):
        without_staff_parts(text, "README.md")


def test_links_in_the_course_are_refused(tmp_path: Path) -> None:
    root = tmp_path / "course"
    make_course(root)
    (root / "hw9_tiny/tests/link.py").symlink_to("../hidden/test_9_1_add.py")
    with pytest.raises(ReleaseError, match="link"):
        make_release(root, tmp_path / "out")
