"""Comparisons that teach: what differs, where first, by how much, and what to try."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Hint:
    """What to try, by what is wrong: only the part that may fit is shown. A str is `values`.

    values: numbers that are off; not_finite: NaN or infinite where numbers are expected (else
    `values`); shape: another shape, or no array; dtype: another dtype; sign: each wrong entry is
    minus what is expected.
    """

    values: str = ""
    shape: str = ""
    dtype: str = "keep the dtype of the inputs: float32 gives float32 (np.float64 numbers widen it)"
    not_finite: str = ""
    sign: str = "the sizes are right: a minus sign is missing, or one too many"


def assert_close(
    actual: Any,
    expected: Any,
    *,
    rtol: float = 1e-5,
    atol: float = 1e-8,
    name: str = "result",
    hint: Hint | str = "",
    same_dtype: bool = False,
) -> None:
    """Assert |actual - expected| <= atol + rtol * |expected| elementwise, shapes equal.

    NaN equals NaN and an infinity its own sign only. `actual` is what came from the student: any
    plain value; a value of the wrong kind fails with a message, never with a TypeError.
    """
    hint = as_hint(hint)
    wanted = np.asarray(expected)
    got = as_array(actual, name, wanted.shape, hint.shape)
    if got.shape != wanted.shape:
        raise AssertionError(
            _lines(f"{name} has shape {got.shape}, expected {wanted.shape}", hint.shape)
        )
    if same_dtype and got.dtype != wanted.dtype:
        raise AssertionError(
            _lines(f"{name} has dtype {got.dtype}, expected {wanted.dtype}", hint.dtype)
        )
    if wanted.size == 0:
        return
    got64, wanted64 = got.astype(np.float64), wanted.astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        difference = np.abs(got64 - wanted64)
        right = difference <= atol + rtol * np.abs(wanted64)
    # Differences with infinities are NaN: equal infinities and paired NaNs are right.
    right |= (got64 == wanted64) | (np.isnan(got64) & np.isnan(wanted64))
    right &= np.isfinite(wanted64) | (got64 == wanted64) | np.isnan(wanted64)
    if right.all():
        return
    tolerance = f"tolerance rtol={rtol:g}, atol={atol:g}"
    raise AssertionError(_difference(name, got, wanted, right, difference, tolerance, hint))


def assert_equal(
    actual: Any, expected: Any, *, name: str = "result", hint: Hint | str = ""
) -> None:
    """Assert exact equality of arrays (bit for bit, dtype aside), or of plain nested values."""
    hint = as_hint(hint)
    if isinstance(expected, np.generic):  # a worker sends plain numbers
        expected = expected.item()
    if isinstance(expected, np.ndarray):
        got = as_array(actual, name, expected.shape, hint.shape)
        if got.shape != expected.shape:
            raise AssertionError(
                _lines(f"{name} has shape {got.shape}, expected {expected.shape}", hint.shape)
            )
        right = got == expected
        if expected.dtype.kind == "f" and got.dtype.kind == "f":
            right = right | (np.isnan(got) & np.isnan(expected))
        if not right.all():
            with np.errstate(invalid="ignore"):
                difference = np.abs(got.astype(np.float64) - expected.astype(np.float64))
            raise AssertionError(
                _difference(name, got, expected, right, difference, "exact equality asked", hint)
            )
        return
    if isinstance(expected, (list, tuple)) and isinstance(actual, (list, tuple)):
        if len(actual) != len(expected):
            raise AssertionError(
                _lines(f"{name} has {len(actual)} entries, expected {len(expected)}", hint.values)
            )
        for place, (one, other) in enumerate(zip(actual, expected, strict=True)):
            assert_equal(one, other, name=f"{name}[{place}]", hint=hint)
        return
    if isinstance(expected, dict) and isinstance(actual, dict) and actual.keys() == expected.keys():
        for key, other in expected.items():
            assert_equal(actual[key], other, name=f"{name}[{key!r}]", hint=hint)
        return
    # Dictionaries that come here differ in their keys; comparing arrays in them would raise.
    plain = not isinstance(expected, (dict, np.ndarray)) and type(actual) is type(expected)
    if not plain or actual != expected:
        raise AssertionError(
            _lines(f"{name} is {shown(actual)}, expected {shown(expected)}", hint.values)
        )


def as_hint(hint: Hint | str) -> Hint:
    """A plain text is about values that are off."""
    return Hint(values=hint) if isinstance(hint, str) else hint


def as_array(value: Any, name: str, shape: tuple[int, ...], hint: str = "") -> np.ndarray:
    """`value` as a numeric array; AssertionError for None, text and other kinds of value."""
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        return value
    if isinstance(value, (bool, int, float)):
        array = np.asarray(value)
        if array.dtype.kind == "O":  # an integer beyond 64 bits
            array = np.asarray(float(value) if abs(value) < 1e308 else np.inf)
        return array
    raise AssertionError(
        _lines(f"{name} is {shown(value)}, expected an array of shape {shape}", hint)
    )


def finite_difference(
    function: Callable[[np.ndarray], float], x: np.ndarray, step: float = 1e-6
) -> np.ndarray:
    """The gradient of `function` at `x` by central differences, float64; 2 * x.size calls.

    The step is relative for entries larger than 1. The error is about step**2 plus
    1e-16 / step times the size of the function's values.
    """
    x = np.array(x, dtype=np.float64)
    gradient = np.zeros_like(x)
    for index in np.ndindex(*x.shape):
        width = step * max(1.0, abs(x[index]))
        kept = x[index]
        x[index] = kept + width
        above = float(function(x))
        x[index] = kept - width
        below = float(function(x))
        x[index] = kept
        gradient[index] = (above - below) / (2 * width)
    return gradient


def shown(value: Any) -> str:
    """A short form of any plain value."""
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape}, {value.dtype}"
    text = repr(value)
    return text if len(text) <= 120 else text[:117] + "..."


def described(value: Any) -> str:
    """A plain value as an argument of a call: small arrays with their values."""
    if isinstance(value, np.ndarray):
        return str(value.tolist()) if value.size <= 8 else f"<{value.dtype} {value.shape}>"
    if isinstance(value, dict):
        inside = [f"{key!r}: {described(entry)}" for key, entry in value.items()]
        return "{" + ", ".join(inside) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(described, value[:8])) + (", …]" if len(value) > 8 else "]")
    return shown(value)


def _difference(
    name: str, got: np.ndarray, wanted: np.ndarray, right: np.ndarray, difference: np.ndarray,
    tolerance: str, hint: Hint,
) -> str:  # fmt: skip
    wrong = ~right
    first = tuple(int(i) for i in np.unravel_index(int(np.argmax(wrong)), wrong.shape))
    finite = np.where(wrong & np.isfinite(difference), difference, -1.0)
    worst = tuple(int(i) for i in np.unravel_index(int(np.argmax(finite)), finite.shape))
    count, size = int(wrong.sum()), wrong.size
    # float32 against float64 is no fault here; whole numbers for fractions may be the whole fault.
    kinds = f", {got.dtype}" if got.dtype.kind != wanted.dtype.kind else ""
    lines = [
        f"{name} is wrong in {count} of {size} entries (shape {wanted.shape}{kinds})",
        f"first at {list(first)}: expected {_number(wanted[first])}, got {_number(got[first])}",
    ]
    if finite[worst] >= 0:
        lines.append(f"largest error {finite[worst]:.3g} at {list(worst)} ({tolerance})")
    else:
        lines.append(f"the errors are NaN or infinite ({tolerance})")
    note, advice = _pattern(got, wanted, wrong, hint)
    return _lines("\n".join(lines + ([note] if note else [])), advice)


def _pattern(
    got: np.ndarray, wanted: np.ndarray, wrong: np.ndarray, hint: Hint
) -> tuple[str, str]:
    """What the error looks like, where it looks like something; and the hint that may fit it."""
    if not np.isfinite(got[wrong].astype(np.float64)).any():
        return "every wrong entry is NaN or infinite", hint.not_finite or hint.values
    if wrong.all() and not got.any():
        return "every entry is 0", hint.values
    with np.errstate(all="ignore"):
        ratio = got[wrong].astype(np.float64) / wanted[wrong].astype(np.float64)
    if not np.isfinite(ratio).all() or abs(ratio[0] - 1) < 1e-3:
        return "", hint.values
    if np.abs(ratio + 1).max() < 1e-3:
        return "every wrong entry is -1 times what is expected", hint.sign
    if ratio.size > 1 and np.ptp(ratio) < 1e-3 * abs(ratio[0]):
        return f"every wrong entry is {ratio[0]:.4g} times what is expected", hint.values
    return "", hint.values


def _number(value: Any) -> str:
    return f"{value:.7g}" if isinstance(value, (float, np.floating)) else str(value)


def _lines(text: str, hint: str) -> str:
    return f"{text}\nhint: {hint}" if hint else text


def array_bytes(value: Any) -> int:
    """Bytes of all arrays in a plain value."""
    if isinstance(value, Mapping):
        return sum(map(array_bytes, value.values()))
    if isinstance(value, (list, tuple)):
        return sum(map(array_bytes, value))
    return int(getattr(value, "nbytes", 0))


def as_count(value: Any, name: str) -> int:
    """`value` if it is a whole number >= 0; else an AssertionError.

    For numbers that a worker reports: "x" * 1_500_000_000 is a product, too, and would be made here.
    """
    if type(value) is not int or not 0 <= value < 1 << 62:
        raise AssertionError(f"{name} is {shown(value)}, expected a whole number")
    return value
