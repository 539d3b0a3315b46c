"""Drivers of tasks 5.9 and 5.10. Each stage of a search is a driver of its own, so that a worker that
was never sent the vectors can be asked for a stage that does not need them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np


class LoggedDisk:
    """`Storage` in memory. log: every operation that changes something, in order."""

    def __init__(self, files: dict[str, np.ndarray]) -> None:
        self.files = {name: data.tobytes() for name, data in files.items()}
        self.log: list[dict[str, Any]] = []

    def _record(self, kind: str, name: str, **more: Any) -> None:
        self.log.append({"kind": kind, "name": name, **more})

    def write(self, name: str, data: bytes) -> None:
        self.files[name] = bytes(data)
        self._record("write", name, data=np.frombuffer(bytes(data), np.uint8).copy())

    def sync(self, name: str) -> None:
        self.read(name)
        self._record("sync", name)

    def rename(self, old: str, new: str) -> None:
        self.read(old)
        self.files[new] = self.files.pop(old)
        self._record("rename", old, new=new)

    def sync_names(self) -> None:
        self._record("sync names", "")

    def read(self, name: str) -> bytes:
        if name not in self.files:
            raise FileNotFoundError(name)
        return self.files[name]

    def map(self, name: str) -> memoryview:
        return memoryview(self.read(name))

    def names(self) -> list[str]:
        return sorted(self.files)

    def remove(self, name: str) -> None:
        self.read(name)
        del self.files[name]
        self._record("remove", name)


def cluster(points: np.ndarray, count: int, iterations: int, seed: int) -> np.ndarray:
    """kmeans."""
    from serving.product_quantization import kmeans

    return kmeans(points, count, iterations, seed)


def inverted_lists(vectors: np.ndarray, count: int, sample: int) -> dict[str, np.ndarray]:
    """Centroids of the first `sample` rows, and all rows in their lists."""
    from serving.inverted_index import build_lists
    from serving.product_quantization import kmeans

    centroids = kmeans(vectors[:sample], count, 8, 0)
    arranged = build_lists(vectors, centroids)
    return {"centroids": centroids, "order": arranged[0], "offsets": arranged[1]}


def probed(queries: np.ndarray, centroids: np.ndarray, probes: int) -> np.ndarray:
    """probe."""
    from serving.inverted_index import probe

    return probe(queries, centroids, probes)


def quantized(vectors: np.ndarray, pieces: int, codewords: int, sample: int) -> dict[str, Any]:
    """A product quantizer of the first rows, and everybody's codes."""
    from serving.product_quantization import ProductQuantizer

    made = ProductQuantizer.train(vectors[:sample], pieces, codewords, 6)
    return {"codebooks": made.codebooks, "codes": made.encode(vectors)}


def by_codes(codebooks: np.ndarray, codes: np.ndarray, queries: np.ndarray, count: int) -> Any:
    """The candidates of each query by codes alone; distances to the first 50 codes of all queries."""
    from serving.inverted_index import nearest_first
    from serving.product_quantization import ProductQuantizer

    made, ids = ProductQuantizer(codebooks), np.arange(len(codes))
    found = [made.distances(query, codes) for query in queries]
    return {"rows": [nearest_first(d, ids, count) for d in found],
            "tables": np.stack([made.tables(query) for query in queries]),
            "distances": np.stack([d[:50] for d in found])}  # fmt: skip


def to_int8(vectors: np.ndarray) -> dict[str, np.ndarray]:
    """quantize_int8."""
    from serving.product_quantization import quantize_int8

    rounded = quantize_int8(vectors)
    return {"codes": rounded[0], "scales": rounded[1]}


def nearest(distances: np.ndarray, ids: np.ndarray, k: int) -> np.ndarray:
    """nearest_first."""
    from serving.inverted_index import nearest_first

    return nearest_first(distances, ids, k)


def _apply(store: Any, operation: dict[str, Any]) -> Any:
    if operation["kind"] == "append":
        return store.append(operation["ids"], operation["vectors"])
    if operation["kind"] == "delete":
        return store.delete(operation["ids"])
    return store.compact()


def _answers(view: Any, queries: np.ndarray, k: int, probes: int = 10**6, candidates: int = 0) -> Any:
    ids, distances = view.search(queries, k, probes, candidates)
    return {"ids": ids, "distances": distances, "living": len(view)}


def play(
    config: dict[str, Any], operations: list[dict[str, Any]], queries: np.ndarray, k: int,
    files: dict[str, np.ndarray] | None = None, reopen: bool = False,
    search: dict[str, int] | None = None,
) -> list[Any]:  # fmt: skip
    """Operations one after another: for each its record, result or error, and what is then found.

    reopen: every operation on a store that was opened for it. Also the sum of the segments' sizes.
    """
    from serving.vector_store import StoreConfig, VectorStore

    disk, found = LoggedDisk(files or {}), []
    store = VectorStore.open(disk, StoreConfig(**config))
    for operation in operations:
        if reopen:
            store = VectorStore.open(disk, StoreConfig(**config))
        disk.log, result, error = [], None, ""
        try:
            result = _apply(store, operation)
        except ValueError as raised:
            error = str(raised) or "ValueError"
        found.append({
            "log": disk.log, "result": result, "error": error, "names": disk.names(),
            **_answers(store.snapshot(), queries, k, **(search or {})),
        })  # fmt: skip
    return found


def open_each(
    disks: list[dict[str, np.ndarray]], config: dict[str, Any], queries: np.ndarray, k: int
) -> list[Any]:
    """Open each disk: what is found, or the StoreError's text; what was refused on the way."""
    from serving.storage import StoreError
    from serving.vector_store import StoreConfig, VectorStore

    found = []
    for files in disks:
        try:
            store = VectorStore.open(LoggedDisk(files), StoreConfig(**config))
        except StoreError as error:
            found.append({"error": str(error)})
            continue
        found.append({"refused": store.refused, **_answers(store.snapshot(), queries, k)})
    return found


def snapshots(
    config: dict[str, Any], operations: list[dict[str, Any]], queries: np.ndarray, k: int
) -> list[Any]:
    """On real files: a snapshot before each operation and after the last, all searched at the end."""
    import tempfile

    from serving.storage import FileStorage
    from serving.vector_store import StoreConfig, VectorStore

    with tempfile.TemporaryDirectory() as folder:
        store = VectorStore.open(FileStorage(folder), StoreConfig(**config))
        held = [store.snapshot()]
        for operation in operations:
            _apply(store, operation)
            held.append(store.snapshot())
        again = VectorStore.open(FileStorage(folder), StoreConfig(**config)).snapshot()
        mapped = all(not array.flags.owndata and not array.flags.writeable
                     for segment in again.segments for array in segment.arrays.values())  # fmt: skip
        return [*(_answers(s, queries, k) for s in (*held, again)), mapped]


def searches_beside(
    config: dict[str, Any], start: dict[str, Any], operations: list[dict[str, Any]],
    queries: np.ndarray, k: int,
) -> list[Any]:  # fmt: skip
    """One thread searches while another changes the store: every answer, with its len."""
    from serving.vector_store import StoreConfig, VectorStore

    store = VectorStore.open(LoggedDisk({}), StoreConfig(**config))
    _apply(store, start)
    found, errors, done = [], [], threading.Event()

    def change() -> None:
        try:
            for operation in operations:
                _apply(store, operation)
        except Exception as error:  # told by the searching thread
            errors.append(error)
        done.set()

    thread = threading.Thread(target=change)
    thread.start()
    while not done.is_set() and len(found) < 300:
        found.append(_answers(store.snapshot(), queries, k))
    thread.join()
    if errors:
        raise errors[0]
    return [*found, _answers(store.snapshot(), queries, k)]


def raised_by(action: Callable[[], Any]) -> str:
    """The name of what an action raises, "" where it does not."""
    try:
        action()
    except Exception as error:
        return type(error).__name__
    return ""


def refusals(vectors: np.ndarray) -> dict[str, str]:
    """What is raised for input that has to be refused."""
    from serving.inverted_index import probe
    from serving.product_quantization import ProductQuantizer, kmeans

    return {
        "k-means of no points": raised_by(lambda: kmeans(vectors[:0], 3)),
        "k-means with 0 centroids": raised_by(lambda: kmeans(vectors, 0)),
        "5 pieces of 12 dims": raised_by(lambda: ProductQuantizer.train(vectors, 5, 4)),
        "257 codewords": raised_by(lambda: ProductQuantizer.train(vectors, 4, 257)),
        "0 probes": raised_by(lambda: probe(vectors, vectors, 0)),
    }


def _graph(index: Any) -> dict[str, Any]:
    """The links of every level as rows (level, node, neighbor) in order, levels, the entry."""
    rows = [(level, node, int(other)) for node, levels in enumerate(index.neighbors)
            for level, links in enumerate(levels) for other in links]  # fmt: skip
    return {"links": np.array(rows, np.int64).reshape(-1, 3), "entry": int(index.entry),
            "levels": np.array([len(levels) - 1 for levels in index.neighbors], np.int64)}  # fmt: skip


def small_world(
    vectors: np.ndarray, m: int, ef: int, seed: int = 0, levels: list[int] | None = None
) -> dict[str, Any]:
    """The graph after all insertions. levels: of the nodes, where they are not drawn."""
    from serving.hnsw import HNSW

    index = HNSW(vectors.shape[1], m, ef, seed)
    for place, vector in enumerate(vectors):
        node = index.insert(vector, levels[place] if levels is not None else None)
        assert node == place, f"vector {place} became node {node}"
    return _graph(index)


_WALKS: list[Any] = []


def begin_walks(graph: dict[str, Any], count: int, k: int, ef: int, deleted: list[int]) -> Any:
    """As many searches on a graph without vectors: the nodes that each asks for first."""
    from serving.hnsw import HNSW

    index = HNSW(1)
    index.neighbors = [[[] for _ in range(level + 1)] for level in graph["levels"].tolist()]
    for level, node, other in graph["links"].tolist():
        index.neighbors[node][level].append(other)
    index.entry = graph["entry"]
    index.deleted = set(deleted)
    _WALKS[:] = [index.search_steps(k, ef) for _ in range(count)]
    return [{"wanted": [int(node) for node in next(walk)]} for walk in _WALKS]


def go_on(distances: list[Any]) -> list[Any]:
    """What each search asks for next ("wanted"), or has found ("found"), for the distances it is sent;
    None for one that has ended."""
    answers: list[Any] = []
    for walk, sent in zip(_WALKS, distances, strict=True):
        if sent is None:
            answers.append(None)
            continue
        try:
            answers.append({"wanted": [int(node) for node in walk.send(sent.tolist())]})
        except StopIteration as end:
            answers.append({"found": [int(node) for _, node in end.value]})
    return answers


def chosen(cases: list[dict[str, Any]]) -> list[Any]:
    """select_neighbors on points, and how many distances it asked for."""
    from serving.hnsw import select_neighbors

    found = []
    for case in cases:
        apart, asked = case["between"].tolist(), []

        def between(a: int, b: int, apart: Any = apart, asked: list[Any] = asked) -> float:
            asked.append((a, b))
            return apart[a][b]

        candidates = list(zip(case["distances"].tolist(), case["nodes"].tolist(), strict=True))
        nodes = select_neighbors(candidates, case["count"], between)
        found.append([int(node) for node in nodes])
    return found


def drawn_levels(seed: int, m: int, count: int) -> np.ndarray:
    """draw_level, many times."""
    from serving.hnsw import draw_level

    rng = np.random.default_rng(seed)
    return np.array([draw_level(rng, m) for _ in range(count)], np.int64)


def lives_of(
    vectors: np.ndarray, queries: np.ndarray, m: int, ef: int, stages: list[dict[str, Any]], k: int
) -> list[Any]:
    """One index through stages of insertions ("insert": rows) and deletions ("delete": nodes); after
    each, what `search` finds."""
    from serving.hnsw import HNSW

    index, found = HNSW(vectors.shape[1], m, ef), []
    for stage in stages:
        for row in stage.get("insert", []):
            index.insert(vectors[row])
        errors = [raised_by(lambda node=node: index.delete(node)) for node in stage.get("delete", [])]
        answers = [index.search(query, k, ef) for query in queries]
        found.append({"errors": errors, "ids": [a[0] for a in answers], "distances": [a[1] for a in answers]})
    return found


def small_world_refusals() -> dict[str, str]:
    """What is raised for input that has to be refused."""
    from serving.hnsw import HNSW

    index = HNSW(3)
    index.insert(np.zeros(3, np.float32))
    return {
        "a vector of 4 dims": raised_by(lambda: index.insert(np.zeros(4, np.float32))),
        "k=0": raised_by(lambda: index.search(np.zeros(3, np.float32), 0)),
    }
