"""From what a student handed in to the files that are graded.

A submission is a folder or a zip, perhaps in a wrapping folder, perhaps made on macOS or Windows.
Only the files that the homework lets a student edit are taken; everything else stays behind and
is named in the notes. Nothing is imported or run.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from autograder.course.assignment import FILE_NAME, SOLUTION_FOLDER, Assignment
from autograder.course.unpack import (
    Entry,
    Listing,
    SubmissionError,
    list_zip,
    open_listing,
    shown,
)

__all__ = ["Submission", "SubmissionError", "clean_text", "read_submission"]

_MAX_NOTES = 20
_HOMEWORK = re.compile(r"hw\d+_\w+")
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_UTF8_MARK = b"\xef\xbb\xbf"


@dataclass
class Submission:
    """The editable files that were handed in, and what the student should know about the rest.

    `files`: name as in assignment.toml -> UTF-8 text without a byte-order mark, lines ending in
    LF. `notes`: sentences, safe to print.
    """

    files: dict[str, bytes]
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Place:
    """Where a homework's files lie: below `prefix`, with or without the package's folder."""

    prefix: tuple[str, ...]
    flat: bool

    def path_of(self, file: str) -> tuple[str, ...]:
        """The path of an editable file inside the submission."""
        parts = tuple(file.split("/"))
        return self.prefix + (parts[1:] if self.flat else parts)


def read_submission(path: Path, assignment: Assignment) -> Submission:
    """Read the folder or zip at `path`.

    A missing file is no error: it is noted, and the overlay keeps the stub in its place. Raises
    SubmissionError, a sentence for the student, where nothing can be graded or where the
    submission holds what no honest one holds: links, paths that lead out of it, bombs.
    """
    with open_listing(Path(path)) as listing:
        place = _place(listing.entries, assignment)
        notes: list[str] = []
        inner = _only_zip(listing) if place is None else None
        if inner is not None:
            notes.append(f"read {shown(inner.name)}, the zip inside the submission")
            listing = list_zip(inner.read(), shown(inner.name))
            place = _place(listing.entries, assignment)
        if place is None:
            raise SubmissionError(_nothing_found(listing, assignment))
        return _take(listing, place, assignment, notes)


def own_files(assignment: Assignment) -> Submission:
    """The editable files as they are in the homework's folder: a student's own working copy."""
    files, notes = {}, []
    for file in assignment.files:
        path = assignment.stub_path(file)
        try:
            files[file] = clean_text(file, path.read_bytes())
        except OSError as error:
            notes.append(f"{path} can't be read ({error.strerror}); bring the file back")
    return Submission(files, notes)


def clean_text(name: str, data: bytes) -> bytes:
    """The file as UTF-8 with LF line ends; raises SubmissionError for what is not UTF-8 text."""
    if data.startswith(_UTF16) or _looks_like_utf16(data):
        raise SubmissionError(
            f"{name} is saved as UTF-16; open it in your editor and save it as UTF-8"
        )
    if b"\0" in data:
        line = data[: data.index(b"\0")].count(b"\n") + 1
        raise SubmissionError(
            f"{name}, line {line}: holds a NUL byte, so it is no source file; save it again as text"
        )
    data = re.sub(rb"\r+\n", b"\n", data.removeprefix(_UTF8_MARK))
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise SubmissionError(
            f"{name}, line {line}: not UTF-8 (byte {data[error.start]:#04x}); save the file as "
            "UTF-8, or retype that character"
        ) from None
    return data


def _looks_like_utf16(data: bytes) -> bool:
    """Without a mark: every other byte of Western text in UTF-16 is NUL."""
    head = data[:200]
    nuls = max(head[0::2].count(0), head[1::2].count(0))
    return len(head) >= 4 and nuls > len(head) // 4


def _place(entries: list[Entry], assignment: Assignment) -> _Place | None:
    """Where the homework's files lie; the package's own folder wins over loose files."""
    paths = {entry.parts for entry in entries}
    for flat in (False, True):
        found: set[tuple[str, ...]] = set()
        for file in assignment.files:
            tail = _Place((), flat).path_of(file)
            found.update(path[: -len(tail)] for path in paths if path[-len(tail) :] == tail)
        places = [_Place(prefix, flat) for prefix in found if _is_wrapper(prefix, assignment)]
        if flat:
            places = [place for place in places if not _is_foreign(place, paths, assignment)]
        if places:
            return _best(places, assignment)
    return None


def _is_wrapper(prefix: tuple[str, ...], assignment: Assignment) -> bool:
    """At most: one folder of any name, then the homework's, then solution/."""
    rest = list(prefix)
    if rest and rest[-1] == SOLUTION_FOLDER:
        rest.pop()
    if rest and rest[-1] == assignment.name:
        rest.pop()
    return len(rest) <= 1


def _is_foreign(
    place: _Place, paths: set[tuple[str, ...]], assignment: Assignment
) -> bool:
    """Whether a folder with a file of the right name is some other package, or homework."""
    others = _packages_beside(assignment)
    # At the very top it may be the package itself, zipped from the inside.
    is_package = bool(place.prefix) and (*place.prefix, "__init__.py") in paths
    return is_package or any(
        part in others or (_HOMEWORK.fullmatch(part) and part != assignment.name)
        for part in place.prefix
    )


def _best(places: list[_Place], assignment: Assignment) -> _Place:
    def rank(place: _Place) -> tuple[bool, int, bool]:
        last = place.prefix[-1:]
        return last == (SOLUTION_FOLDER,), len(place.prefix), last != (assignment.name,)

    places.sort(key=lambda place: (rank(place), place.prefix))
    if len(places) > 1 and rank(places[0]) == rank(places[1]):
        first, second = (shown("/".join(place.prefix)) for place in places[:2])
        raise SubmissionError(
            f"the submission holds this homework twice, in {first}/ and in {second}/; keep the "
            "one to be graded"
        )
    return places[0]


def _only_zip(listing: Listing) -> Entry | None:
    zips = [e for e in listing.entries if len(e.parts) == 1 and e.name.lower().endswith(".zip")]
    return zips[0] if len(zips) == 1 else None


def _take(
    listing: Listing, place: _Place, assignment: Assignment, notes: list[str]
) -> Submission:
    by_path = {entry.parts: entry for entry in listing.entries}
    loose = _Place(place.prefix, flat=True)
    files: dict[str, bytes] = {}
    taken: set[tuple[str, ...]] = set()
    missing = []
    for file in assignment.files:
        entry = by_path.get(place.path_of(file)) or by_path.get(loose.path_of(file))
        if entry is None:
            missing.append(_missing_note(file, place, listing.entries))
            continue
        if entry.parts != place.path_of(file) or place.flat:
            notes.append(f"took {shown(entry.name)} as {file}")
        files[file] = clean_text(shown(entry.name), entry.read())
        taken.add(entry.parts)
    notes.extend(missing)
    notes.extend(_shorten([f"ignored {shown(cache)}: a cache" for cache in listing.caches]))
    rest = [entry for entry in listing.entries if entry.parts not in taken]
    given = [entry for entry in rest if _is_given(entry, place, assignment)]
    if given:
        notes.append(f"ignored {len(given)} files of the course itself: they are given")
    others = [shown(entry.name) for entry in rest if entry not in given]
    notes.extend(
        _shorten([f"ignored {name}: not one of the files this homework takes" for name in others])
    )
    return Submission(files, notes)


def _is_given(entry: Entry, place: _Place, assignment: Assignment) -> bool:
    """Whether it lies where a file of the homework lies: a student who zips the folder sends all."""
    inside = entry.parts[len(place.prefix) :]
    public = inside[:1] in ((assignment.package,), ("tests",))
    return public and ".." not in inside and assignment.root.joinpath(*inside).is_file()


def _shorten(notes: list[str]) -> list[str]:
    if len(notes) <= _MAX_NOTES:
        return notes
    return [*notes[:_MAX_NOTES], f"ignored {len(notes) - _MAX_NOTES:,} more"]


def _missing_note(file: str, place: _Place, entries: Iterable[Entry]) -> str:
    wanted = "/".join(place.path_of(file))
    note = (
        f"{file} is missing (looked for {shown(wanted)}): the unfinished file is graded in its "
        "place"
    )
    for entry in entries:
        if entry.name.casefold() == wanted.casefold():
            return f"{note}; rename {shown(entry.name)}, upper and lower case count"
    return note


def _nothing_found(listing: Listing, assignment: Assignment) -> str:
    """What was expected, what was there, and what the student probably did."""
    if not listing.entries:
        return (
            "the submission is empty: it holds no file; fill the zip with make submit "
            f"HW={assignment.name}"
        )
    names = [shown(entry.name) for entry in listing.entries[:20]]
    more = len(listing.entries) - len(names)
    sentence = (
        f"none of this homework's files is in the submission. Expected: "
        f"{', '.join(assignment.files)}. Found: {', '.join(names)}"
        + (f" and {more:,} more." if more > 0 else ".")
    )
    other = _other_homework(listing.entries, assignment)
    if other:
        return f"{sentence} This looks like {other}, and {assignment.name} is being graded."
    return f"{sentence} Make the zip with make submit HW={assignment.name}."


def _other_homework(entries: list[Entry], assignment: Assignment) -> str:
    """The name of the homework that the submission seems to belong to, if it is another one."""
    packages = _packages_beside(assignment)
    for entry in entries:
        for part in entry.parts[:-1]:
            if part in packages:
                return packages[part]
            if _HOMEWORK.fullmatch(part) and part != assignment.name:
                return shown(part)
    return ""


def _packages_beside(assignment: Assignment) -> dict[str, str]:
    """Package -> homework, for the other homeworks of the course."""
    found = {}
    for path in sorted(assignment.root.parent.glob(f"*/{FILE_NAME}")):
        if path.parent == assignment.root:
            continue
        try:
            package = tomllib.loads(path.read_text(encoding="utf-8")).get("package")
        except (OSError, ValueError):
            continue
        if isinstance(package, str):
            found[package] = path.parent.name
    return found
