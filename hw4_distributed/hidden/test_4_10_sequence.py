"""Task 4.10, hidden: poisoned chunks, late ranks, five ranks, empty batches, layers in a row."""

from __future__ import annotations

import drivers_sequence as drivers
import numpy as np
from gradescope_utils.autograder_utils.decorators import number, weight
from llama_cases import assert_near
from sequence_cases import (
    attention_case,
    attention_oracle,
    chunk_of,
    mixture_args,
    mixture_case,
    mixture_oracle,
    run_attentions,
    run_mixtures,
    tokens_of,
)


@number("4.10")
@weight(0.7)
def test_what_is_hidden_is_never_computed_with(student, rng):
    """NaN in the last rank's keys and values: no other rank's output or query gradient has it."""
    for size in (2, 4):
        case = attention_case(rng, size, 3, True)
        last = slice((size - 1) * 3, None)
        clean = attention_oracle(case)
        for name in ("key", "value"):
            case[name][:, :, last] = np.nan
        each = [{"cases": [chunk_of(case, rank)]} for rank in range(size)]
        group = student.group(size, drivers.ring_attentions, each=each)
        for rank in range(size - 1):
            place = slice(rank * 3, rank * 3 + 3)
            for name in ("output", "query"):
                wanted, bound = clean[name]
                assert_near(
                    group.results[rank][0][name]["value"], wanted[:, :, place], bound,
                    f"{name} of rank {rank} of {size} where the last chunk is NaN",
                    "0 · NaN is NaN: a hidden chunk is passed on and not computed with",
                )  # fmt: skip


@number("4.10")
@weight(1)
def test_five_ranks_one_position_each_and_late_ones(student, rng):
    """Other sizes, float32, ranks whose messages are late, nothing recorded."""
    for size in (3, 5):
        cases = [
            attention_case(rng, size, 1, True, batch=1, heads=1, width=2),
            attention_case(rng, size, 7, False, "float32", batch=1, heads=2, width=8),
            attention_case(rng, size, 2, True, largest=1e4, transposed=True),
        ]
        run_attentions(student, drivers.ring_attentions, cases, size)
    case = attention_case(rng, 3, 4, True)
    each = [{"cases": [chunk_of(case, r)] * 2} for r in range(3)]
    group = student.group(3, drivers.attention_without_a_graph, each=each, slow={1: 0.01})
    wanted, bound = attention_oracle(case)["output"]
    for rank, results in enumerate(group.results):
        for found in results:
            place = slice(rank * 4, rank * 4 + 4)
            assert_near(found["value"], wanted[:, :, place], bound, f"output on rank {rank}")


@number("4.10")
@weight(0.9)
def test_more_experts_fewer_tokens_and_inputs_without_gradient(student, rng):
    """Other sizes, nobody has a token, x without gradient on ranks without experts, top_k = all."""
    for size in (3, 4, 5):
        tokens = rng.integers(0, 12, size).tolist()
        cases = [
            mixture_case(rng, tokens, 2 * size + 1, 3, hidden=4, inner=5),
            mixture_case(rng, [0] * size, 5, 2),
            mixture_case(rng, [4] * size, size - 1, 1, needs_grad=False),
            mixture_case(rng, [3] * size, 2, 2, needs_grad=False),
            mixture_case(rng, [4] * (size - 1) + [0], size + 2, 2, kind="ties"),
            mixture_case(rng, [2] * size, size, size, kind="not rank 0"),
        ]
        run_mixtures(student, drivers.mixtures, cases)


@number("4.10")
@weight(0.4)
def test_layers_in_a_row_and_an_empty_balance_loss(student, rng):
    """Three passes with no barrier between, a rank late; the loss of no tokens is 0."""
    case = mixture_case(rng, [3, 5, 2], 7, 2)
    each = [{"case": mixture_args(case, rank)} for rank in range(3)]
    group = student.group(3, drivers.mixture_without_a_graph, each=each, steps=3, slow={0: 0.01})
    x = case
    for step in range(3):
        y = mixture_oracle(x)["output"]
        bound = 1e-11 * max(1.0, float(np.abs(y).max()))
        for rank, result in enumerate(group.results):
            assert_near(result[step]["value"], y[None, tokens_of(case, rank)], bound,
                        f"pass {step}, rank {rank}")  # fmt: skip
        x = {**x, "x": y}
    empty = {"logits": np.zeros((0, 4)), "chosen": np.zeros((0, 2), np.int64), "scale": 1.0}
    (found,) = student.run(drivers.balance_losses, cases=[empty])
    assert_near(found["loss"]["value"], np.array(0.0), 0.0, "balance loss of no tokens")
    assert found["gradient"]["value"].shape == (0, 4), "the gradient has the logits' shape"
