"""Task 5.8, hidden: ties, the impossible, refusals, ten layers of the real model pruned."""

from __future__ import annotations

from pathlib import Path

import drivers_compression as drivers
import drivers_layer
import numpy as np
from compression_cases import stays
from gradescope_utils.autograder_utils.decorators import number, weight
from real_cases import MATRICES, READERS, arrays, flat, open_model, window
from real_measures import calibration

from autograder.testing import Measure, assert_close, assert_equal, packaged

PROSE = Path(__file__).with_name("prose_hidden.npy")
PRUNED = 10  # layers, from the first


@number("5.8")
@weight(0.6)
def test_ties_go_to_the_lower_place(student, rng):
    """Scores of three values, shares that do not come out even, other runs than two of four."""
    scores = rng.integers(0, 3, (6, 40)).astype(np.float32)
    for sparsity in (0.5, 0.33, 0.9):
        mask = student.run(drivers.kept_rows, scores=scores, sparsity=sparsity)
        assert_equal(mask, stays(scores, 40 - round(sparsity * 40)), name=f"kept at {sparsity}")
    for keep, of in ((2, 4), (4, 8), (1, 4)):
        mask = student.run(drivers.kept_runs, scores=scores, keep=keep, of=of)
        wanted = stays(scores.reshape(-1, of), keep).reshape(scores.shape)
        assert_equal(mask, wanted, name=f"{keep} of {of}")
    zeros = np.zeros((2, 16), np.float32)  # what is kept may be 0, and still takes a place
    runs = student.run(drivers.kept_runs, scores=zeros, keep=2, of=4)
    got = student.run(drivers.halved, weight=zeros, mask=runs)
    assert_equal(got["places"], np.full((2, 2), 0b01000100, np.uint8), name="places of zeros")


@number("5.8")
@weight(0.4)
def test_the_impossible_and_the_masked(student, rng):
    """−inf in the teacher, in both; no position counted: finite values and gradients."""
    student_logits, teacher = rng.standard_normal((2, 3, 4, 6))
    targets = rng.integers(0, 5, (3, 4))
    targets[1, 2] = -100
    teacher[..., 5] = -np.inf
    both = student_logits.copy()
    both[..., 5] = -np.inf
    base = {"teacher": teacher, "targets": targets, "options": {"alpha": 1.0, "temperature": 3.0}}
    cases = [{**base, "student": student_logits}, {**base, "student": both},
             {**base, "student": student_logits, "targets": np.full((3, 4), -100)}]  # fmt: skip
    results = student.run(drivers.distilled, cases=cases)
    keep, t = targets != -100, 3.0
    for got, case in zip(results[:2], cases[:2], strict=True):
        p, q = (np.exp(case[k] / t) for k in ("teacher", "student"))
        p, q = (a / a.sum(-1, keepdims=True) for a in (p, q))
        value = t * t * (p[..., :5] * np.log(p[..., :5] / q[..., :5])).sum(-1)[keep].mean()
        gradient = t * (q - p) * keep[..., None] / keep.sum()
        assert_close(got["loss"], value, rtol=1e-6, atol=1e-9, name="loss with impossible tokens")
        assert_close(got["gradient"], gradient, rtol=1e-6, atol=1e-9, name="its gradient")
    assert results[2]["loss"] == 0.0, "nothing counted: the loss is 0"
    assert_equal(results[2]["gradient"], np.zeros((3, 4, 6)), name="gradient with nothing counted")


@number("5.8")
@weight(0.2)
def test_what_can_not_be_pruned_or_packed_is_refused(student, rng):
    """Shares outside [0, 1], rows that do not fit, fours that do not keep two, no temperature."""
    scores = rng.random((2, 16)).astype(np.float32)
    mask = stays(scores.reshape(-1, 4), 2).reshape(scores.shape)
    for sparsity in (-0.1, 1.5, float("nan")):
        student.raises(drivers.kept_rows, "ValueError", scores=scores, sparsity=sparsity)
    student.raises(drivers.kept_runs, "ValueError", scores=scores[:, :14], keep=2, of=4)
    for weight_in, kept in ((scores, mask | True), (scores, np.roll(mask, 1) & mask),
                            (scores[:, :12], mask[:, :12])):  # fmt: skip
        student.raises(drivers.halved, "ValueError", weight=weight_in, mask=kept)
    case = {"student": rng.standard_normal((3, 5)), "teacher": rng.standard_normal((3, 5)),
            "targets": np.array([0, 4, 2]), "options": {"temperature": 0.0}}  # fmt: skip
    student.raises(drivers.distilled, "ValueError", cases=[case])
    # These lines come with the stub: what is asked must work next to them.
    got = student.run(drivers.halved, weight=scores, mask=mask)
    assert_equal(got["dense"], scores * mask, name="decompress_2_4 of compress_2_4")
    equal = {**case, "teacher": case["student"], "options": {"temperature": 0.5, "alpha": 1.0}}
    assert abs(student.run(drivers.distilled, cases=[equal])[0]["loss"]) < 1e-9, "KL of equals is 0"


@number("5.8")
@weight(1.2)
def test_half_of_ten_real_layers(student, rng):
    """Half of each row of SmolLM2's first ten layers: perplexity at most 0.8 of pruning by size."""
    model, ids = open_model(packaged("smollm2")), window(np.load(PROSE), rng, 384)
    seen_stream = model.embedded(calibration())
    mine = by_size = model.embedded(ids)
    for place in range(model.sizes.layers):
        weights = model.layer(place)
        if place >= PRUNED:
            mine, by_size = model.run_layer(weights, mine), model.run_layer(weights, by_size)
            continue
        seen = {}
        seen_stream = model.run_layer(weights, seen_stream, seen)
        masks = student.run(drivers_layer.pruned_layer, layer=arrays(weights), seen=flat(seen),
                            readers=READERS, sparsity=0.5)  # fmt: skip
        pruned, smallest = dict(weights), dict(weights)
        for name in MATRICES:
            matrix, mask = weights[name], np.asarray(masks[name])
            rows, columns = matrix.shape
            kept = (
                mask.sum(1) if mask.shape == (rows, columns) and mask.dtype == bool else mask.shape
            )
            assert_equal(kept, np.full(rows, columns // 2), name=f"kept in each row of {name}")
            pruned[name] = matrix * matrix.new_tensor(mask)
            size = matrix.abs()
            smallest[name] = matrix * (size > size.kthvalue(columns // 2, 1, True).values)
        mine, by_size = model.run_layer(pruned, mine), model.run_layer(smallest, by_size)
    ratio = model.perplexity(mine, ids) / model.perplexity(by_size, ids)
    student.measure(
        Measure(name="Wanda's perplexity against pruning by size, ten layers", value=ratio)
    )
    assert ratio <= 0.8, (
        f"perplexity is {ratio:.2f} of that of pruning by size, at most 0.8 is asked"
    )
