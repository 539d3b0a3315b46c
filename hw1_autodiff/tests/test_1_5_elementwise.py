"""Task 1.5: gradients of broadcasting elementwise operations; torch and finite differences."""

from __future__ import annotations

import hw1_autodiff_drivers as drivers
import numpy as np
import torch
from gradescope_utils.autograder_utils.decorators import number, weight
from hypothesis import strategies
from hypothesis.extra import numpy as arrays
from oracles_operations import check_cases, left_alone, make_case

from autograder.testing import Hint, assert_close, finite_difference

ARITHMETIC = {
    "add": torch.add,
    "subtract": torch.subtract,
    "multiply": torch.multiply,
    "divide": torch.divide,
}
UNARY = {
    "negate": torch.neg,
    "exp": torch.exp,
    "log": torch.log,
    "tanh": torch.tanh,
    "relu": torch.relu,
    "gelu": lambda x: torch.nn.functional.gelu(x, approximate="tanh"),
}
SHAPES = [
    ((3, 4), (3, 4)),
    ((3, 4), (4,)),
    ((4,), (2, 3, 4)),
    ((3, 1), (1, 4)),
    ((2, 1, 3), (5, 1)),
    ((2, 3), ()),
    ((), ()),
    ((1, 1), (3,)),
    ((1,), (0,)),
    ((0, 3), (1, 3)),
]


ON_PAPER = "derive the slope on paper; compare with (f(x + h) - f(x - h)) / 2h at one number"
COPIES = (
    "line the shapes up at the right; sum over the axes that the operand lacks and over those "
    "where it has 1, the latter with keepdims"
)


def _hint_for_shapes(alike):
    """Where both operands have the result's shape there is nothing to unbroadcast."""
    return ON_PAPER if alike else Hint(values=COPIES, shape=COPIES)


@number("1.5")
@weight(1)
def test_unbroadcast_sums_over_every_copied_axis(student, rng):
    """unbroadcast sums over axes that were added and axes that were stretched, and no others."""
    pairs = [
        ((3, 4), (3, 4)), ((2, 3, 4), (4,)), ((2, 3, 4), (3, 1)), ((2, 3, 4), (2, 1, 4)),
        ((5, 3), (1, 3)), ((5, 3), ()), ((2, 3, 4), (1, 1, 1)), ((2, 3), (1,)), ((1, 3), (3,)),
        ((1, 3), (1, 3)), ((0,), (1,)), ((2, 0), (2, 1)), ((2, 0), (0,)), ((), ()),
        ((3, 3, 3), (3, 1, 3)), ((1, 3, 1), (1, 1)),
    ]  # fmt: skip
    gradients = [rng.standard_normal(source) for source, _ in pairs]
    found = student.run(
        drivers.unbroadcast, gradients=gradients, shapes=[list(shape) for _, shape in pairs]
    )
    for (source, shape), gradient, got in zip(pairs, gradients, found, strict=True):
        expected = torch.tensor(gradient).sum_to_size(shape).numpy()
        assert_close(
            got, expected, rtol=1e-12, name=f"unbroadcast of {source} to {shape}", same_dtype=True,
            hint=Hint(values=COPIES, shape=COPIES),
        )  # fmt: skip


@number("1.5")
@weight(1.5)
def test_arithmetic_gradients_over_broadcast_shapes(student, rng):
    """Both gradients of +, -, *, / match torch for shapes that broadcast, in both dtypes."""
    cases = []
    for name, reference in ARITHMETIC.items():
        for place, (a_shape, b_shape) in enumerate(SHAPES):
            dtype = np.float32 if place % 3 == 1 else np.float64
            a = rng.uniform(0.5, 2.0, a_shape).astype(dtype)
            b = (rng.uniform(0.5, 2.0, b_shape) * rng.choice([-1, 1], b_shape)).astype(dtype)
            layouts = ["strided", "transposed"] if place % 4 == 2 else None
            cases.append(make_case(f"elementwise.{name}", reference, [a, b], rng, layouts=layouts))
    check_cases(student, drivers.answers, cases, hint=lambda case: _hint_for_shapes(
        len({x.shape for x in case.question["inputs"]}) == 1
    ))


@number("1.5")
@weight(1)
def test_unary_gradients_match_torch(student, rng):
    """-x, exp, log, tanh, relu and gelu have torch's values and gradients."""
    cases = []
    for name, reference in UNARY.items():
        for shape, dtype, layout in [
            ((3, 4), np.float64, "plain"),
            ((2, 3, 2), np.float32, "plain"),
            ((3, 4), np.float64, "transposed"),
            ((5,), np.float64, "strided"),
            ((0, 2), np.float64, "plain"),
        ]:
            x = rng.uniform(0.1, 3.0, shape)
            if name != "log":
                x *= rng.choice([-1, 1], shape)
            cases.append(
                make_case(
                    f"elementwise.{name}", reference, [x.astype(dtype)], rng, layouts=[layout]
                )
            )
    check_cases(student, drivers.answers, cases, hint=ON_PAPER)


@number("1.5")
@weight(0.5)
def test_one_tensor_on_both_sides(student, rng):
    """x + x, x - x, x * x and x / x add the gradients of both sides."""
    cases = []
    for name, reference in ARITHMETIC.items():
        x = rng.uniform(0.5, 2.0, (3, 2))
        cases.append(make_case(f"elementwise.{name}", reference, [x], rng, same=True))
    check_cases(
        student, drivers.answers, cases,
        hint="return one gradient per side; the engine adds them. Never scale upstream in place",
    )  # fmt: skip


@number("1.5")
@weight(0.5)
def test_powers(student, rng):
    """x ** p for p of 3, 2, 1, 0, 0.5, -1 and -2.5, and x ** 0 at x = 0."""
    cases = []
    for exponent in (3, 2, 1, 0, 0.5, -1, -2.5):
        for dtype in (np.float64, np.float32):
            x = rng.uniform(0.5, 2.0, (2, 3)).astype(dtype)
            if exponent in (0, 1, 2, 3):
                x[0, 0], x[1] = 0.0, -x[1]
            cases.append(_power_case(x, exponent, rng))
    check_cases(
        student, drivers.answers, cases,
        hint=Hint(
            values="p * x ** (p - 1)",
            not_finite="for p = 0 the result is constant, and 0 * inf would be nan",
        ),
    )  # fmt: skip


def _power_case(x, exponent, rng):
    options = {"exponent": exponent}
    return make_case("elementwise.power", lambda t: t**exponent, [x], rng, options=options)


@number("1.5")
@weight(0.5)
def test_gradients_are_the_slopes_of_the_values(student, rng):
    """The gradients agree with finite differences of the operation itself, for any shapes."""
    formulas = {
        "add": np.add,
        "subtract": np.subtract,
        "multiply": np.multiply,
        "divide": np.divide,
    }

    base = int(rng.integers(2**31))

    def check(shapes, name, seed):
        random = np.random.default_rng([base, seed])
        a, b = (random.uniform(0.5, 2.0, shape) for shape in shapes.input_shapes)
        upstream = random.uniform(0.5, 1.5, shapes.result_shape)
        question = {"function": f"elementwise.{name}", "inputs": [a, b], "upstream": upstream}
        reply = student.run(drivers.answer, question=question)
        label = f"{name} of shapes {a.shape} and {b.shape}"
        formula = formulas[name]
        slopes = [
            finite_difference(lambda x: np.sum(upstream * formula(x, b)), a),
            finite_difference(lambda x: np.sum(upstream * formula(a, x)), b),
        ]
        for place, slope in enumerate(slopes):
            assert_close(
                reply["gradients"][place], slope, rtol=1e-5, atol=1e-6,
                name=f"{label}: gradient of input {place} against finite differences",
                hint=_hint_for_shapes(a.shape == b.shape),
            )  # fmt: skip
        left_alone(reply, question, label)

    student.given(
        max_examples=25,
        shapes=arrays.mutually_broadcastable_shapes(num_shapes=2, max_dims=3, max_side=3),
        name=strategies.sampled_from(sorted(formulas)),
        seed=strategies.integers(0, 2**31),
    )(check)()
