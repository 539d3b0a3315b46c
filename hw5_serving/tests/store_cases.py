"""Tasks 5.9 and 5.10 on the trusted side: generated sets, brute force, recall, a store's contents."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from autograder.testing.disk import Disk, Files, arrays, crashes_of, run_log

Contents = dict[int, np.ndarray]


def clustered(rng: np.random.Generator, count: int, dims: int, queries: int) -> Any:
    """(count, dims) and (queries, dims): one mixture of a hundred Gaussians of different widths."""
    centers = rng.standard_normal((100, dims))
    widths = rng.uniform(0.2, 0.6, 100)
    which = rng.integers(0, 100, count + queries)
    points = centers[which] + widths[which, None] * rng.standard_normal((count + queries, dims))
    return _split(points, count)


def heavy_tailed(rng: np.random.Generator, count: int, dims: int, queries: int) -> Any:
    """Clusters whose sizes fall as 1/rank, with Student's t of 3 degrees around them: some vectors
    are ten times as long as others, and some lists hold far more than others."""
    shares = 1 / np.arange(1, 61)
    which = rng.choice(60, count + queries, p=shares / shares.sum())
    centers = 2 * rng.standard_normal((60, dims))
    radii = rng.standard_t(3, (count + queries, 1))
    points = centers[which] + 0.4 * radii * rng.standard_normal((count + queries, dims))
    return _split(points, count)


def uniform(rng: np.random.Generator, count: int, dims: int, queries: int) -> Any:
    """Uniform in the unit cube: no structure that an index could use."""
    return _split(rng.random((count + queries, dims)), count)


def _split(points: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    points = points.astype(np.float32)
    return points[:count], points[count:]


def distances(queries: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """(queries, vectors) squared distances in float64."""
    a, b = queries.astype(np.float64), vectors.astype(np.float64)
    return (a * a).sum(1)[:, None] + (b * b).sum(1)[None] - 2 * a @ b.T


def true_nearest(queries: np.ndarray, vectors: np.ndarray, k: int = 10) -> np.ndarray:
    """(queries, k) rows of the nearest, by brute force."""
    return np.argsort(distances(queries, vectors), axis=1, kind="stable")[:, :k]


def recall(found: Sequence[Any], truth: np.ndarray) -> float:
    """The share of the true nearest that were found, over all queries; more than k count for none."""
    hits = 0
    for mine, wanted in zip(found, truth, strict=True):
        ids = np.asarray(mine).tolist()
        assert len(ids) <= len(wanted), f"{len(ids)} answers to a question for {len(wanted)}"
        assert len(set(ids)) == len(ids), f"the same answer twice: {sorted(ids)}"
        hits += len(set(ids) & set(wanted.tolist()))
    return hits / truth.size


def scanned(order: np.ndarray, offsets: np.ndarray, lists: np.ndarray) -> list[np.ndarray]:
    """For each query the rows in its lists."""
    return [np.concatenate([order[offsets[c] : offsets[c + 1]] for c in row]) for row in lists]


def check_partition(vectors: np.ndarray, index: dict[str, np.ndarray]) -> None:
    """Every row is once in the lists, in that of its nearest centroid."""
    order, offsets, centroids = index["order"], index["offsets"], index["centroids"]
    assert offsets[0] == 0 and offsets[-1] == len(vectors) and len(offsets) == len(centroids) + 1, (
        f"offsets of {len(centroids)} lists and {len(vectors)} rows: {offsets[:3]} … {offsets[-2:]}"
    )
    assert (np.diff(offsets) >= 0).all(), "offsets fall: a list would have less than no rows"
    assert (np.sort(order) == np.arange(len(vectors))).all(), "not every row is once in the lists"
    assert np.isfinite(centroids).all(), "a centroid is NaN\nhint: the mean of no points"
    lists = np.repeat(np.arange(len(centroids)), np.diff(offsets))
    apart = distances(vectors[order], centroids)
    mine = apart[np.arange(len(lists)), lists]
    worst = (mine - apart.min(1)).max()
    assert worst <= 1e-3 * max(1.0, float(apart.max()) * 1e-2), (
        f"a row is in a list whose centroid is {worst:.3g} further than the nearest"
    )


def brute_force(contents: Contents, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """(ids, distances) of the nearest k, −1 and inf where there are fewer."""
    shape = (len(queries), k)
    ids, found = np.full(shape, -1, np.int64), np.full(shape, np.inf)
    if contents:
        names = np.array(sorted(contents))
        apart = distances(queries, np.stack([contents[i] for i in names.tolist()]))
        order = np.argsort(apart, axis=1, kind="stable")[:, :k]
        ids[:, : order.shape[1]] = names[order]
        found[:, : order.shape[1]] = np.take_along_axis(apart, order, 1)
    return ids, found


def same_answers(
    got: dict[str, np.ndarray], contents: Contents, queries: np.ndarray, tolerance: float = 1e-4
) -> str:
    """What is wrong with exact answers, "" where nothing is."""
    k = got["ids"].shape[1]
    ids, apart = brute_force(contents, queries, k)
    if got["ids"].shape != ids.shape or got["distances"].shape != ids.shape:
        return f"shapes {got['ids'].shape} and {got['distances'].shape}, not {ids.shape}"
    for row in range(len(queries)):
        if set(got["ids"][row].tolist()) != set(ids[row].tolist()):
            return f"query {row}: ids {got['ids'][row].tolist()}, brute force {ids[row].tolist()}"
    if not np.allclose(got["distances"], apart, rtol=tolerance, atol=tolerance):
        return f"distances {got['distances'].tolist()}, brute force {apart.tolist()}"
    return ""


def applied(contents: Contents, operation: dict[str, Any]) -> Contents:
    """What a store holds after an operation."""
    new = dict(contents)
    if operation["kind"] == "append":
        new.update(zip(operation["ids"].tolist(), operation["vectors"], strict=True))
    for gone in operation["ids"].tolist() if operation["kind"] == "delete" else ():
        new.pop(gone, None)
    return new


def append(ids: Sequence[int], vectors: np.ndarray) -> dict[str, Any]:
    """An operation."""
    return {"kind": "append", "ids": np.asarray(ids, np.int64), "vectors": vectors}


def delete(ids: Sequence[int]) -> dict[str, Any]:
    """An operation."""
    return {"kind": "delete", "ids": np.asarray(ids, np.int64)}


COMPACT = {"kind": "compact"}


def check_crashes(
    student: Any, open_each: Any, config: dict[str, Any], operations: list[dict[str, Any]],
    logs: list[list[dict[str, Any]]], queries: np.ndarray, rng: np.random.Generator,
) -> Files:  # fmt: skip
    """Play a crash after each line of each operation's record; open what is left: it is the store
    before the operation or after it, and after its return only the latter. The last files."""
    contents: Contents = {}
    files: Files = {}
    for operation, log in zip(operations, logs, strict=True):
        before, contents = contents, applied(contents, operation)
        during, after = crashes_of(Disk.holding(files), log, rng)
        for disks, allowed, when in ((during, (before, contents), "in"), (after, (contents,), "after")):
            found = student.run(
                open_each, disks=[arrays(d) for d in disks], config=config, queries=queries, k=12
            )
            for left, got in zip(disks, found, strict=True):
                where = f"a crash {when} {operation['kind']} leaves {sorted(left)}"
                assert "error" not in got, (
                    f"{where}: nothing loads: {got['error']}\nhint: files are safe before the manifest "
                    "has its name; what is no longer named goes when the new name is safe"
                )
                wrong = [same_answers(got, each, queries) for each in allowed]
                assert "" in wrong, f"{where}: {wrong[-1]}"
                if when == "after":
                    assert len(got["refused"]) == 0, f"{where}: refused {got['refused']}"
        files = run_log(files, log)
    return files
