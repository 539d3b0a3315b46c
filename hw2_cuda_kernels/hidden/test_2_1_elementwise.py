"""Task 2.1, hidden: odd sizes, addresses between multiples of 16, special values, more layouts."""

from __future__ import annotations

import numpy as np
import pytest
from elementwise_cases import LAYOUTS, MAPS, ZIPS, answers_to, case, floats, viewed
from gradescope_utils.autograder_utils.decorators import number, weight

from autograder.testing import cuda

pytestmark = pytest.mark.warm_up("2.1")


@number("2.1")
@weight(0.75)
def test_sizes_around_the_edges(student, rng):
    """Sizes around 4, a warp and a block, one element in several ranks, and no elements at all."""
    cases = []
    for size in (*range(1, 10), 31, 33, 127, 129, 255, 257, 1023, 1024, 1025, 1027):
        for layout in ("plain", "stepped"):
            x, y = floats(rng, (size,), layout), floats(rng, (size,), layout)
            cases.append(case("negate", x, blocks=2))
            cases.append(case("subtract", x, y, blocks=2))
    for shape in ((), (1,), (1, 1, 1), (0,), (3, 0), (0, 4, 2)):
        x = floats(rng, shape)
        cases += [case("tanh", x), case("add", x, floats(rng, ())), case("add", x, x)]
    answers_to(student, cases)


@number("2.1")
@weight(0.75)
def test_tensors_that_start_between_16_byte_boundaries(student, rng):
    """Slices that start 4, 8 or 12 bytes past a multiple of 16 are read all the same."""
    cases = []
    for start in (1, 2, 3, 4, 5):
        size = int(rng.integers(140, 300))
        buffer = np.asarray(rng.standard_normal(size + start), np.float32)
        x = viewed(buffer, buffer[start:], f"from element {start} on")
        y = floats(rng, (size,))
        for question in (case("gelu", x), case("subtract", x, y), case("subtract", y, x)):
            cases.append(question)
    answers_to(student, cases)


@number("2.1")
@weight(0.5)
def test_special_values_go_through(student, rng):
    """NaN, infinities, zeros of both signs and values near 1e4, on both paths."""
    special = np.array(
        [0.0, -0.0, np.inf, -np.inf, np.nan, 1e-38, 3e38, -3e38, 1e4, -1e4, 88, -88], np.float32
    )
    size = len(special)
    stretched = np.repeat(special, 2)
    rows = np.tile(special, size)
    columns = np.repeat(special, size)
    cases = [
        case(name, view)
        for name in MAPS
        for view in (
            viewed(special, special, "special values"),
            viewed(stretched, stretched[::2], "special values, stepped"),
        )
    ]
    for name in ZIPS:
        cases.append(case(name, viewed(rows, rows, "plain"), viewed(columns, columns, "plain")))
        row, column = viewed(special, special[None], "row"), viewed(special, special[:, None], "")
        cases += [case(name, row, column), case(name, column, row)]
    answers_to(student, cases)


@number("2.1")
@weight(0.75)
def test_random_views(student, rng):
    """Permuted, cut and broadcast views of up to four dimensions, in random combinations."""
    cases = []
    for _ in range(40):
        shape = tuple(int(n) for n in rng.choice([1, 2, 3, 5, 8], rng.integers(1, 5)))
        views = []
        for _ in range(2):
            kept = [1 if rng.random() < 0.3 else n for n in shape]
            axes = [int(axis) for axis in rng.permutation(len(shape))]
            x = floats(rng, tuple(kept[axis] for axis in axes), str(rng.choice(LAYOUTS)))
            turned = x.array.transpose(np.argsort(axes))  # of shape `kept`
            views.append(viewed(x.buffer, np.broadcast_to(turned, shape), f"{x.layout}, permuted"))
        cases.append(case(str(rng.choice(list(ZIPS)[:3])), *views, blocks=2))
        moved = views[0].array.transpose([int(a) for a in rng.permutation(len(shape))])
        cases.append(case("relu", viewed(views[0].buffer, moved, "permuted"), blocks=2))
    answers_to(student, cases)


@number("2.1")
@weight(0.5)
def test_traffic_of_permuted_tensors(student, rng):
    """Swapping heads and time keeps runs of 32; a transposed read stays a coalesced write."""
    batch, time, heads, head_dim = 2, 12, 4, 32
    x = floats(rng, (batch, time, heads, head_dim))
    swapped = viewed(x.buffer, x.array.transpose(0, 2, 1, 3), "heads before time")
    square = floats(rng, (64, 64), "transposed")
    asked = [case("negate", swapped, blocks=2), case("tanh", square, blocks=2)]
    answers = answers_to(student, asked)
    # Each of the 96 warps reads one head of one position: 32 neighbours, 4 sectors, and writes 4.
    warps = batch * time * heads
    for kind in ("global_load", "global_store"):
        cuda.at_most(
            answers[0]["report"], f"{kind}_sectors", warps * 4,
            why=f"{warps} warps of 32 neighbours, 128 bytes each",
        )  # fmt: skip
    # 64 x 64 transposed: reading costs a sector an element, which is for task 2.3 to mend; 128
    # warps write 4 sectors each.
    cuda.at_most(
        answers[1]["report"], "global_store_sectors", 128 * 4,
        why="4096 results are written in order, 32 neighbours a warp",
    )  # fmt: skip
