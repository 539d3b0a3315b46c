"""Task 5.11: many adapters in one batch, loaded and removed while requests run."""

from __future__ import annotations

import drivers_versions as drivers
import numpy as np
import peers_adapters as peers
from gradescope_utils.autograder_utils.decorators import number, partial_credit, weight
from versions_cases import drawn_adapters, merged_answers

from autograder.testing import assert_close, assert_equal, race, score_ratio, speed, stands_alone


@number("5.11")
@weight(0.5)
@stands_alone
def test_tokens_of_one_adapter_stand_together(student, rng):
    """A stable order, and where each slot's tokens are in it; −1 has no segment."""
    cases = [rng.integers(-1, 5, 40), np.full(7, -1), np.zeros(3), np.array([3, 0, 3, -1, 0]),
             np.zeros(0)]  # fmt: skip
    cases = [np.asarray(case, np.int64) for case in cases]
    for got, slots in zip(student.run(drivers.segments, slots=cases), cases, strict=True):
        order = np.argsort(slots, kind="stable")
        assert_equal(got["order"], order, name=f"the order of {len(slots)} tokens")
        wanted = []
        for slot in sorted(set(slots[slots >= 0].tolist())):
            start = int((slots < slot).sum())
            wanted.append([slot, start, start + int((slots == slot).sum())])
        assert_equal(got["segments"], wanted, name="slot, start, stop")


@number("5.11")
@weight(1)
@stands_alone
def test_each_token_has_its_own_merged_weights(student, rng):
    """Ranks that differ, tokens without adapter, one token, none: as merged request by request."""
    for tokens, count, wide, tall in ((50, 6, 24, 40), (1, 1, 16, 8), (30, 3, 8, 33), (0, 2, 8, 8)):
        weights = (rng.standard_normal((tall, wide)) / wide**0.5).astype(np.float32)
        adapters = drawn_adapters(rng, count, wide, tall)
        if count == 3:
            adapters[1]["parts"] = {"v": [np.ones((2, wide), np.float32), np.ones((3, 2), np.float32)]}
        x = rng.standard_normal((tokens, wide)).astype(np.float32)
        slots = rng.integers(-1, count, tokens)
        got = student.run(drivers.batch_of_adapters, weight=weights, adapters=adapters, x=x, slots=slots)
        # Sums of ≤ 24 products of size 1 and scale · rank of those: errors below 1e-5 by far.
        assert_close(got, merged_answers(weights, adapters, x, slots), rtol=1e-4, atol=1e-4,
                     name=f"{tokens} tokens, {count} adapters",
                     hint="scale · B · A of the token's own adapter, on top of the base")  # fmt: skip


@number("5.11")
@weight(0.5)
@stands_alone
def test_an_adapter_leaves_after_its_last_request(student, rng):
    """Removed while in use: no new requests, those running keep it; then the slot is free."""
    size = float(rng.integers(1, 5))
    events = [
        ["load", "a", 2, 3, size], ["load", "b", 1, 3, size + 1], ["acquire", "a"], ["acquire", "a"],
        ["remove", "a"], ["acquire", "a"], ["remove", "a"], ["load", "c", 1, 3, 1.0], ["release", 0],
        ["acquire", "b"], ["release", 0], ["load", "c", 4, 3, size], ["acquire", "c"], ["remove", "b"],
        ["release", 1], ["release", 1],
    ]  # fmt: skip
    wanted = [0, 1, 0, 0, None, "KeyError", "KeyError", "RuntimeError", None, 1, None, 0, 0, None, None,
              "ValueError"]  # fmt: skip
    names = [["a", ""]] + [["a", "b"]] * 9 + [["", "b"]] + [["c", "b"]] * 3 + [["c", ""]] * 2
    # Rank · width · entry · scale 2, for a token of ones.
    first, second, third = 2 * 3 * size * 2, 3 * (size + 1) * 2, 4 * 3 * size * 2
    sums = [[first, 0]] + [[first, second]] * 9 + [[0, second]] + [[third, second]] * 3 + [[third, 0]] * 2
    got = student.run(drivers.bank_story, events=events, slots=2, wide=3, tall=5)
    for place, event in enumerate(events):
        name = f"after {place + 1} events, the last {event}"
        assert_equal(got[place]["got"], wanted[place], name=f"the answer {name}")
        assert_equal(got[place]["names"], names[place], name=f"the slots {name}",
                     hint="count the requests of a slot; a leaving adapter goes with the last")  # fmt: skip
        assert_close(got[place]["sums"], np.repeat(np.float32(sums[place])[:, None], 5, 1), rtol=1e-6,
                     name=f"the updates {name}")  # fmt: skip


@number("5.11")
@partial_credit(1)
@speed
@stands_alone
def test_speed_of_many_adapters(student, rng, set_score):
    """Twelve decode steps of 64 requests with 32 adapters, against merge and unmerge for each."""
    wide, tall, count, tokens = 576, 1536, 32, 64

    def make_arguments(index: int) -> dict:
        weights = (rng.standard_normal((tall, wide)) / wide**0.5).astype(np.float32)
        return {
            "weight": weights, "adapters": drawn_adapters(rng, count, wide, tall, (8,)),
            "x": rng.standard_normal((tokens, wide)).astype(np.float32),
            "slots": rng.permutation(np.arange(tokens) % count), "repeats": 12,
        }  # fmt: skip

    def check(value, arguments):
        parts = {k: v for k, v in arguments.items() if k != "repeats"}
        # Sums of 576 products of size 1/24, and of 8 of size 3: float32 rounds by 1e-5 of them.
        assert_close(value, merged_answers(**parts, dtype=np.float32), rtol=1e-3, atol=1e-3,
                     name="the timed answer")  # fmt: skip

    result = race(
        student, drivers.batch_of_adapters, peers.merged_in_turn, make_arguments, check, pairs=3
    )
    # The reference: 8.2 to 10.2 on two busy cores, loading included.
    score_ratio(
        student, set_score, 1, result.ratio, full=6.0, zero=1.2, name="64 requests, 32 adapters",
        peer="merging and unmerging each adapter",
    )  # fmt: skip
