"""Task 4.1: ring collectives: values, types, and every byte that crosses the switch."""

from __future__ import annotations

import drivers_collectives as drivers
import numpy as np
from collectives_cases import (
    check_collectives,
    check_steps,
    each_rank,
    exchange_case,
    make_case,
)
from gradescope_utils.autograder_utils.decorators import number, weight
from traffic import pieces, sent_bytes

from autograder.testing import Measure
from autograder.testing.student import Student

WORLDS = (1, 2, 3, 4)


def _sizes(rng: np.random.Generator, size: int) -> list[int]:
    """Lengths: none, fewer than ranks, one more than a whole number a rank, and any."""
    return [0, size - 1, 3 * size + 1, 2 * size, int(rng.integers(20, 60))]


def _check(student: Student, rng: np.random.Generator, operation: str) -> None:
    for size in WORLDS:
        cases = [make_case(rng, size, operation, (n,)) for n in _sizes(rng, size)]
        check_collectives(student, drivers.run_collectives, cases, size)


@number("4.1")
@weight(1)
def test_reduce_scatter_leaves_each_rank_the_sum_of_its_chunk(student, rng):
    """Sums within the derived bound; each rank sends all chunks but its own, in size − 1 steps."""
    _check(student, rng, "ring_reduce_scatter")


@number("4.1")
@weight(1)
def test_all_gather_puts_every_chunk_in_its_place(student, rng):
    """Every chunk on every rank, in size − 1 steps; a chunk of a wrong size is a ValueError."""
    _check(student, rng, "ring_all_gather")
    cases = [{"operation": "ring_all_gather", "dtype": "float32", "count": 7,
              "tensor": np.ones(n, np.float32)} for n in (0, 3, 6, 8)]  # fmt: skip
    errors = student.group(2, drivers.errors_of_collectives, cases=cases[:1] + cases[2:]).results
    assert errors == [["ValueError"] * 3] * 2, (
        f"chunks of 0, 6 and 8 elements of 7 on 2 ranks raised {errors}, expected a ValueError each: "
        "rank 0 has 4, rank 1 has 3"
    )


@number("4.1")
@weight(1.25)
def test_all_reduce_sends_two_nths_less_two_of_the_bytes(student, rng):
    """Sum and mean, the same bits on every rank; 2·(size − 1) messages and the exact bytes."""
    for size in WORLDS:
        cases = [make_case(rng, size, "ring_all_reduce", (n,), average=bool(place % 2))
                 for place, n in enumerate([*_sizes(rng, size), 24])]  # fmt: skip
        group = check_collectives(student, drivers.run_collectives, cases, size)
        if size == 4:
            last = sent_bytes(pieces(group, size, len(cases))[-2])  # the 24 float32: 96 bytes
            value = float(last.sum(axis=1).max()) / 96
            student.measure(Measure(name="bytes sent by each of 4 ranks / bytes", value=value))


@number("4.1")
@weight(0.75)
def test_a_ring_takes_its_steps_and_no_more(student, rng):
    """All ranks send in each step: size − 1 messages one after the other, 2·(size − 1) for both."""
    for size in WORLDS[1:]:
        cases = [make_case(rng, size, operation, (n,))
                 for operation in ("ring_reduce_scatter", "ring_all_gather", "ring_all_reduce")
                 for n in (1, 5 * size + 2)]  # fmt: skip
        check_steps(check_collectives(student, drivers.run_collectives, cases, size), cases, size)


@number("4.1")
@weight(1)
def test_all_reduce_of_any_shape_and_type(student, rng):
    """Matrices, a scalar, strided memory; bfloat16, float64, wrapping integers, booleans."""
    for size in (2, 3):
        cases = [
            make_case(rng, size, "ring_all_reduce", shape, dtype, **more)
            for shape, dtype, more in [
                ((3, 5), "bfloat16", {"average": True}), ((2, 3, 2), "float64", {}), ((), "float32", {}),
                ((7,), "int64", {}), ((2, 4), "uint8", {}), ((5,), "bool", {}), ((2, 0, 3), "float32", {}),
                ((4, 3), "float32", {"layout": "transposed", "average": True}),
                ((5,), "float32", {"layout": "strided"}),
            ]
        ]  # fmt: skip
        check_collectives(student, drivers.run_collectives, cases, size)
    mean = [make_case(rng, 2, "ring_all_reduce", (3,), dtype, average=True)
            for dtype in ("int64", "bool")]  # fmt: skip
    for errors in student.group(
        2, drivers.errors_of_collectives, each=each_rank(mean, 2)
    ).results:
        assert errors == ["TypeError"] * 2, (
            f"the mean of int64 and of bool raised {errors}, expected a TypeError each, before "
            "anything is sent: `/=` of an integer tensor ends in another error, and too late"
        )


@number("4.1")
@weight(0.5)
def test_broadcast_goes_once_around(student, rng):
    """Every rank has the source's tensor; each but the last of the ring sends it once."""
    for size in WORLDS:
        cases = [
            make_case(rng, size, "broadcast", (3, place + 1), source=place) for place in range(size)
        ]
        cases += [
            make_case(rng, size, "broadcast", (0,), source=size - 1),
            make_case(rng, size, "broadcast", (4, 2), "int64", source=0, layout="transposed"),
        ]
        check_collectives(student, drivers.run_collectives, cases, size)


@number("4.1")
@weight(0.5)
def test_all_to_all_hands_each_rank_its_rows(student, rng):
    """Uneven and empty parts, rows with a trailing shape; one message each way for each pair."""
    for size in WORLDS:
        rows = rng.integers(0, 5, (size, size))
        rows[0, -1], rows[-1, 0] = 0, 6
        cases = [
            exchange_case(rng, rows.tolist(), (3,)),
            exchange_case(rng, rows.T.tolist(), (), "int64"),
            exchange_case(rng, np.zeros_like(rows).tolist(), (2, 2), "bfloat16"),
        ]
        check_collectives(student, drivers.run_collectives, cases, size)
