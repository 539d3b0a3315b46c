"""Task 5.4: guesses by look-up and by a draft; answers and distributions stay what they were."""

from __future__ import annotations

import drivers_engine as drivers
import engine_cases as cases
import numpy as np
from gradescope_utils.autograder_utils.decorators import number, weight

from autograder.testing import Measure, assert_close, stands_alone

LOOKED_UP = [  # text, guesses asked for, longest, shortest, guesses
    ([1, 2, 3, 9, 1, 2], 2, 3, 1, [3, 9]),
    ([1, 2, 5, 1, 2, 6, 1, 2], 1, 3, 1, [6]),
    ([7, 1, 2, 4, 8, 2, 5, 7, 1, 2], 2, 3, 1, [4, 8]),
    ([7, 1, 2, 4, 8, 2, 5, 7, 1, 2], 2, 1, 1, [5, 7]),
    ([4, 1, 2, 3, 8, 5, 2, 3, 9, 6, 2, 3], 1, 3, 1, [9]),
    ([4, 2, 8, 5, 2], 3, 3, 2, []),
    ([5, 7, 7], 3, 3, 1, [7, 7, 7]),
    ([1, 2, 1, 2, 1], 4, 3, 1, [2, 1, 2, 1]),
    ([1, 2, 3, 4], 4, 3, 1, []),
    ([3], 4, 3, 1, []),
    ([6, 6, 6], 0, 3, 1, []),
]


@number("5.4")
@stands_alone
@weight(0.8)
def test_what_followed_the_last_tokens_before(student, rng):
    """The longest n-gram found before, its latest place, and on into the guess itself."""
    for _ in range(2):
        names = rng.permutation(1000)
        questions = [
            {
                "tokens": names[text].tolist(),
                "count": count,
                "longest": longest,
                "shortest": shortest,
            }
            for text, count, longest, shortest, _ in LOOKED_UP
        ]
        found = student.run_cases(drivers.looked_up, questions, lambda case: f"look-up of {case}")
        for got, (text, count, longest, shortest, wanted) in zip(found, LOOKED_UP, strict=True):
            plain = {int(name): place for place, name in enumerate(names)}
            got = [plain.get(token, token) for token in got]
            assert got == wanted, (
                f"after {text}, {count} guesses, n from {longest} down to {shortest}: {got}, "
                f"expected {wanted}\nhint: the n-gram at the end is no earlier place of itself; an "
                "earlier one may overlap it"
            )


@number("5.4")
@stands_alone
@weight(0.9)
def test_a_draft_draws_from_what_it_says(student, rng):
    """Each guess from the draft's row for the text before it; rejected guesses leave no trace."""
    vocab = 5
    rows = rng.dirichlet(np.full(vocab, 2.0), (vocab, vocab))
    got = student.run(drivers.drawn_by_draft, rows=rows, tokens=[3, 1], count=2,
                      seed=int(rng.integers(2**31)), times=2000)  # fmt: skip
    first, second = got["tokens"].T
    assert_close(
        got["probs"][:, 0], np.tile(rows[3, 1], (2000, 1)), rtol=1e-12, name="the first rows"
    )
    assert_close(got["probs"][:, 1], rows[1, first], rtol=1e-12, name="the second rows",
                 hint="the second guess comes after the first one")  # fmt: skip
    joint = (rows[3, 1][:, None] * rows[1]).ravel()
    cases.check_frequencies(
        np.bincount(first * vocab + second, minlength=vocab**2), joint, "pairs of guesses",
        "each guess is drawn from its row, not the most probable one",
    )  # fmt: skip
    weights = cases.drawn_weights(rng, cases.SIZES)
    drafts = student.session(drivers.Drafts, sizes=cases.SIZES, weights=weights)
    texts = {n: rng.integers(0, 31, int(rng.integers(3, 9))).tolist() for n in (0, 1)}
    for turn in range(4):
        for name, text in texts.items():
            sampling = {"temperature": (0.0, 0.7)[name], "seed": 5}
            got = drafts.call("propose", number=name, tokens=text, count=3, sampling=sampling)
            check_guesses(weights, text, got, sampling["temperature"], 3)
            # Behind what was kept one token, or two: in a step between no guesses were asked for.
            kept = [3, 0, 1, 2][turn]
            text += [*got["tokens"][:kept], *rng.integers(0, 31, 1 + turn % 2).tolist()]


def check_guesses(weights, text, got, temperature, count):
    """Rows and tokens of a DraftProposer against the draft's weights, by the numpy Llama."""
    assert len(got["tokens"]) == count, f"{len(got['tokens'])} guesses came, {count} were asked for"
    whole = [*text, *got["tokens"]]
    logits = cases.next_logits(cases.SIZES, weights, whole)[len(text) - 1 : -1]
    if temperature:
        assert_close(got["probs"], cases.softmax(logits, temperature), rtol=1e-6, atol=1e-9,
                     name="what the guesses were drawn from", hint="keys of rejected guesses "
                     "go; the temperature is the request's")  # fmt: skip
    else:
        best = logits.argmax(-1).tolist()
        assert got["tokens"] == best, f"greedy guesses {got['tokens']}, the draft's own are {best}"


# Vocabulary of 4. Rows: after token 0 … 3, and at the beginning.
TARGET = np.array([[0.1, 0.2, 0.3, 0.4], [0.7, 0.1, 0.1, 0.1], [0.25, 0.25, 0.25, 0.25],
                   [0.05, 0.45, 0.45, 0.05], [0.5, 0.3, 0.2, 0.0]])  # fmt: skip
DRAFT = np.array([[0.4, 0.3, 0.2, 0.1], [0.1, 0.7, 0.1, 0.1], [0.55, 0.15, 0.15, 0.15],
                  [0.05, 0.45, 0.45, 0.05], [0.1, 0.4, 0.3, 0.2]])  # fmt: skip


@number("5.4")
@stands_alone
@weight(1.1)
def test_verified_tokens_have_the_targets_distribution(student, rng):
    """First tokens, and tokens after each other one, of 2,000 verifications of two guesses."""
    # A right one fails each of 2 · (5 chi-squares + 1 count) with 5e-8 (FALSE_ALARM): 6e-7 in all.
    # The mutant rejected_drawn_from_the_target gives the first token with [0.30, 0.42, 0.28, 0]
    # instead of [0.5, 0.3, 0.2, 0]: noncentrality 2,000 · 0.16 = 320 against a limit of 33.6 (ncx2
    # with 2 degrees of freedom): caught with probability 1 - 4e-34.
    names = rng.permutation(4)
    target, draft = shuffled(TARGET, names), shuffled(DRAFT, names)
    for drawn in (True, False):
        kept = student.run(drivers.verified_often, target=target, draft=draft, count=2, drawn=drawn,
                           seed=int(rng.integers(2**31)), times=2000)  # fmt: skip
        check_distribution(kept, target, 2, "guesses drawn" if drawn else "guesses looked up")
        share = np.mean([len(tokens) > 1 for tokens in kept])
        right = np.minimum(target[4], draft[4]).sum() if drawn else target[4][draft[4].argmax()]
        spread = 5.5 * (right * (1 - right) / 2000) ** 0.5  # of a binomial share, 4e-8 outside
        assert abs(share - right) < spread, (
            f"the first guess was kept in {share:.3f} of the cases, expected {right:.3f}: "
            "with min(1, p/q)"
        )


def shuffled(rows, names):
    """A table of rows after each token and at the beginning, with other names for the tokens."""
    return np.concatenate([rows[:-1][names], rows[-1:]])[:, names]


def check_distribution(kept, target, count, about):
    """Tokens of `verified_often` against the rows that they come from."""
    vocab = target.shape[1]
    counts = np.zeros_like(target)
    for tokens in kept:
        assert 0 < len(tokens) <= count + 1, f"{about}: {len(tokens)} tokens of {count} guesses"
        for last, token in zip([vocab, *tokens], tokens, strict=False):
            counts[last, token] += 1
    for last in range(vocab + 1):
        after = f"tokens after {last}" if last < vocab else "first tokens"
        cases.check_frequencies(
            counts[last], target[last], f"{about}: {after}",
            "at the first rejection draw from max(p - q, 0); q is 1 on a looked-up token",
        )  # fmt: skip


@number("5.4")
@stands_alone
@weight(0.4)
def test_greedy_keeps_what_the_target_would_have_said(student, rng):
    """One-hot rows: guesses up to the first wrong one, then the target's own token."""
    questions, wanted = [], []
    for right in (0, 1, 3, 4, 0):
        says = rng.integers(0, 9, 5 if wanted[3:] != [[]] else 1)
        guesses = says[:4].copy()
        guesses[right:] = (guesses[right:] + rng.integers(1, 9, len(guesses[right:]))) % 9
        if len(questions) % 2:  # behind a wrong guess the target goes on as if it were right
            says[right + 1 :] = guesses[right + 1 :][: len(says) - right - 1].tolist() + [0] * (
                right < 4
            )
        case = {"proposed": guesses.tolist(), "target": np.eye(9)[says]}
        if right == 3:
            case["draft"] = np.eye(9)[guesses]
        questions.append(case)
        wanted.append([*guesses[:right].tolist(), int(says[right])])
    questions.append({"proposed": [], "target": np.eye(9)[[4]]})
    wanted.append([4])
    got = student.run(drivers.verified, cases=questions, seed=int(rng.integers(1000)))
    for case, kept, expected in zip(questions, got, wanted, strict=True):
        says = case["target"].argmax(-1).tolist()
        assert kept == expected, (
            f"guesses {case['proposed']}, target {says}: {kept}, not {expected}"
        )


@number("5.4")
@weight(1)
def test_greedy_answers_are_the_same_with_guesses(student, rng):
    """The engine with look-up, with the target as its own draft, with another draft."""
    weights = cases.drawn_weights(rng, cases.SIZES)
    other = {
        name: array + 0.08 * rng.standard_normal(array.shape) for name, array in weights.items()
    }
    events = []
    for place in range(4):
        loop = rng.integers(0, 31, 6).tolist()
        sampling = {"max_new_tokens": 16, "stop_ids": [3] * (place == 3)}
        events.append({"at": place, "prompt": loop * (1 + place % 2), "sampling": sampling})
    config = {"block_size": 4, "num_blocks": 30, "token_budget": 16, "max_sequences": 4,
              "prefix_caching": True, "num_guesses": 4}  # fmt: skip
    drafts = {"its own draft": weights, "another draft": other}
    kinds = {name: {"sizes": cases.SIZES, "weights": w} for name, w in drafts.items()}
    alone = cases.all_alone(cases.SIZES, weights, dict(enumerate(events)))
    steps = {}
    for name, guesses in (
        ("look-up", {"longest": 3, "shortest": 1}),
        *kinds.items(),
        ("none", None),
    ):
        got = student.run(drivers.served, sizes=cases.SIZES, weights=weights, config=config,
                          events=events, guesses=guesses)  # fmt: skip
        cases.check_answers(got["answers"], alone, f"guesses by {name}")
        cases.check_engine_plans(got["plans"], got["preempted"], config)
        assert got["end"] == 30, f"{got['end']} blocks are free at the end, of 30"
        steps[name] = sum(len(plan) for plan in got["plans"])
    assert steps["its own draft"] < 0.5 * steps["none"], (
        f"parts of plans: {steps}; all guesses of the target itself should be right"
    )
    lone = {**events[0], "sampling": {"max_new_tokens": 25}}
    got = student.run(drivers.served, sizes=cases.SIZES, weights=weights, config=config,
                      events=[lone], guesses=kinds["its own draft"])  # fmt: skip
    assert len(got["plans"]) == 6, (
        f"24 tokens after the first, five a step: 6 steps, not {len(got['plans'])}: {got['plans']}"
    )


@number("5.4")
@stands_alone
@weight(0.6)
def test_steps_of_a_copy(student, rng):
    """Trusted: answers that copy their prompt with edits; the guesses are judged here."""
    texts = [cases.edited_copy(rng, 120, 0.04) for _ in range(6)]
    steps = cases.judged_steps(student, texts, 10)
    ratio = sum(len(answer) for _, answer in texts) / sum(steps)
    free = [(prompt, rng.integers(0, 40, 40).tolist()) for prompt, _ in texts]
    plain = 240 / sum(cases.judged_steps(student, free, 10))
    student.measure(Measure(name=f"tokens a step of a copy (of random text {plain:.2f})",
                            value=ratio, unit="", full=2.5))  # fmt: skip
    assert ratio >= 2.5, (
        f"copies of 120 tokens with 4% edits, ten guesses: {ratio:.2f} tokens a step, asked 2.5"
        "\nhint: guess what followed the last three tokens where they stood before"
    )
