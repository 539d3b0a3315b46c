"""Draws the figures of task 4.6 from the schedules that this homework's code makes, played by the
given simulator: `python figures/make_4_6.py`. In a student's folder they are the student's own."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent
HOMEWORK = FOLDER.parent
sys.path += [str(HOMEWORK), str(HOMEWORK.parent)]

import distributed_training  # noqa: E402

SOLUTION = HOMEWORK / "solution" / "distributed_training"
if SOLUTION.is_dir():
    distributed_training.__path__.insert(0, str(SOLUTION))

from matplotlib.patches import Rectangle  # noqa: E402

from autograder.testing import drawing  # noqa: E402
from autograder.testing.drawing import (  # noqa: E402
    BLUE,
    GREEN,
    LINE,
    ORANGE,
    PALE,
    SOFT,
    canvas,
    charts,
    heading,
    save,
    write,
)
from distributed_training.actions import Schedule, simulate  # noqa: E402
from distributed_training.schedules import gpipe, one_forward_one_backward  # noqa: E402

MAKERS = {"GPipe": gpipe, "1F1B": one_forward_one_backward}


def gantt(axes: Any, y: float, name: str, schedule: Schedule, microbatches: int) -> float:
    """One schedule with its title at y; forwards take 1, backwards 2. Returns the y below it."""
    timeline = simulate(schedule)
    unit, left, height = 6.35 / timeline.seconds, 0.75, 0.3
    share = timeline.idle_share(0)
    heading(axes, left, y, name)
    write(axes, left + 0.65, y, f"{timeline.seconds:.0f} units, each stage idle {share:.0%} of them",
          color=SOFT)  # fmt: skip
    write(axes, left + 6.75, y, "holds at most", color=SOFT, ha="center")
    for stage, most in enumerate(timeline.most_in_flight):
        top = y + 0.2 + stage * (height + 0.04)
        write(axes, left - 0.1, top + height / 2, f"stage {stage}", ha="right", color=SOFT)
        axes.add_patch(Rectangle((left, top), 6.35, height, facecolor=PALE[LINE], edgecolor="none"))
        write(axes, left + 6.75, top + height / 2, str(most), ha="center",
              color=ORANGE if most == microbatches > 1 else GREEN, weight="bold")  # fmt: skip
    for span in timeline.spans:
        forward = span.action.kind == "forward"
        colour = BLUE if forward else GREEN
        x, top = left + span.start * unit, y + 0.2 + span.stage * (height + 0.04)
        width = (span.stop - span.start) * unit
        axes.add_patch(
            Rectangle(
                (x, top), width, height, facecolor=PALE[colour], edgecolor=colour, linewidth=0.8
            )
        )
        write(axes, x + width / 2, top + height / 2 + 0.005, str(span.action), ha="center", size=7)
    return y + 0.2 + len(schedule) * (height + 0.04)


def schedules() -> None:
    """Both schedules of four stages and eight micro-batches."""
    figure, axes = canvas(8.2, 3.55)
    y = 0.2
    for name, maker in MAKERS.items():
        y = gantt(axes, y, name, maker(4, 8), 8) + 0.25
    save(figure, "4_6_schedules")


def sizes() -> None:
    """What more micro-batches buy, and what they cost under either schedule."""
    figure, (left, right) = charts(2, height=2.6)
    counts = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64]
    for stages, colour in ((16, GREEN), (8, ORANGE), (4, BLUE)):
        shares = [simulate(one_forward_one_backward(stages, m)).idle_share(0) for m in counts]
        left.plot(counts, [100 * share for share in shares], "o-", color=colour, markersize=3,
                  label=f"{stages} stages")  # fmt: skip
    left.legend()
    left.set(xscale="log", xlabel="micro-batches", ylabel="idle, % of the time", ylim=(0, 100),
             title="The bubble, of both schedules")  # fmt: skip
    for name, colour in (("GPipe", ORANGE), ("1F1B", GREEN)):
        most = [simulate(MAKERS[name](8, m)).most_in_flight[0] for m in counts]
        right.plot(counts, most, "o-", color=colour, markersize=3)
        right.annotate(name, (counts[-2], most[-2]), color=colour, xytext=(-14, 6), ha="right",
                       textcoords="offset points")  # fmt: skip
    right.set(xscale="log", xlabel="micro-batches", ylabel="micro-batches held", ylim=(0, 70),
              title="Activations on the first of 8 stages")  # fmt: skip
    for axes in (left, right):
        axes.set_xticks([1, 2, 4, 8, 16, 32, 64], [str(n) for n in (1, 2, 4, 8, 16, 32, 64)])
        axes.minorticks_off()
    save(figure, "4_6_bubble", sheet=False)


if __name__ == "__main__":
    drawing.use(FOLDER)
    schedules()
    sizes()
