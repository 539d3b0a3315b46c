"""Cases and oracles of task 4.6: schedules played on the trusted side, one process's numbers."""

from __future__ import annotations

import json
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

import drivers_pipeline as drivers
import numpy as np
from llama_cases import U, assert_near, one_process, random_batch, random_state, sizes
from traffic import chunk_sizes

from autograder.testing import assert_equal

Node = tuple[int, str]  # (stage, "F3")


def check_complete(schedule: Any, stages: int, microbatches: int, text: str) -> None:
    """Every stage has each forward and each backward once."""
    assert isinstance(schedule, list) and len(schedule) == stages, (
        f"{text}: actions of {len(schedule)} stages"
    )
    wanted = sorted(f"{kind}{m}" for kind in "FB" for m in range(microbatches))
    for stage, actions in enumerate(schedule):
        assert sorted(actions) == wanted, (
            f"{text}: stage {stage} does {actions}, expected each of {wanted} once"
        )


def played(schedule: list[list[str]], forward: int, backward: int, text: str) -> dict[Node, int]:
    """When each action is done, from the order of its stage and what it needs of others.

    An event graph and its longest paths; asserts that there is no circle.
    """
    last = len(schedule) - 1
    needs: dict[Node, set[Node]] = {}
    for stage, actions in enumerate(schedule):
        for place, action in enumerate(actions):
            needed = {(stage, actions[place - 1])} if place else set()
            if action[0] == "F" and stage > 0:
                needed.add((stage - 1, action))
            if action[0] == "B":
                needed.add((stage, "F" + action[1:]) if stage == last else (stage + 1, action))
            needs[stage, action] = needed
    try:
        order = list(TopologicalSorter(needs).static_order())
    except CycleError as error:
        circle = " <- ".join(f"{action} of stage {stage}" for stage, action in error.args[1])
        raise AssertionError(f"{text}: actions that wait for each other: {circle}") from None
    done: dict[Node, int] = {}
    for node in order:
        begin = max((done[other] for other in needs[node]), default=0)
        done[node] = begin + (forward if node[1][0] == "F" else backward)
    return done


def in_flight(actions: list[str]) -> int:
    """The most micro-batches that a stage holds at one time."""
    held = np.cumsum([1 if action[0] == "F" else -1 for action in actions])
    return int(held.max())


def check_bubble(
    schedule: list[list[str]], microbatches: int, forward: int, backward: int, text: str
) -> None:
    """Every stage idles for stages − 1 slots: (P − 1)/(M + P − 1) of the time."""
    stages = len(schedule)
    seconds = max(played(schedule, forward, backward, text).values())
    wanted = (microbatches + stages - 1) * (forward + backward)
    busy = microbatches * (forward + backward)
    assert seconds == wanted, (
        f"{text}: takes {seconds} with forwards of {forward} and backwards of {backward}, expected "
        f"{wanted}: a bubble of {1 - busy / seconds:.3f}, not {1 - busy / wanted:.3f}"
    )


def check_gpipe(schedule: list[list[str]], text: str) -> None:
    """On every stage no forward after the first backward, and both in the order of micro-batches."""
    for stage, actions in enumerate(schedule):
        where = f"{text}: stage {stage} does {' '.join(actions)}"
        check_rising(actions, where)
        assert "BF" not in "".join(action[0] for action in actions), (
            f"{where}: a forward after a backward"
        )


def check_in_turn(schedule: list[list[str]], microbatches: int, text: str) -> None:
    """On every stage s of P: P − s forwards, or all, before the first backward; then in turn."""
    for stage, actions in enumerate(schedule):
        where = f"{text}: stage {stage} does {' '.join(actions)}"
        check_rising(actions, where)
        kinds = "".join(action[0] for action in actions)
        first, most = kinds.index("B"), min(microbatches, len(schedule) - stage)
        assert first == most, (
            f"{where}: the first backward comes after {first} forwards, not {most}"
        )
        between = kinds[first : kinds.rindex("F") + 1]
        assert "FF" not in between and "BB" not in between, (
            f"{where}: until the forwards are at their end a backward and a forward take turns"
        )


def check_rising(actions: list[str], where: str) -> None:
    """Forwards by themselves, and backwards by themselves, are in the order of micro-batches."""
    for kind, name in (("F", "forwards"), ("B", "backwards")):
        order = [int(action[1:]) for action in actions if action[0] == kind]
        assert order == sorted(order), f"{where}: {name} are not in the order of micro-batches"


def committed_schedules(stages: int, microbatches: int) -> dict[str, list[list[str]]]:
    """GPipe and 1F1B of this size, as they were written down: {"GPipe": …, "1F1B": …}."""
    path = Path(__file__).parent / "golden" / "4_6_schedules.json"
    written = json.loads(path.read_text())[f"{stages} stages, {microbatches} micro-batches"]
    return {name: [stage.split() for stage in found] for name, found in written.items()}


def random_order(rng: np.random.Generator, stages: int, microbatches: int) -> list[list[str]]:
    """Any order that runs: random forwards; the backwards in one random order on all stages."""
    backwards = [int(m) for m in rng.permutation(microbatches)]
    orders: list[list[str]] = [[] for _ in range(stages)]
    while True:
        ready: list[Node] = []
        for stage, mine in enumerate(orders):
            for m in range(microbatches):
                if f"F{m}" not in mine and (stage == 0 or f"F{m}" in orders[stage - 1]):
                    ready.append((stage, f"F{m}"))
            rest = [m for m in backwards if f"B{m}" not in mine]
            if rest and f"F{rest[0]}" in mine:
                if stage == stages - 1 or f"B{rest[0]}" in orders[stage + 1]:
                    ready.append((stage, f"B{rest[0]}"))
        if not ready:
            return orders
        stage, action = ready[int(rng.integers(len(ready)))]
        orders[stage].append(action)


def stage_of(name: str, config: dict[str, Any], stages: int) -> int:
    """The stage that has a parameter."""
    if name.startswith("blocks."):
        stops = np.cumsum(chunk_sizes(config["num_layers"], stages))
        return int(np.searchsorted(stops, int(name.split(".")[1]), side="right"))
    return 0 if name.startswith("embedding") else stages - 1


def make_batch(
    rng: np.random.Generator, config: dict[str, Any], rows: list[int], time: int
) -> dict:
    """Micro-batches of these numbers of rows: {"ids", "targets"}, lists."""
    whole = random_batch(rng, config, sum(rows), time)
    cuts = np.cumsum(rows)[:-1]
    return {key: np.split(value, cuts) for key, value in whole.items()}


def arguments(
    config: dict[str, Any], state: dict[str, np.ndarray], schedule: list[list[str]],
    batches: list[dict[str, Any]],
) -> list[dict[str, Any]]:  # fmt: skip
    """By rank: its own weights, ids on the first and targets on the last, NaN and −1 elsewhere."""
    stages, each = len(schedule), []
    for rank in range(stages):
        own = {n: v if stage_of(n, config, stages) == rank else np.full_like(v, np.nan)
               for n, v in state.items()}  # fmt: skip
        theirs = []
        for batch in batches:
            hidden = {key: [np.full_like(part, -1) for part in parts]
                      for key, parts in batch.items()}  # fmt: skip
            theirs.append({"ids": (batch if rank == 0 else hidden)["ids"],
                           "targets": (batch if rank == stages - 1 else hidden)["targets"]})  # fmt: skip
        each.append({"state": own, "actions": schedule[rank], "batches": theirs})
    return each


def _losses(logits: np.ndarray, targets: list[np.ndarray]) -> np.ndarray:
    """Each micro-batch's part of the mean loss."""
    top = logits.max(-1, keepdims=True)
    logs = logits - top - np.log(np.exp(logits - top).sum(-1, keepdims=True))
    whole = np.concatenate(targets)
    rows = -np.take_along_axis(logs, whole[..., None], -1)[..., 0].sum(1) / whole.size
    return np.array(
        [part.sum() for part in np.split(rows, np.cumsum([len(t) for t in targets])[:-1])]
    )


def check_run(
    group: Any, config: dict[str, Any], state: dict[str, np.ndarray], batches: list[dict[str, Any]],
    text: str, dtype: str = "float64", frozen: list[str] | None = None,
) -> None:  # fmt: skip
    """Losses on the last rank, gradients on each, added up over batches, against one process."""
    stages = len(group.results)
    whole = [{key: np.concatenate(parts) for key, parts in batch.items()} for batch in batches]
    wanted = one_process(config, state, whole, dtype, frozen=frozen)
    totals: dict[str, Any] = {}
    bounds: dict[str, float] = {}
    for place, step in enumerate(wanted["steps"]):
        for name, gradient in step["gradients"].items():
            if gradient is None:
                totals[name] = None
                continue
            totals[name] = totals.get(name, 0.0) + gradient
            size = np.abs(totals[name]).max()
            # A micro-batch is one more sum; so is a batch added to those before.
            more = 4 * U[dtype] * (len(batches[place]["ids"]) + 1) * size
            bounds[name] = bounds.get(name, 0.0) + step["bounds"]["gradients"][name] + more
        for rank, result in enumerate(group.results):
            got = result[place]
            where = f"{text}, batch {place}, rank {rank} of {stages}"
            parts = _losses(step["logits"], batches[place]["targets"])
            losses = parts if rank == stages - 1 else np.zeros(0)
            assert_near(np.array(got["losses"], np.float64), losses, step["bounds"]["loss"],
                        f"{where}: losses by micro-batch",
                        "a micro-batch counts by its share of all rows")  # fmt: skip
            mine = sorted(n for n in totals if stage_of(n, config, stages) == rank)
            assert sorted(got["gradients"]) == mine, (
                f"{where}: parameters {sorted(got['gradients'])}"
            )
            for name in mine:
                found = got["gradients"][name]
                if totals[name] is None:
                    assert found is None, f"{where}: {name} is frozen, and has a gradient"
                    continue
                assert found is not None, f"{where}: {name} has no gradient"
                assert_near(
                    found["value"], totals[name], bounds[name], f"{where}: gradient of {name}"
                )


def expected_events(
    schedule: list[list[str]], rank: int, sizes: list[int]
) -> list[tuple[str, int, int, int]]:
    """(kind, peer, tag, bytes) of what a rank posts and sends, in the order of its actions."""
    found = []
    for action in schedule[rank]:
        m = int(action[1:])
        back = action[0] == "B"
        source, to = (rank + 1, rank - 1) if back else (rank - 1, rank + 1)
        for kind, peer in (("receive", source), ("send", to)):
            if 0 <= peer < len(schedule):
                found.append((kind, peer, 2 * m + back, sizes[m]))
    return found


def check_events(
    group: Any, schedule: list[list[str]], batches: list[dict[str, Any]], width: int, text: str
) -> None:
    """By the switch's record, each rank did its actions, and nothing else, in its own order."""
    for rank in range(len(schedule)):
        wanted = []
        for batch in batches:
            wanted += expected_events(schedule, rank, [ids.size * width for ids in batch["ids"]])
        got = [(e.kind, e.peer, e.tag, e.size)
               for e in group.events if e.rank == rank and e.kind in ("send", "receive")]  # fmt: skip
        for place, (mine, theirs) in enumerate(zip(got, wanted, strict=False)):
            assert mine == theirs, (
                f"{text}: message {place} of rank {rank} is (kind, peer, tag, bytes) = {mine}, "
                f"expected {theirs}; its actions are {' '.join(schedule[rank])}, a receive is "
                "posted when its action starts, tags are 2m forward and 2m + 1 backward"
            )
        assert_equal(len(got), len(wanted), name=f"{text}: messages of rank {rank}")


def check_memory(student: Any, rng: np.random.Generator, schedule: list[list[str]]) -> None:
    """Saved tensors, inputs, outputs and messages: alive for as many micro-batches as are in flight,
    then for none."""
    stages, count = len(schedule), len(schedule[0]) // 2
    config = sizes(num_layers=stages, hidden_size=8, num_heads=2, intermediate_size=6)
    state, batch = random_state(rng, config), make_batch(rng, config, [1] * count, 3)
    each = [
        {"state": a["state"], "actions": a["actions"], "batch": a["batches"][0]}
        for a in arguments(config, state, schedule, [batch])
    ]
    group = student.group(stages, drivers.held, each=each, config=config)
    for rank, found in enumerate(group.results):
        text = f"rank {rank} of {stages}, {' '.join(schedule[rank])}"
        most = in_flight(schedule[rank])
        assert found["most"] == most, (
            f"{text}: something of {found['most']} micro-batches is alive at one time, while {most} are "
            "in flight\nhint: take out of a dictionary what backward needs (`pop`), keep a loss as a "
            "number, and no output, input or graph in a list or in a variable of a loop"
        )
        assert found["end"] == 0, (
            f"{text}: something of {found['end']} micro-batches is alive at the end"
        )
        assert found["gradients"] <= 1, (
            f"{text}: {found['gradients']} gradients that were sent are alive at one time; wait for one "
            "before the next is sent, and let go of it"
        )
