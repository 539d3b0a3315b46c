"""Task 1.5, hidden: memory layouts, numbers as operands, saturation, units that are off."""

from __future__ import annotations

import hw1_autodiff_drivers as drivers
import numpy as np
import torch
from gradescope_utils.autograder_utils.decorators import number, weight
from oracles_operations import broadcast_shapes, check_cases, make_case

from autograder.testing import assert_close

REFERENCES = {
    "add": torch.add,
    "subtract": torch.subtract,
    "multiply": torch.multiply,
    "divide": torch.divide,
    "negate": torch.neg,
    "exp": torch.exp,
    "log": torch.log,
    "tanh": torch.tanh,
    "relu": torch.relu,
    "gelu": lambda x: torch.nn.functional.gelu(x, approximate="tanh"),
}
BINARY = ("add", "subtract", "multiply", "divide")


@number("1.5")
@weight(1)
def test_any_shapes_layouts_and_constants(student, rng):
    """Arithmetic on any broadcastable shapes, layouts and dtypes, with or without a constant."""
    layouts = ["plain", "transposed", "reversed", "strided"]
    cases = []
    for _ in range(80):
        shapes = broadcast_shapes(rng, max_dims=4, sizes=[0, 1, 2, 3, 3, 4])
        dtype = np.float32 if rng.random() < 0.3 else np.float64
        name = str(rng.choice(BINARY))
        inputs = [rng.uniform(0.5, 2.0, shape) * rng.choice([-1, 1], shape) for shape in shapes]
        cases.append(
            make_case(
                f"elementwise.{name}",
                REFERENCES[name],
                [x.astype(dtype) for x in inputs],
                rng,
                layouts=[str(layout) for layout in rng.choice(layouts, 2)],
                constants=[(), (), (0,), (1,)][int(rng.integers(4))],
            )
        )
    check_cases(student, drivers.answers, cases)


@number("1.5")
@weight(0.5)
def test_numbers_on_either_side(student, rng):
    """A Python number may stand on either side of an operator, and leaves the dtype alone."""
    for dtype in (np.float64, np.float32):
        x = rng.uniform(0.5, 2.0, (2, 3)).astype(dtype)
        upstream = rng.standard_normal((2, 3)).astype(dtype)
        one = np.ones_like(x)
        values = [x + 2, 2 + x, x - 3, 3 - x, x * 4, 0.5 * x, x / 5, 5 / x, -x]
        slopes = [one, one, one, -one, 4 * one, 0.5 * one, one / 5, -5 / x**2, -one]
        replies = student.run(drivers.with_numbers, x=x, upstream=upstream)
        for place, reply in enumerate(replies):
            name = ["x+2", "2+x", "x-3", "3-x", "x*4", "0.5*x", "x/5", "5/x", "-x"][place]
            close = {"rtol": 1e-5, "same_dtype": True}
            assert_close(reply["value"], values[place], name=name, **close)
            expected = upstream * slopes[place]
            assert_close(reply["gradient"], expected, name=f"gradient of {name}", **close)
        assert len(replies) == len(values), "not one answer for each expression"


@number("1.5")
@weight(0.5)
def test_far_out_inputs(student, rng):
    """Where tanh, gelu, relu and exp saturate, values and gradients are exact and not nan."""
    x = np.array([-1e4, -300.0, -30.0, -3.0, 3.0, 30.0, 300.0, 1e4])
    cases = []
    for dtype in (np.float64, np.float32):
        for name in ("tanh", "gelu", "relu"):
            cases.append(make_case(f"elementwise.{name}", REFERENCES[name], [x.astype(dtype)], rng))
        low = np.array([-1e4, -100.0, -10.0, 0.0, 10.0], dtype)
        cases.append(make_case("elementwise.exp", torch.exp, [low], rng))
    check_cases(student, drivers.answers, cases)


@number("1.5")
@weight(0.5)
def test_a_unit_that_is_off_passes_nothing(student, rng):
    """relu's gradient is exactly 0 where x <= 0, whatever arrives from above."""
    x = np.array([-2.0, 0.0, -0.0, 1.5, -1.0, 0.0, 3.0])
    upstream = np.array([np.inf, np.nan, -np.inf, 2.5, np.nan, np.inf, -1.5])
    upstream[[3, 6]] *= rng.uniform(0.5, 2.0)
    question = {"function": "elementwise.relu", "inputs": [x], "upstream": upstream}
    reply = student.run(drivers.answer, question=question)
    expected = np.where(x > 0, upstream, 0.0)
    assert_close(reply["gradients"][0], expected, rtol=1e-12, name="gradient of relu")


@number("1.5")
@weight(0.5)
def test_a_whole_expression(student, rng):
    """An expression of many operations, with tensors used several times, matches torch."""
    for x_shape, y_shape in [((3, 4), (4,)), ((2, 1), (2, 1)), ((1, 3), (2, 1))]:
        x, y = rng.standard_normal(x_shape), rng.standard_normal(y_shape)
        tx, ty = (torch.tensor(v, requires_grad=True) for v in (x, y))
        gelu = REFERENCES["gelu"]
        value = 1 / (1 + torch.exp(-tx)) * gelu(ty) - torch.tanh(2 * tx * ty) / 3
        value = value + (ty - 1) ** 2 + torch.relu(tx)
        upstream = rng.standard_normal(tuple(value.shape))
        value.backward(torch.tensor(upstream))
        reply = student.run(drivers.composite, x=x, y=y, upstream=upstream)
        assert_close(reply["value"], value.detach().numpy(), rtol=1e-9, name="value")
        assert_close(reply["x"], tx.grad.numpy(), rtol=1e-8, atol=1e-12, name="x.grad")
        assert_close(reply["y"], ty.grad.numpy(), rtol=1e-8, atol=1e-12, name="y.grad")
