"""The rules of the house that a program can check: sizes, directions of imports, clean texts."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MAX_FILE, MAX_FUNCTION = 400, 60
# path or path::function -> why it may be longer
EXCEPTIONS: dict[str, str] = {}
# A room may import those that stand after it.
ROOMS = ["cli", "batch", "reporting", "testing", "sandbox", "course"]


def project_files(*patterns: str) -> list[Path]:
    """Files of the project that match, caches and environments left out."""
    found = [path for pattern in patterns for path in ROOT.rglob(pattern)]
    outside = {".venv", ".git", "__pycache__", "results", "release", "build"}
    return [path for path in found if not outside & set(path.relative_to(ROOT).parts)]


PYTHON = sorted(project_files("*.py"))


@pytest.mark.parametrize("path", PYTHON, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_functions_stay_within_their_budgets(path):
    """A file has at most 400 lines, a function at most 60."""
    text = path.read_text(encoding="utf-8")
    name = str(path.relative_to(ROOT))
    assert len(text.splitlines()) <= MAX_FILE or name in EXCEPTIONS, f"{name} is too long"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            length = (node.end_lineno or 0) - node.lineno + 1
            where = f"{name}:{node.lineno}: {node.name} has {length} lines"
            assert length <= MAX_FUNCTION or f"{name}::{node.name}" in EXCEPTIONS, where


def room_of(module: str) -> str:
    """The room of `autograder.room.module`; the command files belong to cli."""
    part = (module.split(".") + [""])[1]
    return "cli" if part in ("cli", "__main__") or part.startswith("commands_") else part


@pytest.mark.parametrize(
    "path", sorted((ROOT / "autograder").rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT))
)
def test_imports_run_one_way(path):
    """cli → batch → reporting → testing → sandbox → course, never back."""
    module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    own = room_of(module)
    if own not in ROOMS:
        return
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module] + [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for name in names:
            if name.startswith("autograder.") and room_of(name) in ROOMS:
                assert ROOMS.index(room_of(name)) >= ROOMS.index(own), (
                    f"{path.relative_to(ROOT)}:{node.lineno}: {own} imports {room_of(name)}"
                )


IMPORT = re.compile(r"^\s*(?:from|import) (\w+)(\.\w+)?(?: import (\w+))?", re.M)


def test_the_kernels_room_stands_alone():
    """autograder.kernels imports nothing of the harness but itself."""
    for path in (ROOT / "autograder" / "kernels").rglob("*.py"):
        for name, dotted, imported in IMPORT.findall(path.read_text()):
            if name == "autograder":
                assert (dotted.removeprefix(".") or imported) == "kernels", path


def test_a_homework_imports_only_its_own_package_and_rooms_made_for_it():
    """No homework imports another; of the harness it sees the testing and kernels rooms alone."""
    packages = {"autodiff", "cuda_kernels", "language_model", "distributed_training", "serving"}
    for path in project_files("hw*/**/*.py"):
        if path.relative_to(ROOT).parts[0] == "tests":
            continue  # the staff's tests of a homework
        own = next(p for p in packages if (ROOT / path.relative_to(ROOT).parts[0] / p).is_dir())
        for name, dotted, imported in IMPORT.findall(path.read_text()):
            assert name not in packages - {own}, f"{path} imports {name}"
            if name == "autograder":
                room = dotted.removeprefix(".") or imported
                assert room in ("testing", "kernels"), f"{path} imports autograder.{room}"


@pytest.mark.parametrize(
    "path", sorted(project_files("hw*/tests/*.py", "hw*/hidden/*.py")), ids=lambda p: p.name
)
def test_every_assertion_of_a_homework_has_a_message(path):
    """Students see the message alone: pytest's rewriting of assertions is off for them."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Assert):
            assert node.msg is not None, f"{path.relative_to(ROOT)}:{node.lineno} says nothing"


def test_texts_name_no_machine():
    """No path of a person's machine and no registry's host stands in a committed file."""
    done = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    hosts = ["py" + "pi.org", "python" + "hosted", "registry." + "npmjs", "." + "pyenv"]
    for name in done.stdout.split():
        path = ROOT / name
        if path.suffix in (".py", ".md", ".sh", ".toml", ".lock", ".j2", "") and path.is_file():
            text = path.read_text(encoding="utf-8", errors="replace")
            for mark in hosts:
                assert mark not in text, f"{name} names {mark}"
