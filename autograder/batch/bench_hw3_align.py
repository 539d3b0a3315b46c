"""Benchmark of homework 3's alignment: GRPO's toy task on five seeds, scored exactly.

The policy's weights come back from a confined worker; its expected reward is a sum over all
responses, made here by the tests' own forward pass. Nothing sampled, and nothing that the worker
says, decides it.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import numpy as np

from autograder.batch.bench import Row, benchmark, reference_run
from autograder.sandbox.host import REPOSITORY

HOMEWORK = "hw3_transformer"
SEEDS, STEPS, TARGET = 5, 150, 0.85


@benchmark("grpo_toy_reward_worst", "grpo_toy_seeds_learned", "grpo_toy_seconds")
def grpo_toy(work: Path) -> Iterator[Row]:
    """150 steps of GRPO on counting, from five starts; the worst one, and how many reach 0.85."""
    run = reference_run(HOMEWORK, work)
    tests = str(REPOSITORY / HOMEWORK / "tests")
    sys.path.append(tests)
    rewards, seconds = [], []
    try:
        drivers, cases, task = map(
            import_module, ("drivers_reinforcement", "reinforcement_cases", "toy_cases")
        )
        for seed in range(SEEDS):
            rng = np.random.default_rng(seed)
            weights, following = task.toy_weights(rng), task.toy_table(rng)
            student = run.student("bench", forbid_blas=False)
            started = time.perf_counter()
            found = student.run(
                drivers.toy, sizes=cases.TOY.fields(), weights=weights, following=following,
                prompts=task.toy_prompts(rng, STEPS, 16), group_size=16, seed=seed, rate=3e-3,
                timeout=300,
            )  # fmt: skip
            seconds.append(time.perf_counter() - started)
            student.close()
            after = {name: steps[STEPS] for name, steps in found["w"].items()}
            rewards.append(float(task.toy_reward(after, following).mean()))
    finally:
        sys.path.remove(tests)
        run.close()
    note = "expected reward after 150 steps: " + ", ".join(f"{reward:.3f}" for reward in rewards)
    yield Row("grpo_toy_reward_worst", min(rewards), "of 1", "higher", "chance: 0.1", TARGET, note)
    learned = sum(reward >= TARGET for reward in rewards)
    yield Row("grpo_toy_seeds_learned", learned, f"of {SEEDS} seeds", "higher", target=SEEDS)
    yield Row("grpo_toy_seconds", float(np.median(seconds)), "s", "lower", note="16 x 16 responses")
