"""Task 5.4, hidden: look-up against a search, verification at its edges, sampling end to end."""

from __future__ import annotations

import drivers_engine as drivers
import engine_cases as cases
import numpy as np
from gradescope_utils.autograder_utils.decorators import number, weight

from autograder.testing import assert_close, reported_by_worker, stands_alone


def plain_look_up(text, count, longest, shortest):
    """All earlier places of all lengths, the best of them."""
    places = [
        (size, end)
        for end in range(1, len(text))
        for size in range(shortest, min(longest, end) + 1)
        if text[end - size : end] == text[len(text) - size :]
    ]
    if not places:
        return []
    whole, (_, end) = list(text), max(places)
    while len(whole) < len(text) + count:
        whole.append(whole[end + len(whole) - len(text)])
    return whole[len(text) :]


@number("5.4")
@stands_alone
@weight(0.6)
def test_look_up_in_random_texts(student, rng):
    """Short and long texts over few tokens, n-grams of all lengths."""
    questions = []
    for place in range(400):
        low = int(rng.integers(1, 4))
        text = rng.integers(0, int(rng.integers(1, 5)), int(rng.integers(0, 14))).tolist()
        questions.append({"tokens": text, "count": int(rng.integers(0, 7)), "shortest": low,
                          "longest": low + int(rng.integers(0, 3))})  # fmt: skip
        if place % 40 == 0:
            questions[-1]["tokens"] = rng.integers(0, 30, 2000).tolist()
    found = student.run(drivers.looked_up, cases=questions)
    for case, got in zip(questions, found, strict=True):
        wanted = plain_look_up(case["tokens"], case["count"], case["longest"], case["shortest"])
        assert got == wanted, f"{case}: {got}, expected {wanted}"


@number("5.4")
@stands_alone
@weight(0.9)
def test_verification_at_its_edges(student, rng):
    """No guess, one that the target excludes, equal distributions, float32 drafts, five guesses."""
    vocab = 5
    row = rng.dirichlet(np.full(vocab, 1.0))
    excluded = np.array([0, 0.5, 0.5, 0, 0])
    questions = (
        [{"proposed": [], "target": row[None]}] * 1500
        + [{"proposed": [3], "target": np.stack([excluded, row])}] * 200
        + [{"proposed": [2], "target": np.stack([row, excluded]), "draft": row[None]}] * 400
        + [{"proposed": [1], "target": np.stack([row, row]), "draft": row[None].astype(np.float32)}]
        * 400
    )
    got = student.run(drivers.verified, cases=questions, seed=int(rng.integers(2**31)))
    first = np.bincount([tokens[0] for tokens in got[:1500]], minlength=vocab)
    assert all(len(tokens) == 1 for tokens in got[:1500]), "without guesses one token is drawn"
    cases.check_frequencies(first, row, "without guesses", "draw from the one row there is")
    excluded_kept = [tokens for tokens in got[1500:1700] if tokens not in ([1], [2])]
    assert not excluded_kept, f"3 has probability 0, 1 and 2 have 0.5: {excluded_kept[:3]}"
    for tokens in got[1700:2100]:
        assert tokens in ([2, 1], [2, 2]), f"p = q: the guess 2 is kept, then 1 or 2, not {tokens}"
    lost = sum(tokens[0] != 1 for tokens in got[2100:])
    assert lost <= 2, (
        f"the draft's float32 differs by rounding: {lost} of 400 guesses were rejected"
    )
    # 5 guesses of a draft much like the target: the distribution, and how many tokens come at once.
    target = rng.dirichlet(np.full(vocab, 3.0), vocab + 1)
    draft = 0.6 * target + 0.4 * rng.dirichlet(np.full(vocab, 1.0), vocab + 1)
    # A right one fails each of 8 checks with 5e-8: 4e-7 in all.
    kept = student.run(drivers.verified_often, target=target, draft=draft, count=5, drawn=True,
                       seed=int(rng.integers(2**31)), times=1500)  # fmt: skip
    counts = np.zeros((vocab + 1, vocab))
    for tokens in kept:
        for last, token in zip([vocab, *tokens], tokens, strict=False):
            counts[last, token] += 1
    for last, own in enumerate(counts):
        cases.check_frequencies(own, target[last], f"tokens after {last}", "the target's own row")
    chances = expected_lengths(target, draft, 5)
    seen = np.bincount([len(tokens) - 1 for tokens in kept], minlength=6)
    cases.check_frequencies(
        seen, chances, "guesses kept", "each with min(1, p/q), until the first is not"
    )


def expected_lengths(target, draft, count):
    """How likely 0 … count guesses are kept, for rows that depend on the token before."""
    vocab = target.shape[1]
    at = np.zeros(vocab + 1)
    at[vocab] = 1.0
    chances = []
    for _ in range(count):
        kept = np.append(at @ np.minimum(target, draft), 0.0)
        chances.append(at.sum() - kept.sum())
        at = kept
    return np.array([*chances, at.sum()])


@number("5.4")
@stands_alone
@reported_by_worker
@weight(0.7)
def test_a_drafts_cache_through_many_turns(student, rng):
    """Texts that are cut back, replaced and forgotten; no more is computed than was lost."""
    weights = cases.drawn_weights(rng, cases.SIZES)
    drafts = student.session(drivers.Drafts, sizes=cases.SIZES, weights=weights)
    texts, cached = {}, {}
    for turn in range(14):
        name = int(rng.integers(3))
        text = texts.setdefault(name, rng.integers(0, 31, int(rng.integers(1, 9))).tolist())
        if turn in (6, 9):
            del text[int(rng.integers(1, len(text) + 1)) :]
        count = int(rng.integers(1, 5))
        sampling = {"temperature": 0.5 + name, "seed": 7, "top_k": 6 * (name == 2)}
        got = drafts.call("propose", number=name, tokens=text, count=count, sampling=sampling)
        whole = [*text, *got["tokens"]]
        assert len(whole) == len(text) + count, (
            f"{len(got['tokens'])} guesses, {count} were asked for"
        )
        probs = cases.softmax(
            cases.next_logits(cases.SIZES, weights, whole)[len(text) - 1 : -1], 0.5 + name
        )
        if name == 2:
            probs[probs < np.sort(probs, -1)[:, -6:-5]] = 0
            probs /= probs.sum(-1, keepdims=True)
        assert_close(got["probs"], probs, rtol=1e-6, atol=1e-9, name=f"rows at turn {turn}")
        known = cached.get(name, [])
        same = next((i for i, (a, b) in enumerate(zip(known, text, strict=False)) if a != b),
                    min(len(known), len(text)))  # fmt: skip
        needed = len(text) - min(same, len(text) - 1) + count - 1
        assert got["rows"] == needed, (
            f"the draft computed {got['rows']} tokens, {needed} were missing"
        )
        cached[name] = whole[:-1]
        text += [*got["tokens"][: int(rng.integers(0, count + 1))], int(rng.integers(31))]
        if turn == 11:
            left = drafts.call("forget", number=name)
            assert name not in left and set(left) == set(texts) - {name}, f"kept: {left}"
            texts.pop(name), cached.pop(name)


@number("5.4")
@weight(1)
def test_sampled_answers_end_to_end(student, rng):
    """320 requests with a draft through a small engine: three tokens as the target draws."""
    sizes = {**cases.SIZES, "vocab_size": 4, "num_layers": 1}
    weights, other = cases.drawn_weights(rng, sizes), cases.drawn_weights(rng, sizes)
    prompt = rng.integers(0, 4, 5).tolist()
    events = [
        {
            "at": 0,
            "prompt": prompt,
            "sampling": {"max_new_tokens": 3, "temperature": 2.0, "seed": seed},
        }
        for seed in rng.choice(10**6, 320, replace=False).tolist()
    ]
    config = {"block_size": 4, "num_blocks": 200, "token_budget": 96, "max_sequences": 32,
              "prefix_caching": True, "num_guesses": 2}  # fmt: skip
    got = student.run(drivers.served, sizes=sizes, weights=weights, config=config, events=events,
                      guesses={"sizes": sizes, "weights": other})  # fmt: skip
    assert len(got["answers"]) == 320, f"{len(got['answers'])} answers to 320 requests"
    triples = np.array(list(got["answers"].values())) @ [16, 4, 1]
    chances = np.zeros(64)
    for cell in range(64):
        text = [*prompt, cell // 16, cell // 4 % 4, cell % 4]
        rows = cases.softmax(cases.next_logits(sizes, weights, text)[-4:-1], 2.0)
        chances[cell] = rows[0, text[-3]] * rows[1, text[-2]] * rows[2, text[-1]]
    cases.check_frequencies(
        np.bincount(triples, minlength=64), chances, "three tokens of 320 requests",
        "guesses change which numbers are drawn, not the distribution",
    )  # fmt: skip
