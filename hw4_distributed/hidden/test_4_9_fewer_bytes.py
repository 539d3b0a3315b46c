"""Task 4.9, hidden: noise of each rank's own, other types and layouts, resumed runs."""

from __future__ import annotations

import drivers_compression as drivers
import numpy as np
from collectives_cases import ROUNDOFF, rounded
from compression_cases import each_of, same_on_all
from gradescope_utils.autograder_utils.decorators import number, weight
from quantized_cases import assert_int8, bound_of_int8, int8_traffic, local_sgd_here
from traffic import in_words, pieces, sent_bytes

from autograder.testing import assert_close, assert_equal


def _marked(size: int, count: int, value: float) -> list[np.ndarray]:
    """The same small value on all ranks, and in each group ±127 that cancel between the ranks.

    The scale of each rank's groups is 1, that of the sum's a few hundredths: of the error, nearly
    all is from the first rounding. `count` is a multiple of size · 256.
    """
    tensors = []
    for rank in range(size):
        own = np.full(count, value, np.float32)
        own[::256] = 127.0 * (-1) ** rank
        tensors.append(own)
    return tensors


@number("4.9")
@weight(0.6)
def test_every_rank_rounds_by_itself(student, rng):
    """Equal gradients on 4 ranks: the errors average out, as a quarter of one rank's variance.

    Errors of the value ½ are ±½, so the mean over ranks has a square of 1/16 on average with noise
    independent from rank to rank, 1/8 where two and two are alike, 1/4 where all are. Squares lie in
    [0, 1/4]: the mean of n = 8160 is off by 0.0078 with a probability of at most
    exp(−2 · 8160 · 0.0078² · 16) = 1.3e-7 on one side: 5e-7 for two calls and both sides. The second
    rounding adds less than 0.002.
    """
    size, count = 4, 8192
    tensors = _marked(size, count, 0.5)
    steps = [[tensors], [tensors]]
    group = student.group(size, drivers.reduce_steps, each=each_of(steps), kind="int8",
                          options={"seed": int(rng.integers(1000))}, shapes=[[(count,)]])  # fmt: skip
    applied = [s[0].astype(np.float64) for s in same_on_all(group.results, "int8")]
    inside = np.arange(count) % 256 != 0
    for call, mean in enumerate(applied):
        square = float(((mean - 0.5)[inside] ** 2).mean())
        assert 1 / 16 - 0.0078 < square < 1 / 16 + 0.0098, (
            f"call {call}: the mean square of the error is {square:.4f} steps², expected 0.0625 with "
            "independent roundings; 0.25 is what equal noise on all ranks gives"
        )
    alike = float((applied[0] == applied[1]).mean())
    assert alike < 0.9, f"two calls round {alike:.0%} of the elements alike: the noise must go on"


@number("4.9")
@weight(0.6)
def test_types_layouts_and_ranks(student, rng):
    """bfloat16, float64, matrices, memory with gaps, 5 ranks, few elements; and late messages."""
    for size, slow in ((2, {}), (3, {1: 0.01}), (5, {})):
        shapes = [("bfloat16", (3, 50), "plain"), ("float64", (700,), "plain"), ("float32", (), "plain"),
                  ("float32", (40, 13), "transposed"), ("float32", (520,), "strided")]  # fmt: skip
        cases = []
        for place, (dtype, shape, layout) in enumerate(shapes):
            drawn = [rounded(rng.standard_normal(shape) * 7.0, dtype) for _ in range(size)]
            cases.append(
                {"tensors": drawn, "dtype": dtype, "layout": layout, "average": place % 2 == 0}
            )
        each = [{"cases": [{**c, "tensor": c["tensors"][r], "tensors": None} for c in cases]}
                for r in range(size)]  # fmt: skip
        group = student.group(size, drivers.int8_reduced, each=each, seed=3, slow=slow)
        found = pieces(group, size, len(cases))
        for place, case in enumerate(cases):
            flat = [np.asarray(t, np.float64).reshape(-1) for t in case["tensors"]]
            exact = np.sum(flat, 0) / (size if case["average"] else 1)
            bound = bound_of_int8(flat, case["average"])
            bound = bound + 1.1 * ROUNDOFF[case["dtype"]] * (np.abs(exact) + bound)
            name = f"{in_words(size)}, {shapes[place]}"
            for rank, result in enumerate(group.results):
                got = result[place]
                assert got["dtype"] == case["dtype"], f"{name}: rank {rank} has {got['dtype']}"
                assert_int8(
                    np.asarray(got["value"]).reshape(-1), exact, bound, f"{name}: rank {rank}"
                )
            assert_equal(sent_bytes(found[place]), int8_traffic(len(exact), size)[0],
                         name=f"{name}: bytes")  # fmt: skip


@number("4.9")
@weight(0.6)
def test_a_resumed_run_gives_the_same_bits(student, rng):
    """The generator's state through a file after step 1 of 4; before the first call there is none."""
    size, sizes = 3, [400, 70]
    steps = [[[rng.standard_normal(n).astype(np.float32) for _ in range(size)] for n in sizes]
             for _ in range(4)]  # fmt: skip
    common = {"kind": "int8", "options": {"seed": 4}, "shapes": [[(400,)], [(70,)]]}
    runs = [
        same_on_all(student.group(size, drivers.reduce_steps, each=each_of(steps), resume_after=after,
                                  **common).results, f"resumed after step {after}")
        for after in (-1, 1)
    ]  # fmt: skip
    for step in range(4):
        for index in range(2):
            assert_equal(runs[1][step][index], runs[0][step][index],
                         name=f"step {step}, bucket {index}, resumed after step 1")  # fmt: skip
            exact = np.mean(steps[step][index], 0, dtype=np.float64)
            assert_int8(runs[0][step][index], exact, bound_of_int8(steps[step][index], True),
                          f"step {step}, bucket {index}")  # fmt: skip


@number("4.9")
@weight(0.6)
def test_local_sgd_resumes_between_two_means(student, rng):
    """Other H and worlds; the count goes through a checkpoint; large float64 values keep their bits."""
    for size, every, after in ((2, 4, 2), (4, 3, 4), (3, 1, 2)):
        steps = 9
        updates = [list(rng.integers(-8, 9, (steps, 4)).astype(np.float32)) for _ in range(size)]
        starts = [float(v) for v in rng.integers(1, 9, size)]
        group = student.group(
            size, drivers.local_steps, every=every, resume_after=after,
            each=[{"updates": u, "start": s} for u, s in zip(updates, starts, strict=True)],
        )  # fmt: skip
        oracle = local_sgd_here(updates, starts, every)
        for rank, result in enumerate(group.results):
            for step, (got, wanted) in enumerate(zip(result["states"], oracle[rank], strict=True)):
                for name, value in wanted.items():
                    exact = name == "wide"
                    assert_close(got[name], value, rtol=1e-13 if exact else 2e-6,
                                 atol=1e-12 if exact else 1e-5,
                                 name=f"{in_words(size)}, every={every}: {name} on rank {rank} after {step} "
                                 f"steps, resumed after step {after + 1}")  # fmt: skip
                    first = group.results[0]["states"][step][name]
                    if step and step % every == 0 and name in ("first", "wide", "moving"):
                        assert np.array_equal(got[name], first), f"{name} differs between the ranks"
