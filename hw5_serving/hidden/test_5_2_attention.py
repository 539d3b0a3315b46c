"""Task 5.2, hidden: loud keys, odd sizes, nothing at all, random batches."""

from __future__ import annotations

import drivers_blocks as drivers
import numpy as np
from blocks_cases import briefly
from gradescope_utils.autograder_utils.decorators import number, weight
from hypothesis import strategies as st
from paged_cases import batch, compare

from autograder.testing import assert_equal


@number("5.2")
@weight(1.1)
def test_loud_keys(student, rng):
    """Scores of hundreds, rising or falling from tile to tile; whole texts on blocks of odd sizes."""
    for loudness in (200.0, 0.01):
        for size in (1, 16, 200):
            parts = [(389, 1), (256, 1), (120, 20), (383, 1), (0, 3), (127, 1), (128, 1)]
            made = batch(rng, parts, (4, 2), 8, size, loudness=loudness)
            for _, (key, _) in zip(parts, made.texts, strict=True):
                assert np.abs(key).max() > 1, "the keys that were drawn are too small to tell"
            wide = {**made.arguments(), "dtype": "float64"}
            compare(student.run(drivers.attended, **wide), made, f"loudness {loudness}", "float64")
            answer = student.run(drivers.attended, **made.arguments())
            got = np.asarray(answer["out"])
            assert np.isfinite(got).all(), "finite inputs, and a result that is not"


@number("5.2")
@weight(1.1)
def test_nothing_one_and_odd(student, rng):
    """No rows, one head of one number, blocks longer than the text, bfloat16 into a float32 query's
    pool, types of what is written."""
    for heads, width in (((1, 1), 1), ((8, 1), 2), ((12, 4), 64)):
        made = batch(rng, [], heads, width)
        answer = student.run(drivers.attended, **made.arguments())
        assert np.shape(answer["out"]) == (0, heads[0], width), f"shape {np.shape(answer['out'])}"
        for parts in ([(0, 1)], [(0, 1), (0, 1)], [(0, 2)], [(1, 1), (0, 2), (2, 3)]):
            for size in (1, 3, 64):
                made = batch(rng, parts, heads, width, size, behind=np.inf)
                answer = student.run(drivers.attended, **made.arguments())
                compare(answer, made, f"{parts}, {heads} heads of {width}, blocks of {size}")
    made = batch(rng, [], (2, 2), 4)
    rows = np.zeros((0, 2, 4), np.float32)
    got = student.run(drivers.written, pool=made.keys, rows=rows, spans=[])
    assert np.shape(got["slots"]) == (0,) and got["dtype"] == "torch.int64", f"{got['slots']}"
    made = batch(rng, [(3, 4), (9, 1)], (2, 2), 4)
    rows = rng.standard_normal((5, 2, 4)).astype(np.float32)
    got = student.run(
        drivers.written,
        pool=np.zeros_like(made.keys),
        rows=rows,
        spans=made.spans,
        dtype="bfloat16",
    )
    kept = got["pool"][0].reshape(-1, 2, 4)[got["slots"]]
    assert np.abs(kept - rows).max() < 0.02, "rows are turned into the pool's type"
    assert_equal(int((got["pool"] != 0).any((-1, -2)).sum()), 5, name="slots that were written")


@number("5.2")
@weight(1)
def test_any_batch(student, rng):
    """Random lengths, counts, sizes, heads and shared blocks, nan in all other slots."""

    def check(parts, heads, size, shared, seed, strided):
        made = batch(np.random.default_rng(seed), parts, heads, 4, size, shared)
        answer = student.run(drivers.attended, **made.arguments(), strided=strided)
        compare(answer, made, f"{parts} in blocks of {size}")

    part = st.tuples(st.integers(0, 150), st.sampled_from([1, 1, 1, 2, 3, 5, 17]))
    student.given(
        max_examples=40, parts=st.lists(part, min_size=1, max_size=7),
        heads=st.sampled_from([(1, 1), (4, 2), (9, 3), (6, 1)]), size=st.sampled_from([1, 2, 4, 5, 16]),
        shared=st.integers(0, 3), seed=st.integers(0, 10**6), strided=st.booleans(),
    )(briefly(check))()  # fmt: skip
