"""Task 1.7: the batched, broadcasting matrix product and its gradient, against torch."""

from __future__ import annotations

import hw1_autodiff_drivers as drivers
import numpy as np
import torch
from gradescope_utils.autograder_utils.decorators import number, weight
from oracles_operations import check_cases, make_case

from autograder.testing import Hint, assert_close

MB = 1 << 20


def _cases(shapes, rng, dtypes=(np.float64, np.float32), layouts=None):
    return [
        make_case(
            "linear_algebra.matmul", torch.matmul,
            [rng.standard_normal(a).astype(dtype), rng.standard_normal(b).astype(dtype)], rng,
            layouts=layouts,
        )
        for a, b in shapes
        for dtype in dtypes
    ]  # fmt: skip


def _either(text):
    """A hint for a wrong shape, and for the wrong numbers that a square shape gives instead."""
    return Hint(values=text, shape=text)


@number("1.7")
@weight(1)
def test_matrices(student, rng):
    """(m, k) @ (k, n) and both gradients match torch, for any memory layout."""
    shapes = [((3, 4), (4, 2)), ((1, 5), (5, 3)), ((4, 1), (1, 4)), ((3, 3), (3, 3))]
    cases = _cases(shapes, rng)
    cases += _cases([((3, 4), (4, 2))], rng, layouts=["transposed", "strided"])
    check_cases(
        student, drivers.answers, cases,
        hint=_either("dA = G Bᵀ and dB = Aᵀ G: write the shapes down, one order fits"),
    )  # fmt: skip


@number("1.7")
@weight(1)
def test_vectors(student, rng):
    """A 1-D operand is a row on the left and a column on the right, as in numpy."""
    shapes = [
        ((4,), (4,)), ((4,), (4, 3)), ((3, 4), (4,)), ((1,), (1,)),
        ((4,), (2, 4, 3)), ((2, 3, 4), (4,)), ((5, 2, 3, 4), (4,)),
    ]  # fmt: skip
    check_cases(
        student, drivers.answers, _cases(shapes, rng),
        hint=_either(
            "add the missing axis, multiply as matrices, take the axis out of the result, and "
            "give the gradient the operand's own shape"
        ),
    )  # fmt: skip


@number("1.7")
@weight(1)
def test_batches(student, rng):
    """Leading axes are batches: one product for each."""
    shapes = [((5, 3, 4), (5, 4, 2)), ((2, 3, 3, 4), (2, 3, 4, 5)), ((1, 3, 4), (1, 4, 2))]
    check_cases(
        student, drivers.answers, _cases(shapes, rng),
        hint=_either("transpose the last two axes only: swapaxes(-1, -2), not .T"),
    )  # fmt: skip


@number("1.7")
@weight(1)
def test_broadcast_batches_sum_the_gradient(student, rng):
    """An operand broadcast over a batch axis gets the sum of the gradients along it."""
    shapes = [
        ((5, 3, 4), (4, 2)), ((3, 4), (5, 4, 2)), ((5, 1, 3, 4), (2, 4, 2)),
        ((1, 3, 4), (5, 4, 2)), ((5, 3, 4), (1, 4, 2)), ((2, 5, 3, 4), (5, 4, 2)),
        ((2, 5, 3, 4), (4, 2)), ((2, 1, 3, 4), (1, 5, 4, 2)),
    ]  # fmt: skip
    check_cases(
        student, drivers.answers, _cases(shapes, rng),
        hint=_either(
            "sum over batch axes the operand lacks, and with keepdims over those where it has 1"
        ),
    )  # fmt: skip


@number("1.7")
@weight(0.5)
def test_the_gradient_of_a_layer_needs_little_memory(student, rng):
    """For (batch, 1, k) @ (k, n) the weight's gradient is made without a product per batch."""
    batch, size = 64, 768
    a = rng.standard_normal((batch, 1, size)).astype(np.float32)
    b = rng.standard_normal((size, size)).astype(np.float32)
    upstream = rng.standard_normal((batch, 1, size)).astype(np.float32)
    memory = student.memory(drivers.linear_step, a=a, b=b, upstream=upstream, constant="a")
    expected = a[:, 0].T.astype(np.float64) @ upstream[:, 0]
    assert_close(memory.value["gradient"], expected, rtol=1e-3, atol=1e-3, name="weight.grad")
    per_batch = batch * b.nbytes
    assert memory.extra_bytes < per_batch / 2, (
        f"{memory.extra_bytes / MB:.0f} MB were used on top of the operands for a gradient of "
        f"{b.nbytes / MB:.1f} MB; a product for each of the {batch} batches is "
        f"{per_batch / MB:.0f}.\n"
        "hint: reshape a to (batch·time, k) and upstream to (batch·time, n): then aᵀ @ upstream "
        "is one product, and the sum over the batch happens inside it"
    )


@number("1.7")
@weight(0.5)
def test_shapes_that_do_not_fit(student, rng):
    """Shapes that can't be multiplied raise ValueError, and the message names both."""
    for a, b in [((3, 4), (3, 4)), ((4,), (3,)), ((2, 3, 4), (3, 4, 2)), ((), (3,)), ((3, 4), ())]:
        question = {
            "function": "linear_algebra.matmul",
            "inputs": [np.asarray(rng.standard_normal(a)), np.asarray(rng.standard_normal(b))],
        }
        error = student.raises(drivers.answer, "ValueError", question=question)
        for shape in (a, b):
            sizes = ",".join(str(size) for size in shape)
            assert sizes in error.text.replace(" ", ""), (
                f"for shapes {a} and {b} the ValueError should name both; it says: {error.text!r}"
            )
    check_cases(student, drivers.answers, _cases([((2, 3), (3, 2))], rng))
