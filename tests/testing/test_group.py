"""`student.group`: ranks in workers of their own behind the trusted switch."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from group_samples import PACKAGE, run  # noqa: F401  run is a fixture

from autograder.sandbox import switch
from autograder.testing import group as testing_group
from autograder.testing.student import Student, StudentError, StudentRaised


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


def test_an_error_that_every_rank_caught_still_fails_the_group(run, student) -> None:
    with pytest.raises(StudentError, match=r"rank 0 sent 12 bytes to rank 1, which expects 20"):
        student.group(2, run.drivers.catches, sizes=[3, 5])


@pytest.mark.parametrize(
    ("how", "text"),
    [("sent", "rank 0 sent 12 bytes with tag 2 to rank 1, which never received them"),
     ("expected", "rank 1 posted a receive of 12 bytes from rank 0, which sent nothing for it")],
)  # fmt: skip
def test_messages_that_are_left_over_fail_the_group(run, student, how, text) -> None:
    with pytest.raises(StudentError, match=text) as caught:
        student.group(2, run.drivers.left_behind, how=how)
    assert caught.value.title == "messages left over"


@pytest.mark.parametrize(("one_at_a_time", "depth"), [(False, 4), (True, 12)])
def test_depth_counts_the_messages_that_had_to_wait_for_each_other(
    run, student, one_at_a_time, depth
) -> None:
    group = student.group(
        3, run.drivers.around, steps=4, one_at_a_time=one_at_a_time, slow={1: 0.01}
    )
    assert group.depth == depth


@pytest.mark.skipif(sys.platform != "linux", reason="memory is measured on Linux only")
def test_the_peak_of_each_rank_is_the_kernels(run, student) -> None:
    group = student.group(2, run.drivers.grow, megabytes=[16, 216])
    extra = [(p - s) / 2**20 for p, s in zip(group.peak_bytes, group.start_bytes, strict=True)]
    assert 150 < extra[1] - extra[0] < 250, extra
    assert extra[1] > 200


@pytest.mark.skipif(sys.platform != "linux", reason="memory is measured on Linux only")
def test_the_peak_is_that_of_what_was_held_at_once(run, student) -> None:
    """Blocks that were freed are the kernel's again: no holes of malloc's are counted."""
    group = student.group(3, run.drivers.churn)
    kept = group.results[0]
    extra = [p - s for p, s in zip(group.peak_bytes, group.start_bytes, strict=True)]
    assert kept < min(extra) and max(extra) < kept + (45 << 20), (kept, extra)
    assert max(group.peak_bytes) - min(group.peak_bytes) < 4 << 20, group.peak_bytes


@pytest.mark.parametrize(("how", "text"), [("die", "exited with status 3"), ("sleep", "within 1 s")])
def test_ranks_that_end_together_cost_nobody_else(run, student, how, text) -> None:
    """They crash, or time out, at the same time: the next group finds the sandbox as it was."""
    for _ in range(3):
        with pytest.raises(StudentError, match=text):
            student.group(4, run.drivers.end_together, how=how, timeout=1)
    assert run.sandbox.restarts == 0
    assert student.group(2, run.drivers.ring, values=[1.0]).results[0][1] == 4


def test_a_flood_after_the_driver_has_returned_holds_up_nothing(run, student) -> None:
    start = time.monotonic()
    with contextlib.suppress(StudentError):
        student.group(3, run.drivers.flood_afterwards, timeout=10)
    assert time.monotonic() - start < 20


def test_a_group_whose_ranks_do_not_end_is_given_up(run, student, monkeypatch) -> None:
    """The deadline that stands behind each rank's own: a call that never comes back."""
    call = student.call

    def stuck(worker, driver, arguments, timeout):
        value = call(worker, driver, arguments, timeout)
        if value:
            time.sleep(6)
        return value

    monkeypatch.setattr(student, "call", stuck)
    monkeypatch.setattr(testing_group, "ENDING_SECONDS", 0.0)
    start = time.monotonic()
    with pytest.raises(StudentError, match="rank 1 was still not at its end"):
        student.group(2, run.drivers.left_behind, how="", timeout=2)
    assert time.monotonic() - start < 5.8
    time.sleep(max(0.0, 6.5 - (time.monotonic() - start)))  # the thread ends with its worker
