"""Task 3.1: words, merges, the vocabulary, and the speed of training."""

from __future__ import annotations

import pydoc_data.topics

import drivers_bpe as drivers
import numpy as np
import peers_bpe as peers
from bpe_cases import (
    TRICKY,
    check_counts,
    check_merges,
    check_trained,
    expected_counts,
    expected_words,
    random_text,
    random_words,
)
from gradescope_utils.autograder_utils.decorators import number, partial_credit, weight

from autograder.testing import assert_equal, race, score_ratio, speed


@number("3.1")
@weight(0.75)
def test_words_are_cut_as_smollm2_cuts_them(student, rng):
    """pre_tokenize gives the words of the tokenizers package: digits alone, then GPT-2's pattern."""
    texts = [*TRICKY, *(random_text(rng, int(rng.integers(1, 30))) for _ in range(200))]
    for text, got in zip(texts, student.run(drivers.pre_tokenized, texts=texts), strict=True):
        expected = expected_words(text)
        assert got == expected, (
            f"the words of {text!r} are {got}, expected {expected}\nhint: cut out every number "
            "character first; then cut each piece by itself, so that space before a number belongs "
            "to the piece that ends there"
        )


@number("3.1")
@weight(0.5)
def test_words_are_counted_but_special_tokens_are_not(student, rng):
    """count_words reads texts once, one by one, and leaves special tokens out."""
    mark = "<|endoftext|>"
    texts = [random_text(rng, 60) for _ in range(4)]
    cases = [
        (texts, []), (["to be", "or not to be"], []), ([""], []),
        ([f"{texts[0]}{mark}{texts[1]}", mark, f"a {mark} b{mark}"], [mark]),
        ([f"x<|a|>y<|a|><|b|>z {mark}"], ["<|a|>", "<|a|><|b|>"]),
    ]  # fmt: skip
    for own, special in cases:
        got = student.run(drivers.counted, texts=own, special=special)
        check_counts(got, own, special, f"count_words, special_tokens={special}")
    got = student.run(drivers.counted, texts=["one text"], special=[], as_one=True)
    check_counts(got, ["one text"], [], "count_words of a str, which is one text")


@number("3.1")
@weight(0.75)
def test_merges_are_those_of_counting_again(student, rng):
    """learn_merges takes the pair that counting everything anew would take, at every step."""
    by_hand = [["ten", 5], ["tent", 3], ["net", 4], ["nets", 2]]
    cases = [{"words": [[word.encode().hex(), n] for word, n in by_hand], "count": 5}]
    for letters, count in (("ab", 12), ("abc", 30), ("abcdefghij", 60), ("aab", 25)):
        cases += [
            {"words": random_words(rng, int(rng.integers(5, 60)), letters), "count": count}
            for _ in range(8)
        ]
    check_merges(student, drivers.many_merges, cases)


@number("3.1")
@weight(0.5)
def test_a_vocabulary_has_bytes_then_merges_then_special_tokens(student, rng):
    """train_bpe lays the ids out as said, also where the texts hold fewer merges than asked for."""
    special = ["<|endoftext|>", "<|im_start|>"]
    texts = [random_text(rng, 150), f"{random_text(rng, 80)}<|im_start|>{random_text(rng, 9)}"]
    for own, size, marks in (
        (texts, 320, special), (texts, 300, []), (["abab ab"], 300, special), ([], 258, special),
    ):  # fmt: skip
        got = student.run(drivers.trained, texts=own, vocab_size=size, special=marks)
        check_trained(got, own, size, marks)


def packed(topics: list[str]) -> dict:
    """The counted words of some topics, as arrays."""
    words = {bytes.fromhex(word): n for word, n in expected_counts(topics, [])}
    return {
        "data": np.frombuffer(b"".join(words), np.uint8),
        "ends": np.cumsum([len(word) for word in words]), "amounts": np.array(list(words.values())),
    }  # fmt: skip


@number("3.1")
@speed
@partial_credit(1)
def test_training_beats_counting_again(student, rng, set_score):
    """256 merges over the words of the Python reference: 8 times as fast as counting again."""
    topics = list(pydoc_data.topics.topics.values())

    def make_arguments(index: int) -> dict:
        chosen = rng.permutation(len(topics))[: len(topics) // 8]
        return {**packed([topics[place] for place in chosen]), "count": 256}

    def check(got: object, arguments: dict) -> None:
        assert_equal(got, peers.recounted_merges(**arguments), name="the merges of the timed call")

    result = race(
        student, drivers.packed_merges, peers.recounted_merges, make_arguments, check, pairs=3
    )
    score_ratio(
        student, set_score, 1, result.ratio, full=8, zero=1.5, name="256 merges",
        peer="counting all pairs again for each merge",
    )  # fmt: skip
