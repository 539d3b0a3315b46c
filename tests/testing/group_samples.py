"""Drivers of ranks, and a homework whose given code is that of homework 4."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import testing_samples as samples

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


def catches(sizes):
    import torch
    ranks = _connect()
    try:
        lengths(sizes)
    except Exception:
        pass
    return ranks.rank


def left_behind(how):
    import torch
    ranks = _connect()
    if how == "sent" and ranks.rank == 0:
        ranks.isend(torch.zeros(3), 1, tag=2)
    if how == "expected" and ranks.rank == 1:
        ranks.irecv(torch.zeros(3), 0)
    return ranks.rank


def around(steps, one_at_a_time):
    import torch
    ranks = _connect()
    mine = torch.zeros(2)
    to, source = (ranks.rank + 1) % ranks.size, (ranks.rank - 1) % ranks.size
    for _ in range(steps):
        if one_at_a_time and ranks.rank:
            ranks.recv(mine, source)
        ranks.isend(mine, to)
        if not one_at_a_time or not ranks.rank:
            ranks.recv(mine, source)


def grow(megabytes):
    import numpy as np
    ranks = _connect()
    np.ones(megabytes[ranks.rank] << 20, np.uint8).sum()
    return ranks.rank


def churn():
    import torch
    ranks = _connect()
    kept = []
    for size in range(1, 12):  # freed in another order than made: holes, were they kept
        kept.append(torch.ones(size << 18))
        if size % 2:
            kept.pop(len(kept) // 2)
    return sum(t.numel() * 4 for t in kept)


def end_together(how):
    import time
    ranks = _connect()
    ranks.barrier()
    if how == "die":
        os._exit(3)
    time.sleep(60)


def flood_afterwards():
    import threading, time
    ranks = _connect()
    frames = struct.Struct("<BiqQQ").pack(4, -1, 0, 1 << 40, 0) * 20_000

    def run():
        time.sleep(0.01)
        while True:
            ranks._channel.socket.sendall(frames)

    threading.Thread(target=run, daemon=True).start()
    return ranks.rank


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
