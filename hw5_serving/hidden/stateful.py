"""The reference under random operations: a check for staff.

    OMP_NUM_THREADS=1 python hidden/stateful.py --operations 10000 --seed 1

Scheduler and block manager without a model: requests come, are aborted between and in the middle of
steps, are preempted by pools that are too small, guess, and the cache is cleared; every plan must be
the one right plan, every slot that is read must hold its request's text. Then the engine with small
Llamas in float64: versions staged, activated and rolled back, look-up or a draft; every answer must
be the one that the request gets alone from the version it began on. A difference ends in an
exception.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import zlib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT.parent), str(ROOT / "tests")]
import serving

serving.__path__.insert(0, str(ROOT / "solution" / "serving"))
import drivers_engine as drivers
import engine_cases as cases
import numpy as np
import torch
from scheduling_cases import play

from serving.config import EngineConfig
from serving.engine import Engine
from serving.sequence import SamplingParams
from serving.versions import VersionedWeights, WeightsError, state_checksum

POOLS = (  # blocks, tokens of a block, budget, places, prefix caching
    (12, 4, 16, 6, True), (25, 2, 9, 4, True), (40, 1, 30, 9, True), (60, 3, 40, 12, True),
    (10, 3, 7, 4, False), (30, 1, 40, 8, False), (16, 2, 5, 1, True), (8, 4, 64, 9, False),
)  # fmt: skip
PROPOSERS = ("none", "look-up", "draft")
# The public file of tests has the same name.
SPEC = importlib.util.spec_from_file_location("hidden_5_3", ROOT / "hidden/test_5_3_scheduler.py")
hidden_tests = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(hidden_tests)


class Here:
    """Stands for the `student` fixture: a session's methods are called in this process."""

    def session(self, driver: Any, **arguments: Any) -> Any:
        """The driver's object behind `call`, as the tests know it."""
        made = driver(**arguments)
        made.call = lambda method, **given: getattr(made, method)(**given)
        return made


def plans(rng: np.random.Generator, operations: int) -> None:
    """The scheduler in every pool."""
    for blocks, size, budget, places, caching in POOLS:
        watched = hidden_tests.Exact(
            Here(), num_blocks=blocks, block_size=size, token_budget=budget, max_sequences=places,
            prefix_caching=caching,
        )  # fmt: skip
        play(watched, rng, operations // len(POOLS))
        watched.run()
        assert watched.free == blocks, f"{watched.free} blocks are free at the end, of {blocks}"
        print(
            f"{blocks} blocks of {size}: {watched.steps} steps, {len(watched.answers)} answers, "
            f"{watched.preempted} preempted, {watched.hits} tokens cached, {watched.right} guessed"
        )


class Served:
    """An engine over versioned weights, and what the oracle needs of every request."""

    def __init__(self, rng: np.random.Generator, kind: str) -> None:
        self.rng, self.kind = rng, kind
        self.states = {"v0": cases.drawn_weights(rng, cases.SIZES)}
        self.weights = VersionedWeights(drivers.llama(cases.SIZES, self.states["v0"]), "v0")
        self.proposer = drivers.proposer({
            "none": None, "look-up": {"longest": 3, "shortest": 1},
            "draft": {"sizes": cases.SIZES, "weights": self.states["v0"]},
        }[kind])  # fmt: skip
        config = EngineConfig(block_size=3, num_blocks=15, token_budget=14, max_sequences=6)
        self.engine = Engine(self.weights, config, proposer=self.proposer)
        self.asked: dict[int, tuple[list[int], SamplingParams]] = {}
        self.begun: dict[int, str] = {}  # the version of the first step
        self.answered = self.aborted = self.changes = 0
        self.stems = [rng.integers(0, 31, 12).tolist() for _ in range(2)]

    def submit(self) -> None:
        """A request with a shared beginning."""
        stem = self.stems[int(self.rng.integers(2))][: int(self.rng.integers(0, 13))]
        prompt = stem + self.rng.integers(0, 31, int(self.rng.integers(1, 6))).tolist()
        stop = (int(self.rng.integers(31)),) * int(self.rng.integers(2))
        sampling = SamplingParams(max_new_tokens=int(self.rng.integers(1, 13)), stop_ids=stop)
        self.asked[self.engine.submit(prompt, sampling)] = prompt, sampling

    def change(self) -> None:
        """Another version, or back."""
        if self.rng.random() < 0.3:
            try:
                self.engine.rollback()
            except WeightsError:
                return  # none before this one
        else:
            name = f"v{self.changes + 1}"
            self.states[name] = cases.drawn_weights(self.rng, cases.SIZES)
            state = {key: torch.tensor(array) for key, array in self.states[name].items()}
            self.weights.stage(name, state, state_checksum(state))
            self.engine.activate(name)
        self.changes += 1

    def step(self) -> None:
        """One step; what ended with it is compared."""
        ended = self.engine.step()
        for number, _, _ in self.engine.history[-1].counts:
            sequence = self.engine.sequences.get(number)
            if sequence is not None:
                known = self.begun.setdefault(number, sequence.version)
                assert known == sequence.version, f"request {number} began on {known}"
        for sequence in ended:
            number = sequence.request_id
            prompt, sampling = self.asked.pop(number)
            version = self.begun.pop(number, sequence.version)
            alone = cases.greedy(
                cases.SIZES,
                self.states[version],
                prompt,
                sampling.max_new_tokens,
                sampling.stop_ids,
            )
            assert sequence.answer == alone, (
                f"{number} of {version}: {sequence.answer}, not {alone}"
            )
            self.answered += 1

    def check(self) -> None:
        """No block lost, held by nobody, or free and held."""
        blocks = self.engine.blocks
        tables = [s.block_table for s in self.engine.sequences.values()]
        held = np.bincount([b for t in tables for b in t], minlength=blocks.num_blocks)
        assert held.tolist() == blocks.ref_counts, f"held {held}, counted {blocks.ref_counts}"
        assert sorted(blocks.free_blocks) == np.flatnonzero(held == 0).tolist(), "free and held"


def engines(rng: np.random.Generator, operations: int) -> None:
    """The engine with every proposer."""
    for kind in PROPOSERS:
        served = Served(rng, kind)
        for _ in range(operations // len(PROPOSERS)):
            chance = rng.random()
            if chance < 0.25:
                served.submit()
            elif chance < 0.29 and served.asked:
                number = int(rng.choice(list(served.asked)))
                assert served.engine.abort(number), f"request {number} is there, and was not aborted"
                served.asked.pop(number), served.begun.pop(number, None)
                served.aborted += 1
            elif chance < 0.32:
                served.change()
            elif chance < 0.33:
                served.engine.blocks.clear_cache()
            elif served.engine.busy:
                served.step()
            served.check()
        while served.engine.busy:
            served.step()
            served.check()
        assert not served.asked, f"no answer to {list(served.asked)}"
        texts = getattr(served.proposer, "texts", {})
        assert not texts, f"the draft keeps the texts of {list(texts)}"
        assert len(served.weights.versions) <= 2, f"in memory: {served.weights.versions}"
        preempted = sum(len(plan.preempted) for plan in served.engine.history)
        print(
            f"engine, guesses by {kind}: {served.answered} answers, {served.aborted} aborted, "
            f"{preempted} preempted, {served.changes} changes of version"
        )


def main() -> None:
    """Both parts; the engine gets three operations where the scheduler gets ten."""
    parser = argparse.ArgumentParser(description="the reference under random operations")
    parser.add_argument("--operations", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    for name, part, count in (("plans", plans, 10), ("engines", engines, 3)):
        rng = np.random.default_rng([asked.seed, zlib.crc32(name.encode())])
        part(rng, asked.operations * count // 10)
    print(f"{asked.operations} operations with seed {asked.seed}: all right")


if __name__ == "__main__":
    main()
