"""Draws the figure of task 5.3: `python figures/make_5_3.py`. Who computes what in which step, batch by
batch and with continuous batching, from the plans of this homework's scheduler; in a student's
folder it is the student's own."""

from __future__ import annotations

from typing import Any

from own_code import FOLDER

# isort: split
from matplotlib.patches import Rectangle
from scheduling_cases import Watched

from autograder.testing import drawing
from autograder.testing.drawing import BLUE, GREEN, INK, ORANGE, PALE, PURPLE, SOFT

PLACES, BUDGET = 4, 12
# (prompt, answer): one of five is long; one prompt is.
LOAD = [(3, 4), (2, 21), (4, 3), (3, 5), (2, 3), (4, 4), (30, 6), (3, 19), (2, 5), (3, 3), (4, 20),
        (2, 4), (3, 3), (2, 5), (3, 4)]  # fmt: skip
COLOURS = (BLUE, GREEN, PURPLE)
Plan = list[tuple[int, ...]]


class Here:
    """A session in this process."""

    def session(self, driver: Any, **arguments: Any) -> Any:
        """The driver's object, behind `call`."""
        made = driver(**arguments)
        made.call = lambda method, **given: getattr(made, method)(**given)
        return made


def plans(together: int) -> list[Plan]:
    """Each step's plan; `together` requests are handed in when those before are complete."""
    watched = Watched(
        Here(), num_blocks=80, block_size=4, token_budget=BUDGET, max_sequences=PLACES
    )
    found = []
    for start in range(0, len(LOAD), together):
        for number, (prompt, answer) in enumerate(LOAD[start : start + together], start):
            watched.add([number % 11] * prompt, answer)
        while watched.requests:
            found.append(watched.step())
    return found


def timeline(axes: Any, steps: list[Plan], title: str) -> None:
    """A row for each place: a request stays where it began, until its last step."""
    last = {number: step for step, plan in enumerate(steps) for number, _, _ in plan}
    rows: list[int | None] = [None] * PLACES
    for step, plan in enumerate(steps):
        for number, first, count in plan:
            if number not in rows:
                rows[rows.index(None)] = number
            row, colour = rows.index(number), COLOURS[number % 3]
            prompt = first < LOAD[number][0]
            axes.add_patch(Rectangle(
                (step, row + 0.08), 1, 0.84, linewidth=0.4, edgecolor=colour,
                facecolor=PALE[ORANGE] if prompt else PALE[colour],
            ))  # fmt: skip
            if prompt:
                axes.text(step + 0.5, row + 0.52, count, ha="center", va="center", fontsize=6,
                          color=ORANGE)  # fmt: skip
            if first + count == LOAD[number][0]:
                axes.text(step + 1.2, row + 0.52, f"#{number}", ha="left", va="center", fontsize=6.5,
                          color=INK)  # fmt: skip
        rows = [None if number is None or last[number] == step else number for number in rows]
    axes.set(xlim=(0, 72), ylim=(PLACES, 0), yticks=[], ylabel="four places")
    axes.axvline(len(steps), color=SOFT, linewidth=0.8, linestyle=":")
    axes.set_title(f"{title}: {len(steps)} steps", fontsize=9)


def main() -> None:
    """Two timelines, and the tokens of each step of the second."""
    drawing.use(FOLDER)
    figure, panels = drawing.pyplot.subplots(
        3, 1, figsize=(9, 4.6), layout="constrained", sharex=True
    )
    static, continuous = plans(PLACES), plans(len(LOAD))
    print(f"batch by batch {len(static)} steps, continuous {len(continuous)}")
    timeline(panels[0], static, "Batch by batch")
    timeline(panels[1], continuous, "Continuous")
    prompts = [sum(c for n, f, c in plan if f < LOAD[n][0]) for plan in continuous]
    answers = [sum(c for n, f, c in plan if f >= LOAD[n][0]) for plan in continuous]
    places = [step + 0.5 for step in range(len(continuous))]
    panels[2].bar(places, answers, 0.9, color=BLUE, label="tokens of answers")
    panels[2].bar(places, prompts, 0.9, answers, color=ORANGE, label="tokens of prompts")
    panels[2].axhline(BUDGET, color=SOFT, linewidth=0.8, linestyle=":")
    panels[2].set(xlabel="step", ylabel="tokens", ylim=(0, BUDGET + 1))
    panels[2].set_title(f"Continuous: what each step computes, at most {BUDGET}", fontsize=9)
    panels[2].legend(fontsize=8)
    drawing.save(figure, "5_3_timeline", sheet=False)


if __name__ == "__main__":
    main()
