"""Draws the figure of task 5.11: `python figures/make_5_11.py`. Two swaps and a rollback under load,
step by step, as this homework's engine runs them. In a student's folder it is the student's own."""

from __future__ import annotations

from typing import Any

from own_code import FOLDER

# isort: split
import drivers_versions as drivers
import numpy as np
from matplotlib.patches import Patch, Rectangle
from swap_cases import Watch, drawn_requests
from versions_cases import SIZES, checksum_of, drawn_state

from autograder.testing import drawing
from autograder.testing.drawing import BLUE, GREEN, ORANGE, PALE, SOFT, charts, save

COLOURS = {"v1": BLUE, "v2": ORANGE, "v3": GREEN}
CONFIG = {"block_size": 4, "num_blocks": 52, "token_budget": 28, "max_sequences": 12}


class Local:
    """A session in this process."""

    def __init__(self, owner: Any) -> None:
        self.owner = owner

    def call(self, method: str, **arguments: Any) -> Any:
        """The result of a method."""
        return getattr(self.owner, method)(**arguments)


def ran() -> tuple[Watch, list[dict[str, Any]], list[tuple[int, str]]]:
    """The watch, what each step did and held, and when what was changed."""
    rng = np.random.default_rng(4)
    states = {f"v{n}": {k: v.astype(float) for k, v in drawn_state(rng).items()} for n in (1, 2, 3)}
    owner = drivers.serving(SIZES, states["v1"], "v1", CONFIG, [])
    watch, steps, changes = Watch(Local(owner), {"v1": states["v1"]}, "v1"), [], []

    def run(count: int) -> None:
        for _ in range(count):
            for step in watch.steps(1):
                steps.append(step | {"held": list(owner.weights.versions)})

    def change(text: str, how: Any, *arguments: Any) -> None:
        how(*arguments)
        changes.append((len(steps), text))

    def submit(count: int) -> None:
        watch.submit([sent | {"count": 2 * sent["count"]} for sent in drawn_requests(rng, count)])

    submit(12)
    run(6)
    watch.stage("v2", states["v2"], checksum_of(states["v2"]))
    run(2)
    change("v2 active", watch.activate, "v2")
    submit(8)
    run(20)
    change("rolled back", watch.rollback, "v1")
    submit(6)
    run(8)
    watch.stage("v3", states["v3"], checksum_of(states["v3"]))
    run(1)
    change("v3 active", watch.activate, "v3")
    submit(6)
    run(200)
    print(watch.check(), "requests answered by each version; steps:", len(steps))
    preempted = sum(request.preempted for request in watch.requests.values())
    print(preempted, "preemptions;", [len(step["held"]) for step in steps])
    return watch, steps, changes


def grow(runs: list[list[int]], place: int) -> None:
    """Make the last run of steps longer by `place`, or begin a new one."""
    if runs and runs[-1][1] == place:
        runs[-1][1] = place + 1
    else:
        runs.append([place, place + 1])


def main() -> None:
    """Requests over steps, coloured by version; below, the versions in memory."""
    drawing.use(FOLDER)
    watch, steps, changes = ran()
    figure, _ = charts(1, width=8, height=4.6)
    figure.clear()
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(6, 1))
    bars: dict[tuple[Any, str], list[list[int]]] = {}
    for place, step in enumerate(steps):
        spoke = {request_id for request_id, _ in step["new"]}
        for request_id, _, _ in step["plan"]:
            colour = COLOURS[str(watch.requests[request_id].version)]
            face = colour if request_id in spoke else PALE[colour]
            grow(bars.setdefault((request_id, face), []), place)
        for request_id in step["preempted"]:
            top.plot(place + 0.5, request_id + 0.5, marker="x", color=SOFT, markersize=4)
        for level, version in enumerate(step["held"]):
            grow(bars.setdefault((f"{level}", COLOURS[version]), []), place)
    for (row, face), runs in bars.items():
        axes = bottom if isinstance(row, str) else top
        for start, stop in runs:
            axes.add_patch(Rectangle(
                (start, int(row) + 0.1), stop - start, 0.8, facecolor=face, edgecolor="none"
            ))  # fmt: skip
    for place, text in changes:
        for axes in (top, bottom):
            axes.axvline(place, color=SOFT, linewidth=0.9, linestyle=":")
        top.text(place, -0.6, text, ha="center", fontsize=8.5, color=SOFT)
    top.set(ylim=(len(watch.requests), 0), ylabel="request")
    top.legend(
        handles=[Patch(color=COLOURS[v], label=f"a token of {v}") for v in COLOURS]
        + [Patch(color=PALE[BLUE], label="prompt, no token yet")],
        loc="lower left", fontsize=8,
    )  # fmt: skip
    bottom.set(xlim=(0, len(steps)), ylim=(0, 3), yticks=(1, 2, 3), xlabel="step", ylabel="in memory")
    save(figure, "5_11_swap", sheet=False)


if __name__ == "__main__":
    main()
