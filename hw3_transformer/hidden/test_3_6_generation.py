"""Task 3.6, hidden: full caches, branches, bfloat16, independence of rows, sampling, streams."""

from __future__ import annotations

import drivers_generation as drivers
import numpy as np
import torch
from generation_cases import (
    assert_frequencies,
    assert_greedy,
    expected_probabilities,
    kept_tokens,
    logits_after,
    random_prompts,
)
from gradescope_utils.autograder_utils.decorators import number, weight
from scipy import stats
from tiny_model import Sizes, random_weights, reference_logits, tensors

from autograder.testing import as_count, assert_close, assert_equal

SIZES = Sizes(hidden_size=32, num_heads=4, num_kv_heads=2, intermediate_size=48)


@number("3.6")
@weight(0.5)
def test_a_full_cache_refuses_before_it_writes(student, rng):
    """update beyond the capacity: ValueError, and not a single slot has changed; the rest works."""
    for lengths, time in (([4, 4], 3), ([2, 5], 2), ([0, 0], 7), ([6, 1], 1)):
        cache = student.session(
            drivers.cache_program, sizes=SIZES.fields(), batch=2, capacity=6,
            lengths=np.array(lengths),
        )  # fmt: skip
        shape = (2, SIZES.num_kv_heads, time, SIZES.head_dim)
        keys, values = rng.standard_normal((2, *shape)).astype(np.float32)
        before = cache.call("state")
        raised = cache.call("update_raises", layer=1, keys=keys, values=values)
        assert raised == "ValueError", (
            f"{time} more at lengths {lengths} of 6: {raised or 'nothing'}"
        )
        assert_equal(cache.call("state"), before, name="the cache after the refused update")
        room = 6 - max(lengths)
        if room:
            some = {"keys": keys[:, :, :room], "values": values[:, :, :room]}
            got = cache.call("update", layer=1, **some)
            assert np.shape(got["keys"])[2] == 6, "an update that just fits should be taken"


@number("3.6")
@weight(0.75)
def test_branches_of_a_cache_are_their_own(student, rng):
    """repeat, select, truncate: branches of a prompt go on as if each had run alone."""
    weights = random_weights(rng, SIZES)
    prompts, times = random_prompts(rng, SIZES, [3, 6]), 2
    following = rng.integers(0, SIZES.vocab_size, (4, 3))
    rows, keep = [3, 1, 1], [7, 3, 4]
    first, second = student.run(
        drivers.branched_logits, sizes=SIZES.fields(), weights=weights, prompts=prompts,
        times=times, following=following, rows=rows, keep=keep,
    )  # fmt: skip
    wide = tensors(weights)
    texts = [prompts[row // times] + following[row].tolist() for row in range(4)]
    for row, text in enumerate(texts):
        whole = reference_logits(wide, SIZES, torch.tensor([text]))[0, -3:].numpy()
        assert_close(
            first[row], whole, rtol=1e-3, atol=2e-3, name=f"repeat: row {row}",
            hint="copies of a row lie side by side: a, a, b, b",
        )  # fmt: skip
    for place, (row, length) in enumerate(zip(rows, keep, strict=True)):
        text = texts[row][:length] + following[row].tolist()
        whole = reference_logits(wide, SIZES, torch.tensor([text]))[0, -3:].numpy()
        assert_close(
            second[place], whole, rtol=1e-3, atol=2e-3,
            name=f"row {row} selected, cut to {length} positions, and gone on",
        )  # fmt: skip
    cache = student.session(
        drivers.cache_program, sizes=SIZES.fields(), batch=3, capacity=5, dtype="bfloat16",
        lengths=np.array([2, 0, 1]),
    )  # fmt: skip
    shape = (2, 3, SIZES.num_kv_heads, 2, SIZES.head_dim)
    keys, values = rng.integers(-8, 8, shape).astype(np.float32)
    for layer in range(SIZES.num_layers):
        cache.call("update", layer=layer, keys=keys + layer, values=values - layer)
    cache.call("advance", time=2)
    before = cache.call("state")
    assert before["dtype"] == "bfloat16", f"a bfloat16 cache holds {before['dtype']}"
    for method, argument, index in (
        ("select", [2, 0, 2, 1], [2, 0, 2, 1]), ("repeat", 3, [0, 0, 0, 1, 1, 1, 2, 2, 2]),
        ("repeat", 1, [0, 1, 2]), ("select", [1], [1]),
    ):  # fmt: skip
        got = cache.call("derived", operation=method, argument=argument, overwrite=True)
        assert got["dtype"] == "bfloat16", f"{method} changed the type to {got['dtype']}"
        for part, axis in (("keys", 1), ("values", 1), ("lengths", 0)):
            expected = np.take(before[part], index, axis=axis)
            assert_equal(got[part], expected, name=f"{part} of {method}({argument})")
        assert_equal(
            cache.call("state"), before, name=f"the cache after its {method} was written to",
            hint="the new cache is a copy: nothing is shared, nor the lengths",
        )  # fmt: skip
    for lengths in ([5, 0, 1], [1, -1, 1]):
        raised = cache.call("truncate", lengths=lengths, as_tensor=True)
        assert raised == "ValueError", f"truncate({lengths}) at lengths {before['lengths']}"
    assert_equal(cache.call("state"), before, name="the cache after a refused truncate")
    raised = cache.call("truncate", lengths=[0, 1, 3], as_tensor=False)
    assert raised == "", f"truncate([0, 1, 3]), a list, raised {raised}"
    assert_equal(cache.call("state")["lengths"], np.array([0, 1, 3]), name="lengths, truncated")


@number("3.6")
@weight(0.5)
def test_rows_draw_on_their_own(student, rng):
    """Two neighbours drawn in one call are independent, and a seed decides everything."""
    # Pairs of neighbouring rows: 16 cells, each of probability 1/16 if the rows are independent
    # (4 even tokens). 20,000 pairs: a right sampler fails with 1e-7. One number used for all rows
    # fills the diagonal only: each draw of the first pair off it would do, caught but for 1e-300.
    logits = np.zeros((40_000, 4), np.float32)
    options = {"temperature": 1.0}
    ids, _, _ = student.run(drivers.draw, logits=logits, options=options, seed=3)
    pairs = np.asarray(ids)[0::2] * 4 + np.asarray(ids)[1::2]
    assert_frequencies(pairs, np.full(16, 1 / 16), "pairs of neighbouring rows")
    again, _, _ = student.run(drivers.draw, logits=logits, options=options, seed=3)
    assert_equal(again, np.asarray(ids), name="the same seed again")
    other, _, _ = student.run(drivers.draw, logits=logits, options=options, seed=4)
    same = int((np.asarray(other) == np.asarray(ids)).sum())
    # Even chances: 10,000 of 40,000 agree, deviation 87.
    limit = int(stats.binom.isf(1e-9, 40_000, 0.25))
    assert same <= limit, f"another seed gave the same id in {same} of 40,000 rows"
    # Rows with other logits: none takes its neighbour's filter.
    rows = rng.normal(0, 2, (3, 12)).astype(np.float32)
    rows[1, :6], rows[2, 6:] = -np.inf, -np.inf
    draws = 12_000
    ids, _, _ = student.run(
        drivers.draw, logits=np.tile(rows, (draws, 1)), seed=int(rng.integers(2**31)),
        options={"temperature": 3.0, "top_k": 5}, dtype="float64",
    )  # fmt: skip
    for place in range(3):
        expected = expected_probabilities(rows[place], 3.0, top_k=5)
        if expected[expected > 0].min() * draws > 20:
            assert_frequencies(np.asarray(ids)[place::3], expected, f"row {place} of three kinds")


@number("3.6")
@weight(0.5)
def test_extreme_logits(student, rng):
    """A small temperature, one allowed token, bfloat16, huge logits, a vocabulary of 49,152."""
    hard = np.array([[3e4, 2.9e4, -np.inf], [-np.inf, -1e4, -np.inf], [0, 1e34, 2e34]], np.float32)
    for temperature in (1e-6, 1e-2, 1.0):
        ids, _, _ = student.run(
            drivers.draw,
            logits=np.tile(hard, (50, 1)),
            options={"temperature": temperature},
            seed=1,
        )
        assert_equal(np.asarray(ids), np.tile([0, 1, 2], 50), name=f"ids at {temperature}")
    row = rng.permutation(np.array([1.0, 0.5, 0.25, 0, -0.5, -1, -2, -np.inf], np.float32))
    ids, _, _ = student.run(
        drivers.draw, logits=np.tile(row, (20_000, 1)), dtype="bfloat16", seed=int(rng.integers(99)),
        options={"temperature": 0.8, "top_p": 0.9},
    )  # fmt: skip
    assert_frequencies(ids, expected_probabilities(row, 0.8, top_p=0.9), "bfloat16 logits")
    wide = rng.normal(0, 1, (2, 49_152)).astype(np.float32)
    for top_k, top_p in ((0, 0.5), (1000, 0.9)):
        found = [kept_tokens(r, top_k, top_p) for r in wide]
        got, _ = student.run(drivers.filtered, logits=wide, top_k=top_k, top_p=top_p)
        for place, (kept, _) in enumerate(found):
            left = int(np.isfinite(got[place]).sum())
            # The sum passes top_p by about 1/30,000 a token: rounding may move it by a few.
            assert abs(left - len(kept)) <= 5, f"{left} of 49,152 tokens kept, expected {len(kept)}"
            assert np.isfinite(np.asarray(got)[place, kept[: len(kept) - 5]]).all(), "other tokens"


@number("3.6")
@weight(0.5)
def test_generate_samples_as_asked(student, rng):
    """generate: temperature, top-k, top-p and the generator reach the sampler; edge cases."""
    weights = random_weights(rng, SIZES, scale=0.3)
    prompts = random_prompts(rng, SIZES, [3, 8, 1])
    call = {"sizes": SIZES.fields(), "weights": weights, "prompts": prompts, "dtype": "float64"}
    greedy = student.run(drivers.generated, **call, options={"max_new_tokens": 12})["tokens"]
    for row, tokens in enumerate(greedy):
        assert_greedy(weights, SIZES, prompts[row], tokens, f"row {row}")
    hot = {"max_new_tokens": 12, "temperature": 3.0}
    for narrow in ({"top_k": 1}, {"top_p": 1e-6}):
        got = student.run(drivers.generated, **call, options={**hot, **narrow}, seed=1)["tokens"]
        assert_equal(got, greedy, name=f"generate with {narrow} leaves one choice: the text")
    got = student.run(drivers.generated, **call, options={**hot, "top_k": 3}, seed=2)["tokens"]
    again = student.run(drivers.generated, **call, options={**hot, "top_k": 3}, seed=2)["tokens"]
    other = student.run(drivers.generated, **call, options={**hot, "top_k": 3}, seed=3)["tokens"]
    assert_equal(again, got, name="the same seed again")
    # Two draws among the three best agree about every second time: 36 of them with 1e-11.
    assert got != other, "another seed gave the same texts"
    assert got != greedy, "the texts are the greedy ones at temperature 3"
    for row, tokens in enumerate(got):
        logits = logits_after(weights, SIZES, prompts[row], tokens)
        for place, token in enumerate(tokens):
            third = np.sort(logits[place])[-3]
            assert logits[place, token] >= third - 1e-3, (
                f"row {row}, new token {place}: {token} is not among the three best"
            )
    for options, expected in (({"max_new_tokens": 0}, [[], [], []]),):
        got = student.run(drivers.generated, **call, options=options)["tokens"]
        assert_equal(got, expected, name=f"generate with {options}")
    empty = student.run(drivers.generated, **{**call, "prompts": []}, options={"max_new_tokens": 3})
    assert_equal(empty["tokens"], [], name="no prompts")
    student.raises(
        drivers.generated, "ValueError", **{**call, "prompts": [[1], []]},
        options={"max_new_tokens": 3},
    )  # fmt: skip
    first = [row[0] for row in greedy]
    at_once = student.run(
        drivers.generated, **call, options={"max_new_tokens": 5, "stop_ids": first}
    )["tokens"]
    assert_equal(at_once, [[], [], []], name="every row stops at once")


@number("3.6")
@weight(0.5)
def test_a_conversation_runs_only_what_is_new(student, rng):
    """stream: greedy tokens one by one, a history kept in the cache over turns, readers that leave."""
    weights = random_weights(rng, SIZES, scale=0.3)
    turns = random_prompts(rng, SIZES, [5, 3, 1, 4])
    takes = [6, 2, 100, 3]
    got = student.run(
        drivers.conversation, sizes=SIZES.fields(), weights=weights, turns=turns, takes=takes,
        capacity=64, dtype="float64", options={"max_new_tokens": 6},
    )  # fmt: skip
    history: list[int] = []
    cached = 0
    for turn, reply in enumerate(got["tokens"]):
        history += turns[turn]
        assert len(reply) == min(takes[turn], 6), f"turn {turn} gave {len(reply)} tokens"
        assert_greedy(weights, SIZES, history, reply, f"turn {turn} of a conversation")
        new = len(history) - cached
        ran = as_count(got["positions"][turn], "positions")
        assert new + len(reply) - 1 <= ran <= new + len(reply), (
            f"turn {turn} ran {ran} positions; {new} tokens were new, and {len(reply)} were said"
        )
        cached += ran
        history += reply
    assert got["length"] == cached, "cache.lengths is not what was run"
    assert all(mode == [True, True] for mode in got["modes"]), (
        "between two tokens the reader finds the model in eval mode, or gradients switched off"
    )
    call = {"sizes": SIZES.fields(), "weights": weights, "dtype": "float64"}
    options = {"max_new_tokens": 9}
    whole = student.run(drivers.streamed, **call, prompt=turns[0], options=options)
    batch = student.run(drivers.generated, **call, prompts=[turns[0]], options=options)["tokens"]
    assert_equal(whole, batch[0], name="stream's tokens against generate's")
    assert len(whole) == 9, "nine tokens were asked for"
    stop = whole[4]
    until = student.run(
        drivers.streamed, **call, prompt=turns[0], options={**options, "stop_ids": [stop]}
    )
    assert_equal(until, whole[: whole.index(stop)], name="the stream up to a stop token")
    full = student.run(
        drivers.conversation, **call, turns=[turns[0]], takes=[100], capacity=8,
        options={"max_new_tokens": 50},
    )  # fmt: skip
    # 5 positions for the prompt, 3 more: the token after the last has been asked for too.
    assert_equal(full["tokens"][0], whole[:4], name="the stream of a cache that gets full")
    every = list(range(SIZES.vocab_size))  # the first turn says nothing: its prompt is all there is
    for turns_, capacity in (([[1, 2], []], 20), ([[1, 2, 3, 4]], 3)):
        student.raises(
            drivers.conversation, "ValueError", **call, turns=turns_, takes=[9, 9][: len(turns_)],
            capacity=capacity, options={"max_new_tokens": 1, "stop_ids": every},
        )  # fmt: skip
