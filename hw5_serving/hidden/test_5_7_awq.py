"""Task 5.7, hidden: the best of the candidates, refusals, another real block."""

from __future__ import annotations

from pathlib import Path

import drivers_compression as drivers
import numpy as np
from compression_cases import loss, rounded
from gradescope_utils.autograder_utils.decorators import number, weight
from real_measures import check_awq

from autograder.testing import packaged

PROSE = Path(__file__).with_name("prose_hidden.npy")


def errors(case: dict) -> tuple[list[np.ndarray], list[float]]:
    """All candidate scales of a case and the error of each."""
    options, inputs = case["options"], case["inputs"].reshape(-1, case["inputs"].shape[-1])
    mean = np.maximum(np.abs(inputs.astype(float)).mean(0), 1e-4)
    scales, found = [], []
    for step in range(options["steps"] + 1):
        powers = mean ** (step / options["steps"])
        scale = powers / np.sqrt(powers.max() * powers.min())
        kind = (options["bits"], options["group"], options["symmetric"])
        found.append(
            sum(loss(w, rounded(w * scale, *kind) / scale, inputs) for w in case["weights"])
        )
        scales.append(scale)
    return scales, found


@number("5.7")
@weight(1.3)
def test_the_best_of_the_candidates_is_taken(student, rng):
    """All matrices together decide; even features, where no scale helps, get ones or near."""
    cases = []
    for steps, symmetric, spread in ((20, True, 1.5), (7, False, 0.8), (10, False, 0.0)):
        sizes = np.exp(spread * rng.standard_normal(32))
        inputs = (rng.standard_normal((5, 12, 32)) * sizes).astype(np.float32)
        weights = [(10.0**k * rng.standard_normal((6, 32))).astype(np.float32) for k in (0, 1)]
        cases.append({"inputs": inputs, "weights": weights,
                      "options": {"bits": 3, "group": 16, "symmetric": symmetric, "steps": steps}})  # fmt: skip
    for got, case in zip(student.run(drivers.searched, cases=cases), cases, strict=True):
        scales, found = errors(case)
        inputs, options = case["inputs"].reshape(-1, 32), case["options"]
        scale = np.asarray(got, float)
        assert scale.shape == (32,) and (scale > 0).all(), (
            f"scale {scale.shape}, all positive asked"
        )
        kind = (options["bits"], options["group"], options["symmetric"])
        mine = sum(loss(w, rounded(w * scale, *kind) / scale, inputs) for w in case["weights"])
        near = min(float(np.abs(scale / s - 1).max()) for s in scales)
        assert near < 1e-3, f"the scale is none of the {len(scales)} candidates (off by {near:.1%})"
        # float32 here and float64 there may round an entry to the other side.
        assert mine <= 1.02 * min(found), (
            f"error {mine:.5g}, the best of {len(found)} candidates has {min(found):.5g}: is the error "
            "summed over all matrices, with the inputs divided by the scale?"
        )


@number("5.7")
@weight(0.5)
def test_what_can_not_be_searched_or_folded_is_refused(student, rng):
    """No input row, no matrix, rows that do not feed the columns: ValueError."""
    matrix = rng.standard_normal((4, 8)).astype(np.float32)
    for inputs, weights in ((matrix[:0], [matrix]), (matrix, [])):
        case = {"inputs": inputs, "weights": weights, "options": {"group": 8}}
        student.raises(drivers.searched, "ValueError", cases=[case])
    small = rng.standard_normal((4, 5)).astype(np.float32)
    ones = np.full(8, 2.0, np.float32)
    student.raises(drivers.folded_rows, "ValueError", previous=small, following=matrix, scale=ones)
    # Both lines above come with the stub: what is asked must work next to them.
    case = {"inputs": matrix, "weights": [matrix], "options": {"group": 8, "bits": 3}}
    found = student.run(drivers.searched, cases=[case])[0]
    assert len(found) == 8, f"{len(found)} scales for 8 channels"


@number("5.7")
@weight(0.6)
def test_another_real_block(student, rng):
    """One layer of SmolLM2 in 4 bits, on a text that is not released."""
    check_awq(student, rng, packaged("smollm2"), np.load(PROSE))
