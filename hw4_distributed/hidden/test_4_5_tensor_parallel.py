"""Task 4.5, hidden: float32, tied embeddings, frozen weights, other vocabularies, misuse."""

from __future__ import annotations

import drivers_tensor_parallel as drivers
import numpy as np
from gradescope_utils.autograder_utils.decorators import number, weight
from llama_cases import one_process, random_batch, random_state, sizes
from tensor_parallel_cases import (
    check_losses,
    check_step_traffic,
    check_steps,
    loss_case,
    state_by_rank,
)

WORLDS = (1, 2, 3, 4)


@number("4.5")
@weight(1.5)
def test_tied_embeddings_are_one_parameter(student, rng):
    """The head's gradient and the embedding's add up in it, in float64 and float32, step by step."""
    for size in WORLDS:
        config = sizes(tie_embeddings=True, vocab_size=int(rng.integers(size + 1, 40)))
        state = random_state(rng, config)
        batches = [random_batch(rng, config, 3, 4) for _ in range(3)]
        dtype = ("float64", "float32")[size % 2]
        group = student.group(
            size, drivers.steps, each=state_by_rank(config, state, size), config=config,
            batches=batches, lr=0.1, dtype=dtype,
        )  # fmt: skip
        wanted = one_process(config, state, batches, dtype, lr=0.1)
        check_steps(group, config, wanted, size, dtype)
        check_step_traffic(group, config, (3, 4), size, dtype, len(batches))


@number("4.5")
@weight(1.25)
def test_a_model_that_nothing_divides_evenly_in_float32(student, rng):
    """7 heads, an odd inner width, fewer inner columns or ids than ranks; one rank's messages late."""
    shapes = [
        sizes(num_heads=7, hidden_size=28, intermediate_size=13, vocab_size=31),
        sizes(num_heads=4, hidden_size=16, intermediate_size=2, vocab_size=3, num_layers=1),
        sizes(num_heads=3, hidden_size=6, intermediate_size=9, vocab_size=10, num_layers=3),
    ]
    for size, config, slow in zip((2, 4, 3), shapes, ({1: 0.001}, {}, {0: 0.0005}), strict=True):
        state = random_state(rng, config)
        batches = [random_batch(rng, config, 1, 7), random_batch(rng, config, 4, 2)]
        group = student.group(
            size, drivers.steps, each=state_by_rank(config, state, size), slow=slow, config=config,
            batches=batches[:1], dtype="float32",
        )  # fmt: skip
        wanted = one_process(config, state, batches[:1], "float32")
        check_steps(group, config, wanted, size, "float32")
        check_step_traffic(group, config, (1, 7), size, "float32", 1)


@number("4.5")
@weight(1)
def test_losses_of_odd_shapes(student, rng):
    """Fewer ids than ranks, one row, fewer rows than ranks, float32; a target that no rank has."""
    for size in (2, 3, 4):
        masked = loss_case(rng, "a rank whose logits are all −inf", 3, 4 * size)
        masked["whole"][:, 4:8] = -np.inf
        masked["targets"][:] = 1
        cases = [
            loss_case(rng, "fewer ids than ranks", 5, size - 1 or 1),
            loss_case(rng, "one row", 1, 3 * size + 1, dtype="float32"),
            loss_case(rng, "wide", 9, 211, spread=20.0, dtype="float32", scale=-0.5),
            loss_case(rng, "±1e4", 3, 17, spread=1e4, dtype="float32"),
            masked,
        ]
        check_losses(student, drivers.losses, cases, size)
    bad = [{"logits": np.zeros((2, 3)), "targets": np.array(targets), "vocab_size": 6,
            "dtype": "float64"} for targets in ([0, 6], [-1, 3], [-100, 0])]  # fmt: skip
    group = student.group(2, drivers.losses, cases=bad)
    for found in group.results:
        assert found == [{"error": "IndexError"}] * 3, f"targets 6, −1 and −100 of 6: {found}"
    assert group.messages.sum() == 0, "something was sent before the IndexError"


@number("4.5")
@weight(0.5)
def test_frozen_weights_stay_frozen(student, rng):
    """No gradient for them, the right ones for the others, and the same number of all-reduces."""
    config = sizes(num_layers=2)
    state, batches = random_state(rng, config), [random_batch(rng, config, 2, 3)]
    frozen = ["head.weight", "blocks.0.attention.query.weight", "blocks.1.ffn.down.weight",
              "blocks.1.attention_norm.weight", "blocks.0.ffn.up.weight"]  # fmt: skip
    for size in (2, 3):
        group = student.group(
            size, drivers.steps, each=state_by_rank(config, state, size), config=config,
            batches=batches, frozen=frozen,
        )  # fmt: skip
        wanted = one_process(config, state, batches, frozen=frozen)
        check_steps(group, config, wanted, size, "float64")
        check_step_traffic(group, config, (2, 3), size, "float64", 1)


@number("4.5")
@weight(0.25)
def test_fewer_heads_than_ranks_are_refused(student):
    """ValueError where a rank would have no head; with a head each it goes."""
    for size, heads, wanted in ((3, 2, "ValueError"), (4, 4, "none"), (2, 1, "ValueError")):
        config = sizes(num_heads=heads, hidden_size=4 * heads)
        found = student.group(size, drivers.error_of_parallelize, config=config).results
        assert found == [wanted] * size, f"{heads} heads, {size} ranks: {found}, expected {wanted}"
