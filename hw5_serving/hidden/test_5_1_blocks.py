"""Task 5.1, hidden: forks, a cleared cache, namespaces, long random programs."""

from __future__ import annotations

import blocks_cases as cases
from blocks_cases import Pool, operation
from gradescope_utils.autograder_utils.decorators import number, weight
from hypothesis import strategies as st


@number("5.1")
@weight(1.2)
def test_a_fork_shares_full_blocks_and_copies_the_last(student, rng):
    """At a block's end, in its middle, before anything is computed, out of blocks, and what is named
    afterwards by both."""
    book = [int(t) for t in rng.integers(0, 9, 12)]
    for computed in (0, 3, 4, 6, 8, 11):
        operations = [
            operation("add", 0, tokens=book), operation("allocate", 0, 12),
            operation("compute", 0, computed), operation("fork", 0, 1), operation("fork", 1, 2),
            operation("allocate", 1, 12), operation("append", 1, tokens=[7, 7]),
            operation("append", 2, tokens=[8, 8, 8]), operation("allocate", 1, 14),
            operation("compute", 1, 14), operation("allocate", 2, 15), operation("compute", 2, 15),
            operation("compute", 0, 12), operation("free", 0), operation("fork", 2, 3),
            operation("drop", 1), operation("drop", 2), operation("append", 3, tokens=[1, 2]),
            operation("allocate", 3, 17), operation("compute", 3, 17), operation("allocate", 0, 12),
            operation("free", 3), operation("free", 0), operation("allocate", 0, 12),
        ]  # fmt: skip
        for pool in (Pool(14, 4), Pool(14, 4, prefix_caching=False)):
            cases.check(
                student, pool, operations,
                "computed // block_size blocks are shared; what is computed behind them is in one "
                "more block, and the child has a copy; blocks that are only allocated stay the parent's",
            )  # fmt: skip
    full = [
        operation("add", 0, tokens=book[:8]), operation("allocate", 0, 8), operation("compute", 0, 7),
        operation("fork", 0, 1), operation("compute", 0, 8), operation("fork", 0, 2),
        operation("free", 0), operation("free", 2), operation("fork", 0, 3), operation("allocate", 2, 8),
    ]  # fmt: skip
    states = cases.check(
        student, Pool(2, 4), full, "without a free block only full blocks can fork"
    )
    assert [s["error"] for s in states].count("OutOfBlocks") == 1, "one asks for too much"


@number("5.1")
@weight(1.1)
def test_a_cleared_cache_stays_cleared(student, rng):
    """Nothing of before is found, not even what is registered afterwards by those who run on."""
    book = [int(t) for t in rng.integers(0, 9, 20)]
    start = [
        operation("add", 0, tokens=book), operation("allocate", 0, 12), operation("compute", 0, 10),
        operation("add", 1, tokens=[9, *book]), operation("allocate", 1, 9),
        operation("compute", 1, 9), operation("free", 1),
        operation("clear"),
    ]  # fmt: skip
    hint = ("what is held while the cache is cleared gets no name when register comes to it, nor what "
            "follows it in the text; cached blocks are empty then")  # fmt: skip
    runs_on = [
        operation("compute", 0, 12), operation("allocate", 0, 20), operation("compute", 0, 20),
        operation("add", 2, tokens=book), operation("allocate", 2, 20), operation("compute", 2, 20),
        operation("add", 3, tokens=[*book, 1]), operation("allocate", 3, 21), operation("drop", 0),
        operation("drop", 3), operation("drop", 2), operation("allocate", 1, 21),
        operation("add", 4, tokens=book), operation("allocate", 4, 20),
    ]  # fmt: skip
    cases.check(student, Pool(18, 4), start + runs_on, hint)
    resumes = [
        operation("free", 0), operation("allocate", 0, 20), operation("compute", 0, 20),
        operation("add", 2, tokens=[*book, 1]), operation("allocate", 2, 21),
        operation("compute", 2, 21), operation("clear"), operation("free", 0), operation("clear"),
        operation("compute", 2, 21), operation("free", 2), operation("allocate", 0, 20),
        operation("compute", 0, 20), operation("allocate", 2, 21),
    ]  # fmt: skip
    cases.check(student, Pool(18, 4), start + resumes, hint)
    forks = [
        operation("fork", 0, 2), operation("allocate", 2, 20), operation("compute", 2, 20),
        operation("free", 0), operation("allocate", 0, 20), operation("free", 2), operation("free", 0),
        operation("allocate", 0, 20), operation("compute", 0, 20), operation("allocate", 2, 20),
    ]  # fmt: skip
    cases.check(student, Pool(18, 4), start + forks, hint)
    short = [
        operation("add", 0, tokens=book[:7]), operation("allocate", 0, 7), operation("compute", 0, 3),
        operation("clear"), operation("fork", 0, 1), operation("compute", 1, 7),
        operation("compute", 0, 7), operation("add", 2, tokens=book), operation("allocate", 2, 20),
    ]  # fmt: skip
    cases.check(
        student, Pool(18, 4), short, "a copy of such a block (fork) is as old as its original"
    )
    operations = []
    for place in range(3):
        operations += [operation("add", place, tokens=[place] * 5), operation("allocate", place, 5),
                       operation("compute", place, 5), operation("free", place)]  # fmt: skip
    operations += [operation("clear"), operation("allocate", 1, 5), operation("compute", 1, 5),
                   operation("free", 1), operation("add", 9, tokens=[7] * 12),
                   operation("allocate", 9, 12), operation("allocate", 1, 5)]  # fmt: skip
    cases.check(student, Pool(4, 4), operations, "cached blocks are empty after clear_cache")


@number("5.1")
@weight(0.8)
def test_namespaces_part_prefixes_and_caching_can_be_off(student, rng):
    """Equal tokens under other weights; prefixes longer than asked for; sharing without a cache."""
    book = [int(t) for t in rng.integers(0, 9, 13)]
    operations = []
    for place, namespace in enumerate(("", "v1/", "v1/a", "v2/a", "", "v1/", "v2/a")):
        operations += [operation("add", place, tokens=book, namespace=namespace),
                       operation("allocate", place, 13), operation("compute", place, 12)]  # fmt: skip
    operations += [operation("free", 3), operation("free", 0), operation("free", 4)]
    operations += [operation("add", 9, tokens=book, namespace="v2/"), operation("allocate", 9, 13)]
    hint = "the namespace is part of every block's name"
    cases.check(student, Pool(40, 4), operations, hint)
    cases.check(student, Pool(40, 4, prefix_caching=False), operations, "no prefix is shared then")
    asked = [
        operation("add", 0, tokens=book),
        operation("allocate", 0, 13),
        operation("compute", 0, 13),
    ]
    for place, tokens in enumerate((1, 4, 5, 8, 9, 13, 18), start=1):
        asked += [operation("add", place, tokens=book), operation("allocate", place, tokens)]
    asked += [operation("free", place) for place in (3, 0, 7, 2, 1, 4, 5, 6)]
    asked += [operation("allocate", 2, 5), operation("allocate", 2, 13)]
    cases.check(student, Pool(16, 4), asked, "no more of the prefix than num_tokens need")


@number("5.1")
@weight(1.7)
def test_any_program_with_forks_and_clearing(student, rng):
    """Random programs of everything there is, beside a model in dicts."""
    books = [[int(t) for t in rng.integers(0, 3, 16)] for _ in range(2)]

    def check(raw, blocks, size, caching, namespaces):
        pool = Pool(blocks, size, caching)
        cases.check(student, pool, cases.program(pool, raw, books, namespaces=namespaces))

    student.given(
        max_examples=200, raw=cases.RAW, blocks=st.integers(1, 14), size=st.integers(1, 5),
        caching=st.sampled_from([True] * 7 + [False]), namespaces=st.sampled_from([("",), ("", "a")]),
    )(cases.briefly(check))()  # fmt: skip
