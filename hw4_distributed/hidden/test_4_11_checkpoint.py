"""Task 4.11, hidden: ranks that save at once, a step saved again, what is kept, training resumed."""

from __future__ import annotations

import drivers_checkpoint as drivers
import numpy as np
import torch
from checkpoint_cases import (
    Saved,
    check_crashes,
    check_shards,
    damaged,
    part_of,
    random_state,
    save_all,
    save_alone,
    save_of,
    saved_as,
    told,
)
from gradescope_utils.autograder_utils.decorators import number, weight
from traffic import in_words

from autograder.testing import assert_equal
from autograder.testing.disk import Disk, arrays, crashes_of, run_log


def _manifests(files: dict[str, bytes]) -> list[int]:
    return sorted(int(n[5:17]) for n in files if n.endswith(".manifest"))


@number("4.11")
@weight(0.7)
def test_a_step_saved_again_and_one_that_is_kept_alone(student, rng):
    """keep=1, the same step with other values, other ranks, or the same values: never a mix."""
    states = [random_state(rng) for _ in range(3)]
    plan = [(4, 0, 2), (4, 1, 2), (4, 1, 2), (4, 2, 3), (6, 0, 1)]
    saves = [
        save_of(states[i], step, size, 1, f"save {n}") for n, (step, i, size) in enumerate(plan)
    ]
    files: dict[str, bytes] = {}
    known: list[Saved] = []
    for (step, i, size), save in zip(plan, saves, strict=True):
        log = save_alone(student, files, save)
        during, after = crashes_of(Disk.holding(files), log, rng)
        files = run_log(files, log)
        assert len(files) == size + 1, f"{size} parts and a manifest were expected: {sorted(files)}"
        allowed = {known[-1].step, step} if known else None
        known.append(saved_as(files, step, states[i], save["extra"], f"step {step} saved"))
        check_crashes(student, during, known, allowed, f"saving step {step}")
        check_crashes(student, [files, *after], known[-1:], {step}, f"after step {step} was saved")


@number("4.11")
@weight(0.6)
def test_ranks_save_at_once_and_any_of_them_crashes(student, rng):
    """The ranks' operations in the order in which the switch saw them, a crash after each."""
    states = [random_state(rng) for _ in range(2)]
    old = save_of(states[0], 1, 2)
    files = save_all(student, {}, [old])
    first = saved_as(files, 1, states[0], old["extra"], "step 1 saved")
    for size, slow in ((2, {1: 0.02}), (4, {2: 0.02})):
        each = [{"part": part_of(states[1], rank, size)} for rank in range(size)]
        extra = {"ranks": size}
        common = {"files": arrays(files), "step": 2, "extra": extra}
        group = student.group(size, drivers.save_on_ranks, each=each, slow=slow, keep=2, **common)
        log = told(group, files)
        text = f"{in_words(size)} save step 2"
        known = [first, saved_as(run_log(files, log), 2, states[1], extra, text)]
        during, after = crashes_of(Disk.holding(files), log, rng)
        check_crashes(student, during, known, {1, 2}, text)
        check_crashes(student, after, known, {2}, f"{text}: afterwards")
        seen = [e for e in group.events if e.kind == "note"]
        place = min(i for i, e in enumerate(seen) if e.text == "returned")
        assert all(e.text == "returned" for e in seen[place:]), (
            f"{text}: rank {seen[place].rank} returns while the disk is still written to"
        )
        refused = student.group(size, drivers.save_on_ranks, each=each, keep=0, **common)
        assert refused.results == ["ValueError"] * size, f"keep=0: {refused.results}, or saved"
        assert not told(refused, files), "keep=0: something was written before it was refused"


@number("4.11")
@weight(0.6)
def test_training_goes_on_bit_for_bit_on_other_ranks(student, rng):
    """Adam and a generator, saved and resumed on 2, 3, 1 and 4 ranks: the weights of one run."""
    count = 13
    start = {"weights": rng.standard_normal(count).astype(np.float32), "seed": int(rng.integers(1e6)),
             "mean": np.zeros(count, np.float32), "square": np.zeros(count, np.float32),
             "target": rng.standard_normal(count).astype(np.float32)}  # fmt: skip
    weights, mean, square, target = (
        torch.tensor(start[k]) for k in ("weights", "mean", "square", "target")
    )
    generator = torch.Generator().manual_seed(start["seed"])
    files: dict[str, bytes] = {}
    done = 0
    for size, stop in ((2, 3), (3, 7), (1, 9), (4, 14)):
        for _ in range(done, stop):
            gradient = weights - target + 0.1 * torch.randn(count, generator=generator)
            mean = 0.9 * mean + 0.1 * gradient
            square = 0.99 * square + 0.01 * gradient * gradient
            weights = weights - 0.05 * mean / (square.sqrt() + 1e-8)
        group = student.group(
            size, drivers.train, files=arrays(files), start=start, steps=14, stop=stop
        )
        for rank, result in enumerate(group.results):
            assert result["anew"] is (done == 0), f"{in_words(size)} at step {done}: started anew"
            assert_equal(result["weights"], weights.numpy(), name=f"weights of rank {rank} of {size} at "
                         f"step {stop}", hint="weights, both moments and the generator")  # fmt: skip
        files = run_log(files, told(group, files))
        done = stop
    assert _manifests(files) == [9, 14], f"keep is 2 unless told: {_manifests(files)}"


@number("4.11")
@weight(0.5)
def test_what_is_kept_read_and_reported(student, rng):
    """As many as asked; later steps of a run given up; leftovers; unneeded parts; nothing whole."""
    state = random_state(rng)
    plan = [(1, 3), (2, 3), (5, 3), (9, 3), (12, 3), (7, 2), (8, 1)]
    kept = [[1], [1, 2], [1, 2, 5], [2, 5, 9], [5, 9, 12], [5, 7], [8]]
    saves = [save_of(state, step, 2, keep) for step, keep in plan]
    rubbish = {"step-000000000003.part-0-of-2-00": b"x", "step-000000000001.manifest.partial": b"{",
               "notes.txt": b"mine"}  # fmt: skip
    files = dict(rubbish)
    for wanted, save in zip(kept, saves, strict=True):
        files = save_all(student, files, [save])
        assert _manifests(files) == wanted, f"kept {_manifests(files)}, expected {wanted}"
        parts = len([n for n in files if ".part-" in n])
        assert parts == 2 * len(wanted), f"{parts} parts for {len(wanted)} checkpoints of two"
        assert files.get("notes.txt") == b"mine", "a file that is no checkpoint's was touched"
    assert len(files) == 4, f"leftovers: {sorted(files)}"
    first, second = sorted(n for n in files if ".part-" in n)
    without = {n: d for n, d in files.items() if n != second}
    cases = [{"disk": 0, "step": 8, "rank": r, "size": 2} for r in (0, 1)]
    mine, theirs = student.run(drivers.load_each, disks=[arrays(without)], cases=cases)
    check_shards(mine, state, 0, 2, f"rank 0 of 2 needs nothing of {second}, which is missing")
    assert second in theirs.get("message", ""), f"rank 1 needs {second}, which is missing: {theirs}"
    disks = [arrays(damaged(rng, files, first)["cut"]), {}, arrays(rubbish)]
    group = student.group(3, drivers.load_on_ranks, disks=disks)
    for rank, (broken, empty, none) in enumerate(group.results):
        assert broken.get("error") == "CheckpointError", f"rank {rank}: nothing is whole: {broken}"
        assert first in broken["message"], f"rank {rank} does not name {first}: {broken['message']}"
        assert empty == none == {"none": True}, (
            f"rank {rank}: there is no checkpoint: {empty}, {none}"
        )
