"""The graph of one backward pass: layers from the loss down, numbered in the order of the visit."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from autograder.reporting.figures import (
    INK,
    MUTED,
    PAPER,
    SERIES,
    WIDTH,
    FigureDataError,
    kind,
    label,
    number,
    sequence,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_NODES = 60
_MAX_EDGES = 400
_SWEEPS = 6
_LAYER_INCHES = 0.62
_VIRTUAL = "\0"  # never in a name that was read
_VIRTUAL_ROOM = 0.35

Node = Mapping[str, Any]
Edge = tuple[str, str]


def levels_of(ids: list[str], edges: list[Edge]) -> dict[str, int]:
    """The longest distance of each node from a source. Raises FigureDataError for a cycle."""
    waiting = dict.fromkeys(ids, 0)
    children: dict[str, list[str]] = {name: [] for name in ids}
    for start, end in edges:
        waiting[end] += 1
        children[start].append(end)
    level = dict.fromkeys(ids, 0)
    ready = [name for name in ids if not waiting[name]]
    for name in ready:  # grows while it is walked
        for child in children[name]:
            level[child] = max(level[child], level[name] + 1)
            waiting[child] -= 1
            if not waiting[child]:
                ready.append(child)
    if len(ready) < len(ids):
        raise FigureDataError("the graph has a cycle")
    return level


def lay_out(ids: list[str], edges: list[Edge]) -> tuple[list[list[str]], dict[Edge, list[str]]]:
    """Rows of names from top to bottom, and for each edge the names that it passes.

    An edge that skips rows gets a virtual name in each of them, so that it is led around the nodes
    there (the method of Sugiyama, Tagawa and Toda, 1981); rows are then sorted by the mean place of
    their neighbours, to cross few edges.
    """
    level = levels_of(ids, edges)
    rows: list[list[str]] = [[] for _ in range(max(level.values()) + 1)]
    for name in ids:
        rows[level[name]].append(name)
    routes: dict[Edge, list[str]] = {}
    for start, end in edges:
        route = [start]
        for depth in range(level[start] + 1, level[end]):
            route.append(f"{_VIRTUAL}{start}{_VIRTUAL}{end}{_VIRTUAL}{depth}")
            rows[depth].append(route[-1])
        routes[start, end] = [*route, end]
    above: dict[str, list[str]] = {name: [] for row in rows for name in row}
    below: dict[str, list[str]] = {name: [] for row in rows for name in row}
    for route in routes.values():
        for upper, lower in itertools.pairwise(route):
            below[upper].append(lower)
            above[lower].append(upper)
    for sweep in range(_SWEEPS):
        down = sweep % 2 == 0
        for row in rows if down else reversed(rows):
            _sort_row(row, above if down else below, rows)
    return rows, routes


def _sort_row(row: list[str], near: Mapping[str, list[str]], rows: list[list[str]]) -> None:
    where = {name: (i + 0.5) / len(other) for other in rows for i, name in enumerate(other)}
    centre = {
        name: sum(where[n] for n in near[name]) / len(near[name]) if near[name] else where[name]
        for name in row
    }
    row.sort(key=lambda name: centre[name])  # stable, so the picture is deterministic


def _read(data: Mapping[str, Any]) -> tuple[dict[str, Node], list[Edge]]:
    nodes: dict[str, Node] = {}
    raw = sequence(data.get("nodes"), MAX_NODES + 1)
    for node in raw:
        if not isinstance(node, Mapping) or not isinstance(node.get("id"), str | int):
            raise FigureDataError('a node is {"id", "label", "order", "kind"}')
        nodes[_name(node["id"])] = node
    if len(raw) > MAX_NODES:
        raise FigureDataError(f"more than {MAX_NODES} nodes can't be read in a picture")
    edges = []
    for edge in list(data.get("edges") or [])[:_MAX_EDGES]:
        if not isinstance(edge, list | tuple) or len(edge) != 2:
            raise FigureDataError("an edge is [from, to]")
        start, end = _name(edge[0]), _name(edge[1])
        if start in nodes and end in nodes and start != end and (start, end) not in edges:
            edges.append((start, end))
    return nodes, edges


def _name(value: object) -> str:
    return str(value)[:80].replace(_VIRTUAL, "")


def _height(data: Mapping[str, Any]) -> float:
    nodes, edges = _read(data)
    return 0.3 + _LAYER_INCHES * (max(levels_of(list(nodes), edges).values()) + 1)


@kind("graph", height=_height)
def graph(axes: Axes, data: Mapping[str, Any]) -> str:
    """{"nodes": [{"id", "label", "order", "kind"}…], "edges": [[from, to]…]}, drawn top-down.

    Leaves and parameters (`kind` "leaf" or "parameter") have a dashed frame.
    """
    nodes, edges = _read(data)
    rows, routes = lay_out(list(nodes), edges)
    size = _font_size(nodes, rows)
    spot = _spots(rows)
    boxes = {}
    for name, node in nodes.items():
        leaf = node.get("kind") in ("leaf", "parameter")
        boxes[name] = axes.annotate(
            _text(node), spot[name], ha="center", va="center", fontsize=size, color=INK,
            bbox={"boxstyle": "round,pad=0.35", "facecolor": PAPER,
                  "edgecolor": MUTED if leaf else SERIES[0], "linewidth": 1.0,
                  "linestyle": (0, (3, 2)) if leaf else "-"},
        )  # fmt: skip
    for route in routes.values():
        xs, ys = zip(*(spot[name] for name in route[:-1]), strict=True)
        axes.plot(xs, ys, color=MUTED, linewidth=0.9, zorder=1, solid_joinstyle="round")
        start = boxes[route[-2]].get_bbox_patch() if route[-2] in boxes else None
        axes.annotate(
            "", spot[route[-1]], xytext=spot[route[-2]],
            arrowprops={"arrowstyle": "-|>", "color": MUTED, "linewidth": 0.9, "shrinkA": 0,
                        "shrinkB": 0, "patchA": start,
                        "patchB": boxes[route[-1]].get_bbox_patch(), "mutation_scale": 8},
        )  # fmt: skip
    axes.set_xlim(0, 1)
    axes.set_ylim(-len(rows) + 0.5, 0.5)
    axes.set_axis_off()
    visited = sorted(
        (number(node.get("order")), label(node.get("label")))
        for node in nodes.values()
        if math.isfinite(number(node.get("order")))
    )
    listed = ", ".join(f"{order:g} {name}" for order, name in visited[:20])
    return (
        f"Graph of {len(nodes)} nodes and {len(edges)} edges in {len(rows)} layers; "
        f"order of the visit: {listed or 'not given'}."
    )


def _spots(rows: list[list[str]]) -> dict[str, tuple[float, float]]:
    """Where each name lies: x in [0, 1] with less room for virtual names, y the row."""
    spot = {}
    for depth, row in enumerate(rows):
        rooms = [_VIRTUAL_ROOM if name.startswith(_VIRTUAL) else 1.0 for name in row]
        reached = 0.0
        for name, room in zip(row, rooms, strict=True):
            spot[name] = ((reached + room / 2) / sum(rooms), -float(depth))
            reached += room
    return spot


def _font_size(nodes: Mapping[str, Node], rows: list[list[str]]) -> float:
    """Points, such that the fullest row fits; a glyph is about 0.62 em wide."""
    widest = max(sum(len(_text(nodes[n])) + 3 if n in nodes else 2 for n in row) for row in rows)
    return min(max(WIDTH * 72 / (0.62 * widest), 5.0), 10.0)


def _text(node: Node) -> str:
    order = number(node.get("order"))
    name = label(node.get("label"), str(node.get("id")))[:24]
    return f"{order:g}  {name}" if math.isfinite(order) else name
