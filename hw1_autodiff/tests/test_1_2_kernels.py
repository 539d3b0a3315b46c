"""Task 1.2: parallel map, zip and reduce over any strides."""

from __future__ import annotations

import hw1_autodiff_drivers as drivers
import numpy as np
import peers_kernels as peers
import pytest
from gradescope_utils.autograder_utils.decorators import number, partial_credit, weight
from kernel_cases import (
    BLOCK,
    LAYOUTS,
    MAPS,
    ZIPS,
    case,
    check,
    check_cases,
    floats,
    named,
    over_one_block,
)
from layout_cases import contiguous, random_base

from autograder.testing import assert_close, assert_equal, race, score_ratio, speed


def _place(case):
    return f"position_of in shape {case['shape']}, strides {case['strides']}"


def _stretch(case):
    shape, strides = case["shape"], case["strides"]
    return f"gather of {case['count']} from {case['start']}, shape {shape}, strides {strides}"


@number("1.2")
@weight(0.5)
def test_position_of_an_element(student, rng):
    """position_of finds every element, for any strides and offset."""
    bases = [contiguous((2, 3)), *(random_base(rng, empty=False) for _ in range(30))]
    bases = [base for base in bases if base.shape]
    cases = [
        {
            "shape": list(base.shape), "strides": list(base.strides), "offset": base.offset,
            "indices": list(range(min(base.array.size, 60))),
        }
        for base in bases
    ]  # fmt: skip
    for base, got in zip(
        bases, student.run_cases(drivers.positions, cases, _place), strict=True
    ):
        expected = [int(place) for place in np.array(base.array).reshape(-1)[:60]]
        assert_equal(got, expected, name=f"the positions of {base}, offset {base.offset}")


@number("1.2")
@weight(1)
def test_gather_reads_any_stretch_of_any_layout(student, rng):
    """gather copies elements start, start + 1, … in row-major order, also from inside a row."""
    cases, expected, names = [], [], []
    for place in range(60):
        base = contiguous((3, 4, 5)) if place < 5 else random_base(rng, empty=False)
        if not base.shape:
            continue
        size = base.array.size
        start = int(rng.integers(0, size))
        count = int(rng.integers(1, size - start + 1))
        cases.append({
            "buffer": base.buffer.astype(np.float32), "shape": list(base.shape),
            "strides": list(base.strides), "offset": base.offset, "start": start, "count": count,
        })  # fmt: skip
        elements = np.array(base.array).reshape(-1)[start : start + count]
        expected.append(np.append(elements, -7).astype(np.float32))
        names.append(f"elements {start} to {start + count - 1} of {base}, and the one behind out")
    for got, wanted, name in zip(
        student.run_cases(drivers.gathered, cases, _stretch), expected, names, strict=True
    ):
        assert_equal(got, wanted, name=name)


@number("1.2")
@pytest.mark.warm_up("1.2 maps")
@weight(1)
def test_map_over_any_layout(student, rng):
    """Every map equals numpy's, for contiguous and other arrays, small and of several blocks."""
    cases = []
    for name in MAPS:
        for layout in LAYOUTS:
            for shape in ((7, 5), (3, 1, 4), (1,), (BLOCK // 64, 131)):
                x = floats(rng, *shape, positive=name == "log")
                kernel = bool(rng.random() < 0.7)
                cases.append(case("map_array", name, x, layouts=[layout], kernel=kernel))
    check_cases(
        student, cases,
        lambda asked: "the last block may be shorter than BLOCK" if over_one_block(asked) else "",
    )  # fmt: skip


@number("1.2")
@pytest.mark.warm_up("1.2 zips")
@weight(1)
def test_zip_broadcasts_over_any_layout(student, rng):
    """Every zip equals numpy's on arrays of any layout, broadcast against each other."""
    cases = []
    shapes = [((7, 5), (7, 5)), ((4, 1, 3), (2, 1)), ((6, 5), (5,)), ((1,), (3, 2)),
              ((130, 1), (1, 140)), ((190, 100), (190, 100))]  # fmt: skip
    for name in ZIPS:
        for a, b in shapes:
            for _ in range(3):
                layouts = [str(x) for x in rng.choice(LAYOUTS, 2)]
                right = floats(rng, *b, positive=name == "div")
                cases.append(case(
                    "zip_arrays", name, floats(rng, *a), right, layouts=layouts,
                    kernel=bool(rng.random() < 0.7),
                ))  # fmt: skip
    check_cases(
        student, cases,
        lambda asked: "a and b have strides and offsets of their own"
        if asked["layouts"] != ["plain"] * 2 else "",
    )  # fmt: skip


@number("1.2")
@pytest.mark.warm_up("1.2 reductions")
@weight(1)
def test_reduce_over_each_axis(student, rng):
    """sum and max over each axis equal numpy's, for rows shorter and longer than a block."""
    cases = []
    for name in ("sum", "max"):
        for shape in ((5, 7), (4, 1, 6), (3,), (2, 3, 4, 5), (2, 2 * BLOCK + 77), (BLOCK + 1, 2)):
            for axis in range(-1, len(shape) - 1):
                layout = str(rng.choice(LAYOUTS))
                x = floats(rng, *shape) - np.float32(3)  # a maximum that starts from 0 shows
                kernel = bool(rng.random() < 0.7)
                more = {} if kernel else {"keepdims": bool(rng.random() < 0.5)}
                cases.append(case(
                    "reduce_array", name, x, layouts=[layout], axis=axis, kernel=kernel, **more
                ))  # fmt: skip
    check_cases(student, cases)


@number("1.2")
@pytest.mark.warm_up("1.2 maps", "1.2 reductions")
@weight(0.5)
def test_the_work_is_shared_by_threads(student, rng):
    """With two threads, both do a fair share of a long map and of one long sum."""
    x = floats(rng, 40 * BLOCK)
    for question in (case("map_array", "gelu", x), case("map_array", "tanh", x, layouts=["strided"]),
                     case("reduce_array", "sum", x, axis=0)):  # fmt: skip
        result, _ = student.run(drivers.two_threads, case=question, times=2)
        check(question, result, rtol=1e-5)
        before = student.thread_seconds()
        student.run(drivers.two_threads, case=question, times=400)
        after = student.thread_seconds()
        spent = sorted(late - early for early, late in zip(before, after, strict=False))
        # A kernel on one thread leaves the others at 0; how evenly two share is the machine's affair.
        assert len(spent) > 1 and spent[-2] > 0.1 * sum(spent), (
            f"{named(question)} with two threads: their CPU times were "
            f"{', '.join(f'{s * 1e3:.1f} ms' for s in spent)}; loop over the blocks with prange"
        )


@number("1.2")
@pytest.mark.warm_up("1.2 zips")
@partial_credit(1)
@speed
def test_the_contiguous_path_is_fast(student, rng, set_score):
    """Adding contiguous arrays beats the given kernel that treats every array as strided."""
    times = 40

    def make_arguments(index):
        return {"a": floats(rng, 512, 256), "b": floats(rng, 512, 256), "times": times}

    def value_check(value, arguments):
        expected = arguments["a"].astype(np.float64) + times * arguments["b"].astype(np.float64)
        assert_close(value, expected, rtol=1e-4, atol=1e-3, name="a + b + b + …")

    result = race(student, drivers.add_repeatedly, peers.add_repeatedly, make_arguments, value_check)
    score_ratio(
        student, set_score, 1, result.ratio, full=3, zero=1.5, name="contiguous add",
        peer="the given strided-only kernel",
    )  # fmt: skip
