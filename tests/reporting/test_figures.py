"""Pictures: drawn from good data the same way each time, and None, never an exception, from bad."""

from __future__ import annotations

import math
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import reporting_samples as samples

from autograder.reporting.figures import FigureDataError, draw, number, sequence
from autograder.reporting.graph_picture import lay_out, levels_of
from autograder.testing.records import Figure

GOOD = {
    "loss_curve": samples.loss_curve(),
    "ladder": samples.ladder(),
    "graph": samples.backward_graph(),
    "memory_timeline": samples.memory_timeline(),
}
DEEP: Any = []
for _ in range(500):
    DEEP = [DEEP]
BAD: list[Any] = [
    None, 3, "text", [], {}, {"series": {}}, {"series": {"a": []}}, {"series": {"a": [math.nan]}},
    {"series": {"a": "abc"}}, {"series": {"a": [[1]]}}, {"series": [1, 2]}, {"bars": [1, 2]},
    {"bars": [{"label": "x", "value": "1"}]}, {"nodes": [{"id": []}]}, {"nodes": DEEP},
    {"nodes": [{"id": 1}, {"id": 2}], "edges": [[1, 2], [2, 1]]},
    {"nodes": [{"id": i} for i in range(500)]}, {"nodes": [{"id": 1}], "edges": [7]},
]  # fmt: skip


def texts_of(svg: str) -> list[str]:
    root = ElementTree.fromstring(svg)
    return ["".join(node.itertext()) for node in root.iter("{http://www.w3.org/2000/svg}text")]


@pytest.mark.parametrize("kind", GOOD)
def test_good_data_gives_the_same_well_formed_picture_twice(kind: str) -> None:
    first, second = draw(GOOD[kind]), draw(GOOD[kind])
    assert first is not None
    assert first == second
    for svg in (first.light, first.dark):
        root = ElementTree.fromstring(svg)
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        assert not root.findall(".//{http://www.w3.org/2000/svg}script")
        assert "<!--" not in svg
        assert "dc:date" not in svg
    assert first.light != first.dark
    assert len(first.light) < 80_000
    assert first.light_uri().startswith("data:image/svg+xml;base64,")


@pytest.mark.parametrize("kind", [*GOOD, "unknown"])
def test_bad_data_gives_no_picture_and_no_exception(kind: str) -> None:
    for data in BAD:
        assert draw(Figure.model_construct(kind=kind, title="t", data=data)) is None, data


def test_the_alternative_text_carries_the_numbers() -> None:
    drawings = {kind: draw(figure) for kind, figure in GOOD.items()}
    assert all(drawings.values())
    alts = {kind: drawing.alt for kind, drawing in drawings.items() if drawing}
    assert "held out goes from 8 to 2.52" in alts["loss_curve"]
    assert "smoothed bigram 3.52" in alts["loss_curve"]
    assert "packed, micro-kernel 66; peer OpenBLAS" in alts["ladder"]
    assert "1 sum, 2 mul, 3 add" in alts["graph"]
    assert "plain peaks at 216 MiB" in alts["memory_timeline"]


def test_hostile_labels_are_text_and_never_mathematics() -> None:
    evil = "$\\frac{1}{$ </text><script>x</script> \x1b[31m"
    figure = samples.ladder()
    figure.data["bars"][0]["label"] = evil
    figure.data["peer_label"] = figure.data["unit"] = evil
    drawing = draw(figure)
    assert drawing is not None
    assert any("$\\frac{1}{$ </text><script>" in text for text in texts_of(drawing.light))
    assert "\x1b" not in drawing.light


def test_a_label_that_matplotlib_would_drop_is_in_the_legend() -> None:
    figure = Figure(kind="loss_curve", title="t", data={"series": {"_a": [1, 2], "b": [2, 1]}})
    drawing = draw(figure)
    assert drawing is not None
    assert {"_a", "b"} <= {text.strip() for text in texts_of(drawing.light)}


def test_a_logarithmic_axis_has_numbers_and_no_formulas() -> None:
    falling = [10 ** (-step / 4) for step in range(20)]
    drawing = draw(Figure(kind="loss_curve", title="t", data={"series": {"a": falling}}))
    assert drawing is not None
    texts = texts_of(drawing.light)
    assert {"0.1", "0.001"} <= set(texts)
    assert not any("$" in text for text in texts)


def test_huge_and_half_broken_data_are_thinned_and_clipped() -> None:
    values = [1e308 if i % 2 else math.inf for i in range(100_000)]
    values[0], values[-1] = 5.0, 10**400
    drawing = draw(Figure(kind="loss_curve", title="t", data={"series": {"a": values}}))
    assert drawing is not None
    assert len(drawing.light) < 1_000_000
    assert number(1e308) == 1e15
    assert math.isnan(number(10**400))
    assert math.isnan(number(True))
    thinned = sequence(list(range(20_000)))
    assert (len(thinned), thinned[0], thinned[-1]) == (5_000, 0, 19_999)


def test_layers_follow_the_longest_path_and_cycles_are_refused() -> None:
    edges = [("a", "b"), ("b", "c"), ("a", "c"), ("c", "d")]
    assert levels_of(list("abcd"), edges) == {"a": 0, "b": 1, "c": 2, "d": 3}
    rows, routes = lay_out(list("abcd"), edges)
    assert [[name for name in row if name in "abcd"] for row in rows] == [
        ["a"],
        ["b"],
        ["c"],
        ["d"],
    ]
    assert len(routes["a", "c"]) == 3  # led around b
    with pytest.raises(FigureDataError):
        levels_of(["a", "b"], [("a", "b"), ("b", "a")])
