"""Names and bytes of a submission, read from a folder or a zip without trusting either.

Nothing is extracted to disk and nothing is run. What looks like an attack (a link, a way out of
the folder, a bomb) refuses the whole submission with SubmissionError. Contents are read one by
one, on request, so a file that nobody asks for costs nothing.
"""

from __future__ import annotations

import functools
import io
import os
import re
import stat
import struct
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

MEGABYTE = 1_000_000
MAX_TOTAL = 20 * MEGABYTE
MAX_FILE = 2 * MEGABYTE
MAX_ENTRIES = 2_000
MAX_DEPTH = 20
MAX_NAME = 1_024
MAX_PART = 255
MAX_RATIO = 100
# Below this size a high ratio harms nobody: a short file of equal lines packs well.
_RATIO_FROM = 100_000

_CACHES = {"__pycache__", ".pytest_cache", ".hypothesis", ".mypy_cache", ".ruff_cache"}
_SKIPPED_FOLDERS = {"__MACOSX", ".git", ".venv", "venv", "node_modules", ".idea", ".vscode"}
_LEFTOVERS = {".ds_store", "thumbs.db", "desktop.ini", "ehthumbs.db"}
_PLAIN = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_CENTRAL_HEADER = b"PK\x01\x02"
_BROKEN = (
    zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, EOFError, NotImplementedError,
    RuntimeError, ValueError, OverflowError, struct.error, IndexError, KeyError,
)  # fmt: skip


class SubmissionError(Exception):
    """The submission can't be graded; the message is a sentence for the student."""


@dataclass(frozen=True)
class Entry:
    """One file of the submission; `read` gives its bytes, at most MAX_FILE of them."""

    parts: tuple[str, ...]
    size: int
    read: Callable[[], bytes]

    @property
    def name(self) -> str:
        """The path inside the submission, with slashes."""
        return "/".join(self.parts)


@dataclass
class Listing:
    """The files of a submission; `caches` are the cache folders that were passed over."""

    entries: list[Entry] = field(default_factory=list)
    caches: list[str] = field(default_factory=list)


def shown(name: str) -> str:
    """A name that came from a student, fit to print: no control characters, at most 120 long."""
    clean = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in name[:1_000])
    return clean if len(clean) <= 120 else f"{clean[:100]}… ({len(name):,} characters)"


@contextmanager
def open_listing(path: Path) -> Iterator[Listing]:
    """List the folder or zip at `path`; entries can be read inside the `with` only.

    Raises SubmissionError.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise SubmissionError(
            f"{shown(str(path))} cannot be opened: {error.strerror}; name a folder or a zip"
        ) from None
    try:
        status = os.fstat(descriptor)
        if stat.S_ISDIR(status.st_mode):
            collector = _Collector()
            _walk(descriptor, descriptor, (), collector)
            listing = collector.finish()
        elif stat.S_ISREG(status.st_mode):
            listing = list_zip(_read_all(descriptor, shown(path.name), MAX_TOTAL), shown(path.name))
        else:
            raise SubmissionError(f"{shown(path.name)} is neither a folder nor a zip")
        yield listing
    finally:
        os.close(descriptor)


def list_zip(data: bytes, name: str) -> Listing:
    """List a zip that is held in memory; `name` is what messages call it."""
    if not data:
        raise SubmissionError(f"{name} is empty (0 bytes); make the zip again and upload that")
    # Counted before zipfile builds an object for each: there are at most that many entries.
    if data.count(_CENTRAL_HEADER) > MAX_ENTRIES:
        raise SubmissionError(_too_many())
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
    except _BROKEN as error:
        raise SubmissionError(
            f"{name} is not a zip, or it is broken ({shown(str(error))}); make it again with "
            "make submit and upload that"
        ) from None
    collector = _Collector()
    infos = archive.infolist()
    if sum(info.compress_size for info in infos) > len(data):
        raise SubmissionError(f"{name} is refused: its entries overlap, as in a zip bomb")
    for info in infos:
        _add_member(archive, info, collector)
    return collector.finish()


class _Collector:
    """Gathers entries and keeps count of what a submission may be."""

    def __init__(self) -> None:
        self.listing = Listing()
        self._total = 0
        self._count = 0
        self._seen: dict[str, str] = {}

    def count(self) -> None:
        """Count one more name, folders and leftovers included."""
        self._count += 1
        if self._count > MAX_ENTRIES:
            raise SubmissionError(_too_many())

    def wants(self, parts: tuple[str, ...]) -> bool:
        """Whether a path can matter; cache folders are noted on the way."""
        for place, part in enumerate(parts):
            if part in _CACHES or part.endswith(".pyc"):
                cache = "/".join(parts[: place + 1])
                if cache not in self.listing.caches:
                    self.listing.caches.append(cache)
                return False
            if part in _SKIPPED_FOLDERS or part.lower() in _LEFTOVERS or part.startswith("._"):
                return False
        return True

    def add(self, entry: Entry) -> None:
        """Take an entry, unless it breaks a limit or collides with another name."""
        self._total += entry.size
        if self._total > MAX_TOTAL:
            raise SubmissionError(
                f"the submission is refused: with {shown(entry.name)} ({_megabytes(entry.size)}) "
                f"it is over {_megabytes(MAX_TOTAL)}; leave large files out, or use make submit"
            )
        folded = unicodedata.normalize("NFC", entry.name).casefold()
        if folded in self._seen:
            names = dict.fromkeys((shown(self._seen[folded]), shown(entry.name)))
            raise SubmissionError(
                f"the submission is refused: {' and '.join(names)} "
                f"{'differ only in case' if len(names) > 1 else 'is there twice'}; keep one of them"
            )
        self._seen[folded] = entry.name
        self.listing.entries.append(entry)

    def finish(self) -> Listing:
        """The listing, in the order of names."""
        self.listing.entries.sort(key=lambda entry: entry.parts)
        return self.listing


def _too_many() -> str:
    return (
        f"the submission is refused: it holds more than {MAX_ENTRIES:,} files and folders; "
        "submit only this homework's files, or use make submit"
    )


def _megabytes(size: int) -> str:
    return f"{size / MEGABYTE:,.1f} MB"


def _safe_parts(name: str) -> tuple[str, ...]:
    """The parts of a name; raises SubmissionError for one that leads out of the submission."""
    if len(name) > MAX_NAME or any(len(part) > MAX_PART for part in re.split(r"[/\\]", name)):
        raise SubmissionError(f"the submission is refused: a name is too long: {shown(name)}")
    plain = name.replace("\\", "/")  # a zip made on Windows may use backslashes
    parts = tuple(part for part in plain.split("/") if part not in ("", "."))
    if plain.startswith("/") or re.match(r"[A-Za-z]:", plain) or ".." in parts or "\0" in plain:
        raise SubmissionError(
            f"the submission is refused: the name {shown(name)!r} points outside the submission"
        )
    return parts


def _add_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, collector: _Collector) -> None:
    collector.count()
    parts = _safe_parts(info.orig_filename)
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise SubmissionError(
            f"the submission is refused: {shown(info.orig_filename)} is a link or a special file; "
            "put the file itself into the zip"
        )
    if info.flag_bits & 0x41:
        raise SubmissionError(
            f"the submission is refused: {shown(info.orig_filename)} is encrypted; make the zip "
            "without a password"
        )
    folder = info.orig_filename.replace("\\", "/").endswith("/") or kind == stat.S_IFDIR
    if folder or not parts or not collector.wants(parts):
        return
    if info.file_size > _RATIO_FROM and info.file_size > MAX_RATIO * max(1, info.compress_size):
        raise SubmissionError(
            f"the submission is refused: {shown(info.orig_filename)} would unpack to more than "
            f"{MAX_RATIO} times its size, as in a zip bomb"
        )
    collector.add(Entry(parts, info.file_size, functools.partial(_read_member, archive, info)))


def _read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    name = shown(info.orig_filename)
    _check_size(name, info.file_size)
    if info.compress_type not in _PLAIN:
        raise SubmissionError(
            f"{name} is packed in a way that is not taken; make the zip with make submit"
        )
    try:
        with archive.open(info) as stream:
            data = stream.read(MAX_FILE + 1)
    except _BROKEN as error:
        raise SubmissionError(
            f"the zip is broken at {name} ({shown(str(error))}); make it again with make submit"
        ) from None
    _check_size(name, len(data))
    return data


def _check_size(name: str, size: int, limit: int = MAX_FILE) -> None:
    if size > limit:
        raise SubmissionError(
            f"{name} is refused: it has {_megabytes(size)}, at most {_megabytes(limit)} are taken"
        )


def _walk(root: int, folder: int, names: tuple[str, ...], collector: _Collector) -> None:
    """List what is in the open folder `folder`, which `names` lead to from `root`.

    Every step refuses to follow a link, also one that is put there while we look.
    """
    if len(names) > MAX_DEPTH:
        raise SubmissionError(
            f"the submission is refused: its folders are nested more than {MAX_DEPTH} deep"
        )
    for name in _names(folder, names):
        here = (*names, name)
        path = "/".join(here)
        collector.count()
        parts = _safe_parts(path)
        if not collector.wants(parts):
            continue
        try:
            status = os.stat(name, dir_fd=folder, follow_symlinks=False)
        except OSError as error:
            raise SubmissionError(f"{shown(path)} cannot be read: {error.strerror}") from None
        if stat.S_ISDIR(status.st_mode):
            inner = _open_inside(folder, name, path, os.O_DIRECTORY)
            try:
                _walk(root, inner, here, collector)
            finally:
                os.close(inner)
        elif stat.S_ISREG(status.st_mode) and status.st_nlink == 1:
            read = functools.partial(_read_below, root, here, path)
            collector.add(Entry(parts, status.st_size, read))
        else:
            raise SubmissionError(
                f"the submission is refused: {shown(path)} is a link or a special file; put the "
                "file itself there"
            )


def _names(folder: int, prefix: tuple[str, ...]) -> list[str]:
    """The sorted names in a folder; never more than a submission may have."""
    names = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                names.append(entry.name)
                if len(names) > MAX_ENTRIES:
                    raise SubmissionError(_too_many())
    except OSError as error:
        where = shown("/".join(prefix)) or "the folder"
        raise SubmissionError(f"{where} cannot be read: {error.strerror}") from None
    return sorted(names)


def _read_below(root: int, names: tuple[str, ...], path: str) -> bytes:
    """Open the file again from the submission's own folder, following no link on the way."""
    folder = os.dup(root)
    try:
        for name in names[:-1]:
            inner = _open_inside(folder, name, path, os.O_DIRECTORY)
            os.close(folder)
            folder = inner
        descriptor = _open_inside(folder, names[-1], path, os.O_NONBLOCK)
    finally:
        os.close(folder)
    try:
        return _read_all(descriptor, shown(path), MAX_FILE)
    finally:
        os.close(descriptor)


def _open_inside(folder: int, name: str, path: str, flags: int) -> int:
    try:
        return os.open(
            name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | flags, dir_fd=folder
        )
    except OSError as error:
        raise SubmissionError(f"{shown(path)} cannot be read: {error.strerror}") from None


def _read_all(descriptor: int, name: str, limit: int) -> bytes:
    """All of a regular file; refused by its size before a byte is read, and again if it grows."""
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise SubmissionError(f"the submission is refused: {name} is not an ordinary file")
    _check_size(name, status.st_size, limit)
    with os.fdopen(os.dup(descriptor), "rb") as stream:
        data = stream.read(limit + 1)
    _check_size(name, len(data), limit)
    return data
