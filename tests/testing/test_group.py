"""`student.group`: ranks in workers of their own behind the trusted switch."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
import testing_samples as samples

from autograder.sandbox import switch
from autograder.testing.student import Student, StudentError, StudentRaised

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGE = REPOSITORY / "hw4_distributed" / "distributed_training"

DRIVERS = """\
import os, socket, struct


def _connect():
    from distributed_training.communicator import connect
    return connect()


def ring(values):
    import torch
    ranks = _connect()
    mine = torch.tensor(values, dtype=torch.float32) + ranks.rank
    got = torch.empty_like(mine)
    to, source = (ranks.rank + 1) % ranks.size, (ranks.rank - 1) % ranks.size
    work = ranks.isend(mine, to)
    ranks.recv(got, source)
    work.wait()
    ranks.barrier()
    return got.numpy(), ranks.counters.total_bytes


def send_first(size):
    import torch
    ranks = _connect()
    mine = torch.zeros(size)
    ranks.send(mine, 1 - ranks.rank, tag=7)
    ranks.recv(mine, 1 - ranks.rank, tag=7)


def wait_for_nobody():
    import torch
    ranks = _connect()
    if ranks.rank == 1:
        ranks.recv(torch.zeros(2), 0)
    return ranks.rank


def fail_in_one(rank):
    ranks = _connect()
    if ranks.rank == rank:
        raise KeyError("no such shard")
    ranks.barrier()


def die_in_one(rank):
    ranks = _connect()
    if ranks.rank == rank:
        os._exit(3)
    ranks.barrier()


def lengths(sizes):
    import torch
    ranks = _connect()
    if ranks.rank == 0:
        ranks.send(torch.zeros(sizes[0]), 1)
    else:
        ranks.recv(torch.zeros(sizes[1]), 0)


def big(megabytes):
    import torch
    ranks = _connect()
    peer = 1 - ranks.rank
    mine = torch.full((megabytes << 18,), float(ranks.rank + 1))
    got = torch.empty_like(mine)
    work = ranks.isend(mine, peer)
    ranks.recv(got, peer)
    work.wait()
    return float(got.sum())


def out_of_order():
    import torch
    ranks = _connect()
    if ranks.rank == 0:
        for tag in (1, 2, 1):
            ranks.note(f"sending {tag}")
            ranks.isend(torch.tensor([float(tag)]), 1, tag)
        return []
    first, second, third = (torch.zeros(1) for _ in range(3))
    works = [ranks.irecv(second, 0, 2), ranks.irecv(first, 0, 1), ranks.irecv(third, 0, 1)]
    for work in works[::-1]:
        work.wait()
    return [first.item(), second.item(), third.item()]


def halves(pairs):
    import torch
    ranks = _connect()
    groups = [ranks.subgroup(pair) for pair in pairs]
    mine = next(group for group in groups if group is not None)
    assert groups.count(None) == len(pairs) - 1
    got = torch.zeros(1)
    work = mine.isend(torch.tensor([float(ranks.rank)]), 1 - mine.rank)
    mine.recv(got, 1 - mine.rank)
    work.wait()
    mine.barrier()
    ranks.barrier()
    return got.item()


def garbage(data):
    ranks = _connect()
    if ranks.rank == 0:
        ranks._channel.socket.sendall(data)
        ranks._channel.socket.recv(1)
    ranks.barrier()


def misuse(how):
    import torch
    ranks = _connect()
    if how == "itself":
        ranks.send(torch.zeros(1), ranks.rank)
    if how == "strided":
        ranks.send(torch.zeros(4, 4).T[1:], 1 - ranks.rank)
    if how == "tag":
        ranks.send(torch.zeros(1), 1 - ranks.rank, tag=-1)
"""


@pytest.fixture(scope="module")
def run() -> Iterator[object]:
    folder = samples.open_folder()
    files = {f"distributed_training/{p.name}": p.read_text() for p in PACKAGE.glob("*.py")}
    assignment = samples.make_homework(
        folder, [("9.1", 100, [])], {}, drivers=DRIVERS, extra=files, imports=("numpy", "torch"),
    )  # fmt: skip
    toml = assignment.root / "assignment.toml"
    text = toml.read_text().replace('"tiny"', '"distributed_training"')
    toml.write_text(text.replace("tiny/ops.py", "distributed_training/communicator.py"))
    run = samples.make_run(samples.load_assignment(assignment.root), folder)
    yield run
    run.close()
    samples.remove(folder)


@pytest.fixture
def student(run) -> Iterator[Student]:
    student = run.student("test", False)
    yield student
    student.close()


def test_the_constants_of_both_ends_agree() -> None:
    """The switch and the homework's given channel state the protocol each for itself."""
    text = (PACKAGE / "local_channel.py").read_text()
    for line in (
        f'FRAME = struct.Struct("{switch.FRAME.format}")',
        "SEND, SYNCHRONOUS_SEND, RECEIVE, WAIT, BARRIER, NOTE = 1, 2, 3, 4, 5, 6",
        "DONE, FAILED = 64, 65",
    ):
        assert line in text, line
    numbers = (switch.SEND, switch.SYNCHRONOUS_SEND, switch.RECEIVE, switch.WAIT, switch.BARRIER)
    assert (*numbers, switch.NOTE, switch.DONE, switch.FAILED) == (1, 2, 3, 4, 5, 6, 64, 65)


@pytest.mark.parametrize("size", [2, 3, 4])
def test_a_ring_passes_values_and_the_switch_counts_them(run, student, size) -> None:
    group = student.group(size, run.drivers.ring, values=[10.0, 20.0])
    for rank, (got, sent) in enumerate(group.results):
        assert got.tolist() == [10.0 + (rank - 1) % size, 20.0 + (rank - 1) % size]
        assert sent == 8
    expected = np.zeros((size, size), int)
    for rank in range(size):
        expected[rank, (rank + 1) % size] = 8
    assert (group.sent == expected).all()
    assert (group.messages == (expected > 0)).all()
    assert len([e for e in group.events if e.kind == "barrier"]) == size


def test_a_world_of_one_has_no_messages(run, student) -> None:
    group = student.group(1, run.drivers.wait_for_nobody)
    assert group.results == [0] and group.sent.sum() == 0


def test_two_that_send_first_are_a_deadlock_at_once(run, student) -> None:
    start = time.monotonic()
    with pytest.raises(StudentError) as caught:
        student.group(2, run.drivers.send_first, size=3)
    assert time.monotonic() - start < 5
    assert caught.value.title == "deadlock"
    text = str(caught.value)
    assert "rank 0 waits in send 12 bytes to rank 1, tag 7" in text, text
    assert "rank 1 waits in send 12 bytes to rank 0, tag 7" in text, text


def test_waiting_for_a_rank_that_has_finished_is_a_deadlock(run, student) -> None:
    with pytest.raises(StudentError) as caught:
        student.group(3, run.drivers.wait_for_nobody)
    assert "rank 1 waits to receive 8 bytes from rank 0, which has finished" in str(caught.value)


def test_what_a_rank_sent_just_before_it_finished_is_no_deadlock() -> None:
    """The switch reads what is in a rank's socket before it takes the rank for finished."""
    frame = switch.FRAME
    for _ in range(50):
        served = switch.Switch(2)
        receiver, sender = served.ends
        posted = frame.pack(switch.RECEIVE, 1, 0, 1, 4)
        receiver.sendall(posted + frame.pack(switch.WAIT, -1, 0, 1, 0))
        time.sleep(0.0005)
        sender.sendall(frame.pack(switch.SEND, 0, 0, 1, 4) + b"last")
        served.finish(1)
        assert not served.verdict
        assert len(receiver.recv(frame.size)) == frame.size
        served.close()


def test_the_rank_that_raised_is_named_with_its_error(run, student) -> None:
    with pytest.raises(StudentRaised) as caught:
        student.group(3, run.drivers.fail_in_one, rank=2)
    assert caught.value.type_name == "KeyError"
    assert str(caught.value.message).startswith("rank 2: KeyError")


def test_a_rank_that_dies_ends_the_group(run, student) -> None:
    start = time.monotonic()
    with pytest.raises(StudentError) as caught:
        student.group(3, run.drivers.die_in_one, rank=1)
    assert "rank 1: your code ended the process" in caught.value.message
    assert time.monotonic() - start < 5


def test_lengths_that_differ_are_told_with_both_ranks(run, student) -> None:
    with pytest.raises(StudentError, match=r"rank 0 sent 12 bytes to rank 1, which expects 20"):
        student.group(2, run.drivers.lengths, sizes=[3, 5])


def test_large_messages_both_ways_at_once(run, student) -> None:
    group = student.group(2, run.drivers.big, megabytes=24)
    assert group.results == [2.0 * (24 << 18), 1.0 * (24 << 18)]
    assert group.sent.sum() == 2 * (24 << 20)


def test_order_is_kept_for_each_tag_and_notes_stand_among_the_messages(run, student) -> None:
    group = student.group(2, run.drivers.out_of_order)
    assert group.results[1] == [1.0, 2.0, 1.0]
    mine = [(e.kind, e.text or e.tag) for e in group.events_of(0)]
    assert mine == [("note", "sending 1"), ("send", 1), ("note", "sending 2"), ("send", 2),
                    ("note", "sending 1"), ("send", 1)]  # fmt: skip


def test_subgroups_have_ranks_tags_and_barriers_of_their_own(run, student) -> None:
    group = student.group(4, run.drivers.halves, pairs=[[0, 2], [3, 1]])
    assert group.results == [2.0, 3.0, 0.0, 1.0]


def test_slow_ranks_get_the_same_results(run, student) -> None:
    start = time.monotonic()
    group = student.group(3, run.drivers.ring, values=[1.0], slow={1: 0.2})
    assert time.monotonic() - start >= 0.2
    assert [got.tolist() for got, _ in group.results] == [[3.0], [1.0], [2.0]]


def test_in_a_debugger_ranks_are_threads_of_one_process(run) -> None:
    run.transport = "inprocess"
    try:
        student = run.student("test", False)
        group = student.group(3, run.drivers.ring, values=[1.0])
        assert [got.tolist() for got, _ in group.results] == [[3.0], [1.0], [2.0]]
        with pytest.raises(StudentError, match="deadlock: rank 0 waits in send"):
            student.group(2, run.drivers.send_first, size=3)
        student.close()
    finally:
        run.transport = "sandbox"


@pytest.mark.parametrize(
    "data",
    [b"\xff" * 29, switch.FRAME.pack(switch.SEND, 9, 0, 1, 8),
     switch.FRAME.pack(switch.SEND, 1, 0, 1, 1 << 60), switch.FRAME.pack(switch.NOTE, 0, 0, 1, 1 << 20)],
)  # fmt: skip
def test_a_rank_that_writes_garbage_ends_its_group_only(run, student, data) -> None:
    with pytest.raises(StudentError, match="rank 0 broke the protocol"):
        student.group(2, run.drivers.garbage, data=data, timeout=10)
    assert student.group(2, run.drivers.ring, values=[1.0]).results[0][1] == 4


@pytest.mark.parametrize(
    ("how", "text"), [("itself", "names rank"), ("strided", "not contiguous"), ("tag", "tag -1")]
)
def test_misuse_is_told_before_anything_is_sent(run, student, how, text) -> None:
    with pytest.raises(StudentRaised, match=text) as caught:
        student.group(2, run.drivers.misuse, how=how)
    assert "ValueError" in caught.value.bases
