"""The student release: the repository without what students must not see, and the proof of it."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from autograder.course.assignment import FILE_NAME, SOLUTION_FOLDER, Assignment, load_assignment
from autograder.course.leaks import Leak, Secrets, all_windows, style_of
from autograder.course.marks import solution_lines
from autograder.course.stubs import StubDrift, check_stubs, expected_stub
from autograder.course.tree import TreeError, project_files

MARKER = ".release.json"
STAFF_FOLDERS = {SOLUTION_FOLDER, "hidden", "mutants", "attacks", "staff"}
HARNESS = "autograder"

_TOP_FILES = {
    "README.md", "Makefile", "pyproject.toml", "requirements.lock", ".gitignore", "CHANGELOG.md",
    "SECURITY.md", "LICENSE", ".gitattributes", ".python-version",
}  # fmt: skip
_STAFF_PART = re.compile(
    r"^[# \t]*<!-- staff -->[ \t]*\n.*?^[# \t]*<!-- /staff -->[ \t]*(?:\n|\Z)",
    re.DOTALL | re.MULTILINE,
)
_STAFF_MARK = re.compile(r"^[# \t]*<!-- /?staff -->", re.MULTILINE)
_MAX_SHOWN = 30


class ReleaseError(Exception):
    """The release is refused; the message says why, for leaks with file and line."""


@dataclass
class ReleaseReport:
    """What a release holds: its folder, files, homeworks, and how much was proven about it."""

    out: Path
    files: list[str]
    homeworks: list[str]
    secret_windows: int = 0
    secret_lines: int = 0
    changed: list[str] = field(default_factory=list)


def finished_homeworks(root: Path) -> list[Assignment]:
    """The homeworks in `root` that are no drafts; raises AssignmentError."""
    found = [load_assignment(path.parent) for path in sorted(root.glob(f"*/{FILE_NAME}"))]
    return [homework for homework in found if not homework.draft]


def make_release(root: Path, out: Path) -> ReleaseReport:
    """Write the student repository of the course in `root` to `out`.

    `out` must be absent, empty, or an earlier release (then that release's files are replaced and
    nothing else is touched). It is built and proven beside `out` first, so that a refused release
    leaves nothing there. Raises ReleaseError.
    """
    root, out = Path(root).absolute(), Path(out).absolute()
    _check_target(root, out)
    homeworks = finished_homeworks(root)
    if not homeworks:
        raise ReleaseError(f"{root} holds no homework (a folder with {FILE_NAME})")
    for homework in homeworks:
        try:
            check_stubs(homework)
        except StubDrift as error:
            raise ReleaseError(f"stubs and solutions disagree:\n{error}") from None
    out.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        files = _copy(root, out, staging, homeworks)
        report = check_release(root, staging)
        report.changed = _install(staging, out, files)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    report.out = out
    return report


def check_release(root: Path, out: Path) -> ReleaseReport:
    """Prove that `out` gives away nothing of the course in `root`; raises ReleaseError."""
    root, out = Path(root).absolute(), Path(out).absolute()
    homeworks = finished_homeworks(root)
    released = [name for name in _files(out) if name != MARKER]
    staff = _staff_files(root)
    problems = _misplaced(root, out, released, staff)
    secrets = _secrets(root, homeworks, staff)
    leaks: list[Leak] = []
    for name in released:
        text = _text(out / name)
        if text is not None:
            leaks.extend(secrets.find(name, text))
    problems.extend(str(leak) for leak in leaks)
    if problems:
        more = len(problems) - _MAX_SHOWN
        shown = problems[:_MAX_SHOWN] + ([f"and {more} more"] if more > 0 else [])
        raise ReleaseError(
            "the release would give away what students must not see; reword the released file, "
            "or move the line out of the marks:\n" + "\n".join(shown)
        )
    return ReleaseReport(
        out=out,
        files=released,
        homeworks=[homework.name for homework in homeworks],
        secret_windows=sum(len(known) for known in secrets.windows.values()),
        secret_lines=sum(len(known) for known in secrets.lines.values()),
    )


def without_staff_parts(text: str, path: Path | str) -> str:
    """A text without what stands between `<!-- staff -->` and `<!-- /staff -->` lines."""
    rest = _STAFF_PART.sub("", text)
    left = _STAFF_MARK.search(rest)
    if left:
        line = rest.count("\n", 0, left.start()) + 1
        raise ReleaseError(
            f"{path}: <!-- staff --> and <!-- /staff --> do not pair (near line {line} of what "
            "students see); each needs a line of its own"
        )
    return rest


def is_released(name: str, homeworks: list[str]) -> bool:
    """Whether a file of the project, by its relative name, belongs into the release."""
    parts = name.split("/")
    if len(parts) == 1:
        return name in _TOP_FILES
    if any(part in STAFF_FOLDERS for part in parts[:-1]):
        return False
    if parts[0] in (HARNESS, "scripts"):
        return True
    hidden = any(part.startswith(".") for part in parts)
    return parts[0] in homeworks and not hidden and not name.endswith(".zip")


def _check_target(root: Path, out: Path) -> None:
    if out == root or out in root.parents:
        raise ReleaseError(f"{out} holds the course itself; name another folder")
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise ReleaseError(f"{out} is not a folder; name another one")
    if out.is_dir() and any(out.iterdir()) and not (out / MARKER).is_file():
        raise ReleaseError(
            f"{out} is neither empty nor an earlier release; name another folder (nothing was "
            "changed)"
        )


def _copy(root: Path, out: Path, staging: Path, homeworks: list[Assignment]) -> list[str]:
    """Copy the released files into `staging`; returns their names."""
    names = [homework.name for homework in homeworks]
    inside = out.relative_to(root).as_posix() + "/" if out.is_relative_to(root) else None
    skip = f"{staging.relative_to(root).as_posix()}/" if staging.is_relative_to(root) else None

    def keep(name: str) -> bool:
        own = any(folder and name.startswith(folder) for folder in (inside, skip))
        return not own and is_released(name, names)

    files = _files(root, keep)
    stubs = {f"{h.name}/{file}": expected_stub(h, file) for h in homeworks for file in h.files}
    for name in sorted({*files, *stubs}):
        target = staging / name
        target.parent.mkdir(parents=True, exist_ok=True)
        content = stubs[name].encode() if name in stubs else (root / name).read_bytes()
        if name.endswith(".md") or name == "Makefile":
            content = without_staff_parts(content.decode("utf-8"), root / name).encode()
        target.write_bytes(content)
        runnable = (root / name).stat().st_mode & 0o100
        target.chmod(0o755 if runnable else 0o644)
    return sorted({*files, *stubs})


def _files(root: Path, keep: Callable[[str], bool] = lambda name: True) -> list[str]:
    try:
        return project_files(root, keep)
    except TreeError as error:
        raise ReleaseError(str(error)) from None


def _install(staging: Path, out: Path, files: list[str]) -> list[str]:
    """Move the proven files to `out`; returns the names of those that differ from before."""
    changed = []
    for name in _previous_files(out):
        if name not in files and (out / name).is_file():
            (out / name).unlink()
            changed.append(name)
            _remove_empty_folders(out, (out / name).parent)
    out.mkdir(exist_ok=True)
    for name in files:
        source, target = staging / name, out / name
        if not (target.is_file() and target.read_bytes() == source.read_bytes()):
            changed.append(name)
        target.parent.mkdir(parents=True, exist_ok=True)
        source.replace(target)
    marker = {"release": 1, "files": files}
    (out / MARKER).write_text(json.dumps(marker, indent=1) + "\n", encoding="utf-8")
    return sorted(changed)


def _previous_files(out: Path) -> list[str]:
    """What an earlier release wrote; names that could lead elsewhere are not believed."""
    marker = out / MARKER
    if not marker.is_file():
        return []
    try:
        names = json.loads(marker.read_text(encoding="utf-8"))["files"]
        paths = [Path(name) for name in names]
    except (OSError, ValueError, KeyError, TypeError):
        raise ReleaseError(
            f"{marker} is damaged; empty {out} by hand, or name another folder"
        ) from None
    safe = []
    for name, path in zip(names, paths, strict=True):
        parents = [out / parent for parent in path.parents]
        if path.is_absolute() or ".." in path.parts or ".git" in path.parts:
            continue
        if not any(parent.is_symlink() for parent in parents):
            safe.append(name)
    return safe


def _remove_empty_folders(out: Path, folder: Path) -> None:
    while folder != out and not any(folder.iterdir()):
        folder.rmdir()
        folder = folder.parent


def _staff_files(root: Path) -> list[str]:
    """Files of the course that lie in a staff folder of a homework or of the harness's tests."""
    return [
        name
        for name in _files(root, lambda name: not name.startswith(f"{HARNESS}/"))
        if any(part in STAFF_FOLDERS for part in name.split("/")[:-1])
    ]


def _misplaced(root: Path, out: Path, released: list[str], staff: list[str]) -> list[str]:
    """Released files that lie in a staff folder, or are copies of a staff file."""
    contents = {(root / name).read_bytes(): name for name in staff}
    problems = []
    for name in released:
        folders = name.split("/")[:-1]
        if any(part in STAFF_FOLDERS for part in folders):
            problems.append(f"{name}:1: lies in a staff folder")
            continue
        content = (out / name).read_bytes()
        if content.strip() and content in contents:
            problems.append(f"{name}:1: is a copy of {contents[content]}")
    return problems


def _secrets(root: Path, homeworks: list[Assignment], staff: list[str]) -> Secrets:
    secrets = Secrets()
    given, public = [], []
    for homework in homeworks:
        for file in homework.files:
            _add_marked(secrets, root, homework, file)
            given.append(expected_stub(homework, file))
        editable = {f"{homework.name}/{file}" for file in homework.files}
        for name in _files(root, lambda name, own=homework.name: name.startswith(f"{own}/")):
            inside = name.split("/")[1]
            text = _text(root / name) if name not in editable else None
            if text is not None and inside == homework.package:
                given.append(text)
            elif text is not None and inside not in STAFF_FOLDERS:
                public.append(text)
    harness = _files(root, lambda name: name.startswith(f"{HARNESS}/"))
    given.extend(text for name in harness if (text := _text(root / name)) is not None)
    secrets.forget_lines(given)
    known = all_windows([*given, *public])
    for name in staff:
        if SOLUTION_FOLDER in name.split("/"):
            continue
        text = _text(root / name)
        if text is not None:
            secrets.add_staff_file(name, text, known)
    return secrets


def _add_marked(secrets: Secrets, root: Path, homework: Assignment, file: str) -> None:
    """Every marked region of one solution; lines of two regions are never consecutive."""
    path = homework.solution_path(file)
    origin = path.relative_to(root).as_posix()
    for lines in solution_lines(path.read_text(encoding="utf-8"), path).values():
        run: list[tuple[int, str]] = []
        for number, line in [*lines, (-1, "")]:
            if run and number != run[-1][0] + 1:
                text = "\n".join(line for _, line in run)
                secrets.add_solution(origin, text, run[0][0], style_of(file))
                run = []
            run.append((number, line))


def _text(path: Path) -> str | None:
    """The text of a file, or None for a picture or the like."""
    try:
        return path.read_bytes().decode("utf-8").replace("\r\n", "\n")
    except UnicodeDecodeError:
        return None
