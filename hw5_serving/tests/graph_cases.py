"""Task 5.10 on the trusted side: what a graph must be, and searches whose distances are given here."""

from __future__ import annotations

from typing import Any

import drivers_store as drivers
import numpy as np
import store_cases as cases


def check_graph(graph: dict[str, Any], m: int, count: int) -> None:
    """Levels, degrees, no link twice or to itself, the entry on top, every node to be reached."""
    levels, links, entry = graph["levels"], graph["links"], graph["entry"]
    assert len(levels) == count, f"{len(levels)} nodes, {count} were inserted"
    assert 0 <= entry < count and levels[entry] == levels.max(), (
        f"the entry {entry} is on level {levels[entry] if 0 <= entry < count else None}, "
        f"the highest node is on {levels.max()}"
    )
    assert len(np.unique(links, axis=0)) == len(links), "a link is there twice"
    assert (links[:, 1] != links[:, 2]).all(), "a node has a link to itself"
    above = levels[links[:, 2]] < links[:, 0]
    assert not above.any(), f"link {links[above][:1].tolist()}: the neighbor is not on that level"
    for level in range(int(levels.max()) + 1):
        here = links[links[:, 0] == level]
        degrees = np.bincount(here[:, 1], minlength=count)
        most = 2 * m if level == 0 else m
        assert degrees.max(initial=0) <= most, (
            f"a node has {degrees.max()} links on level {level}, at most {most} are allowed"
        )
    share = _reached(links[links[:, 0] == 0], entry, count)
    assert share >= 0.99, f"on level 0 only {share:.1%} of the nodes can be reached from the entry"


def _reached(links: np.ndarray, entry: int, count: int) -> float:
    seen = np.zeros(count, bool)
    seen[entry] = True
    while True:
        more = links[seen[links[:, 1]] & ~seen[links[:, 2]], 2]
        if not len(more):
            return float(seen.mean())
        seen[more] = True


def walk(
    student: Any, graph: dict[str, Any], vectors: np.ndarray, queries: np.ndarray, k: int, ef: int,
    deleted: list[int] | None = None,
) -> tuple[list[list[int]], list[list[list[int]]]]:  # fmt: skip
    """(answers, what each search asked for). The worker that walks has the links and no vectors; it
    gets the distances that it asks for from here, where they are counted."""
    apart = cases.distances(queries, vectors)
    worker = student.fresh()
    arguments = {"graph": graph, "count": len(queries), "k": k, "ef": ef, "deleted": deleted or []}
    answers = student.call(worker, drivers.begin_walks, arguments, timeout=10)
    found: list[list[int]] = [[] for _ in queries]
    asked: list[list[list[int]]] = [[] for _ in queries]
    running = True
    while running:
        sent: list[Any] = []
        for row, answer in enumerate(answers):
            if answer is None or "found" in answer:
                found[row] = answer["found"] if answer else found[row]
                sent.append(None)
                continue
            wanted = answer["wanted"]
            assert wanted and all(0 <= node < len(vectors) for node in wanted), (
                f"query {row}: the search asks for the distances of {wanted}"
            )
            asked[row].append(wanted)
            assert len(asked[row]) <= len(vectors), f"query {row}: the search goes on for ever"
            sent.append(apart[row, wanted])
        running = any(each is not None for each in sent)
        if running:
            answers = student.call(worker, drivers.go_on, {"distances": sent}, timeout=10)
    return found, asked


def counted(asked: list[list[list[int]]], count: int) -> float:
    """The share of all distances that a search asked for, on average."""
    return float(np.mean([sum(map(len, steps)) for steps in asked])) / count


def select(distances: np.ndarray, nodes: np.ndarray, count: int, between: np.ndarray) -> list[int]:
    """The heuristic, written down anew: strike out what is nearer to one that was taken."""
    left, taken = np.lexsort((nodes, distances)).tolist(), []
    while left and len(taken) < count:
        first = left.pop(0)
        taken.append(int(nodes[first]))
        left = [p for p in left if distances[p] < between[nodes[p], nodes[first]]]
    return taken


def exact_links(vectors: np.ndarray, m: int) -> set[tuple[int, int]]:
    """The links of level 0 where ef_construction is no limit: every node that can be reached is a
    candidate, and what is chosen is the rule's alone."""
    apart = cases.distances(vectors, vectors)
    links: dict[int, list[int]] = {0: []}
    for node in range(1, len(vectors)):
        reached, left = {0}, [0]
        while left:
            more = [other for other in links[left.pop()] if other not in reached]
            reached.update(more)
            left += more
        nodes = np.array(sorted(reached))
        links[node] = select(apart[node, nodes], nodes, m, apart)
        for other in links[node]:
            links[other].append(node)
            if len(links[other]) > 2 * m:
                nodes = np.array(links[other])
                links[other] = select(apart[other, nodes], nodes, 2 * m, apart)
    return {(node, other) for node, others in links.items() for other in others}
