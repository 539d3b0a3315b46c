"""Comparisons: what they accept, what they say, and that no answer makes them stumble."""

from __future__ import annotations

import math

import hypothesis.extra.numpy as arrays_of
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from autograder.testing import Hint, as_count, assert_close, assert_equal, finite_difference
from autograder.testing.compare import array_bytes


def message(check, *arguments, **options) -> str:
    with pytest.raises(AssertionError) as caught:
        check(*arguments, **options)
    assert type(caught.value) is AssertionError
    return str(caught.value)


# --- messages ---------------------------------------------------------------------------------


@pytest.mark.parametrize("check", [assert_close, assert_equal])
def test_a_wrong_shape_is_named_with_the_one_expected(check):
    hint = Hint(values="divide", shape="transpose")
    text = message(check, np.zeros((2, 3)), np.zeros((3, 2)), name="grad", hint=hint)
    assert text == "grad has shape (2, 3), expected (3, 2)\nhint: transpose"
    text = message(check, np.zeros((2, 3)), np.zeros((3, 2)), name="grad", hint="divide")
    assert text == "grad has shape (2, 3), expected (3, 2)"


def test_a_wrong_dtype_counts_only_where_it_is_asked():
    assert_close(np.float32([1]), np.float64([1]))
    text = message(assert_close, np.float32([1]), np.float64([1]), same_dtype=True)
    assert text.startswith("result has dtype float32, expected float64\nhint: keep the dtype")


def test_a_hint_about_values_is_shown_for_wrong_values_only():
    """Each way to be wrong has its own hint: a sign, an infinity, a dtype are no wrong slope."""
    wanted = np.array([1.0, 2.0, 4.0])
    hint = Hint(values="slope", shape="axes", dtype="kind", not_finite="overflow", sign="minus")
    for got, advice in (
        (wanted + [0, 0.5, 0], "slope"), (np.zeros(3), "slope"), (2 * wanted, "slope"),
        (wanted[:2], "axes"), (None, "axes"), (wanted.astype(np.float32), "kind"),
        (wanted * np.nan, "overflow"), (np.array([1.0, np.inf, 4.0]), "overflow"),
        (-wanted, "minus"), (wanted * [1, -1, 1], "minus"), (wanted * [2, -1, 1], "slope"),
    ):  # fmt: skip
        text = message(assert_close, got, wanted, hint=hint, same_dtype=True)
        assert text.splitlines()[-1] == f"hint: {advice}"
    assert message(assert_close, wanted * np.nan, wanted, hint="slope").endswith("hint: slope")
    assert "minus sign" in message(assert_close, -wanted, wanted, hint="slope")


def test_first_wrong_index_counts_and_largest_error_are_named():
    wanted = np.arange(12.0).reshape(3, 4)
    got = wanted.copy()
    got[1, 2] += 0.5
    got[2, 3] -= 4
    text = message(assert_close, got, wanted, rtol=1e-3, atol=1e-6, name="y", hint="look")
    assert text.splitlines() == [
        "y is wrong in 2 of 12 entries (shape (3, 4))",
        "first at [1, 2]: expected 6, got 6.5",
        "largest error 4 at [2, 3] (tolerance rtol=0.001, atol=1e-06)",
        "hint: look",
    ]


def test_exact_comparison_says_so():
    text = message(assert_equal, np.array([1, 2, 4]), np.array([1, 2, 3]))
    assert "first at [2]: expected 3, got 4" in text
    assert "exact equality asked" in text


def test_a_constant_factor_is_recognised():
    wanted = np.arange(1.0, 9.0)
    assert "every wrong entry is 8 times what is expected" in message(
        assert_close, 8 * wanted, wanted
    )
    assert "times" not in message(assert_close, wanted + 1, wanted)


def test_an_answer_that_is_only_imprecise_is_not_called_a_factor_of_one():
    wanted = np.arange(1.0, 9.0)
    assert "times" not in message(assert_close, wanted * (1 + 1e-5), wanted, rtol=1e-7)


def test_all_zero_and_all_nan_are_recognised():
    wanted = np.arange(1.0, 4.0)
    assert "every entry is 0" in message(assert_close, np.zeros(3), wanted)
    text = message(assert_close, np.full(3, np.nan), wanted)
    assert "every wrong entry is NaN or infinite" in text
    assert "the errors are NaN or infinite" in text


@pytest.mark.parametrize(
    ("got", "wanted"),
    [(math.nan, 1.0), (1.0, math.nan), (math.inf, 1.0), (1.0, math.inf), (-math.inf, math.inf),
     (math.nan, math.inf), (math.inf, math.nan), (0.0, math.nan)],
)  # fmt: skip
def test_nan_and_infinities_equal_only_themselves(got, wanted):
    for check in (assert_close, assert_equal):
        check(np.array([wanted, 1.0]), np.array([wanted, 1.0]))
        text = message(check, np.array([got, 1.0]), np.array([wanted, 1.0]))
        assert "wrong in 1 of 2" in text
    # No tolerance, however wide, lets one pass.
    message(assert_close, np.array([got]), np.array([wanted]), rtol=1e300, atol=1e300)


@pytest.mark.parametrize("value", [None, "text", [1.0, 2.0], (1.0,), {"a": 1.0}, b"raw"])
def test_another_kind_of_value_is_shown_with_the_shape_expected(value):
    for check in (assert_close, assert_equal):
        hint = Hint(shape="return an array")
        text = message(check, value, np.zeros((2,)), name="loss", hint=hint)
        assert text == f"loss is {value!r}, expected an array of shape (2,)\nhint: return an array"


def test_scalars_and_zero_dimensional_arrays_are_one_kind_of_value():
    for one in (2.5, np.array(2.5), np.float64(2.5)):
        for other in (2.5, np.array(2.5), np.float64(2.5)):
            assert_close(one, other)
    text = message(assert_close, 2.0, np.array(2.5))
    assert "first at []: expected 2.5, got 2" in text
    assert "has shape (1,), expected ()" in message(assert_close, np.array([2.5]), 2.5)


def test_empty_arrays_are_equal_if_their_shapes_are():
    for check in (assert_close, assert_equal):
        check(np.zeros((0, 3)), np.zeros((0, 3)))
        message(check, np.zeros((0, 3)), np.zeros((0, 2)))


def test_integers_compare_with_floats_and_print_whole():
    assert_close(np.array([1, 2]), np.array([1.0, 2.0]))
    assert "expected 3, got 2" in message(assert_close, np.array([2]), np.array([3]))
    assert_close(np.uint8([255]), np.int64([255]))
    # A difference of unsigned integers must not wrap round.
    assert "largest error 255" in message(assert_close, np.uint8([0]), np.uint8([255]))


def test_plain_values_must_agree_in_kind_and_value():
    assert_equal([1, (2.0, "a")], [1, (2.0, "a")])
    assert_equal({"a": [1]}, {"a": [1]})
    assert "result is True, expected 1" in message(assert_equal, True, 1)
    assert "result[1] is 3, expected 2" in message(assert_equal, [1, 3], [1, 2])
    assert "2 entries, expected 3" in message(assert_equal, [1, 2], [1, 2, 3])
    assert "an array of shape (2,), float64" in message(assert_equal, np.zeros(2), 0.0)
    assert message(assert_equal, "x" * 500, "y").count("x") < 130


def test_numpy_scalars_expected_equal_the_plain_numbers_a_worker_sends():
    assert_equal(3, np.int64(3))
    assert_equal([0, 1.5], [np.argmin([0, 1]), np.float64(1.5)])
    message(assert_equal, 4, np.int64(3))


def test_arrays_inside_dictionaries_are_compared_entry_by_entry():
    wanted = {"m": np.arange(3.0), "step": 2}
    assert_equal({"m": np.arange(3.0), "step": 2}, wanted)
    text = message(assert_equal, {"m": np.array([0.0, 5.0, 2.0]), "step": 2}, wanted, name="state")
    assert "state['m'] is wrong in 1 of 3" in text
    message(assert_equal, {"m": np.arange(3.0)}, wanted)
    message(assert_equal, {"m": np.arange(3.0), "step": np.array([2, 2])}, wanted)
    message(assert_equal, {"m": np.arange(3.0), "step": 2}, {"m": 1, "step": 2})


# --- properties -------------------------------------------------------------------------------

FINITE = some.floats(-1e6, 1e6)
SHAPES = arrays_of.array_shapes(min_dims=0, max_dims=3, max_side=4)


@settings(max_examples=150, deadline=None, database=None)
@given(some.data(), SHAPES, some.sampled_from([0.0, 1e-9, 1e-5, 1e-2, 1.0]),
       some.sampled_from([0.0, 1e-8, 1e-3]))  # fmt: skip
def test_accepts_exactly_what_numpy_accepts_on_finite_data(data, shape, rtol, atol):
    wanted = data.draw(arrays_of.arrays(np.float64, shape, elements=FINITE))
    off = data.draw(arrays_of.arrays(np.float64, shape, elements=some.floats(-2, 2)))
    got = wanted + off * data.draw(some.sampled_from([0.0, 1.0])) * (atol + rtol * np.abs(wanted))

    def accepts(check) -> bool:
        try:
            check(got, wanted, rtol=rtol, atol=atol)
        except AssertionError:
            return False
        return True

    assert accepts(assert_close) == accepts(np.testing.assert_allclose)


@settings(max_examples=60, deadline=None, database=None)
@given(
    arrays_of.arrays(np.float64, arrays_of.array_shapes(max_dims=2, max_side=4), elements=FINITE),
    some.data(),
)
def test_one_nan_in_an_answer_never_passes(wanted, data):
    got = wanted.copy()
    got.flat[data.draw(some.integers(0, got.size - 1))] = np.nan
    for options in ({}, {"rtol": 1e9, "atol": 1e9}):
        message(assert_close, got, wanted, **options)
    message(assert_equal, got, wanted)


@pytest.mark.parametrize("constant", [0.0, 1.0, -1.0, math.nan, math.inf])
def test_a_constant_answer_is_refused(constant):
    wanted = np.random.default_rng(3).standard_normal((4, 5))
    message(assert_close, np.full((4, 5), constant), wanted, rtol=1e-2, atol=1e-2)


# Everything that can come over the wire, and some that can not.
ANSWERS = some.recursive(
    some.none() | some.booleans() | some.integers() | some.floats() | some.text(max_size=5)
    | some.binary(max_size=3)
    | some.just(10**400)
    | arrays_of.arrays(
        some.sampled_from(["bool", "int8", "int64", "uint64", "float16", "float32", "float64",
                           "complex128", "U3", "object"]),
        arrays_of.array_shapes(min_dims=0, max_dims=2, min_side=0, max_side=3),
    ),
    lambda parts: some.lists(parts, max_size=2) | some.dictionaries(some.text(max_size=2), parts,
                                                                    max_size=2),
    max_leaves=4,
)  # fmt: skip
EXPECTED = (
    arrays_of.arrays(some.sampled_from(["int64", "float32", "float64", "bool"]), SHAPES)
    | some.floats() | some.integers(-5, 5)
)  # fmt: skip


@settings(max_examples=250, deadline=None, database=None)
@given(ANSWERS, EXPECTED)
def test_no_answer_makes_a_comparison_raise_anything_but_an_assertion(actual, expected):
    for check in (assert_close, assert_equal):
        for wanted in (expected, *([[expected], {"a": expected}] if check is assert_equal else [])):
            try:
                check(actual, wanted, name="answer", hint="hint")
            except AssertionError as error:
                assert str(error).startswith("answer")


# --- finite differences -----------------------------------------------------------------------


def test_finite_difference_agrees_with_a_polynomials_derivative():
    x = np.array([[0.3, -1.2], [2.5, 1.7]])
    got = finite_difference(lambda v: float((v**3 - 2 * v).sum()), x)
    np.testing.assert_allclose(got, 3 * x**2 - 2, atol=1e-7)  # values near 20: 20e-16 / 1e-6
    assert got.dtype == np.float64


def test_finite_difference_leaves_its_argument_and_takes_any_shape():
    x = np.arange(3, dtype=np.int64)
    got = finite_difference(lambda v: float(v @ v), x)
    np.testing.assert_allclose(got, 2.0 * np.arange(3), atol=1e-8)
    assert x.tolist() == [0, 1, 2]
    assert finite_difference(lambda v: 3.0 * float(v), np.array(2.0)) == pytest.approx(3.0)
    assert finite_difference(lambda v: 0.0, np.zeros((0, 2))).shape == (0, 2)


def test_finite_difference_moves_one_entry_at_a_time():
    x = np.array([3.0, 5.0, 7.0])
    got = finite_difference(lambda v: float(v.prod()), x, step=0.01)  # exact: linear in each entry
    np.testing.assert_allclose(got, [35, 21, 15], rtol=1e-9)


def test_finite_difference_sees_a_wrong_gradient():
    x = np.linspace(-1, 1, 5)
    numeric = finite_difference(lambda v: float(np.sin(v).sum()), x)
    assert_close(np.cos(x), numeric, rtol=1e-6)
    message(assert_close, np.sin(x), numeric, rtol=1e-6)


def test_a_value_message_names_the_dtype_only_where_its_kind_may_be_the_fault():
    """float32 against float64 is as it should be; whole numbers for fractions are the fault."""
    wanted = np.array([0.5, 1.5])
    assert "(shape (2,))\n" in message(assert_close, np.zeros(2, np.float32), wanted)
    assert "(shape (2,), int64)\n" in message(assert_close, np.zeros(2, np.int64), wanted)


def test_a_count_from_a_worker_is_a_whole_number():
    assert as_count(0, "n") == 0 and as_count(7, "n") == 7
    for wrong in ("x", -1, 1.0, True, None, [1], 1 << 62):
        with pytest.raises(AssertionError, match="n is .*expected a whole number"):
            as_count(wrong, "n")


def test_bytes_of_arrays_anywhere_in_a_value():
    eight = np.zeros(1)
    assert array_bytes({"a": eight, "b": [eight, (eight, 3)], "c": "text"}) == 24
