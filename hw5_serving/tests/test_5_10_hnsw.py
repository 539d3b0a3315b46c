"""Task 5.10: a small world: how far its search gets with how few distances."""

from __future__ import annotations

import drivers_store as drivers
import numpy as np
import store_cases as cases
from graph_cases import check_graph, counted, select, walk
from gradescope_utils.autograder_utils.decorators import number, weight

from autograder.testing import Measure


@number("5.10")
@weight(1.6)
def test_ten_nearest_for_a_twentieth_of_the_distances(student, rng):
    """Trusted: the graph is searched by a worker without vectors; distances are given from here."""
    vectors, queries = cases.clustered(rng, 2500, 16, 50)
    graph = student.run(drivers.small_world, vectors=vectors, m=8, ef=40, timeout=20)
    check_graph(graph, 8, len(vectors))
    found, asked = walk(student, graph, vectors, queries, 10, 14)
    value = cases.recall(found, cases.true_nearest(queries, vectors))
    read = counted(asked, len(vectors))
    student.measure(Measure(name=f"recall@10 with {read:.2%} of the distances", value=value,
                            unit="", full=0.95))  # fmt: skip
    assert read <= 0.05, f"a search asks for {read:.2%} of the distances, at most 5% were allowed"
    assert value >= 0.95, f"recall@10 is {value:.3f}, asked 0.95, with {read:.2%} of the distances"


@number("5.10")
@weight(0.8)
def test_neighbors_in_all_directions_and_levels_by_chance(student, rng):
    """select_neighbors against the rule by hand; the share of nodes that is one level higher."""
    asked = []
    for count, dims in ((1, 2), (4, 2), (8, 3), (40, 8), (3, 2)):
        points = rng.integers(-3, 4, (60, dims)).astype(np.float64)
        nodes = rng.permutation(59)[: min(50, 20 + count)] + 1
        between = ((points[:, None] - points) ** 2).sum(2)
        asked.append({"distances": between[0, nodes], "nodes": nodes, "count": count, "between": between})
    asked.append({**asked[0], "distances": np.zeros(0), "nodes": np.zeros(0, np.int64)})
    for case, got in zip(asked, student.run(drivers.chosen, cases=asked), strict=True):
        wanted = select(case["distances"], case["nodes"], case["count"], case["between"])
        assert got == wanted, (
            f"{len(case['nodes'])} candidates, at most {case['count']}: {got}, by the rule {wanted}"
            "\nhint: nearest first; taken if nearer to the node than to each one taken before"
        )
    for m in (4, 16):
        seed, count = int(rng.integers(1e6)), 20_000
        levels = student.run(drivers.drawn_levels, seed=seed, m=m, count=count)
        assert levels.min() == 0, f"m={m}: the lowest level is {levels.min()}"
        for level in (1, 2):
            share, wanted = float((levels >= level).mean()), m**-level
            spread = 6 * (wanted / count) ** 0.5
            assert abs(share - wanted) < spread, (
                f"m={m}: {share:.4f} of the nodes are on level {level}, expected {wanted:.4f}"
            )


@number("5.10")
@weight(0.6)
def test_a_search_asks_for_no_distance_twice(student, rng):
    """On a given graph: the entry, then one node's new links at a time, down the levels."""
    vectors = rng.standard_normal((200, 4)).astype(np.float32)
    queries = rng.standard_normal((8, 4)).astype(np.float32)
    levels = np.zeros(200, np.int64)
    levels[:20], levels[3] = 1, 2
    links = []
    for level in (0, 1):
        here = np.flatnonzero(levels >= level)
        for node in here.tolist():
            near = here[np.argsort(cases.distances(vectors[[node]], vectors[here])[0])[1:9]]
            links += [(level, node, int(other)) for other in near]
            links.append((level, node, int(rng.choice(np.setdiff1d(here, [node, *near])))))
    graph = {"links": np.array(links), "levels": levels, "entry": 3}
    found, asked = walk(student, graph, vectors, queries, 5, 30)
    near = {(level, node): set() for level in (0, 1) for node in range(200)}
    for level, node, other in links:
        near[level, node].add(other)
    for row, steps in enumerate(asked):
        assert steps[0] == [3], f"query {row}: first the entry [3], not {steps[0]}"
        assert set(steps[1]) == near[1, 3], f"query {row}: then its links on level 1, not {steps[1]}"
        low = next((i for i, s in enumerate(steps) if i and max(s) >= 20), len(steps))
        for part in (steps[:low], steps[low:]):
            flat = [node for step in part for node in step]
            assert len(set(flat)) == len(flat), f"query {row}: asked twice on one level: {flat}"
        for step in steps[1:]:
            whole = any(set(step) <= links_of for links_of in near.values())
            assert whole, f"query {row}: {step} are not the links of one node"
    value = cases.recall(found, cases.true_nearest(queries, vectors, 5))
    assert value >= 0.9, f"recall@5 is {value:.2f} on a graph of 200 nodes with ef=30, asked 0.9"
    tight, few = walk(student, graph, vectors, queries, 5, 5)
    assert counted(few, 200) < 0.85 * counted(asked, 200), (
        f"ef=5 asks for {counted(few, 200):.1%} of the distances, ef=30 for {counted(asked, 200):.1%}"
        "\nhint: the walk ends when the nearest left is further than the furthest of ef found"
    )


@number("5.10")
@weight(0.6)
def test_deleted_nodes_lead_on_and_are_not_found(student, rng):
    """Two nodes of three deleted, more inserted: none of the deleted in an answer, the rest found."""
    vectors, queries = cases.clustered(rng, 600, 8, 20)
    gone = [node for node in range(450) if node % 3]
    stages = [{"insert": list(range(450))}, {"delete": gone}, {"insert": list(range(450, 600))}]
    found = student.run(
        drivers.lives_of, vectors=vectors, queries=queries, m=8, ef=60, stages=stages, k=10
    )
    for living, got in zip((range(450), range(0, 450, 3), [*range(0, 450, 3), *range(450, 600)]),
                           found, strict=True):  # fmt: skip
        rows = np.array(living)
        for row, ids in enumerate(got["ids"]):
            dead = set(ids.tolist()) - set(rows.tolist())
            assert not dead, f"query {row}: {sorted(dead)} were deleted"
            apart = ((vectors[ids] - queries[row]) ** 2).sum(1)
            assert np.allclose(got["distances"][row], apart, rtol=1e-3), (
                f"query {row}: distances {got['distances'][row]}, of these nodes {apart}"
            )
        value = cases.recall(got["ids"], rows[cases.true_nearest(queries, vectors[rows])])
        assert value >= 0.9, f"{len(rows)} of the nodes live: recall@10 {value:.2f}, asked 0.9"
    graph = student.run(drivers.small_world, vectors=vectors[:450], m=8, ef=60)
    walked, _ = walk(student, graph, vectors[:450], queries, 10, 90, deleted=gone)
    rows = np.arange(0, 450, 3)
    value = cases.recall(walked, rows[cases.true_nearest(queries, vectors[rows])])
    assert value >= 0.9, (
        f"search_steps with two nodes of three deleted, ef=90: recall@10 {value:.2f}, asked 0.9"
        "\nhint: deleted nodes are walked through like others, and left out of the answer"
    )
