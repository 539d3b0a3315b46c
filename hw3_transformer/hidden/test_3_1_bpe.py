"""Hidden tests of task 3.1: repeats and ties, one text or several, refusals."""

from __future__ import annotations

import drivers_bpe as drivers
from bpe_cases import check_counts, check_merges, check_trained, random_text, random_words
from gradescope_utils.autograder_utils.decorators import number, weight

from autograder.testing import assert_equal


@number("3.1")
@weight(0.75)
def test_repeats_ties_and_short_words(student, rng):
    """learn_merges on runs of one letter, equal counts, words of one byte, and no words at all."""
    runs = [["a" * size, int(rng.integers(1, 4))] for size in (1, 2, 3, 4, 5, 7, 9, 16, 33)]
    lists = [
        runs, [["ab" * 20, 1]], [["aaa", 1]], [["aab", 2], ["baa", 2]], [["abba" * 3, 1]],
        [["xy", 3], ["ab", 3], ["yx", 3]], [["q", 5]], [], [["\xff\x00", 2], ["é", 2]],
        [["abcabc", 2], ["bcabca", 2], ["cab", 1]], [["aaaa", 1], ["aa", 1], ["baab", 3]],
    ]  # fmt: skip
    cases = [
        {"words": [[word.encode().hex(), n] for word, n in words], "count": count}
        for words in lists
        for count in (1, 3, 40)
    ]
    cases += [{"words": random_words(rng, 40, "aab"), "count": 80} for _ in range(6)]
    cases += [{"words": random_words(rng, 300, "abcdefgh"), "count": 150} for _ in range(2)]
    check_merges(student, drivers.many_merges, cases)
    asked, expected = [], []
    for _ in range(40):
        ids = rng.integers(0, 3, int(rng.integers(0, 12))).tolist()
        pair = rng.integers(0, 3, 2).tolist()
        asked.append([ids, pair, 300])
        text = "".join(map(str, ids)).replace("".join(map(str, pair)), "x")
        expected.append([300 if letter == "x" else int(letter) for letter in text])
    assert_equal(student.run(drivers.pairs_merged, cases=asked), expected, name="merge_pair")


@number("3.1")
@weight(0.5)
def test_no_word_reaches_across_texts_and_sizes_without_room_are_refused(student, rng):
    """count_words and train_bpe: no words across texts or special tokens; ValueError."""
    texts = ["ab", "cd", " e", "f1", "2g", random_text(rng, 50)]
    got = student.run(drivers.counted, texts=texts, special=[])
    check_counts(got, texts, [], "count_words of several texts")
    marks = [f"<{rng.integers(100)}|>", "<x>"]
    text = f"one{marks[0]}two{marks[1]}{marks[1]} three" * 3
    got = student.run(drivers.trained, texts=[text], vocab_size=280, special=marks)
    check_trained(got, [text], 280, marks)
    for size, special in ((257, marks), (0, []), (400, ["<x>", "<x>"]), (400, ["<x>", ""])):
        student.raises(
            drivers.trained, "ValueError", texts=["abc"], vocab_size=size, special=special
        )
