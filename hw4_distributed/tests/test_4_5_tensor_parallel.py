"""Task 4.5: tensor parallelism against one process, and what crosses the switch."""

from __future__ import annotations

from typing import Any

import drivers_tensor_parallel as drivers
import numpy as np
from gradescope_utils.autograder_utils.decorators import number, weight
from llama_cases import one_process, random_batch, random_state, sizes
from tensor_parallel_cases import (
    bounds_of,
    check_losses,
    check_pieces,
    check_step_traffic,
    check_steps,
    loss_case,
    only_part,
    reduce_traffic,
    state_by_rank,
)
from traffic import if_it_says, in_words

from autograder.testing import Measure, assert_equal

WORLDS = (1, 2, 3, 4)


def _integers(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Small integers: their sums are exact in any order."""
    return rng.integers(-9, 10, shape).astype(np.float64)


@number("4.5")
@weight(1.5)
def test_f_sums_backward_and_g_sums_forward(student, rng):
    """Each sums once, in one direction; the upstream gradient is left as it was."""
    for size in WORLDS:
        shapes = [
            ((3, 4), (3, 4)),
            ((2, 3, 5), (2, 3, 5)),
            ((7,), ()),
            ((size - 1, 2), (size - 1, 2)),
        ]
        cases = [
            {"operator": operator, "transposed": place % 2 == 1, "all_x": _integers(rng, size, *shape),
             "all_up": _integers(rng, size, *up)}
            for operator in "fg" for place, (shape, up) in enumerate(shapes)
        ]  # fmt: skip
        each = [
            {"cases": [{"operator": c["operator"], "transposed": c["transposed"],
                        "x": c["all_x"][rank], "upstream": c["all_up"][rank]} for c in cases]}
            for rank in range(size)
        ]  # fmt: skip
        with if_it_says(
            "single memory location",
            "backward of a sum hands on one number, expanded, and the residual branch may have the same "
            "tensor: all-reduce a clone of the upstream gradient, contiguous, and return that",
        ):
            group = student.group(size, drivers.conjugates, each=each)
        wanted = []
        for place, case in enumerate(cases):
            x, f = case["all_x"], case["operator"] == "f"
            up = np.zeros_like(x) + case["all_up"].reshape(
                size, *case["all_up"].shape[1:] or (1,) * (x.ndim - 1)
            )
            text = f"{case['operator']} of shape {x.shape[1:]}, {in_words(size)}"
            for rank, result in enumerate(group.results):
                got = result[place]
                assert_equal(got["y"]["value"], x[rank] if f else x.sum(0),
                             name=f"{text}: forward on rank {rank}")  # fmt: skip
                assert_equal(got["gradient"]["value"], up.sum(0) if f else up[rank],
                             name=f"{text}: gradient on rank {rank}",
                             hint="f and g are conjugate: one sums forward, the other backward")  # fmt: skip
                assert_equal(got["x"]["value"], x[rank], name=f"{text}: x afterwards")
                assert got["intact"] is True, (
                    f"{text}: the upstream gradient was written into: all-reduce a clone of it, for "
                    "the residual branch may have the same tensor"
                )
            once, never = (reduce_traffic(x[0].size, size, 8, times) for times in (1, 0))
            wanted += [(f"{text}, forward", never if f else once, "one all-reduce at most"),
                       (f"{text}, backward", once if f else never, "one all-reduce at most")]  # fmt: skip
        check_pieces(group, size, wanted)


def _layer_cases(rng: np.random.Generator, size: int) -> list[dict[str, Any]]:
    """A column, a row, an mlp: widths that no world divides evenly, and fewer columns than ranks."""
    cases = []
    for inner in (4 * size + 3, size - 1 or 1):
        w_in, w_out, x = (_integers(rng, *s) for s in ((inner, 5), (6, inner), (2, 3, 5)))
        up = _integers(rng, 2, 3, inner)
        cases.append({"kind": "column", "weights": [w_in], "inner": inner, "x": x, "upstream": up,
                      "y": x @ w_in.T, "grads": [up.reshape(-1, inner).T @ x.reshape(-1, 5)],
                      "dx": up @ w_in})  # fmt: skip
        h, up = _integers(rng, 2, 3, inner), _integers(rng, 2, 3, 6)
        cases.append({"kind": "row", "weights": [w_out], "inner": inner, "x": h, "upstream": up,
                      "y": h @ w_out.T, "grads": [up.reshape(-1, 6).T @ h.reshape(-1, inner)],
                      "dx": up @ w_out})  # fmt: skip
        w_up = _integers(rng, inner, 5)
        a, b = x @ w_in.T, x @ w_up.T
        back = up @ w_out
        flat = [t.reshape(-1, t.shape[-1]) for t in (x, a, b, back, up)]
        cases.append({"kind": "mlp", "weights": [w_in, w_up, w_out], "inner": inner, "x": x,
                      "upstream": up, "y": (a * b) @ w_out.T, "dx": back * b @ w_in + back * a @ w_up,
                      "grads": [(flat[3] * flat[2]).T @ flat[0], (flat[3] * flat[1]).T @ flat[0],
                                flat[4].T @ (flat[1] * flat[2])]})  # fmt: skip
    return cases


def _layer_args(case: dict[str, Any], size: int, rank: int) -> dict[str, Any]:
    part = slice(*bounds_of(case["inner"], size, rank))
    by_rows = [w.shape[0] == case["inner"] for w in case["weights"]]
    weights = [
        only_part(w, (part,) if rows else (slice(None), part))
        for w, rows in zip(case["weights"], by_rows, strict=True)
    ]
    x, up = case["x"], case["upstream"]
    return {"kind": case["kind"], "weights": weights, "bounds": [part.start, part.stop],
            "x": x[..., part] if case["kind"] == "row" else x,
            "upstream": up[..., part] if case["kind"] == "column" else up}  # fmt: skip


@number("4.5")
@weight(1.5)
def test_columns_rows_and_an_mlp_of_both(student, rng):
    """Outputs and gradients exact; one all-reduce where it is due; uneven and empty parts."""
    for size in WORLDS:
        cases = _layer_cases(rng, size)
        each = [{"cases": [_layer_args(c, size, r) for c in cases]} for r in range(size)]
        group = student.group(size, drivers.layers, each=each)
        wanted = []
        for place, case in enumerate(cases):
            text = f"{case['kind']} with {case['inner']} inner columns, {in_words(size)}"
            for rank, result in enumerate(group.results):
                got, part = result[place], slice(*bounds_of(case["inner"], size, rank))
                y = case["y"][..., part] if case["kind"] == "column" else case["y"]
                dx = case["dx"][..., part] if case["kind"] == "row" else case["dx"]
                assert_equal(got["y"]["value"], y, name=f"{text}: output on rank {rank}")
                assert_equal(got["x"]["value"], dx, name=f"{text}: input's gradient on rank {rank}",
                             hint="each rank knows the part of it that its own columns give")  # fmt: skip
                for w, g, mine in zip(case["weights"], case["grads"], got["weights"], strict=True):
                    own = g[part] if w.shape[0] == case["inner"] else g[:, part]
                    assert_equal(mine["value"], own, name=f"{text}: a weight's gradient")
            sums = [reduce_traffic(case[k].size, size, 8, 1) for k in ("y", "dx")]
            never = reduce_traffic(0, size, 8, 0)
            hint = "a column layer sums backward, a row layer forward, an mlp once each way"
            wanted += [
                (f"{text}, forward", never if case["kind"] == "column" else sums[0], hint),
                (f"{text}, backward", never if case["kind"] == "row" else sums[1], hint),
            ]
        check_pieces(group, size, wanted)


@number("4.5")
@weight(1)
def test_an_embedding_whose_rows_are_divided(student, rng):
    """Each id's row from the rank that has it, and its gradient there; no rank has it: IndexError."""
    for size in WORLDS:
        cases, answers = [], []
        for vocab, ids in (
            (4 * size + 1, np.arange(4 * size + 1)), (9, rng.integers(0, 9, (3, 5))),
            (max(1, size - 1), np.zeros((2, 2), np.int64)), (7, np.full((4,), 6)),
        ):  # fmt: skip
            weight_, up = _integers(rng, vocab, 3), _integers(rng, *ids.shape, 3)
            wanted = np.zeros_like(weight_)
            np.add.at(wanted, ids, up)
            cases.append({"weight": weight_, "ids": ids, "upstream": up})
            answers.append((weight_[ids], wanted))
        each = []
        for rank in range(size):
            mine = [{**c, "weight": only_part(c["weight"], (slice(*bounds_of(len(c["weight"]), size, rank)),))}
                    for c in cases]  # fmt: skip
            each.append({"cases": mine})
        group = student.group(size, drivers.embeddings, each=each)
        pieces_ = []
        for place, (y, gradient) in enumerate(answers):
            vocab = len(gradient)
            text = f"a vocabulary of {vocab}, {in_words(size)}"
            for rank, result in enumerate(group.results):
                part = slice(*bounds_of(vocab, size, rank))
                assert "error" not in result[place], f"{text}: {result[place]['error']}"
                assert_equal(result[place]["y"]["value"], y, name=f"{text}: rows on rank {rank}",
                             hint=f"rank {rank} has rows {part.start} to {part.stop}: zeros for other ids")  # fmt: skip
                assert_equal(result[place]["weight"]["value"], gradient[part],
                             name=f"{text}: gradient of rank {rank}'s rows")  # fmt: skip
            pieces_ += [(text, reduce_traffic(y.size, size, 8, 1), "one all-reduce of the rows"),
                        (f"{text}, backward", reduce_traffic(0, size, 8, 0), "nothing to send")]  # fmt: skip
        check_pieces(group, size, pieces_)
    bad = [{"weight": np.ones((5, 2)), "ids": np.array(ids), "upstream": np.ones((2, 2))}
           for ids in ([0, 5], [-1, 2])]  # fmt: skip
    group = student.group(2, drivers.embeddings, cases=bad)
    for found in group.results:
        assert found == [{"error": "IndexError"}] * 2, f"ids 5 and −1 of 5 rows: {found}"
    assert group.messages.sum() == 0, "something was sent before the IndexError"


@number("4.5")
@weight(1.5)
def test_the_loss_sends_three_numbers_a_row(student, rng):
    """±1e4 logits, targets on another rank, weighted losses; bytes and messages by the switch."""
    for size in WORLDS:
        vocab = 5 * size + 2
        far = loss_case(rng, "logits of 1e4", 6, vocab, spread=1e4)
        last = loss_case(rng, "targets on the last rank", 5, vocab)
        last["targets"][:] = vocab - 1
        first = loss_case(rng, "targets on the first rank", size - 1 or 1, vocab)
        first["targets"][:] = 0
        apart = loss_case(rng, "one rank 1e4 below the others", 4, vocab)
        apart["whole"][:, : vocab // size] -= 1e4
        cases = [
            loss_case(rng, "any", 7, vocab, scale=3.0), far, last, first, apart,
            loss_case(rng, "all logits near −1e4", 4, vocab, shift=-1e4),
            loss_case(rng, "all logits near 1e4, float32", 4, vocab, shift=1e4, dtype="float32"),
        ]  # fmt: skip
        numbers = check_losses(student, drivers.losses, cases, size)
    student.measure(Measure(name="numbers a row all-reduced for the loss, 4 ranks", value=numbers))


@number("4.5")
@weight(2)
def test_a_divided_model_is_one_process_with_two_all_reduces_a_block_each_way(student, rng):
    """Logits, loss, every gradient in float64, steps of descent; NaN stands for other ranks' parts.
    Once with tied embeddings."""
    for size in WORLDS:
        config = sizes(num_layers=1 + size % 2)
        state = random_state(rng, config)
        batches = [random_batch(rng, config, 2, 5) for _ in range(2)]
        wanted = one_process(config, state, batches, lr=0.2)
        group = student.group(
            size, drivers.steps, each=state_by_rank(config, state, size), config=config,
            batches=batches, lr=0.2,
        )  # fmt: skip
        check_steps(group, config, wanted, size, "float64")
        check_step_traffic(group, config, (2, 5), size, "float64", len(batches))
    config = sizes(num_layers=1, tie_embeddings=True)
    state, batches = random_state(rng, config), [random_batch(rng, config, 2, 3) for _ in range(2)]
    group = student.group(2, drivers.steps, each=state_by_rank(config, state, 2), config=config,
                          batches=batches, lr=0.2)  # fmt: skip
    check_steps(group, config, one_process(config, state, batches, lr=0.2), 2, "float64")
