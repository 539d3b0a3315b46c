"""Task 2.1: map and zip over any layout, with broadcasting, and what they read from memory."""

from __future__ import annotations

import numpy as np
import pytest
from elementwise_cases import LAYOUTS, MAPS, ZIPS, answers_to, case, floats, viewed
from gradescope_utils.autograder_utils.decorators import number, weight

from autograder.testing import cuda

pytestmark = pytest.mark.warm_up("2.1")


@number("2.1")
@weight(1)
def test_map_over_any_layout(student, rng):
    """Every map equals numpy's, for contiguous, transposed, reversed and sliced tensors."""
    cases = []
    for name in MAPS:
        for layout in LAYOUTS:
            for shape in ((2, 3), (7, 5), (3, 1, 4), (2, 3, 4, 5)):
                cases.append(case(name, floats(rng, shape, layout, positive=name == "log")))
    answers_to(student, cases)


@number("2.1")
@weight(1)
def test_zip_broadcasts_over_any_layout(student, rng):
    """Every zip equals numpy's on two tensors of any layout, broadcast against each other."""
    shapes = [((7, 5), (7, 5)), ((4, 1, 3), (2, 1)), ((6, 5), (5,)), ((1,), (3, 2)),
              ((9, 1), (1, 14)), ((2, 3, 4, 5), (3, 1, 5)), ((11, 8), (11, 8))]  # fmt: skip
    cases = []
    for name in ZIPS:
        for a, b in shapes:
            for layouts in (["plain", "plain"], rng.choice(LAYOUTS, 2)):
                left = floats(rng, a, str(layouts[0]))
                right = floats(rng, b, str(layouts[1]), positive=name == "divide")
                cases.append(case(name, left, right))
    answers_to(student, cases)


@number("2.1")
@weight(0.75)
def test_few_blocks_cover_any_size(student, rng):
    """However few blocks run, every element is computed: each thread comes back for more."""
    cases = []
    for blocks in (1, 2, 3):
        size = int(rng.integers(2100, 3900))  # three blocks are 768 threads, or 3072 elements
        rows = size // 30
        cases += [
            case("gelu", floats(rng, (size,)), blocks=blocks),
            case("tanh", floats(rng, (rows, 30), "transposed"), blocks=blocks),
            case("add", floats(rng, (size,)), floats(rng, (size,)), blocks=blocks),
            case("subtract", floats(rng, (rows, 30)), floats(rng, (30,)), blocks=blocks),
        ]
    answers_to(student, cases)


@number("2.1")
@weight(0.5)
def test_slices_that_start_at_odd_addresses(student, rng):
    """Contiguous slices whose first byte is no multiple of 16 are right, alone and in a zip."""
    cases = []
    for start in (1, 2, 3):  # 4, 8 and 12 bytes past a multiple of 16
        buffer = np.asarray(rng.standard_normal(200 + start), np.float32)
        x, y = viewed(buffer, buffer[start:], f"x[{start}:]"), floats(rng, (200,))
        cases += [case("relu", x), case("subtract", x, y), case("subtract", y, x)]
    answers_to(student, cases)


@number("2.1")
@weight(0.75)
def test_contiguous_tensors_move_in_float4(student, rng):
    """A contiguous tensor is read and written once, 16 bytes a thread and 512 a warp."""
    n = 8192
    x, y = floats(rng, (64, 128)), floats(rng, (64, 128))
    mapped, zipped = answers_to(student, [case("relu", x, blocks=3), case("add", x, y, blocks=3)])
    # 8192 elements are 2048 float4, 64 warps of 32; a warp's float4 are 512 bytes, 16 sectors. A
    # float at a time it would be 256 requests. n / 8 = 1024 sectors are all the memory there is.
    for answer, inputs in ((mapped, 1), (zipped, 2)):
        report = answer["report"]
        for kind, times in (("global_load", inputs), ("global_store", 1)):
            elements = f"{times * n} elements are {'read' if kind == 'global_load' else 'written'}"
            cuda.at_most(
                report, f"{kind}_requests", times * n // 128,
                why=f"{elements}, 4 by a thread at a time, 128 by a warp",
            )  # fmt: skip
            cuda.at_most(
                report, f"{kind}_sectors", times * n // 8,
                why=f"{elements} once, 8 to a sector of 32 bytes",
            )  # fmt: skip


@number("2.1")
@weight(0.75)
def test_strided_tensors_are_coalesced(student, rng, figure):
    """Adding a row or a column to a matrix, and a matrix cut from a wider one: 4 sectors a warp."""
    rows, columns = 96, 64
    x = floats(rng, (rows, columns))
    wide = np.asarray(rng.standard_normal((rows, columns + 16)), np.float32)
    cut = viewed(wide, wide[:, 8 : 8 + columns], "columns 8 to 71 of 80")
    asked = [
        case("add", x, floats(rng, (columns,)), blocks=3),
        case("multiply", x, floats(rng, (rows, 1)), blocks=3),
        case("relu", cut, blocks=3),
    ]
    # 6144 elements are 192 warps of 32 neighbours, and rows are 64, so that no warp spans two:
    # 4 sectors for each warp's part of x, and of the row of b (every row reads it again). From a
    # column of b a warp reads one number: 1 sector. The cut rows start at byte 32 of 320-byte rows,
    # on a sector's edge. A thread with a run of elements for itself would cost 32 sectors a warp.
    warps = rows * columns // 32
    for answer, loads in zip(answers_to(student, asked), (8, 5, 4), strict=True):
        cuda.at_most(
            answer["report"], "global_load_sectors", warps * loads,
            why=f"{warps} warps of 32 elements, {loads} sectors each for all that they read",
        )  # fmt: skip
        cuda.at_most(
            answer["report"], "global_store_sectors", warps * 4,
            why=f"{warps} warps of 32 neighbours, 128 bytes each",
        )  # fmt: skip
        cuda.attach(figure, answer["report"], title="Strided element-wise kernels")
