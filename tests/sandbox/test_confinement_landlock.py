"""Landlock: what is on the list can be reached, the rest can't, no worker lends to the next."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from pathlib import Path

import pytest

from autograder.sandbox import landlock, syscalls
from autograder.sandbox.probe import in_child, refused

pytestmark = [
    pytest.mark.skipif(not landlock.abi(), reason="this kernel has no Landlock"),
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning"),
]


@pytest.fixture
def tree():
    """A folder with readable, listable, writable and unlisted parts."""
    root = Path(tempfile.mkdtemp())
    for name in ("readable/below", "listed", "writable", "hidden", "own"):
        (root / name).mkdir(parents=True)
        (root / name / "file").write_text(name)
    yield root
    shutil.rmtree(root)


def restricted(table, body, **paths):
    """The answer of `body` in a child under Landlock alone."""

    def run():
        syscalls.control(syscalls.PR_SET_NO_NEW_PRIVS, 1)
        table.restrict(**paths)
        return body()

    return in_child(run)


def make_table(root, **options):
    return landlock.RuleTable(
        [str(root / "readable")], [str(root / "listed")], [str(root / "writable")], **options
    )


def test_reading_listing_and_writing_are_granted_apart(tree):
    table = make_table(tree)

    def body():
        return {
            "read": (tree / "readable/below/file").read_text() == "readable/below",
            "list": os.listdir(tree / "listed") == ["file"],
            "no read where listed": refused((tree / "listed/file").read_text),
            "no write where read": refused(lambda: (tree / "readable/new").write_text("x")),
            "no truncation": refused(lambda: os.truncate(tree / "readable/below/file", 0)),
            "write": not refused(lambda: (tree / "writable/new").write_text("x")),
            "make folder": not refused((tree / "writable/sub").mkdir),
            "hidden": refused((tree / "hidden/file").read_text),
            "hidden list": refused(lambda: os.listdir(tree / "hidden")),
            "hidden write": refused(lambda: (tree / "hidden/file").write_text("x")),
            "hidden removal": refused((tree / "hidden/file").unlink),
            "no way out by link": refused(
                lambda: os.link(tree / "hidden/file", tree / "writable/link")
            ),
            "no way out by rename": refused(
                lambda: os.rename(tree / "hidden/file", tree / "writable/moved")
            ),
            "no dots": refused((tree / "readable/../hidden/file").read_text),
            "no symbolic links": refused(
                lambda: os.symlink(tree / "hidden/file", tree / "writable/link")
            ),
            "no FIFO": refused(lambda: os.mkfifo(tree / "writable/fifo")),
        }

    answer = restricted(table, body)
    table.close()
    assert isinstance(answer, dict) and all(answer.values()), answer
    assert (tree / "hidden/file").read_text() == "hidden"


def test_a_symbolic_link_to_a_hidden_file_stays_closed(tree):
    (tree / "readable/link").symlink_to(tree / "hidden/file")
    table = make_table(tree)
    assert restricted(table, lambda: refused((tree / "readable/link").read_text)) is True
    table.close()


def test_renames_between_folders_need_kernel_2_and_work_in_the_private_folder(tree):
    table = make_table(tree)
    (tree / "writable/sub").mkdir()

    def body():
        return not refused(lambda: os.rename(tree / "writable/file", tree / "writable/sub/file"))

    assert restricted(table, body) is (landlock.abi() >= 2)
    table.close()


def test_a_workers_own_folder_is_not_open_to_the_next_worker(tree):
    table = make_table(tree)
    note = tree / "own/note"

    def write():
        return not refused(lambda: note.write_text("x"))

    assert restricted(table, write, writes=[str(tree / "own")]) is True
    assert restricted(table, write) is False
    assert restricted(table, lambda: not refused(note.read_text), reads=[str(tree / "own")]) is True
    table.close()


def test_programs_run_only_where_processes_are_allowed(tree):
    program = tree / "readable/program"
    program.write_text("#!/bin/sh\nexit 0\n")
    program.chmod(0o755)

    def body():
        if os.fork() == 0:
            try:
                os.execv(program, ["program"])
            except OSError:
                os._exit(1)
        return os.waitstatus_to_exitcode(os.wait()[1]) == 0

    reads = [str(tree / "readable"), "/usr", "/bin", "/lib", "/lib64"]
    reads = [path for path in reads if os.path.exists(path)]
    for execute in (True, False):
        table = landlock.RuleTable(reads, execute=execute)
        assert restricted(table, body) is execute
        table.close()


@pytest.mark.skipif(landlock.abi() < 4, reason="Landlock bounds TCP from ABI 4")
def test_tcp_is_refused_unless_left_alone(tree):
    server = socket.create_server(("127.0.0.1", 0))
    port = server.getsockname()[1]

    def connect():
        with socket.socket() as client:
            client.settimeout(5)
            client.connect(("127.0.0.1", port))

    for tcp in (False, True):
        table = make_table(tree, tcp=tcp)
        assert restricted(table, lambda: not refused(connect)) is tcp
        table.close()
    server.close()


@pytest.mark.skipif(landlock.abi() < 6, reason="Landlock bounds signals from ABI 6")
def test_signals_and_abstract_sockets_stay_inside(tree):
    server = socket.socket(socket.AF_UNIX)
    name = f"\0confinement-test-{os.getpid()}"
    server.bind(name)
    server.listen()

    def body():
        client = socket.socket(socket.AF_UNIX)
        return [refused(lambda: os.kill(os.getppid(), 0)), refused(lambda: client.connect(name))]

    table = make_table(tree)
    assert restricted(table, body) == [True, True]
    assert in_child(body) == [False, False], "the attack must work without the layer"
    table.close()
    server.close()


@pytest.mark.parametrize("version", range(1, 8))
def test_every_older_form_of_the_interface_is_accepted(tree, version):
    if version > landlock.abi():
        pytest.skip(f"the kernel has ABI {landlock.abi()}")
    table = make_table(tree, version=version)
    assert table.handled.bit_length() == {1: 13, 2: 14, 3: 15, 4: 15}.get(version, 16)
    assert restricted(table, lambda: refused((tree / "hidden/file").read_text)) is True
    table.close()


def test_a_path_that_is_missing_is_an_error_not_a_silence(tree):
    with pytest.raises(FileNotFoundError):
        landlock.RuleTable([str(tree / "readable"), str(tree / "absent")])
