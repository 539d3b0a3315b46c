"""Task 1.7, hidden: random batches, empty sizes, layouts, one tensor twice, constants."""

from __future__ import annotations

import hw1_autodiff_drivers as drivers
import numpy as np
import torch
from gradescope_utils.autograder_utils.decorators import number, weight
from oracles_operations import broadcast_shapes, check_cases, make_case

from autograder.testing import assert_close

MB = 1 << 20


def _case(a_shape, b_shape, rng, dtype=np.float64, **more):
    inputs = [rng.standard_normal(shape).astype(dtype) for shape in (a_shape, b_shape)]
    return make_case("linear_algebra.matmul", torch.matmul, inputs, rng, **more)


@number("1.7")
@weight(1)
def test_any_shapes_numpy_accepts(student, rng):
    """Random batches that broadcast, vectors, layouts and constants match torch."""
    layouts = ["plain", "transposed", "reversed", "strided"]
    cases = []
    for _ in range(60):
        left, right = broadcast_shapes(rng, max_dims=3, sizes=[1, 2, 3, 4])
        m, k, n = (int(size) for size in rng.integers(1, 5, 3))
        a_shape, b_shape = (*left, m, k), (*right, k, n)
        if rng.random() < 0.15:
            a_shape = (k,)
        if rng.random() < 0.15:
            b_shape = (k,)
        cases.append(
            _case(
                a_shape,
                b_shape,
                rng,
                np.float32 if rng.random() < 0.3 else np.float64,
                layouts=[str(layout) for layout in rng.choice(layouts, 2)],
                constants=[(), (), (0,), (1,)][int(rng.integers(4))],
            )
        )
    check_cases(student, drivers.answers, cases)


@number("1.7")
@weight(0.5)
def test_empty_sizes(student, rng):
    """A size of 0 anywhere gives an empty or zero result, and gradients of the right shape."""
    shapes = [
        ((3, 0), (0, 2)), ((0, 3), (3, 2)), ((3, 4), (4, 0)), ((0, 3, 4), (4, 2)),
        ((0, 3, 4), (0, 4, 2)), ((1, 3, 4), (0, 4, 2)), ((2, 3, 0), (0, 4)), ((0,), (0,)),
        ((2, 0, 4), (4, 3)), ((0,), (0, 3)),
    ]  # fmt: skip
    cases = [_case(a, b, rng) for a, b in shapes]
    cases.append(_case((2, 3), (3, 2), rng))
    check_cases(student, drivers.answers, cases)


@number("1.7")
@weight(0.5)
def test_layers_of_any_layout(student, rng):
    """(batch, time, k) @ (k, n) with operands that are not contiguous."""
    layouts = ["plain", "transposed", "reversed", "strided"]
    cases = []
    for left in layouts:
        for right in layouts:
            dtype = np.float32 if left == right else np.float64
            cases.append(_case((3, 4, 5), (5, 2), rng, dtype, layouts=[left, right]))
    check_cases(student, drivers.answers, cases)


@number("1.7")
@weight(0.5)
def test_one_matrix_on_both_sides(student, rng):
    """x @ x adds the gradients of both sides; a vector with itself gives 2x."""
    cases = []
    for shape in [(3, 3), (2, 3, 3), (4,)]:
        x = rng.standard_normal(shape)
        cases.append(make_case("linear_algebra.matmul", torch.matmul, [x], rng, same=True))
    check_cases(student, drivers.answers, cases)


@number("1.7")
@weight(0.5)
def test_nothing_is_computed_for_a_constant(student, rng):
    """The gradient of an operand that needs none, here the larger one by far, is not made."""
    tile = rng.standard_normal((64, 1024)).astype(np.float32)
    a = np.tile(tile, (256, 1))
    b = rng.standard_normal((1024, 2)).astype(np.float32)
    upstream = rng.standard_normal((len(a), 2)).astype(np.float32)
    memory = student.memory(drivers.linear_step, a=a, b=b, upstream=upstream, constant="a")
    expected = tile.T.astype(np.float64) @ upstream.reshape(256, 64, 2).sum(axis=0)
    assert_close(memory.value["gradient"], expected, rtol=1e-3, atol=1e-2, name="gradient of b")
    assert memory.value["constant"] is None, "a is a constant: its grad stays None"
    assert memory.extra_bytes < a.nbytes * 2 / 3, (
        f"{memory.extra_bytes / MB:.0f} MB were used on top of operands of {a.nbytes / MB:.0f} MB, "
        "one of which needs no gradient: look at context.needs before you compute one"
    )
