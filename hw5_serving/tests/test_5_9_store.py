"""Task 5.9: recall against what is read, bytes against recall, a store that outlives crashes."""

from __future__ import annotations

import drivers_store as drivers
import numpy as np
import store_cases as cases
from gradescope_utils.autograder_utils.decorators import number, weight
from store_cases import COMPACT, append, delete

from autograder.testing import Measure, assert_close

ROWS, DIMS, QUERIES = 12_000, 96, 40


def _recall_by_lists(student, rng, make, probes: int) -> tuple[float, float]:
    """(share of the vectors read, recall). The worker that chooses the lists has no vectors."""
    vectors, queries = make(rng, ROWS, DIMS, QUERIES)
    index = student.run(drivers.inverted_lists, vectors=vectors, count=256, sample=4096)
    cases.check_partition(vectors, index)
    arguments = {"queries": queries, "centroids": index["centroids"], "probes": probes}
    lists = student.call(student.fresh(), drivers.probed, arguments, timeout=10)
    assert lists.shape == (QUERIES, probes), f"lists {lists.shape}, not {(QUERIES, probes)}"
    rows = cases.scanned(index["order"], index["offsets"], lists)
    truth = cases.true_nearest(queries, vectors)
    hits = sum(len(np.intersect1d(r, t)) for r, t in zip(rows, truth, strict=True))
    return float(np.mean([len(r) for r in rows])) / ROWS, hits / truth.size


@number("5.9")
@weight(1.3)
def test_few_lists_hold_the_nearest(student, rng):
    """Trusted: lists come from centroids and queries alone, and what lies in them is counted here."""
    asked = ((cases.clustered, 4, 0.05, 0.95), (cases.heavy_tailed, 6, 0.15, 0.95),
             (cases.uniform, 24, 0.24, 0.35))  # fmt: skip
    for make, probes, most, least in asked:
        read, found = _recall_by_lists(student, rng, make, probes)
        name = make.__name__
        student.measure(Measure(name=f"recall@10, {name}, {read:.1%} read", value=found, unit="", full=least))
        assert read <= most, f"{name}: {read:.1%} of the vectors are read, at most {most:.0%} may be"
        assert found >= least, (
            f"{name}: recall@10 is {found:.3f} in {probes} lists of 256, asked {least}"
            "\nhint: k-means on all points of the sample; the nearest centroids' lists"
        )


@number("5.9")
@weight(1.2)
def test_a_twenty_fourth_of_the_bytes_finds_the_candidates(student, rng):
    """Trusted: the worker that compares codes has no vectors; the comparison after it is made here."""
    for make in (cases.clustered, cases.uniform):
        vectors, queries = make(rng, 6000, DIMS, 20)
        sizes = np.repeat(rng.permutation(np.linspace(0.3, 2, 16)), 6).astype(np.float32)
        vectors, queries = vectors * sizes, queries * sizes  # each piece needs a codebook of its own
        made = student.run(drivers.quantized, vectors=vectors, pieces=16, codewords=256, sample=2000)
        codes, books = made["codes"], made["codebooks"]
        assert codes.dtype == np.uint8 and codes.nbytes * 24 == vectors.nbytes, (
            f"{codes.nbytes:,} bytes of codes for {vectors.nbytes:,} of vectors, 1/24 were asked"
        )
        assert books.shape == (16, 256, 6), f"codebooks {books.shape}, not (16, 256, 6)"
        for piece in (0, 7, 15):
            part = vectors[:300, 6 * piece : 6 * piece + 6]
            apart = cases.distances(part, books[piece])
            worse = apart[np.arange(300), codes[:300, piece]] - apart.min(1)
            assert worse.max() < 1e-3, f"piece {piece}: a codeword that is not the nearest was taken"
        arguments = {"codebooks": books, "codes": codes, "queries": queries, "count": 200}
        got = student.call(student.fresh(), drivers.by_codes, arguments, timeout=10)
        tables = np.stack([cases.distances(queries[:, 6 * p : 6 * p + 6], books[p]) for p in range(16)], 1)
        assert_close(got["tables"], tables.astype(np.float32), rtol=1e-3, atol=1e-3,
                     name="tables", hint="(pieces, codewords), the query as it is")  # fmt: skip
        sums = tables[:, np.arange(16), codes[:50]].sum(-1)
        assert_close(got["distances"], sums.astype(np.float32), rtol=1e-3, atol=1e-3,
                     name="distances by codes", hint="each piece's own row of the table")  # fmt: skip
        truth, found = cases.true_nearest(queries, vectors), []
        for query, rows in zip(queries, got["rows"], strict=True):
            assert len(rows) == 200, f"{len(rows)} candidates, not 200"
            found.append(rows[np.argsort(cases.distances(query[None], vectors[rows])[0])[:10]])
        value = cases.recall(found, truth)
        name = f"recall@10, 1/24 of the bytes, 200 compared, {make.__name__}"
        student.measure(Measure(name=name, value=value, unit="", full=0.9))
        assert value >= 0.9, f"{make.__name__}: recall@10 {value:.3f} after comparing 200, asked 0.9"


@number("5.9")
@weight(1.0)
def test_append_delete_and_compact_against_brute_force(student, rng):
    """Every search reads everything: ids and distances are brute force's after every operation."""
    vectors = rng.standard_normal((700, 8)).astype(np.float32)
    queries = rng.standard_normal((4, 8)).astype(np.float32)
    operations = [
        append(range(300), vectors[:300]), append(range(1000, 1040), vectors[300:340]),
        delete([5, 1003, 9999]), append([5], vectors[340:341]), delete(range(0, 300, 2)), COMPACT,
        append(range(2000, 2250), vectors[400:650]), delete([2000, 5]), COMPACT,
    ]  # fmt: skip
    config = {"dims": 8, "lists": 6, "pieces": 2, "index_from": 200, "seed": 3}
    note = {"notes.txt": np.arange(5, dtype=np.uint8)}
    for reopen in (False, True):
        found = student.run(
            drivers.play, config=config, operations=operations, queries=queries, k=10, reopen=reopen,
            files=note,
        )  # fmt: skip
        contents: cases.Contents = {}
        for place, (operation, got) in enumerate(zip(operations, found, strict=True)):
            where = f"operation {place + 1} ({operation['kind']}), reopened: {reopen}"
            before, contents = contents, cases.applied(contents, operation)
            assert not got["error"], f"{where}: {got['error']}"
            assert "notes.txt" in got["names"], f"{where}: a file that is not the store's is gone"
            if operation["kind"] == "delete":
                gone = len(before) - len(contents)
                assert got["result"] == gone, f"{where}: {got['result']} deleted, {gone} were there"
            assert got["living"] == len(contents), f"{where}: {got['living']} live, not {len(contents)}"
            wrong = cases.same_answers(got, contents, queries)
            assert not wrong, f"{where}: {wrong}"


@number("5.9")
@weight(1.3)
def test_after_a_crash_the_old_or_the_new_version_loads(student, rng):
    """A crash after every operation of every change; unsynced files and names may be anything."""
    vectors = rng.standard_normal((12, 3)).astype(np.float32)
    queries = rng.standard_normal((2, 3)).astype(np.float32)
    operations = [append(range(5), vectors[:5]), append([7, 9], vectors[5:7]), delete([1, 9]),
                  append([1], vectors[8:9]), COMPACT, delete([0, 1, 2, 3, 4, 7])]  # fmt: skip
    config = {"dims": 3}
    found = student.run(drivers.play, config=config, operations=operations, queries=queries, k=12)
    logs = [got["log"] for got in found]
    files = cases.check_crashes(
        student, drivers.open_each, config, operations, logs, queries, rng
    )  # fmt: skip
    assert len(files) <= 4, f"files that no version needs stay: {sorted(files)}"
