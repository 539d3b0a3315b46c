"""Task 3.3: RMSNorm, rotary positions and SwiGLU against formulas in float64 and against HF Llama."""

from __future__ import annotations

import drivers_layers as drivers
import numpy as np
from gradescope_utils.autograder_utils.decorators import number, weight
from layers_cases import (
    NORM,
    TURN,
    angles_of,
    check,
    gated_case,
    gated_formula,
    golden,
    norm_case,
    norm_formula,
    turn_case,
    turn_formula,
)

from autograder.testing import Hint, assert_close, assert_equal

LAYOUTS = ("plain", "transposed", "strided")


@number("3.3")
@weight(1)
def test_rms_norm_follows_its_formula(student, rng):
    """rms_norm and its gradients, for x of one to four dimensions, in float32 and float64."""
    cases = []
    for place, shape in enumerate([(2, 5, 16), (7,), (3, 8), (1, 1, 4), (2, 3, 2, 6), (4, 1)]):
        for dtype in ("float64", "float32"):
            layout = LAYOUTS[place % 3] if len(shape) > 1 else "plain"
            cases.append(norm_case(rng, shape, dtype, layout, eps=[1e-5, 1e-2, 0.5][place % 3]))
    check(student, drivers.norms, norm_formula, cases, ("x", "weight"), ("eps",), NORM, "rms_norm")
    x = rng.standard_normal((3, 12)).astype(np.float32)
    reply = student.run(drivers.norm_module, width=12, eps=0.1, x=x)
    expected = x / np.sqrt((x * x).mean(-1, keepdims=True) + 0.1)
    assert_close(reply["value"], expected, name="a fresh RMSNorm(12, eps=0.1)", hint=NORM)
    assert_equal(reply["parameters"], {"weight": [12]}, name="parameters of RMSNorm")


@number("3.3")
@weight(0.75)
def test_rms_norm_of_half_precision_and_large_numbers(student, rng):
    """Squares of 1e4 in float16, tiny x beside eps; rounding to x's type before the weight, as HF."""
    cases = []
    for dtype in ("float16", "bfloat16", "float32"):
        cases += [norm_case(rng, (2, 3, 32), dtype, scale=s) for s in (1e4, 300.0, 1e-3)]
    cases += [norm_case(rng, (2, 16), "float32", scale=s) for s in (1e-12, 1e12)]
    for case in cases:
        del case["upstream"]
    check(student, drivers.norms, norm_formula, cases, ("x", "weight"), ("eps",), NORM, "rms_norm")
    # Bit for bit: multiplying first and rounding once gives other numbers.
    case = golden("norm16")
    case |= {"eps": float(case["eps"]), "dtype": "bfloat16"}
    want = case.pop("value")
    (reply,) = student.run(drivers.norms, cases=[case])
    assert_equal(reply["value"], want, name="rms_norm in bfloat16, against transformers",
                 hint="(x in float32 / root) rounded to bfloat16, then times the weight")  # fmt: skip
    case["weight_dtype"] = "float32"
    (reply,) = student.run(drivers.norms, cases=[case])
    assert reply["dtype"] == "float32", "a float32 weight on bfloat16 x: torch widens the product"


@number("3.3")
@weight(0.75)
def test_rope_tables_hold_the_angles(student, rng):
    """cos and sin for any positions, head_dim and theta: rows need not start at 0, nor agree."""
    start = int(rng.integers(5, 900))
    packed = np.array([[0, 1, 2, 3, 0, 1], [start + i for i in range(6)]])
    cases = [
        {"positions": positions, "head_dim": head_dim, "theta": theta}
        for positions in (np.arange(7), packed, np.array([start]), np.array([[8191], [0]]))
        for head_dim, theta in ((8, 10_000.0), (2, 10_000.0), (64, 100_000.0), (6, 3.0))
    ]
    replies = student.run_cases(drivers.tables, cases, _tables_label)
    for case, reply in zip(cases, replies, strict=True):
        angles = angles_of(case["positions"], case["head_dim"], case["theta"])
        # An angle is rounded to float32 before its cosine is taken: relative to its size.
        atol = 2e-6 + 2.5e-7 * float(np.abs(angles).max())
        for name, expected in (("cos", np.cos(angles)), ("sin", np.sin(angles))):
            text = f"{name} of rope_tables, {_tables_label(case)}"
            assert reply[name]["dtype"] == "float32", f"{text}: {reply[name]['dtype']}"
            assert_close(
                reply[name]["value"], expected, rtol=0, atol=atol, name=text,
                hint=Hint(
                    values="pair i of head_dim/2 turns by position * theta**(-2 * i / head_dim), "
                    "and its angle stands at i and at i + head_dim/2",
                    shape="positions.shape + (head_dim,)",
                ),
            )  # fmt: skip


def _tables_label(case):
    return (
        f"positions {case['positions'].shape}, head_dim={case['head_dim']}, theta={case['theta']:g}"
    )


@number("3.3")
@weight(1)
def test_rope_turns_pairs_of_halves(student, rng):
    """apply_rope and its gradient, tables of one row or of one per batch, in any layout and type."""
    cases = []
    for place, (heads, time, head_dim) in enumerate([(3, 5, 8), (1, 4, 2), (2, 1, 16), (3, 3, 6)]):
        for positions in (np.arange(time) + 3 * place, rng.integers(0, 500, (2, time))):
            dtype = ("float64", "float32", "bfloat16")[len(cases) % 3]
            layout = LAYOUTS[place % 3]
            shape = (2, heads, time, head_dim)
            cases.append(turn_case(rng, shape, positions, dtype, layout))
    check(student, drivers.turned, turn_formula, cases, ("x",), ("cos", "sin"), TURN, "apply_rope")


@number("3.3")
@weight(0.5)
def test_scores_depend_on_the_distance_alone(student, rng):
    """A query and a key, moved along the text together, keep their score; moved apart, they do not."""
    query, key = rng.standard_normal((2, 16))
    distances = np.array([0, 1, 2, 7, 40])
    at_start = None
    for start in (0, 1, 13, 200):
        key_at = np.full(len(distances), start)
        got = student.run(
            drivers.scores, query=query, key=key, query_at=start + distances, key_at=key_at,
            theta=10_000.0,
        )  # fmt: skip
        angles = angles_of(distances, 16, 10_000.0)[:, :8]
        pairs = (query[:8] + 1j * query[8:]) * np.conj(key[:8] + 1j * key[8:])
        expected = (pairs * np.exp(1j * angles)).sum(-1).real
        assert_close(
            got, expected, rtol=1e-3, atol=1e-3,
            name=f"scores at distances {distances.tolist()}, key at {start}", hint=TURN,
        )  # fmt: skip
        at_start = got if at_start is None else at_start
        assert_close(got, at_start, rtol=1e-3, atol=1e-3, name=f"scores moved by {start}")


@number("3.3")
@weight(0.5)
def test_swiglu(student, rng):
    """down(silu(gate(x)) * up(x)), and the gradients of x and of the three weights."""
    cases = []
    for place, (shape, inner) in enumerate([((2, 3, 8), 12), ((1, 1, 4), 4), ((5, 6), 3)]):
        for dtype in ("float64", "float32"):
            cases.append(gated_case(rng, shape, inner, dtype, LAYOUTS[place]))
    check(
        student, drivers.gated, gated_formula, cases, ("x", "gate", "up", "down"),
        hint="silu(z) = z * sigmoid(z), on the gate alone; up is not bent", result="SwiGLU",
    )  # fmt: skip


@number("3.3")
@weight(0.5)
def test_parts_equal_those_of_transformers(student):
    """The committed values of HF's LlamaRMSNorm, rotary embedding and LlamaMLP."""
    norm, rope, mlp = golden("norm"), golden("rope"), golden("mlp")
    (got,) = student.run(
        drivers.norms, cases=[{**norm, "eps": float(norm["eps"]), "dtype": "float32"}]
    )
    _same(got, norm, ("x", "weight"), "rms_norm", NORM)
    (got,) = student.run(drivers.tables, cases=[
        {"positions": rope["positions"], "head_dim": rope["query"].shape[-1],
         "theta": float(rope["theta"])}
    ])  # fmt: skip
    for name in ("cos", "sin"):
        assert_close(got[name]["value"], rope[name], rtol=0, atol=1e-4, name=f"{name} of HF")
    for name in ("query", "key"):
        case = {"x": rope[name], "cos": rope["cos"], "sin": rope["sin"], "dtype": "float32"}
        (got,) = student.run(drivers.turned, cases=[case])
        assert_close(got["value"], rope[f"turned_{name}"], rtol=1e-5, atol=1e-5,
                     name=f"the {name} that HF turns", hint=TURN)  # fmt: skip
    (got,) = student.run(drivers.gated, cases=[{**mlp, "dtype": "float32"}])
    _same(got, mlp, ("x", "gate"), "SwiGLU", "silu(gate(x)) * up(x), then down")


def _same(got, golden_case, leaves, name, hint):
    assert_close(got["value"], golden_case["value"], rtol=1e-4, atol=1e-5, name=f"{name} of HF",
                 hint=hint)  # fmt: skip
    for leaf in leaves:
        assert_close(got["gradients"][leaf], golden_case[f"grad_{leaf}"], rtol=1e-4, atol=1e-4,
                     name=f"gradient for {leaf} of HF's {name}")  # fmt: skip
