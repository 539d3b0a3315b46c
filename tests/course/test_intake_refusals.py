"""What refuses a submission: links, special files, sizes, names, encryption."""

from __future__ import annotations

import os
import socket
import zipfile
from pathlib import Path

import pytest

from autograder.course import unpack
from autograder.course.assignment import Assignment
from autograder.course.intake import SubmissionError
from tests.course.intake_samples import (  # noqa: F401  homework is a fixture
    ADD,
    BOTH,
    SCALE,
    both_ways,
    folder_of,
    homework,
    refusal,
)
from tests.course.samples import make_zip, understate_sizes, write


@pytest.mark.parametrize("name", ["tiny/add.py", "other.txt", "tiny"])
@pytest.mark.parametrize("kind", ["link", "folder link", "dangling", "hard link", "fifo", "socket"])
def test_special_files_in_a_folder_are_refused(
    tmp_path: Path, homework: Assignment, name: str, kind: str
) -> None:
    folder = folder_of(tmp_path / "s", {"tiny/nested/scale.py": SCALE} if name != "tiny" else {})
    outside = write(tmp_path / "secret/add.py", b"SECRET\n")
    place = folder / name
    place.parent.mkdir(exist_ok=True)
    if kind == "link":
        place.symlink_to(outside)
    elif kind == "folder link":
        place.symlink_to(outside.parent)
    elif kind == "dangling":
        place.symlink_to("nowhere")
    elif kind == "hard link":
        os.link(outside, place)
    elif kind == "fifo":
        os.mkfifo(place)
    else:
        _bind(place)
    assert "link or a special file" in refusal(folder, homework)


def _bind(place: Path) -> None:
    """A Unix socket; its address is short, so it is bound from inside the folder."""
    before = os.getcwd()
    os.chdir(place.parent)
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(place.name)
    finally:
        os.chdir(before)


def test_a_link_put_there_between_listing_and_reading_is_not_followed(
    tmp_path: Path, homework: Assignment
) -> None:
    folder = folder_of(tmp_path / "s", dict(BOTH))
    secret = folder_of(tmp_path / "secret", {"nested/scale.py": b"SECRET\n", "add.py": b"SECRET\n"})
    with unpack.open_listing(folder) as listing:
        entries = {entry.name: entry for entry in listing.entries}
        (folder / "tiny").rename(tmp_path / "moved")
        (folder / "tiny").symlink_to(secret)
        for name in BOTH:
            with pytest.raises(SubmissionError, match="cannot be read"):
                entries[name].read()
        (folder / "tiny").unlink()
        (folder / "tiny").mkdir()
        (folder / "tiny/add.py").symlink_to(secret / "add.py")
        with pytest.raises(SubmissionError, match="cannot be read"):
            entries["tiny/add.py"].read()


@pytest.mark.parametrize("size", [2_000_001, 10_000_000, 2_000_000_000])
def test_a_large_file_is_refused_by_its_size(
    tmp_path: Path, homework: Assignment, size: int
) -> None:
    folder = folder_of(tmp_path / "s", dict(BOTH))
    with open(folder / "tiny/add.py", "ab") as stream:
        stream.truncate(size)  # sparse: reading it would take seconds
    message = refusal(folder, homework)
    assert "tiny/add.py" in message and f"{size / 1e6:,.1f} MB" in message, "the size, unread"
    (tmp_path / "work.zip").symlink_to(folder / "tiny/add.py")
    assert "refused" in refusal(tmp_path / "work.zip", homework) or size < 20_000_000


def test_a_file_of_two_gigabytes_beside_the_work_is_refused(
    tmp_path: Path, homework: Assignment
) -> None:
    folder = folder_of(tmp_path / "s", dict(BOTH))
    with open(folder / "checkpoint.npz", "wb") as stream:
        stream.truncate(2_000_000_000)
    assert "checkpoint.npz" in refusal(folder, homework)


def test_bombs_are_refused(tmp_path: Path, homework: Assignment) -> None:
    bomb = make_zip(tmp_path / "a.zip", {"tiny/add.py": b"#" * 1_500_000})
    assert "bomb" in refusal(bomb, homework)
    noise = os.urandom(100_000).hex().encode()  # packs to half: no suspicious ratio
    large = make_zip(tmp_path / "b.zip", {"tiny/add.py": noise * 11})
    assert "it has 2.2 MB" in refusal(large, homework)
    many = make_zip(tmp_path / "c.zip", {f"x/{n}": noise[:190_000] for n in range(120)})
    assert "over 20.0 MB" in refusal(many, homework)


def test_a_size_that_lies_is_refused(tmp_path: Path, homework: Assignment) -> None:
    content = (ADD * 40_000)[:1_100_000]
    path = make_zip(tmp_path / "a.zip", {"tiny/add.py": content})
    assert "broken" in refusal(understate_sizes(path, 50_000), homework)


def test_overlapping_entries_are_refused(tmp_path: Path, homework: Assignment) -> None:
    path = make_zip(tmp_path / "a.zip", {"tiny/add.py": os.urandom(60_000).hex()})
    with zipfile.ZipFile(path, "a") as archive:  # a second name for the same bytes
        first = archive.infolist()[0]
        for number in range(3):
            again = zipfile.ZipInfo(f"other{number}")
            for field in ("header_offset", "CRC", "compress_size", "file_size", "compress_type"):
                setattr(again, field, getattr(first, field))
            archive.filelist.append(again)
        archive._didModify = True
    assert "overlap" in refusal(path, homework)


def test_too_many_files_are_refused(tmp_path: Path, homework: Assignment) -> None:
    path = make_zip(tmp_path / "a.zip", {f"x/{n}": b"" for n in range(2_001)})
    assert "more than 2,000" in refusal(path, homework)
    folder = folder_of(tmp_path / "s", {f"{n}/a/x.txt": b"" for n in range(670)})
    assert "more than 2,000" in refusal(folder, homework)


def test_a_zip_of_many_names_is_refused_before_its_directory_is_read(
    tmp_path: Path, homework: Assignment, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_zip(tmp_path / "a.zip", {f"x/{n}": b"" for n in range(2_001)})
    monkeypatch.setattr(unpack.zipfile, "ZipFile", None)
    assert "more than 2,000" in refusal(path, homework)


def test_long_deep_and_colliding_names_are_refused(tmp_path: Path, homework: Assignment) -> None:
    assert "too long" in refusal(make_zip(tmp_path / "a.zip", {"a" * 10_000: b""}), homework)
    deep = folder_of(tmp_path / "deep", {"/".join("d" * 30) + "/x.py": b""})
    assert "nested more than 20 deep" in refusal(deep, homework)
    cases = make_zip(tmp_path / "b.zip", {**BOTH, "tiny/Add.py": b"x"})
    assert "tiny/Add.py and tiny/add.py" in refusal(cases, homework).replace(
        "tiny/add.py and tiny/Add.py", "tiny/Add.py and tiny/add.py"
    )
    twice = make_zip(tmp_path / "c.zip", {**BOTH, "tiny\\add.py": b"x"})
    assert "is there twice" in refusal(twice, homework)


def test_an_encrypted_zip_is_refused(tmp_path: Path, homework: Assignment) -> None:
    path = make_zip(tmp_path / "a.zip", dict(BOTH))
    data = bytearray(path.read_bytes())
    data[data.find(b"PK\1\2") + 8] |= 1
    path.write_bytes(data)
    assert "encrypted" in refusal(path, homework)
