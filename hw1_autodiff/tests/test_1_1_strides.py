"""Task 1.1: layouts that broadcast, permute, view and slice as numpy does, without copying."""

from __future__ import annotations

import hw1_autodiff_drivers as drivers
import numpy as np
from gradescope_utils.autograder_utils.decorators import number, weight
from layout_cases import (
    Base,
    check_layouts,
    contiguous,
    made_key,
    named,
    random_base,
    random_key,
    random_shape_of,
)

from autograder.testing import assert_equal


@number("1.1")
@weight(0.5)
def test_contiguous_strides_are_those_of_row_major_order(student, rng):
    """contiguous_strides gives numpy's strides of a new array."""
    shapes = [(), (5,), (2, 3), (2, 3, 4), (4, 1, 3)]
    shapes += [tuple(int(n) for n in rng.integers(1, 7, rng.integers(1, 6))) for _ in range(20)]
    bases = [contiguous(shape) for shape in shapes]
    asked = [base.question("contiguous_strides") for base in bases]
    for shape, got in zip(shapes, student.run_cases(drivers.layouts, asked, named), strict=True):
        expected = [s // 8 for s in np.empty(shape).strides]
        assert_equal(got, expected, name=f"contiguous_strides({shape})", hint="count elements")


@number("1.1")
@weight(0.5)
def test_is_contiguous_agrees_with_numpy(student, rng):
    """is_contiguous says what numpy's flags say, whatever the strides of dimensions of size 1."""
    bases = [random_base(rng) for _ in range(80)] + [contiguous(s) for s in ((2, 3), (4,), (2, 0))]
    bases += [Base((3, 1, 2), (2, 77, 1)), Base((1, 4), (1, 1)), Base((2, 3), (0, 1)), Base((), ())]
    asked = [base.question("is_contiguous") for base in bases]
    for base, got in zip(bases, student.run_cases(drivers.layouts, asked, named), strict=True):
        assert_equal(got, base.array.flags.c_contiguous, name=f"is_contiguous of {base}")


@number("1.1")
@weight(0.75)
def test_broadcast_to_repeats_by_stride_0(student, rng):
    """broadcast_to gives numpy's shape and strides."""
    bases, questions, answers = [], [], []
    for _ in range(60):
        base = random_base(rng, dimensions=3)
        lead = [int(n) for n in rng.integers(0, 4, rng.integers(0, 3))]
        shape = [int(rng.integers(0, 4)) if n == 1 and rng.random() < 0.7 else n for n in base.shape]
        bases.append(base)
        questions.append(("broadcast_to", lead + shape))
        answers.append(np.broadcast_to(base.array, lead + shape))
    check_layouts(student, bases, questions, answers)


@number("1.1")
@weight(0.5)
def test_permute_reorders_dimensions(student, rng):
    """permute gives numpy's transpose, also with negative axes."""
    bases, questions, answers = [], [], []
    for _ in range(40):
        base = random_base(rng)
        count = len(base.shape)
        axes = [int(axis) - count * bool(rng.random() < 0.3) for axis in rng.permutation(count)]
        bases.append(base)
        questions.append(("permute", axes))
        answers.append(base.array.transpose(axes))
    check_layouts(student, bases, questions, answers)


@number("1.1")
@weight(0.75)
def test_view_reshapes_contiguous_arrays(student, rng):
    """view gives every shape of a row-major array, one size of which may be -1."""
    bases, questions, answers = [], [], []
    for _ in range(60):
        base = contiguous(tuple(int(n) for n in rng.choice([1, 2, 3, 4, 6], rng.integers(0, 5))))
        shape = list(random_shape_of(rng, base.array.size))
        if rng.random() < 0.5:
            shape[int(rng.integers(len(shape)))] = -1
        bases.append(base)
        questions.append(("view", shape))
        answers.append(base.array.reshape(shape))
    check_layouts(student, bases, questions, answers)


@number("1.1")
@weight(0.75)
def test_slice_layout_follows_numpy(student, rng):
    """slice_layout gives array[key] for integers, slices of any step, ... and None."""
    bases, questions, answers = [], [], []
    while len(bases) < 120:
        base = random_base(rng, empty=False)
        key = random_key(rng, base.shape)
        if not key:
            continue
        try:
            answer = np.asarray(base.array[(*_tuple(made_key(key)), ...)] if _plain(key) else
                                base.array[made_key(key)])  # fmt: skip
        except IndexError:
            continue
        bases.append(base)
        questions.append(("slice_layout", key))
        answers.append(answer)
    check_layouts(student, bases, questions, answers)


def _plain(key: list[list]) -> bool:
    """Without an ellipsis: numpy would hand out a number, no array, where every index is given."""
    return ["ellipsis"] not in key


def _tuple(key: object) -> tuple:
    return key if isinstance(key, tuple) else (key,)
