"""Task 5.1: names of blocks, sharing, eviction, and what a load wastes."""

from __future__ import annotations

import blocks_cases as cases
import drivers_blocks as drivers
from blocks_cases import Pool, operation
from gradescope_utils.autograder_utils.decorators import number, weight
from hypothesis import strategies as st

from autograder.testing import Measure


@number("5.1")
@weight(1)
def test_a_blocks_name_depends_on_everything_before_it(student, rng):
    """block_hash: 32 bytes, the same for the same, another for another parent, token, namespace."""
    tokens = [int(t) for t in rng.integers(0, 49_152, 16)]
    one, two = (rng.bytes(32).hex() for _ in range(2))
    swapped = [tokens[1], tokens[0] + 1, *tokens[2:]]
    turned = [tokens[0] + 1, tokens[1], *tokens[2:]]
    asked = [
        (one, tokens, ""), (two, tokens, ""), ("", tokens, ""), (one, tokens, "v1/"),
        (one, tokens, "v1/a"), (one, tokens[:-1], ""), (one, swapped, ""), (one, turned, ""),
        (one, [tokens[0] + 256, *tokens[1:]], ""), (one, [tokens[0] + 65_536, *tokens[1:]], ""),
        (one, [*tokens[:-1], tokens[-1] + 2**32], ""), (one, [], ""), ("", [], ""),
        # One part's end as the next one's beginning: the same bytes in one row.
        (one + "76", tokens, "1"), (one, tokens, "v1"), ("", tokens, bytes.fromhex("7631").decode()),
        ("", [1, 12], ""), ("", [11, 2], ""), ("", [112], ""), ("", [1], "12"), ("", [1, 12, 0], ""),
    ]  # fmt: skip
    sent = [{"parent": p, "tokens": t, "namespace": n} for p, t, n in asked]
    names = student.run(drivers.hashed, cases=sent)
    assert names == student.run(drivers.hashed, cases=sent), "the same block, another name"
    for name, case in zip(names, sent, strict=True):
        assert len(name) == 64, (
            f"block_hash{tuple(case.values())} has {len(name) // 2} bytes, not 32"
        )
    for place, name in enumerate(names):
        first = names.index(name)
        assert first == place, (
            f"one name for two different blocks:\n  {sent[first]}\n  {sent[place]}\nhint: hash the "
            "parts with their lengths, tokens as 8 bytes each"
        )


@number("5.1")
@weight(1.2)
def test_a_prompt_of_whole_blocks_all_of_them_cached(student, rng):
    """Its last block is computed again, in a block of its own; a longer prompt takes them all."""
    for size in (4, 1, 16):
        book = [int(t) for t in rng.integers(0, 50, 3 * size + 1)]
        pool = Pool(9, size)
        operations = [
            operation("add", 0, tokens=book[: 3 * size]), operation("allocate", 0, 3 * size),
            operation("compute", 0, 3 * size),
            operation("add", 1, tokens=book[: 3 * size]), operation("allocate", 1, 3 * size),
            operation("add", 2, tokens=book), operation("allocate", 2, 3 * size + 1),
            operation("free", 0), operation("allocate", 0, 3 * size), operation("compute", 1, 3 * size),
            operation("compute", 0, 3 * size), operation("free", 1), operation("free", 2),
            operation("free", 0), operation("add", 3, tokens=[*book[: 2 * size], 51, *book[:size]]),
            operation("allocate", 3, 3 * size + 1),
        ]  # fmt: skip
        states = cases.check(
            student, pool, operations,
            "a sequence takes full blocks only, and at least one token is left to be computed: "
            "without it there are no logits",
        )  # fmt: skip
        taken, longer = states[4]["computed"]["1"], states[6]["computed"]["2"]
        assert (taken, longer) == (2 * size, 3 * size), f"{taken} and {longer} tokens taken over"


@number("5.1")
@weight(1.2)
def test_the_longest_unused_is_evicted_and_ends_before_beginnings(student, rng):
    """Empty blocks go first; then cached ones by when they were last held, a text's end first."""
    size = 4
    books = [[int(t) for t in rng.permutation(100)[:13]] for _ in range(4)]
    operations = []
    for place in (0, 1):  # two texts of three blocks and a token each
        operations += [operation("add", place, tokens=books[place]), operation("allocate", place, 13),
                       operation("compute", place, 13)]  # fmt: skip
    operations += [
        operation("free", 0), operation("free", 1),
        # The first is used once more: now the second is the one longest unused.
        operation("allocate", 0, 9), operation("free", 0),
        operation("add", 2, tokens=books[2]), operation("allocate", 2, 13),  # 2 empty, 2 evicted
        operation("compute", 2, 13), operation("add", 3, tokens=books[3]),
        operation("allocate", 3, 5), operation("free", 2), operation("allocate", 1, 13),
        operation("free", 3), operation("free", 3), operation("drop", 1), operation("allocate", 2, 13),
    ]  # fmt: skip
    states = cases.check(
        student, Pool(8, size), operations,
        "keep the free blocks in an order: who is freed without a name goes to the front, who has "
        "one to the back; a text's blocks from its last to its first",
    )  # fmt: skip
    assert len(states[11]["prefixes"]["1"]) == 1, "after two evictions a text keeps its first block"
    pool = Pool(5, 2)
    operations = []
    for place in range(4):
        tokens = [place, place, place]
        operations += [operation("add", place, tokens=tokens), operation("allocate", place, 3),
                       operation("compute", place, 2), operation("free", place)]  # fmt: skip
    operations += [
        operation("allocate", 1, 3),
        operation("free", 1),
        operation("add", 9, tokens=[9] * 7),
    ]
    operations += [operation("allocate", 9, 7), operation("free", 9), operation("allocate", 0, 3)]
    cases.check(student, pool, operations, "a cached block that is used again is the newest again")
    operations = []
    for place, tokens in enumerate((books[0][:9], books[1][:9])):
        operations += [operation("add", place, tokens=tokens), operation("allocate", place, 8),
                       operation("compute", place, 8), operation("free", place)]  # fmt: skip
    operations += [operation("append", 0, tokens=books[2][:4]), operation("allocate", 0, 13)]
    cases.check(
        student, Pool(4, size), operations,
        "the prefix is held before new blocks are taken, or these are its own, longest unused",
    )  # fmt: skip


@number("5.1")
@weight(0.8)
def test_out_of_blocks_changes_nothing(student, rng):
    """Too few free: OutOfBlocks, and tables, counts, names and the order are as they were."""
    book = [int(t) for t in rng.integers(0, 9, 20)]
    other = [int(t) for t in rng.integers(10, 19, 20)]
    operations = [
        operation("add", 0, tokens=book[:9]), operation("allocate", 0, 9), operation("compute", 0, 9),
        operation("add", 1, tokens=book), operation("allocate", 1, 20), operation("allocate", 1, 17),
        operation("allocate", 1, 16), operation("add", 2, tokens=other), operation("allocate", 2, 5),
        operation("allocate", 0, 13), operation("free", 0), operation("compute", 1, 16),
        operation("allocate", 2, 9), operation("free", 1), operation("allocate", 2, 3),
        operation("allocate", 1, 20), operation("free", 2), operation("allocate", 1, 20),
        operation("allocate", 1, 21), operation("allocate", 2, 20), operation("free", 1),
        operation("allocate", 2, 20),
    ]  # fmt: skip
    states = cases.check(
        student, Pool(5, 4), operations,
        "count what is wanted before anything is taken. Cached blocks of the prefix are free ones "
        "too: they are wanted like new ones, those that somebody holds are not",
    )  # fmt: skip
    refused = [state["error"] for state in states]
    assert refused.count("OutOfBlocks") == 8, "the program doesn't try what it should"


@number("5.1")
@weight(0.8)
def test_two_who_compute_the_same_at_once(student, rng):
    """Two blocks of one content: the first that was named is found, and the second takes its place
    where that is evicted; nothing that was not computed yet is found."""
    book = [int(t) for t in rng.integers(0, 9, 12)]
    operations = [
        operation("add", 0, tokens=book), operation("add", 1, tokens=book),
        operation("allocate", 0, 12), operation("allocate", 1, 12), operation("compute", 0, 6),
        operation("compute", 1, 9), operation("add", 2, tokens=book), operation("allocate", 2, 12),
        operation("compute", 0, 12), operation("compute", 1, 12), operation("drop", 0),
        operation("add", 3, tokens=[*book, 1]), operation("allocate", 3, 13), operation("drop", 2),
        operation("drop", 3), operation("add", 4, tokens=[10] * 40), operation("allocate", 4, 40),
        operation("append", 1, tokens=[3]), operation("allocate", 1, 13), operation("compute", 1, 13),
        operation("drop", 4), operation("drop", 1), operation("add", 5, tokens=[*book, 5]),
        operation("allocate", 5, 13),
    ]  # fmt: skip
    cases.check(
        student, Pool(14, 4), operations,
        "register every full block that num_computed_tokens covers and that has no name, unless "
        "its name is taken already; look all of them up each time",
    )  # fmt: skip


@number("5.1")
@weight(1.4)
def test_any_program_of_requests(student, rng):
    """Random requests that come, grow, are preempted, resume and end, beside a model in dicts."""
    books = [[int(t) for t in rng.integers(0, 3, 14)] for _ in range(3)]

    def check(raw, blocks, size, caching):
        pool = Pool(blocks, size, caching)
        cases.check(student, pool, cases.program(pool, raw, books, cases.PLAIN))

    student.given(
        max_examples=120, raw=cases.RAW, blocks=st.integers(2, 12), size=st.integers(1, 4),
        caching=st.sampled_from([True, True, True, False]),
    )(cases.briefly(check))()  # fmt: skip


@number("5.1")
@weight(0.8)
def test_slots_used_under_load(student, rng):
    """Trusted: requests of 100 to 1,500 tokens that grow side by side; tokens over slots held."""
    size, pool = 16, 1024
    prompts = [int(n) for n in rng.integers(100, 900, 48)]
    answers = [int(n) for n in rng.integers(20, 600, 48)]
    operations, waiting, running, lengths = [], list(range(48)), [], []
    while waiting or running:
        while waiting and len(running) < 12:
            running.append(waiting.pop(0))
            tokens = rng.integers(0, 49_152, prompts[running[-1]])
            operations.append(operation("add", running[-1], tokens=tokens, quiet=True))
            operations.append(operation("grow", running[-1], len(tokens), quiet=True))
        for request in list(running):
            step = min(20, answers[request])
            prompts[request], answers[request] = prompts[request] + step, answers[request] - step
            tokens = rng.integers(0, 49_152, step)
            operations.append(operation("grow", request, prompts[request], tokens, quiet=True))
        operations[-1]["quiet"] = False
        lengths.append({str(request): prompts[request] for request in running})
        for request in [r for r in running if not answers[r]]:
            operations.append(operation("drop", request, quiet=True))
            running.remove(request)
    operations.append(operation("clear"))
    states = student.run(
        drivers.operated,
        num_blocks=pool,
        block_size=size,
        prefix_caching=True,
        operations=operations,
    )
    looks = [state for state in states if state is not None]
    assert looks[-1]["free"] == pool, f"{looks[-1]['free']} blocks are free at the end, of {pool}"
    used, held = 0, 0
    for state, wanted in zip(looks, lengths, strict=False):
        tables = state["tables"]
        assert tables.keys() == wanted.keys(), "a request has no table"
        for request, length in wanted.items():
            table = tables[request]
            assert len(set(table)) == len(table) and set(table) <= set(range(pool)), (
                f"table {table}"
            )
            assert len(table) * size >= length, f"{len(table)} blocks for {length} tokens"
        every = [block for table in tables.values() for block in table]
        assert len(set(every)) == len(every), "a block is in two tables, and no two texts are alike"
        assert state["free"] + len(every) == pool, (
            f"{len(every)} blocks are in tables, {state['free']} are free, the pool has {pool}"
        )
        used, held = used + sum(wanted.values()), held + len(every) * size
    share = used / held
    student.measure(Measure(name="slots used", value=share, unit="", full=0.95))
    assert share >= 0.95, f"{share:.3f} of the slots that are held have a token, asked 0.95"
