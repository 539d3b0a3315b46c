"""Task 5.3: plans by hand, plans looked at one by one, and answers through the whole engine."""

from __future__ import annotations

import drivers_engine as drivers
import engine_cases as cases
from gradescope_utils.autograder_utils.decorators import number, weight
from scheduling_cases import VOCAB, Watched, follows, play, written

from autograder.testing import Measure


def prompts(rng, *lengths):
    """Random texts."""
    return [rng.integers(0, VOCAB, length).tolist() for length in lengths]


def expect(watched, *plans, hint=""):
    """The next steps have these plans, (request, first position, tokens) each."""
    for wanted in plans:
        before = f"running {watched.running}, waiting {watched.waiting}, {watched.free} blocks free"
        got = watched.step()
        assert got == wanted, f"plan {got}, by hand {wanted}; before it: {before}\nhint: {hint}"


@number("5.3")
@weight(1)
def test_prompts_are_cut_and_answers_run_beside_them(student, rng):
    """Budget 8, three places: prompts of 11, 3, 6 and 2 tokens, step by step; then others."""
    watched = Watched(student, num_blocks=20, block_size=4, token_budget=8, max_sequences=3)
    for prompt, count in zip(prompts(rng, 11, 3, 6, 2), (3, 2, 2, 1), strict=True):
        watched.add(prompt, count)
    expect(
        watched, [(0, 0, 8)], [(0, 8, 3), (1, 0, 3), (2, 0, 2)], [(0, 11, 1), (1, 3, 1), (2, 2, 4)],
        [(0, 12, 1), (2, 6, 1), (3, 0, 2)],
        hint="each gets what it lacks, or what is left of the budget; a free place is taken",
    )  # fmt: skip
    assert not watched.requests, f"all four are complete by now, but not {list(watched.requests)}"
    budget, length = int(rng.integers(3, 9)), int(rng.integers(20, 40))
    watched = Watched(student, num_blocks=60, block_size=4, token_budget=budget)
    watched.add(*prompts(rng, length), 3)
    watched.add(*prompts(rng, 1), 1)
    chunks = [[(0, at, min(budget, length - at))] for at in range(0, length, budget)]
    room = budget - chunks[-1][0][2]
    chunks[-1] += [(1, 0, 1)] * bool(room)
    then = [] if room else [(1, 0, 1)]
    expect(
        watched, *chunks, [(0, length, 1), *then], [(0, length + 1, 1)],
        hint="one rule: num_computed_tokens catches up with num_tokens",
    )  # fmt: skip


@number("5.3")
@weight(1)
def test_the_newest_gives_way(student, rng):
    """A pool of 4 blocks of 2: the newest is preempted, waits at the head, begins anew."""
    watched = Watched(student, num_blocks=4, block_size=2)
    for prompt in prompts(rng, 3, 3):
        watched.add(prompt, 4)
    expect(watched, [(0, 0, 3), (1, 0, 3)], [(0, 3, 1), (1, 3, 1)])
    watched.add(*prompts(rng, 1), 1)
    expect(watched, [(0, 4, 1)], hint="0 needs a third block: 1 is preempted, nobody is admitted")
    assert watched.preempted == 1 and watched.waiting == [1, 2], f"waiting: {watched.waiting}"
    expect(watched, [(0, 5, 1)], hint="1 needs 3 blocks; 2 would fit, but it is behind 1")
    expect(
        watched, [(1, 0, 5), (2, 0, 1)], [(1, 5, 1)],
        hint="a preempted request keeps its tokens; all of them are computed again",
    )  # fmt: skip
    watched = Watched(student, num_blocks=3, block_size=2)
    for prompt, count in zip(prompts(rng, 3, 2), (2, 3), strict=True):
        watched.add(prompt, count)
    expect(
        watched, [(0, 0, 3), (1, 0, 2)], [(0, 3, 1)], hint="1 is the newest itself: it gives way"
    )
    expect(watched, [(1, 0, 3)], [(1, 3, 1)])
    assert watched.answers, "no request was completed"
    watched = Watched(student, num_blocks=4, block_size=2, token_budget=2)
    for prompt in prompts(rng, 3, 3):
        watched.add(prompt, 4)
    expect(watched, [(0, 0, 2)], [(0, 2, 1), (1, 0, 1)], [(0, 3, 1), (1, 1, 1)])
    expect(watched, [(0, 4, 1)], hint="1 was preempted in this very step: it is not admitted in it")
    expect(watched, [(0, 5, 1), (1, 0, 1)], [(1, 1, 2)])


@number("5.3")
@weight(0.8)
def test_guesses_are_computed_and_wrong_ones_again(student, rng):
    """What the step computed behind the first wrong guess does not count; nobody leaves for one."""
    watched = Watched(student, num_blocks=8, block_size=2, token_budget=6, prefix_caching=True)
    first, second = prompts(rng, 2, 2)
    watched.add(first, 12)
    watched.add(second, 12, namespace="other")
    expect(watched, [(0, 0, 2), (1, 0, 2)])
    request = watched.requests[0]
    value = request.values(request.text)[-1]
    right = follows(value)
    wrong = (follows(written("", value, right)) + 1) % VOCAB
    watched.guess(0, [right, wrong, 3])
    expect(watched, [(0, 2, 4), (1, 2, 1)], hint="its token and three guesses: four to compute")
    watched.add([*request.text[:4], wrong, 3, 1], 1)
    expect(
        watched, [(0, 4, 1), (1, 3, 1), (2, 4, 3)],
        hint="of four only two count: the last token, and the guess that was right; a block with a "
        "wrong guess in it is not registered",
    )  # fmt: skip
    watched.guess(0, [0, 0, 0, 0])
    watched.guess(1, [0, 0])
    expect(watched, [(0, 5, 5), (1, 4, 1)], hint="guesses take from the budget like other tokens")
    watched = Watched(student, num_blocks=4, block_size=2)
    for prompt in prompts(rng, 3, 3):
        watched.add(prompt, 5)
    expect(watched, [(0, 0, 3), (1, 0, 3)])
    watched.guess(0, [1, 2, 3])
    expect(
        watched, [(0, 3, 1), (1, 3, 1)], hint="no block is free: drop the guesses, preempt nobody"
    )
    watched.run()


@number("5.3")
@weight(0.8)
def test_an_aborted_request_gives_its_blocks_back_at_once(student, rng):
    """While its prompt is computed, in the queue, preempted, decoding, in the middle of a step."""
    watched = Watched(student, num_blocks=4, block_size=2, token_budget=4)
    for prompt, count in zip(prompts(rng, 7, 3), (2, 4), strict=True):
        watched.add(prompt, count)
    expect(watched, [(0, 0, 4)])
    assert watched.abort(1) and watched.abort(0), "both were there"
    assert watched.free == 4, f"{watched.free} blocks are free of 4, and no request is left"
    assert not watched.abort(0), "there is no request 0 any more"
    for prompt in prompts(rng, 3, 3):
        watched.add(prompt, 4)
    expect(watched, [(2, 0, 3), (3, 0, 1)], [(2, 3, 1), (3, 1, 2)])
    expect(watched, [(2, 4, 1)], hint="2 needs a third block: 3 is preempted")
    assert watched.waiting == [3] and watched.abort(3) and not watched.waiting, (
        "a request that waits can be aborted, and is gone"
    )
    watched.schedule()
    watched.add(*prompts(rng, 2), 2)
    watched.abort(2)
    assert watched.finish() == [] and watched.free == 4, "the step ends without the aborted request"
    expect(watched, [(4, 0, 2)], [(4, 2, 1)])


@number("5.3")
@weight(0.6)
def test_what_never_fits_is_refused_and_what_just_fits_is_served(student, rng):
    """The last token of an answer needs no slot; a head of the queue that is too big now waits."""
    watched = Watched(student, num_blocks=4, block_size=2)
    five, more, small = prompts(rng, 5, 8, 1)
    for prompt, count, fits in (
        (five, 5, False),
        (five, 4, True),
        (more, 2, False),
        (more, 1, True),
    ):
        assert (watched.add(prompt, count) is not None) == fits, (
            f"a prompt of {len(prompt)} and {count} new tokens needs {len(prompt) + count - 1} "
            f"slots of 8: {'it fits' if fits else 'ValueError'}"
        )
    watched.add(small, 2)
    expect(
        watched, [(1, 0, 5)], [(1, 5, 1)], [(1, 6, 1)], [(1, 7, 1)], [(3, 0, 8)], [(4, 0, 1)],
        hint="nobody overtakes the head of the queue, however small",
    )  # fmt: skip


@number("5.3")
@weight(0.8)
def test_cached_prefixes_are_not_computed_again(student, rng):
    """A prompt of whole blocks all cached computes its last one; other namespaces have no part."""
    watched = Watched(student, num_blocks=12, block_size=4, prefix_caching=True)
    (text,) = prompts(rng, 12)
    watched.add(text, 2)
    expect(watched, [(0, 0, 12)])
    watched.add(text, 2)
    expect(
        watched, [(0, 12, 1), (1, 8, 4)], hint="one token at least is computed: its logits matter"
    )
    watched.add(text[:9], 2)
    watched.add(text, 1, namespace="other")
    watched.add([*text[:5], (text[5] + 1) % VOCAB, *text[6:]], 1)
    expect(watched, [(1, 12, 1), (2, 8, 1), (3, 0, 12), (4, 4, 8)])
    watched.run()
    watched.session.call("clear")
    watched.add(text, 1)
    expect(watched, [(5, 0, 12)], hint="after clear_cache nothing is found")
    watched = Watched(student, num_blocks=5, block_size=4, prefix_caching=True)
    watched.add(text[:8], 6)
    watched.add(text[:7], 8)
    expect(watched, [(0, 0, 8), (1, 0, 7)], [(0, 8, 1), (1, 7, 1)], [(0, 9, 1)])
    assert watched.waiting == [1], "1 is preempted: 5 blocks are held, it needs another"
    watched.run()
    assert watched.hits >= 4, "1 begins again behind the block that both have, it is cached"


@number("5.3")
@weight(0.4)
def test_random_operations(student, rng):
    """Requests come, go and guess at random; no block is lost, shared while written, or stale."""
    for caching, blocks, size, budget in ((True, 12, 4, 16), (False, 10, 3, 7)):
        watched = Watched(student, num_blocks=blocks, block_size=size, token_budget=budget,
                          max_sequences=5, prefix_caching=caching)  # fmt: skip
        play(watched, rng, 250)
        watched.run()
        assert watched.free == blocks and watched.answers, (
            f"{watched.free} of {blocks} blocks are free"
        )


@number("5.3")
@weight(1.2)
def test_tokens_are_those_of_each_request_alone(student, rng):
    """A small Llama in float64: the tokens of one request after the other, in fewer steps."""
    weights = cases.drawn_weights(rng, cases.SIZES)
    stem = rng.integers(0, 31, 16).tolist()
    for caching, blocks, budget in ((True, 64, 20), (False, 14, 9)):
        config = {"block_size": 4, "num_blocks": blocks, "token_budget": budget, "max_sequences": 6,
                  "prefix_caching": caching}  # fmt: skip
        events = []
        for place in range(12):
            prompt = (
                stem * (place % 3 == 0) + rng.integers(0, 31, int(rng.integers(1, 20))).tolist()
            )
            sampling = {
                "max_new_tokens": int(rng.integers(1, 16)),
                "stop_ids": [0, 1] * (place % 2),
            }
            events.append({"at": 2 * (place // 2), "prompt": prompt, "sampling": sampling})
        events[-1] = {**events[1], "at": 60, "prompt": events[0]["prompt"][:16]}
        got = student.run(
            drivers.served, sizes=cases.SIZES, weights=weights, config=config, events=events
        )
        alone = cases.all_alone(cases.SIZES, weights, dict(enumerate(events)))
        cases.check_answers(got["answers"], alone, f"{blocks} blocks")
        computed = cases.check_engine_plans(got["plans"], got["preempted"], config)
        uncached = sum(len(e["prompt"]) + len(alone[n]) - 1 for n, e in enumerate(events))
        assert got["end"] == blocks, f"{got['end']} blocks are free at the end, of {blocks}"
        if caching:
            assert computed < uncached, f"{computed} tokens computed, without a cache {uncached}"
        else:
            assert any(got["preempted"]), (
                f"14 blocks are too few for six requests: {got['preempted']}"
            )


@number("5.3")
@weight(0.6)
def test_steps_against_static_batching(student, rng):
    """Trusted: the tokens come from here, to a request only in a step that caught it up."""
    prompt_lengths, lengths = cases.eighty_twenty(rng, 160, 16)
    watched = Watched(student, num_blocks=400, block_size=4, token_budget=64, max_sequences=16)
    for prompt, length in zip(prompts(rng, *prompt_lengths), lengths, strict=True):
        watched.add(prompt, length)
    watched.run()
    static = cases.static_steps(prompt_lengths, lengths, 16, 64)
    ratio = static / watched.steps
    student.measure(Measure(name=f"{static} static steps against {watched.steps}", value=ratio,
                            unit="×", full=2.5))  # fmt: skip
    assert ratio >= 2.5, (
        f"160 requests, 32 of them long: {watched.steps} steps, static batching takes {static}: "
        f"{ratio:.2f}× fewer, asked 2.5×\nhint: who is complete leaves in that step, and the next "
        "one waiting takes the place"
    )
