"""Task 5.9, hidden: damage, snapshots, threads, an index through crashes, small and odd input."""

from __future__ import annotations

import drivers_store as drivers
import numpy as np
import store_cases as cases
from gradescope_utils.autograder_utils.decorators import number, weight
from store_cases import COMPACT, append, delete

from autograder.testing.disk import arrays, run_log


@number("5.9")
@weight(0.9)
def test_damage_is_refused_by_name_and_the_version_before_loads(student, rng):
    """Every file of the newest version cut, gone, longer or with one bit turned."""
    vectors = rng.standard_normal((9, 4)).astype(np.float32)
    queries = rng.standard_normal((2, 4)).astype(np.float32)
    operations = [append(range(6), vectors[:6]), delete([2]), append([6, 7], vectors[6:8])]
    found = student.run(drivers.play, config={"dims": 4}, operations=operations, queries=queries, k=9)
    versions: list[cases.Files] = [{}]
    contents: list[cases.Contents] = [{}]
    for operation, got in zip(operations, found, strict=True):
        versions.append(run_log(versions[-1], got["log"]))
        contents.append(cases.applied(contents[-1], operation))
    files = versions[-1]
    fresh = sorted(set(files) - set(versions[-2]))
    assert len(fresh) >= 2, f"the last append made {fresh}: a segment and a manifest are expected"
    disks, told = [], []
    for name in fresh:
        data, at = files[name], int(rng.integers(0, len(files[name])))
        turned = bytearray(data)
        turned[at] ^= 4
        for how, content in {"cut": data[:-1], "emptied": b"", "longer": data + b"\0",
                             "turned in a bit": bytes(turned), "gone": None}.items():  # fmt: skip
            left = {n: d for n, d in {**files, name: content}.items() if d is not None}
            disks.append(arrays(left))
            told.append((name, how))
    results = student.run(drivers.open_each, disks=disks, config={"dims": 4}, queries=queries, k=9)
    for (name, how), got in zip(told, results, strict=True):
        assert "error" not in got, f"{name} {how}: nothing loads: {got.get('error')}"
        wrong = cases.same_answers(got, contents[-2], queries)
        assert not wrong, f"{name} {how}: the version before should load: {wrong}"
        gone = how == "gone" and name.endswith(".manifest")
        assert gone or any(name in text for text in got["refused"]), (
            f"{name} {how}: what was refused does not name it: {got['refused']}"
        )
    empty = [arrays({n: d[: len(d) // 2] for n, d in files.items()})]
    (got,) = student.run(drivers.open_each, disks=empty, config={"dims": 4}, queries=queries, k=9)
    newest = max(n for n in files if n.endswith(".manifest"))
    assert newest in got.get("error", ""), f"all files cut: {newest} should be named: {got}"
    at_newest = next(d for d, t in zip(disks, told, strict=True) if t == (newest, "cut"))
    after = student.run(drivers.play, config={"dims": 4}, operations=[append([8], vectors[8:9])],
                        queries=queries, k=9, files=at_newest, reopen=True)  # fmt: skip
    left = run_log({n: d.tobytes() for n, d in at_newest.items()}, after[0]["log"])
    (got,) = student.run(
        drivers.open_each, disks=[arrays(left)], config={"dims": 4}, queries=queries, k=9
    )
    wrong = cases.same_answers(got, {**contents[-2], 8: vectors[8]}, queries)
    assert not wrong, f"an append after damage, opened again: {wrong}"


@number("5.9")
@weight(0.8)
def test_snapshots_and_searches_beside_changes(student, rng):
    """A snapshot answers as it did, whatever was deleted and compacted since, files removed."""
    vectors = rng.standard_normal((120, 4)).astype(np.float32)
    queries = rng.standard_normal((3, 4)).astype(np.float32)
    start = append(range(60), vectors[:60])
    operations = [start, delete([*range(20)]), COMPACT, append(range(100, 140), vectors[60:100]),
                  delete([25, 101]), COMPACT, delete([30])]  # fmt: skip
    config = {"dims": 4, "lists": 4, "pieces": 2, "index_from": 30}
    *found, mapped = student.run(
        drivers.snapshots, config=config, operations=operations, queries=queries, k=8
    )
    states: list[cases.Contents] = [{}]
    for operation in operations:
        states.append(cases.applied(states[-1], operation))
    for place, (state, got) in enumerate(zip([*states, states[-1]], found, strict=True)):
        wrong = cases.same_answers(got, state, queries)
        assert not wrong, f"snapshot {place}, searched at the end: {wrong}"
    assert mapped is True, "arrays of an opened store should be read-only views of its mapped files"
    config = {"dims": 4}
    changes = [delete([n]) for n in range(0, 40)]
    changes.insert(20, COMPACT)
    found = student.run(
        drivers.searches_beside, config=config, start=start, operations=changes, queries=queries, k=8
    )
    states = [cases.applied({}, start)]
    for operation in changes:
        states.append(cases.applied(states[-1], operation))
    by_size = {len(state): state for state in states}
    for got in found:
        assert got["living"] in by_size, f"{got['living']} vectors live: that was never so"
        wrong = cases.same_answers(got, by_size[got["living"]], queries)
        assert not wrong, f"a search beside deletions, of {got['living']}: {wrong}"


@number("5.9")
@weight(0.8)
def test_an_indexed_store_of_int8_through_crashes(student, rng):
    """Recall of the store's own search, distances of int8 vectors, compaction that rounds nothing."""
    vectors, queries = cases.clustered(rng, 3000, 24, 20)
    config = {"dims": 24, "lists": 48, "pieces": 4, "exact": "int8", "index_from": 500}
    operations = [append(range(3000), vectors), delete(range(0, 3000, 3)), COMPACT, COMPACT]
    got = student.run(drivers.play, config=config, operations=operations, queries=queries, k=10,
                      search={"probes": 6, "candidates": 150}, timeout=20)  # fmt: skip
    largest = np.abs(vectors).max(1, keepdims=True)
    rounded = np.rint(vectors / (largest / 127)) * (largest / 127)
    kept = np.arange(3000)
    for operation, answer in zip(operations, got, strict=True):
        if operation["kind"] == "delete":
            kept = kept[kept % 3 != 0]
        truth = kept[cases.true_nearest(queries, vectors[kept])]
        value = cases.recall([row[row >= 0] for row in answer["ids"]], truth)
        assert value >= 0.85, f"after {operation['kind']}: recall@10 {value:.3f}, asked 0.85"
        for row, query in enumerate(queries):
            exact = ((rounded[answer["ids"][row]] - query) ** 2).sum(1)
            assert np.allclose(answer["distances"][row], exact, rtol=1e-3, atol=1e-3), (
                f"after {operation['kind']}: distances {answer['distances'][row][:3]}, those of the "
                f"int8 vectors {exact[:3]}\nhint: compaction keeps the codes as they are"
            )
    small = np.rint(rng.uniform(-127, 127, (40, 4)))
    small[:, 0] = 127
    small = small.astype(np.float32)
    asked = rng.standard_normal((2, 4)).astype(np.float32)
    config = {"dims": 4, "lists": 4, "pieces": 2, "exact": "int8", "index_from": 8}
    operations = [append(range(20), small[:20]), delete(range(20)), append(range(20), small[:20]), COMPACT]
    found = student.run(drivers.play, config=config, operations=operations, queries=asked, k=12)
    logs = [each["log"] for each in found]
    cases.check_crashes(student, drivers.open_each, config, operations, logs, asked, rng)


@number("5.9")
@weight(0.7)
def test_empty_lists_ties_and_what_is_refused(student, rng):
    """Fewer points than centroids, repeated points, rows of zeros, ids that are there, NaN."""
    few = rng.standard_normal((3, 12)).astype(np.float32)
    got = student.run(drivers.cluster, points=few, count=5, iterations=4, seed=1)
    assert got.shape == (5, 12) and np.isfinite(got).all(), f"5 centroids of 3 points: {got}"
    far = cases.distances(few, got).min(1)
    assert far.max() < 1e-4, "3 points and 5 centroids: each point has one of its own"
    same = np.zeros((200, 2), np.float32)
    same[:4] = [[50, 0], [0, 50], [-50, 0], [0, -50]]
    for seed in range(6):
        got = student.run(drivers.cluster, points=same, count=5, iterations=8, seed=seed)
        far = cases.distances(same, got).min(1).max()
        assert far < 1e-3, (
            f"196 equal points and 4 far ones: one of the 5 is {far:.1f} from every centroid"
            "\nhint: a centroid without points moves to the farthest point"
        )
    points = rng.random((60, 12)).astype(np.float32)
    a, b = (
        student.run(drivers.cluster, points=points, count=9, iterations=1, seed=s) for s in (1, 2)
    )
    assert not np.array_equal(a, b), "another seed begins elsewhere"
    apart = np.array([2, 1, 1, 0, 1], np.float32)
    places = student.run(drivers.nearest, distances=apart, ids=np.array([1, 9, 4, 7, 6]), k=3)
    assert places.tolist() == [3, 2, 4], f"equal distances go by smaller id: {places.tolist()}"
    rows = np.array([[0, 0, 0], [-254, 1, 127]], np.float32)
    coded = student.run(drivers.to_int8, vectors=rows)
    assert coded["codes"].tolist() == [[0, 0, 0], [-127, 0, 64]], f"codes {coded['codes'].tolist()}"
    assert coded["scales"].tolist() == [1, 2], f"scales {coded['scales'].tolist()}, not [1, 2]"
    for what, error in student.run(drivers.refusals, vectors=few).items():
        assert error == "ValueError", f"{what}: {error or 'nothing is raised'}, not ValueError"
    bad = few[:2].copy()
    bad[1, 3] = np.nan
    operations = [append([], few[:0]), delete([3]), append([4, 5], few[:2]), append([5, 6], few[:2]),
                  append([6, 6], few[:2]), append([-1], few[:1]), append([8, 9], bad), append([8], few[:2]),
                  delete([4]), append([4], few[2:])]  # fmt: skip
    wrong_ones = {3, 4, 5, 6, 7}
    found = student.run(drivers.play, config={"dims": 12}, operations=operations, queries=few, k=4)
    contents: cases.Contents = {}
    for place, (operation, got) in enumerate(zip(operations, found, strict=True)):
        if place not in wrong_ones:
            contents = cases.applied(contents, operation)
        assert bool(got["error"]) == (place in wrong_ones), f"operation {place}: {got['error'] or 'taken'}"
        changes = [line for line in got["log"] if line["kind"] != "sync names"]
        assert not changes or (place not in wrong_ones and place > 1), f"operation {place} writes"
        wrong = cases.same_answers(got, contents, few)
        assert not wrong, f"operation {place}: {wrong}"
