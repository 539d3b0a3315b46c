"""Task 3.6: the cache against the full forward pass, samplers, generation, speed of a step."""

from __future__ import annotations

import drivers_generation as drivers
import numpy as np
import peers_generation as peers
import torch
from generation_cases import (
    assert_frequencies,
    assert_greedy,
    detection,
    expected_probabilities,
    kept_tokens,
    random_prompts,
    stopping,
)
from gradescope_utils.autograder_utils.decorators import number, partial_credit, weight
from tiny_model import Sizes, random_weights, reference_logits, tensors

from autograder.testing import (
    Hint,
    Measure,
    as_count,
    assert_close,
    assert_equal,
    race,
    reported_by_worker,
    score_ratio,
    speed,
)

SIZES = Sizes(hidden_size=32, num_heads=4, num_kv_heads=2, intermediate_size=48)


@number("3.6")
@weight(1)
def test_the_cache_keeps_what_it_is_given(student, rng):
    """update: each row's keys and values at its own place, as views; mask; lengths."""
    for lengths in ([0, 0, 0], [3, 3, 3], [4, 0, 2]):
        fields = {"sizes": SIZES.fields(), "batch": 3, "capacity": 9}
        cache = student.session(drivers.cache_program, **fields, lengths=np.array(lengths))
        held = np.zeros((2, SIZES.num_layers, 3, SIZES.num_kv_heads, 9, SIZES.head_dim))
        now = np.array(lengths)
        for time in (1, 3, 1):
            used = now.max() + time
            places = now[:, None] + np.arange(time)  # (batch, time)
            mask = cache.call("mask", time=time)
            allowed = np.arange(used) <= places[:, :, None]
            if mask is None:
                assert allowed.all(), f"mask({time}) is None at lengths {now}: nothing is hidden"
            else:
                assert_equal(mask, allowed[:, None], name=f"mask({time}) at lengths {now}")
            for layer in range(SIZES.num_layers):
                shape = (2, 3, SIZES.num_kv_heads, time, SIZES.head_dim)
                new = rng.standard_normal(shape).astype(np.float32)
                for row in range(3):
                    held[:, layer, row, :, places[row]] = new[:, row].transpose(2, 0, 1, 3)
                got = cache.call("update", layer=layer, keys=new[0], values=new[1])
                for name, expected in zip(("keys", "values"), held[:, layer], strict=True):
                    assert_equal(
                        np.asarray(got[name], np.float64), expected[:, :, :used],
                        name=f"{name} of layer {layer}, lengths {now}, {time} more",
                        hint=Hint("row b's token i belongs in slot lengths[b] + i",
                                  shape="up to the longest row's new length, not the capacity"),
                    )  # fmt: skip
                assert got["views"] is True, "update returned copies; views of the cache are asked"
            assert_equal(cache.call("state")["lengths"], now, name="lengths before advance")
            cache.call("advance", time=time)
            now = now + time
        assert_equal(cache.call("state")["lengths"], now, name="lengths after advance")


@number("3.6")
@weight(0.75)
def test_prefill_in_chunks_equals_the_full_forward(student, rng):
    """A text run through the cache in pieces has the logits of one forward pass over all of it."""
    for sizes in (SIZES, Sizes(num_kv_heads=6, tie_embeddings=False), Sizes(num_kv_heads=1)):
        weights = random_weights(rng, sizes)
        ids = rng.integers(0, sizes.vocab_size, (2, 15))
        expected = reference_logits(tensors(weights), sizes, torch.tensor(ids)).numpy()
        for chunks in ([15], [9] + [1] * 6, [4, 5, 6], [1] * 15):
            got, lengths = student.run(
                drivers.logits_in_chunks, sizes=sizes.fields(), weights=weights, ids=ids,
                chunks=chunks,
            )  # fmt: skip
            assert_close(
                got, expected, rtol=1e-3, atol=2e-3, name=f"logits, chunks of {chunks}",
                hint="the first chunk is right? Then positions of the second go on at cache.lengths "
                "(hidden_states), its mask sees what the cache holds, and lengths move once a step",
            )  # fmt: skip
            assert_equal(lengths, np.array([15, 15]), name="cache.lengths at the end")


@number("3.6")
@weight(0.75)
def test_rows_of_different_lengths_do_not_disturb_each_other(student, rng):
    """Prompts padded on the right: every step of every row has the logits of that row alone."""
    weights = random_weights(rng, SIZES)
    for lengths in ([5, 1, 9, 3], [2, 7], [6]):
        prompts = random_prompts(rng, SIZES, lengths)
        following = rng.integers(0, SIZES.vocab_size, (len(lengths), 6))
        got, after = student.run(
            drivers.ragged_logits, sizes=SIZES.fields(), weights=weights, prompts=prompts,
            following=following,
        )  # fmt: skip
        assert np.shape(got) == (len(lengths), 7, SIZES.vocab_size), f"shape {np.shape(got)}"
        for row, prompt in enumerate(prompts):
            ids = torch.tensor([[*prompt, *following[row].tolist()]])
            whole = reference_logits(tensors(weights), SIZES, ids)[0].numpy()
            assert_close(
                got[row], whole[len(prompt) - 1 :], rtol=1e-3, atol=2e-3,
                name=f"logits of row {row}, a prompt of {len(prompt)} beside {lengths}",
                hint="padding must be forgotten: lengths, positions and mask are each row's own",
            )  # fmt: skip
        assert_equal(after, np.array(lengths) + 6, name="cache.lengths at the end")


@number("3.6")
@weight(0.75)
def test_top_k_and_top_p_keep_the_right_tokens(student, rng):
    """filter_logits: exactly k tokens, the smallest set with mass top_p, ties to the lower id."""
    even = np.zeros((2, 8), np.float32)  # each has probability 1/8, exactly
    cases = [(even, 3, 1.0), (even, 0, 0.5), (even, 0, 0.51), (even, 4, 0.75), (even, 0, 0.0)]
    tied = rng.permuted(np.repeat([0.0, 1.0, 2.0], 5)[None].repeat(4, 0), axis=1)
    cases += [(tied.astype(np.float32), k, 1.0) for k in (1, 4, 7, 15, 40)]
    wide = rng.normal(0, 2, (5, 40)).astype(np.float32)
    wide[rng.random((5, 40)) < 0.2] = -np.inf
    cases += [(wide, k, p) for k in (0, 1, 9, 39) for p in (1.0, 0.9, 0.6, 0.05)]
    for logits, top_k, top_p in cases:
        found = [kept_tokens(row, top_k, top_p) for row in logits]
        if logits is wide and min(gap for _, gap in found) < 1e-4:
            continue  # rounding may decide; another draw won't
        got, after = student.run(drivers.filtered, logits=logits, top_k=top_k, top_p=top_p)
        expected = np.full_like(logits, -np.inf)
        for row, (kept, _) in enumerate(found):
            expected[row, kept] = logits[row, kept]
        assert_equal(
            got, expected, name=f"filter_logits(top_k={top_k}, top_p={top_p})",
            hint=Hint("the token that carries the sum to top_p or beyond is kept, the next is not; "
                      "top_p looks at the probabilities of what top_k left"),
        )  # fmt: skip
        assert_equal(after, logits, name="the argument afterwards", hint="do not write into it")


ROW = np.array([2.0, 1.5, 1.2, 0.9, 0.5, 0.2, 0.0, -0.3, -0.7, -1.0, -np.inf], np.float32)


@number("3.6")
@weight(0.75)
def test_samples_have_the_right_frequencies(student, rng):
    """sample: chi-square of 20,000 draws against softmax(logits / temperature), filtered."""
    # A right sampler fails one of the four with probability 4e-7 (1e-7 each). By the non-central
    # chi-square that `detection` computes, these are caught with more than 1 - 1e-12: a temperature
    # that multiplies, one that is ignored, one applied twice, one that is 15% too low; and one
    # applied after top_p, which never draws two of six tokens.
    draws = 20_000
    row = rng.permutation(ROW)
    for options in (
        {"temperature": 1.0}, {"temperature": 1.5}, {"temperature": 0.7, "top_k": 5},
        {"temperature": 2.0, "top_p": 0.7},
    ):  # fmt: skip
        right = expected_probabilities(row, **options)
        t = options["temperature"]
        for wrong in (1 / t, 1.0, t * t, 0.85 * t) if t != 1 else ():
            changed = expected_probabilities(row, **{**options, "temperature": wrong})
            assert detection(right, changed, draws) > 0.999, f"a weak test: {options}, {wrong}"
        ids, kind, _ = student.run(
            drivers.draw, logits=np.tile(row, (draws, 1)), options=options,
            seed=int(rng.integers(2**31)),
        )  # fmt: skip
        assert kind == "torch.int64" and np.shape(ids) == (draws,), f"{kind} of {np.shape(ids)}"
        assert_frequencies(ids, right, f"sample with {options}")


@number("3.6")
@weight(0.5)
def test_greedy_takes_the_first_of_the_largest(student, rng):
    """Temperature 0: the argmax, of equals the lowest id, and no number drawn; bad rows refused."""
    logits = rng.integers(-3, 4, (40, 9)).astype(np.float32)
    logits[rng.random(logits.shape) < 0.2] = -np.inf
    logits[:, 4] = 0.0
    ids, kind, following = student.run(
        drivers.draw, logits=logits, options={"temperature": 0.0, "top_k": 2, "top_p": 0.3}, seed=5
    )
    assert_equal(ids, logits.argmax(axis=1), name="greedy ids")
    assert kind == "torch.int64", f"ids of type {kind}"
    untouched = float(torch.rand((), generator=torch.Generator().manual_seed(5)))
    assert following == untouched, "greedy decoding drew from the generator; it has no need to"
    for wrong, options in (
        (np.full((2, 4), -np.inf), {}), (np.array([[0.0, np.nan]]), {"temperature": 0.0}),
        (np.array([[0.0, 1.0]]), {"temperature": -1.0}), (np.array([[0.0, 1]]), {"top_k": -1}),
        (np.array([[0.0, 1.0]]), {"top_p": 1.5}), (np.array([[0.0, np.inf]]), {}),
    ):  # fmt: skip
        student.raises(
            drivers.draw, "ValueError", logits=wrong.astype(np.float32), options=options, seed=0
        )


@number("3.6")
@weight(0.75)
def test_generate_is_greedy_row_by_row(student, rng):
    """generate: a batch of uneven prompts gets the tokens of a full forward pass, up to a stop."""
    weights = random_weights(rng, SIZES, scale=0.3)
    prompts = random_prompts(rng, SIZES, [4, 1, 11, 4])
    call = {
        "sizes": SIZES.fields(),
        "weights": weights,
        "prompts": prompts,
        "dtype": "float64",
    }  # no tie falls both ways
    got = student.run(drivers.generated, **call, options={"max_new_tokens": 14})["tokens"]
    assert [len(row) for row in got] == [14] * 4, "14 new tokens for each prompt, no prompt in them"
    for row, tokens in enumerate(got):
        assert_greedy(weights, SIZES, prompts[row], tokens, f"row {row} of {len(got)}")
    assert len({tuple(row) for row in got}) > 1, "four prompts gave the same text"
    stops = [got[0][6], got[2][9]]
    stopped = student.run(
        drivers.generated, **call, options={"max_new_tokens": 14, "stop_ids": stops}
    )["tokens"]
    assert_equal(stopped, [stopping(row, stops) for row in got], name=f"texts up to {stops}",
                 hint="the stop token is not part of the answer; other rows go on")  # fmt: skip


@number("3.6")
@weight(0.5)
@reported_by_worker
def test_each_position_is_run_once(student, rng):
    """generate: the prompts once, then one position a row and step; rows that stopped cost none."""
    weights = random_weights(rng, SIZES, scale=0.3)
    prompts = random_prompts(rng, SIZES, [6, 2, 9])
    call = {"sizes": SIZES.fields(), "weights": weights, "prompts": prompts}
    free = student.run(drivers.generated, **call, options={"max_new_tokens": 20})
    stops = [free["tokens"][0][2], free["tokens"][2][5]]
    for options in ({"max_new_tokens": 20}, {"max_new_tokens": 20, "stop_ids": stops}):
        got = student.run(drivers.generated, **call, options=options)
        calls = got["calls"]
        assert calls and (calls[0]["rows"], calls[0]["time"]) == (3, 9), (
            f"the first call should run all prompts, padded to 3 x 9; it ran {calls[:1]}"
        )
        # The last token of a row is asked for, but nothing is asked after it. A stop token is not
        # in the answer, so its row ran once for each token that is.
        steps = sum(min(len(row), 19) for row in got["tokens"])
        ran = sum(as_count(c["rows"], "rows") * as_count(c["time"], "columns") for c in calls[1:])
        student.measure(
            Measure(name="positions run after the prompts", value=ran, unit="", full=steps)
        )
        assert ran == steps, f"{ran} positions ran after the prompts; {steps} are enough"
        assert all(c["time"] == 1 for c in calls[1:]), "a step runs one position a row"
        assert not any(c["training"] or c["grad"] for c in calls), "eval mode, and no gradients"
        assert got["modes kept"] and got["grad after"], "generate left the model in another mode"


TIMED = {
    "vocab_size": 512, "hidden_size": 256, "num_layers": 3, "num_heads": 8, "num_kv_heads": 2,
    "intermediate_size": 688, "max_positions": 1024, "rope_theta": 10_000.0, "norm_eps": 1e-5,
    "tie_embeddings": True,
}  # fmt: skip


def _last_step(student, rng, set_score, length, full, zero):
    seed, steps = int(rng.integers(2**31)), 2
    student.run(drivers.hold_model, sizes=TIMED, seed=seed)
    weights = peers.seeded_weights(TIMED, seed)

    def make_arguments(index):
        context = rng.integers(0, TIMED["vocab_size"], (4, length - steps))
        student.run(drivers.hold_context, context=context, room=steps)
        # Drawn here, sent when the clock runs: no step can be done before.
        following = rng.integers(0, TIMED["vocab_size"], (4, steps))
        return {"context": context, "following": following, "sizes": TIMED, "seed": seed}

    def check(value, arguments):
        ids = np.concatenate([arguments["context"], arguments["following"]], axis=1)
        sizes = Sizes(**TIMED)
        with torch.no_grad():
            expected = reference_logits(weights, sizes, torch.tensor(ids))[:, -steps:].numpy()
        assert_close(value, expected, rtol=1e-3, atol=1e-3, name=f"logits up to {length}")

    result = race(
        student, drivers.next_logits, peers.recomputed_logits, make_arguments, check, pairs=3
    )
    score_ratio(
        student, set_score, 0.5, result.ratio, full=full, zero=zero, name=f"last step at {length}",
        peer="running the whole text again",
    )  # fmt: skip


@number("3.6")
@partial_credit(0.5)
@speed
def test_speed_of_the_last_step_to_256(student, rng, set_score):
    """Steps 255 and 256 on the cache, against running the whole text again for each."""
    _last_step(student, rng, set_score, length=256, full=7.0, zero=2.0)


@number("3.6")
@partial_credit(0.5)
@speed
def test_speed_of_the_last_step_to_512(student, rng, set_score):
    """Steps 511 and 512 on the cache, against running the whole text again for each."""
    _last_step(student, rng, set_score, length=512, full=14.0, zero=4.0)
