"""Task 1.1, hidden: views of arrays with any strides, sizes 0 and 1, errors, long chains."""

from __future__ import annotations

import numpy as np
from gradescope_utils.autograder_utils.decorators import number, weight
from layout_cases import (
    Base,
    check_layouts,
    contiguous,
    made_key,
    random_base,
    random_key,
    random_shape_of,
)


def _viewed(base: Base, shape: list[int]):
    try:
        return np.reshape(base.array, shape, copy=False)
    except ValueError:
        return ValueError


@number("1.1")
@weight(1)
def test_view_exists_exactly_where_numpy_needs_no_copy(student, rng):
    """view of permuted, stepped, reversed and broadcast arrays succeeds where numpy's does."""
    bases, questions = [], []
    kinds = [0, 0]
    while min(kinds) < 60:
        base = random_base(rng)
        shape = list(random_shape_of(rng, base.array.size)) if base.array.size else [0, 3]
        if rng.random() < 0.25:
            shape[int(rng.integers(len(shape)))] = -1
        exists = not isinstance(_viewed(base, shape), type)
        if base.array.size > 1 and kinds[exists] < 100:
            kinds[exists] += 1
            bases.append(base)
            questions.append(("view", shape))
    check_layouts(
        student, bases, questions,
        [_viewed(base, shape) for base, (_, shape) in zip(bases, questions, strict=True)],
    )  # fmt: skip


@number("1.1")
@weight(0.35)
def test_view_of_one_element_and_of_none(student):
    """view of arrays of one element or without elements."""
    bases, questions = [], []
    for base, shapes in (
        (Base((1, 1), (7, 9)), [[], [1], [-1], [1, 1, 1]]),
        (Base((), ()), [[1], [-1, 1], []]),
        (Base((2, 0, 3), (5, 5, 1)), [[0], [0, 7], [-1, 2], [3, 0, 2], [-1], [0, -1], [2, 3], [1]]),
        (contiguous((4,)), [[2, -2], [-1, -1], [3], [-1, 3], [0, -1], [2, 2, 2]]),
    ):
        bases += [base] * len(shapes)
        questions += [("view", shape) for shape in shapes]
    answers = [_viewed(b, s) if -2 not in s else ValueError
               for b, (_, s) in zip(bases, questions, strict=True)]  # fmt: skip
    check_layouts(student, bases, questions, answers)


@number("1.1")
@weight(0.5)
def test_what_can_not_be_is_refused(student):
    """Shapes, axes and keys that do not fit raise the error the docstring names."""
    matrix, row = contiguous((2, 3)), contiguous((1, 4))
    asked = [
        (matrix, ("broadcast_to", [2, 4]), ValueError),
        (matrix, ("broadcast_to", [3]), ValueError),
        (matrix, ("broadcast_to", [3, 2]), ValueError),
        (matrix, ("broadcast_to", [2, 1]), ValueError),
        (row, ("broadcast_to", [0, 4]), np.broadcast_to(row.array, (0, 4))),
        (row, ("broadcast_to", [4]), ValueError),
        (matrix, ("permute", [0]), ValueError),
        (matrix, ("permute", [0, 0]), ValueError),
        (matrix, ("permute", [0, -2]), ValueError),
        (matrix, ("permute", [0, 2]), ValueError),
        (matrix, ("slice_layout", [["integer", 2]]), IndexError),
        (matrix, ("slice_layout", [["integer", 0], ["integer", -4]]), IndexError),
        (matrix, ("slice_layout", [["integer", 0]] * 3), IndexError),
        (matrix, ("slice_layout", [["slice", None, None, None]] * 3), IndexError),
        (matrix, ("slice_layout", [["ellipsis"], ["ellipsis"]]), IndexError),
        (matrix, ("slice_layout", [["true"]]), IndexError),
        (matrix, ("slice_layout", [["float"]]), IndexError),
        (matrix, ("slice_layout", [["list", 0, 1]]), IndexError),
        (matrix, ("slice_layout", [["slice", None, None, 0]]), ValueError),
        (matrix, ("slice_layout", [["numpy", -1]]), matrix.array[-1]),
        (matrix, ("slice_layout", [["ellipsis"], ["integer", 1]]), matrix.array[..., 1]),
        (matrix, ("slice_layout", [["slice", 5, 9, None]]), matrix.array[5:9]),
        (matrix, ("slice_layout", [["ellipsis"]]), matrix.array[...]),
    ]
    check_layouts(student, *(list(column) for column in zip(*asked, strict=True)))


@number("1.1")
@weight(0.4)
def test_chains_of_steps_share_one_buffer(student, rng):
    """Several steps one after the other equal numpy's; none of them needs the memory."""
    bases, questions, answers = [], [], []
    while len(bases) < 60:
        base = random_base(rng, empty=False)
        array, chain = base.array, []
        for _ in range(4):
            step, result = _random_step(rng, array)
            if result is not None:
                chain.append(step)
                array = result
        bases.append(base)
        questions.append(("chain", chain))
        answers.append(array)
    check_layouts(student, bases, questions, answers)


def _random_step(rng, array):
    """A step as the driver takes it, and what numpy makes of it; None where it can't be done."""
    name = str(rng.choice(["permute", "broadcast_to", "view", "slice_layout"]))
    if name == "permute":
        argument = [int(axis) for axis in rng.permutation(array.ndim)]
        return [name, argument], array.transpose(argument)
    if name == "broadcast_to":
        argument = [2, *(3 if n == 1 else n for n in array.shape)]
        small = array.size < 2000
        return [name, argument], np.broadcast_to(array, argument) if small else None
    if name == "view":
        argument = list(random_shape_of(rng, array.size))
        try:
            return [name, argument], np.reshape(array, argument, copy=False)
        except ValueError:
            return [name, argument], None
    key = random_key(rng, array.shape)
    try:
        result = array[made_key(key)] if key else None
    except IndexError:
        result = None
    usable = isinstance(result, np.ndarray) and result.size
    return [name, key], result if usable else None
