"""Task 3.8: selecting examples: similarity, k-centre, duplicates."""

from __future__ import annotations

import drivers_selection as drivers
import numpy as np
from gradescope_utils.autograder_utils.decorators import number, weight
from selection_cases import farthest_first, most_similar

from autograder.testing import assert_equal


@number("3.8")
@weight(0.5)
def test_the_most_similar_examples_by_mean_cosine(student, rng):
    """select_by_similarity: lengths do not count, the best first, ties in order, zeros are 0."""
    for _ in range(4):
        count, width, judges = (int(n) for n in rng.integers(8, 30, 3))
        features = rng.standard_normal((count, width)).astype(np.float32)
        features *= np.exp(2 * rng.standard_normal((count, 1))).astype(np.float32)
        validation = rng.standard_normal((judges, width)).astype(np.float32) + 0.3
        validation *= np.exp(2 * rng.standard_normal((judges, 1))).astype(np.float32)
        k = int(rng.integers(3, count))
        got = student.run(drivers.similarity, features=features, validation=validation, k=k)
        assert_equal(
            got, most_similar(features, validation, k), name=f"the best {k} of {count}",
            hint="scale every row of both to length 1, then take the mean over the validation rows",
        )  # fmt: skip
    pair = np.array([[0, 0], [3, 0], [1, 0], [-1, 0], [0, 0]], np.float32)
    got = student.run(drivers.similarity, features=pair, validation=pair[1:2], k=5)
    assert_equal(got, np.array([1, 2, 0, 4, 3]), name="ties, and rows of zeros")
    student.raises(drivers.similarity, "ValueError", features=pair, validation=pair[1:2], k=6)


@number("3.8")
@weight(0.5)
def test_k_centers_are_the_farthest_and_never_copies(student, rng):
    """k_center equals the greedy choice over all distances, and leaves copies alone."""
    cases, expected = [], []
    for _ in range(6):
        count, width = int(rng.integers(10, 40)), int(rng.integers(2, 9))
        points = rng.standard_normal((count, width)).astype(np.float32)
        points = points + np.float32(100)  # far from 0, where |a|² − 2ab + |b|² has no digits left
        points = np.concatenate([points, points[rng.integers(0, count, count)]])
        points = points[rng.permutation(len(points))]
        for k in (1, count // 2, 2 * count):
            first = int(rng.integers(0, len(points)))
            cases.append({"embeddings": points, "k": k, "first": first})
            expected.append(farthest_first(points.astype(np.float64), k, first))
    found = student.run_cases(
        drivers.centers, cases, lambda c: f"{len(c['embeddings'])} points, k = {c['k']}"
    )
    for case, got, theirs in zip(cases, found, expected, strict=True):
        points, k = case["embeddings"], case["k"]
        about = f"{len(points)} points of which half are copies, k = {k}, first = {case['first']}"
        assert len(np.unique(points[got], axis=0)) == len(got), f"{about}: copies were both chosen"
        assert_equal(got, theirs, name=f"the centres of {about}", hint="stop where nothing is left")
