"""Task 4.11: saved by n ranks, loaded by m; a crash at every operation; damage."""

from __future__ import annotations

import drivers_checkpoint as drivers
from checkpoint_cases import (
    check_crashes,
    check_shards,
    damaged,
    random_state,
    save_all,
    save_alone,
    save_of,
    saved_as,
)
from gradescope_utils.autograder_utils.decorators import number, weight

from autograder.testing import Measure
from autograder.testing.disk import Disk, arrays, crashes_of, run_log

WORLDS = (1, 2, 3, 4)


@number("4.11")
@weight(1)
def test_saved_by_n_ranks_loaded_by_m(student, rng):
    """All pairs in 1 to 4, every type, scalars, empty tensors, fewer elements than ranks."""
    state = random_state(rng)
    disks, cases = [], []
    for place, size in enumerate(WORLDS):
        disks.append(arrays(save_all(student, {}, [save_of(state, 7, size)])))
        cases += [
            {"disk": place, "step": 7, "rank": rank, "size": m} for m in WORLDS for rank in range(m)
        ]
    found = student.run(drivers.load_each, disks=disks, cases=cases)
    for case, loaded in zip(cases, found, strict=True):
        size = WORLDS[case["disk"]]
        text = f"saved by {size}, loaded by {case['size']}"
        check_shards(loaded, state, case["rank"], case["size"], text)
        assert loaded["extra"] == save_of(state, 7, size)["extra"], f"{text}: {loaded['extra']}"


@number("4.11")
@weight(1.4)
def test_after_a_crash_the_old_or_the_new_one_loads(student, rng):
    """At every operation of a save, what is not synced is dropped or spoilt, in many ways.

    Two saves keep two checkpoints and two keep one. Each save is a process of its own.
    """
    known, files, total = [], {}, 0
    for place, (size, keep) in enumerate(((1, 2), (3, 2), (2, 1), (2, 1))):
        step, state = 3 * place + 1, random_state(rng)
        save = save_of(state, step, size, keep)
        log = save_alone(student, files, save)
        during, after = crashes_of(Disk.holding(files), log, rng)
        total += len(during)
        files = run_log(files, log)
        known.append(saved_as(files, step, state, save["extra"], f"step {step} saved"))
        allowed = {step - 3, step} if place else None
        check_crashes(student, during, known, allowed, f"saving step {step}, keep={keep}")
        check_crashes(student, after, known, {step}, f"after step {step} was saved, keep={keep}")
    student.measure(
        Measure(name="states of the disk after a crash that were tried", value=float(total))
    )


@number("4.11")
@weight(0.7)
def test_damage_is_refused_with_the_files_name(student, rng):
    """Part or manifest cut, gone, longer, swapped or with one bit turned: refused, or passed over."""
    states = [random_state(rng) for _ in range(2)]
    saves = [save_of(state, 5 + i, 2) for i, state in enumerate(states)]
    files = save_all(student, {}, saves)
    names = [name for name in files if name.startswith("step-000000000006")]
    assert len(names) == 3, f"two parts and a manifest were expected, found {names}"
    disks, texts, culprits = [], [], []
    for name in names:
        for how, left in damaged(rng, files, name).items():
            disks.append(arrays(left))
            texts.append(f"{name} {how}")
            culprits.append(name)
    cases = [{"disk": i, "step": 6, "rank": 0, "size": 1} for i in range(len(disks))]
    for text, name, loaded in zip(
        texts, culprits, student.run(drivers.load_each, disks=disks, cases=cases), strict=True
    ):
        assert "error" in loaded, f"{text}: it was loaded all the same"
        missing = text.endswith("manifest gone")
        wanted = "FileNotFoundError" if missing else "CheckpointError"
        assert loaded["error"] == wanted, (
            f"{text}: expected a {wanted}; it was taken for whole, which ended in {loaded['error']}: "
            f"{loaded['message']}\nhint: the manifest has a checksum too, and is compared with it before "
            "anything in it is used"
        )
        assert name in loaded["message"], (
            f"{text}: the message names no such file: {loaded['message']}"
        )
    for text, result in zip(
        texts, student.run(drivers.load_after_crashes, disks=disks), strict=True
    ):
        got = result["newest"]
        assert got.get("step") == 5, f"{text}: step 5 is whole, but {got.get('step')} was loaded"
        check_shards(got, states[0], 0, 1, text)


@number("4.11")
@weight(0.5)
def test_all_ranks_load_the_same_step(student, rng):
    """One part of the newest is damaged, which only some ranks need: all go back to the one before."""
    states = [random_state(rng) for _ in range(2)]
    for size in (2, 3):
        saves = [save_of(state, 8 + i, 3) for i, state in enumerate(states)]
        files = save_all(student, {}, saves)
        parts = [name for name in files if name.startswith("step-000000000009.part")]
        disks = [arrays(files)]
        for name in parts:
            disks.append(arrays(damaged(rng, files, name)["one bit turned"]))
        group = student.group(size, drivers.load_on_ranks, each=[{"disks": disks}] * size)
        for place in range(len(disks)):
            text = f"{parts[place - 1]} damaged" if place else "nothing damaged"
            step = 8 if place else 9
            for rank, result in enumerate(group.results):
                got = result[place]
                assert got.get("step") == step, (
                    f"{text}: rank {rank} of {size} loads {got.get('step', got)}, not step {step}"
                    "\nhint: a rank that reads no damaged part must hear of it from one that does"
                )
                check_shards(got, states[step - 8], rank, size, text)
