"""Task 5.10, hidden: harder sets, given levels, small and odd indexes."""

from __future__ import annotations

import drivers_store as drivers
import numpy as np
import store_cases as cases
from graph_cases import check_graph, counted, exact_links, walk
from gradescope_utils.autograder_utils.decorators import number, weight

from autograder.testing import Measure


@number("5.10")
@weight(1.0)
def test_uniform_and_heavy_tailed_sets(student, rng):
    """Trusted, as the public one. Far out vectors have few links to them: less is asked there."""
    for make, dims, ef, most, least in (
        (cases.uniform, 8, 20, 0.17, 0.9), (cases.heavy_tailed, 16, 40, 0.2, 0.8),
    ):  # fmt: skip
        vectors, queries = make(rng, 1000, dims, 40)
        graph = student.run(drivers.small_world, vectors=vectors, m=8, ef=40, timeout=20)
        check_graph(graph, 8, len(vectors))
        found, asked = walk(student, graph, vectors, queries, 10, ef)
        value = cases.recall(found, cases.true_nearest(queries, vectors))
        read, name = counted(asked, len(vectors)), make.__name__
        student.measure(Measure(name=f"recall@10, {name}, {read:.1%} of the distances", value=value,
                                unit="", full=least))  # fmt: skip
        assert read <= most, f"{name}: {read:.1%} of the distances, at most {most:.0%} were allowed"
        assert value >= least, f"{name}: recall@10 is {value:.3f}, asked {least}"


@number("5.10")
@weight(0.7)
def test_given_levels_and_the_links_of_the_rule(student, rng):
    """Clusters inserted one after another; a small graph, link by link."""
    centers = 2 * rng.standard_normal((6, 4))
    vectors = (centers.repeat(40, 0) + rng.standard_normal((240, 4))).astype(np.float32)
    levels = [0] * 240
    for place, level in {7: 1, 60: 3, 90: 2, 130: 3, 150: 1, 200: 4, 230: 2}.items():
        levels[place] = level
    graph = student.run(drivers.small_world, vectors=vectors, m=4, ef=30, levels=levels)
    assert graph["levels"].tolist() == levels, "nodes are not on the levels that were given"
    check_graph(graph, 4, 240)
    assert graph["entry"] == 200, f"the entry is {graph['entry']}, the only node on level 4 is 200"
    high = graph["links"][graph["links"][:, 0] == 2]
    alone = set(np.flatnonzero(np.array(levels) >= 2).tolist()) - set(high[:, 1].tolist())
    assert not alone, f"nodes {sorted(alone)} have no links on level 2, on which others were"
    queries = (centers + rng.standard_normal((6, 4))).astype(np.float32)
    found, _ = walk(student, graph, vectors, queries, 10, 40)
    value = cases.recall(found, cases.true_nearest(queries, vectors))
    assert value >= 0.9, f"six clusters: recall@10 {value:.2f}, asked 0.9"
    for dims, m in ((2, 2), (6, 3)):
        few = rng.standard_normal((60, dims)).astype(np.float32)
        made = student.run(drivers.small_world, vectors=few, m=m, ef=60, levels=[0] * 60)["links"]
        got, wanted = {(int(a), int(b)) for _, a, b in made}, exact_links(few, m)
        assert got == wanted, (
            f"60 nodes of {dims} dims, m={m}, ef without limit: links {sorted(got - wanted)[:5]} are "
            f"not the rule's, {sorted(wanted - got)[:5]} are missing\nhint: thinning is by "
            "select_neighbors too, with the node's own distances and all its links as candidates"
        )
    other = [student.run(drivers.small_world, vectors=vectors, m=4, ef=30, seed=s) for s in (1, 1, 2)]
    assert np.array_equal(other[0]["levels"], other[1]["levels"]), "the same seed, other levels"
    assert not np.array_equal(other[0]["levels"], other[2]["levels"]), "another seed, the same levels"


@number("5.10")
@weight(0.7)
def test_small_odd_and_deleted_indexes(student, rng):
    """Nothing, one vector, equal vectors, more asked than live, all deleted, deleted twice."""
    vectors = rng.standard_normal((40, 3)).astype(np.float32)
    vectors[10:30] = vectors[10]
    queries = vectors[[0, 10]]
    stages = [{}, {"insert": [0]}, {"insert": [1, 2]}, {"delete": [1, 1, 7, -1]},
              {"insert": list(range(3, 40))}, {"delete": [0, *range(2, 38)]},
              {"delete": [38, 39]}, {"insert": [10]}]  # fmt: skip
    found = student.run(
        drivers.lives_of, vectors=vectors, queries=queries, m=3, ef=4, stages=stages, k=6
    )
    living: list[int] = []
    rows: list[int] = []
    for place, (stage, got) in enumerate(zip(stages, found, strict=True)):
        for row in stage.get("insert", []):
            living.append(len(rows))
            rows.append(row)
        for node, error in zip(stage.get("delete", []), got["errors"], strict=True):
            wanted = "" if node in living else "KeyError"
            assert error == wanted, f"stage {place}: delete({node}): {error or 'nothing is raised'}"
            living = [each for each in living if each != node]
        for row, ids in enumerate(got["ids"]):
            assert len(ids) == min(6, len(living)), (
                f"stage {place}, query {row}: {len(ids)} of {len(living)} living, 6 were asked for"
            )
            assert set(ids.tolist()) <= set(living), f"stage {place}: {ids}, living {living}"
            apart = ((vectors[[rows[i] for i in ids.tolist()]] - queries[row]) ** 2).sum(1)
            assert np.allclose(got["distances"][row], apart, atol=1e-5), f"stage {place}: distances"
            assert (np.diff(got["distances"][row]) >= 0).all(), f"stage {place}: not nearest first"
    for what, error in student.run(drivers.small_world_refusals).items():
        assert error == "ValueError", f"{what}: {error or 'nothing is raised'}, not ValueError"
