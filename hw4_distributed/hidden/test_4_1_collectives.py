"""Task 4.1, hidden: other worlds and types, ranks that come late, subgroups, misuse."""

from __future__ import annotations

import drivers_collectives as drivers
import numpy as np
from collectives_cases import (
    check_collectives,
    check_steps,
    check_values,
    each_rank,
    exchange_case,
    expected_traffic,
    make_case,
)
from gradescope_utils.autograder_utils.decorators import number, weight

from autograder.testing import assert_equal


def _mixed(rng: np.random.Generator, size: int, length: int) -> list[dict]:
    """One case of each kind."""
    rows = rng.integers(0, 4, (size, size)).tolist()
    return [
        make_case(rng, size, "ring_all_reduce", (length,), average=True),
        make_case(rng, size, "broadcast", (length // 2,), source=size - 1),
        exchange_case(rng, rows, (5,)),
        make_case(rng, size, "ring_reduce_scatter", (length + 1,)),
        make_case(rng, size, "ring_all_gather", (length - 1,)),
        make_case(rng, size, "ring_all_reduce", (3, 7), "float64"),
    ]


@number("4.1")
@weight(1)
def test_late_ranks_and_no_barriers_change_nothing(student, rng):
    """Collectives in a row, one rank's messages late, or large ones: the same results and bytes."""
    for size, slow, length in ((3, {1: 0.01}, 40), (4, {0: 0.01, 3: 0.003}, 41), (2, {}, 700_000)):
        cases = _mixed(rng, size, length)
        group = student.group(
            size, drivers.run_in_a_row, each=each_rank(cases, size), slow=slow, timeout=20
        )
        for place, case in enumerate(cases):
            check_values(case, [result[place] for result in group.results], size)
        sent = sum(expected_traffic(case, size)[0] for case in cases)
        assert_equal(group.sent, sent, name=f"bytes of six collectives in a row, {size} ranks")


@number("4.1")
@weight(1)
def test_a_subgroup_is_a_ring_of_its_own(student, rng):
    """The communicator's own rank and size count: groups in any order, of uneven sizes."""
    for groups in ([[2, 0], [3, 1]], [[4, 1, 2], [3, 0]]):
        world = sum(map(len, groups))
        cases = [_mixed(rng, len(group), 11) for group in groups]
        each = [{}] * world
        for group, theirs in zip(groups, cases, strict=True):
            for place, rank in enumerate(group):
                each[rank] = each_rank(theirs, len(group))[place]
        result = student.group(world, drivers.run_in_subgroups, each=each, groups=groups)
        wanted = np.zeros((world, world), np.int64)
        for group, theirs in zip(groups, cases, strict=True):
            size = len(group)
            for place, case in enumerate(theirs):
                check_values(case, [result.results[rank][place] for rank in group], size)
                wanted[np.ix_(group, group)] += expected_traffic(case, size)[0]
        assert_equal(result.sent, wanted, name=f"bytes in the subgroups {groups}")


@number("4.1")
@weight(1)
def test_five_ranks_and_every_type(student, rng):
    """A world of five; each collective in small floats, integers and booleans, sent as they are."""
    types = ("bfloat16", "float16", "float64", "int32", "uint8", "bool")
    for size in (3, 5):
        length = int(rng.integers(6, 30))
        cases = []
        for place, dtype in enumerate(types):
            cases += [
                make_case(rng, size, "ring_reduce_scatter", (length,), dtype, layout="strided"),
                make_case(rng, size, "ring_all_gather", (length + place,), dtype),
                make_case(rng, size, "broadcast", (2, place), dtype, source=place % size),
                make_case(rng, size, "ring_all_reduce", (place, 3), dtype, average=place < 3,
                          layout="transposed"),
            ]  # fmt: skip
        rows = rng.integers(0, 3, (size, size)).tolist()
        cases += [exchange_case(rng, rows, (2,), dtype, layout="strided") for dtype in types]
        cases += [make_case(rng, size, "ring_all_reduce", (length, 3))]
        check_steps(check_collectives(student, drivers.run_collectives, cases, size), cases, size)


@number("4.1")
@weight(1)
def test_misuse_is_told_before_anything_is_sent(student, rng):
    """No such source, parts or sizes missing, own rows that differ, a chunk too long, a mean of ints."""
    ones = np.ones(3, np.float32)
    plain = {"dtype": "float32", "tensor": ones}
    bad = [
        {"operation": "broadcast", "source": 3, **plain},
        {"operation": "broadcast", "source": -1, **plain},
        {"operation": "all_to_all", "dtype": "float32", "parts": [ones] * 2, "sizes": [3] * 3},
        {"operation": "all_to_all", "dtype": "float32", "parts": [ones] * 3, "sizes": [3] * 4},
        {"operation": "all_to_all", "dtype": "float32", "parts": [ones] * 3, "sizes": [2] * 3},
        {"operation": "ring_all_gather", "count": 6, **plain},
        {"operation": "ring_all_reduce", "average": True, "dtype": "int32", "tensor": ones},
    ]
    group = student.group(3, drivers.errors_of_collectives, cases=bad)
    for rank, errors in enumerate(group.results):
        for case, error in zip(bad, errors, strict=True):
            wanted = "TypeError" if case.get("average") else "ValueError"
            assert error == wanted, f"rank {rank}: {case} raised {error}, expected a {wanted}"
    assert group.messages.sum() == 0, "something was sent by calls that can't be answered"
    again = [make_case(rng, 3, "ring_all_reduce", (4,))]
    check_collectives(student, drivers.run_collectives, again, 3)
