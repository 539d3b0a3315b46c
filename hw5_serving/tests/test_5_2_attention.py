"""Task 5.2: where rows go, and attention over blocks against attention over each text."""

from __future__ import annotations

import drivers_blocks as drivers
import numpy as np
from gradescope_utils.autograder_utils.decorators import number, weight
from paged_cases import Batch, batch, compare

from autograder.testing import Hint, Measure, assert_close, assert_equal


@number("5.2")
@weight(0.9)
def test_rows_are_written_where_the_tables_say(student, rng):
    """slot_mapping in the order of the batch's rows; write_cache in place, and nowhere else."""
    for size in (4, 1, 16):
        made = batch(rng, [(5, 1), (0, 9), (16, 1), (7, 6), (0, 1)], block_size=size)
        rows = rng.standard_normal((len(made.query), 2, 8)).astype(np.float32)
        pool = rng.standard_normal(made.keys.shape).astype(np.float32)
        right = np.stack([pool, pool])
        slots = np.zeros(len(rows), np.int64)
        for span in made.spans:
            for step in range(span["count"]):
                block = span["table"][(span["first"] + step) // size]
                place = (span["first"] + step) % size
                slots[span["start"] + step] = block * size + place
                right[1, block, place] = rows[span["start"] + step]
        got = student.run(drivers.written, pool=pool, rows=rows, spans=made.spans, layers=2)
        assert got["dtype"] == "torch.int64", f"slots are {got['dtype']}"
        assert_equal(
            got["slots"], slots, name=f"slot_mapping, blocks of {size}",
            hint="row start + i is position first + i: block_table[position // block_size] times "
            "block_size, plus position % block_size",
        )  # fmt: skip
        assert_equal(got["pool"], right.astype(np.float64), name="both layers after write_cache",
                     hint="in place, through a view of the pool")  # fmt: skip


@number("5.2")
@weight(1.2)
def test_decoding_and_prefill_in_one_batch(student, rng):
    """Single tokens, whole prompts, later chunks, all lengths mixed, against SDPA of each text."""
    hint = Hint(
        "query head h reads key-value head h // (heads // kv_heads); row i of a span is position "
        "first + i and sees positions 0 … first + i of its own text",
        not_finite="nan lies in every slot that no text has written: mask scores, and never multiply "
        "such values, not even by 0",
    )
    cases = {
        "one token each": [(0, 1), (6, 1), (17, 1), (3, 1)],
        "prompts": [(0, 9), (0, 4), (0, 1)],
        "chunks": [(4, 4), (9, 3), (2, 7)],
        "mixed": [(12, 1), (0, 11), (5, 6), (30, 1), (8, 1), (16, 5)],
        "one": [(21, 1)],
        "another text, as long as the one before": [(21, 1)],
    }
    for heads in ((4, 2), (6, 2), (3, 3), (5, 1)):
        for what, parts in cases.items():
            made = batch(rng, parts, heads)
            answer = student.run(drivers.attended, **made.arguments())
            compare(answer, made, f"{what}, {heads[0]} heads over {heads[1]}", hint=hint)


@number("5.2")
@weight(0.9)
def test_long_texts_beside_short_ones_and_shared_blocks(student, rng):
    """More than one tile, a last tile of one position, one prefix in the tables of many."""
    hint = Hint(
        "a new maximum shrinks sum and mixed values by exp(old - new) before it is used; texts that "
        "are over keep what they have",
        not_finite="of a short text nothing is left in later tiles: exp(-inf - -inf) is nan",
    )
    for lengths in ([256, 128, 129, 1], [300, 20, 257, 127], [513, 255]):
        for size in (16, 7):
            parts = [(length - 1, 1) for length in lengths] + [(lengths[0] - 3, 3), (0, 140)]
            made = batch(rng, parts, (4, 2), block_size=size, loudness=6)
            answer = student.run(drivers.attended, **made.arguments())
            compare(answer, made, f"texts of {lengths}, blocks of {size}", hint=hint)
    made = batch(rng, [(40, 1), (33, 1), (32, 5), (45, 1), (3, 2), (48, 9)], block_size=8, shared=4)
    answer = student.run(drivers.attended, **made.arguments())
    compare(answer, made, "four blocks in many tables", hint=hint)


@number("5.2")
@weight(0.8)
def test_types_and_a_query_with_gaps(student, rng):
    """bfloat16 with sums in float32, float64 all the way, a query that is not contiguous."""
    made = batch(rng, [(300, 1), (0, 40), (77, 1), (100, 30)], (4, 2), 16, 16)
    leaning = Batch(made.query * 0.2, made.keys, made.values + 1, made.spans,
                    [(key, value + 1) for key, value in made.texts])  # fmt: skip
    for dtype in ("float32", "float64", "bfloat16"):
        for strided in (False, True):
            answer = student.run(
                drivers.attended, **leaning.arguments(), dtype=dtype, strided=strided
            )
            compare(
                answer, leaning, f"{dtype}{', every second number of a tensor' * strided}", dtype,
                "scores, weights and sums in float32 at least, in float64 for float64; the result in "
                "the query's type",
            )  # fmt: skip


@number("5.2")
@weight(1)
def test_the_cache_is_never_gathered(student, rng):
    """Peak memory beside two pools of 96 MB, almost all of them one text's."""
    size, kv_heads, width, sent, times = 16, 2, 128, 64, 96
    keys, values = (rng.standard_normal((sent, size, kv_heads, width), np.float32) for _ in "kv")
    order = rng.permutation(sent * times).tolist()
    lengths = [(len(order) - 30) * size - 5, 40, 200, 7]
    query = rng.standard_normal((len(lengths), 4, width), np.float32)
    spans, right = [], np.zeros(query.shape)
    for start, length in enumerate(lengths):
        table, order = order[: -(-length // size)], order[-(-length // size) :]
        spans.append({"start": start, "count": 1, "first": length - 1, "table": table})
        # The pool is 64 blocks over and over: how often the text has each of their positions.
        often = np.zeros((sent, size))
        np.add.at(often, np.array(table) % sent, 1)
        often[table[-1] % sent, length - size * (len(table) - 1) :] -= 1
        for head in range(4):
            scores = keys[:, :, head // 2].astype(np.float64) @ query[start, head] / width**0.5
            weights = often * np.exp(scores - scores.max())
            right[start, head] = (weights[..., None] * values[:, :, head // 2]).sum((0, 1))
            right[start, head] /= weights.sum()
    small = batch(rng, [(length - 1, 1) for length in lengths[1:]], (4, 2), width, size)
    # What the first call imports is no part of it.
    student.run(drivers.attended, **small.arguments())
    memory = student.memory(
        drivers.attended_long, query=query, keys=keys, values=values, times=times, spans=spans,
        timeout=20,
    )  # fmt: skip
    assert_close(memory.value, right, rtol=1e-3, atol=1e-5, name=f"texts of {lengths} positions")
    pools = 2 * keys.nbytes * times
    extra = (memory.extra_bytes - pools) / 2**20
    student.measure(Measure(name="memory beside the pools", value=extra, unit="MB", full=64))
    assert extra < 64, (
        f"{extra:.0f} MB were used beside the two pools of {pools / 2**21:.0f} MB; the longest text's "
        "keys alone are as large as one\nhint: take TILE positions of each text at a time"
    )
