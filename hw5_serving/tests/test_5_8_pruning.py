"""Task 5.8: scores and masks by the formula, two of four in half the room, the distillation loss."""

from __future__ import annotations

import drivers_compression as drivers
import numpy as np
import torch
from compression_cases import loss, stays
from gradescope_utils.autograder_utils.decorators import number, weight

from autograder.testing import Measure, assert_close, assert_equal


def torch_loss(case: dict) -> tuple[float, np.ndarray]:
    """The distillation loss by torch's kl_div, in float64, and its gradient."""
    options = {"temperature": 2.0, "alpha": 0.5, **case["options"]}
    student = torch.tensor(case["student"], dtype=torch.float64, requires_grad=True)
    keep = torch.tensor(case["targets"]) != -100
    t, alpha = options["temperature"], options["alpha"]
    p = (torch.tensor(case["teacher"], dtype=torch.float64)[keep] / t).softmax(-1)
    q = (student[keep] / t).log_softmax(-1)
    divergence = torch.nn.functional.kl_div(q, p, reduction="batchmean")
    plain = torch.nn.functional.cross_entropy(student[keep], torch.tensor(case["targets"])[keep])
    total = alpha * t * t * divergence + (1 - alpha) * plain
    total.backward()
    return total.item(), student.grad.numpy()


@number("5.8")
@weight(1.4)
def test_scores_and_masks_by_the_formula(student, rng):
    """|w| times the input's norm; each row loses its own share; at 50% far better than by size."""
    inputs = (rng.standard_normal((60, 32)) * np.exp(1.5 * rng.standard_normal(32))).astype("f4")
    matrix = rng.standard_normal((12, 32)).astype(np.float32)
    matrix[::2] *= 50
    got = student.run(drivers.scored, inputs=inputs.reshape(4, 15, 32), weight=matrix)
    norms = np.sqrt((inputs.astype(float) ** 2).sum(0))
    assert_close(got["norms"], norms, rtol=1e-5, atol=0, name="norms of the inputs")
    assert_close(got["scores"], np.abs(matrix) * norms, rtol=1e-5, atol=0, name="scores")
    scores = np.asarray(got["scores"])
    for sparsity, keep in ((0.5, 16), (0.25, 24), (0.0, 32), (1.0, 0)):
        mask = student.run(drivers.kept_rows, scores=scores, sparsity=sparsity)
        assert_equal(mask, stays(scores, keep), name=f"kept at {sparsity:.0%}")
        if sparsity == 0.5:
            by_size = loss(matrix, matrix * stays(np.abs(matrix), 16), inputs)
            ratio = loss(matrix, matrix * np.asarray(mask), inputs) / by_size
            student.measure(Measure(name="Wanda's error against magnitude pruning", value=ratio))
            assert ratio <= 0.7, (
                f"{ratio:.2f} of the error of pruning by size, at most 0.7 is asked"
            )


@number("5.8")
@weight(0.9)
def test_two_of_four_in_half_the_room(student, rng):
    """The mask, the packed form and back."""
    matrix = rng.standard_normal((5, 24)).astype(np.float32)
    mask = student.run(drivers.kept_runs, scores=np.abs(matrix), keep=2, of=4)
    wanted = stays(np.abs(matrix).reshape(-1, 4), 2).reshape(matrix.shape)
    assert_equal(mask, wanted, name="two of four")
    got = student.run(drivers.halved, weight=matrix, mask=wanted)
    assert_equal(got["values"], matrix[wanted].reshape(5, 12), name="values")
    places = np.nonzero(wanted.reshape(-1, 4))[1].reshape(5, 3, 4)
    assert_equal(got["places"], (places << [0, 2, 4, 6]).sum(2).astype(np.uint8), name="places")
    assert_equal(got["dense"], matrix * wanted, name="decompress_2_4 of it")


@number("5.8")
@weight(1.3)
def test_the_loss_is_torchs(student, rng):
    """Several temperatures and shares, masked positions: the value and the gradient."""
    cases = []
    for options in ({}, {"temperature": 4.0, "alpha": 0.9}, {"temperature": 1.0, "alpha": 1.0},
                    {"temperature": 0.5, "alpha": 0.0}):  # fmt: skip
        targets = rng.integers(0, 7, (2, 5))
        targets[0, 1] = targets[1, 4] = -100
        cases.append({"student": 2 * rng.standard_normal((2, 5, 7)), "options": options,
                      "teacher": 2 * rng.standard_normal((2, 5, 7)), "targets": targets})  # fmt: skip
    for got, case in zip(student.run(drivers.distilled, cases=cases), cases, strict=True):
        value, gradient = torch_loss(case)
        name = f"options {case['options']}"
        assert_close(got["loss"], value, rtol=1e-6, atol=1e-8, name=f"{name}: loss")
        assert_close(got["gradient"], gradient, rtol=1e-6, atol=1e-8, name=f"{name}: gradient")
        assert got["teacher"] is False, f"{name}: a gradient went to the teacher"
