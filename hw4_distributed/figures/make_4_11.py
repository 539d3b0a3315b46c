"""Draws the figure of task 4.11: `python figures/make_4_11.py`. A save of this homework's code is
recorded, a crash is played after each operation in all ways that the tests know, and what is left is
loaded. In a student's folder it is the student's own."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent
HOMEWORK = FOLDER.parent
sys.path += [str(HOMEWORK), str(HOMEWORK.parent), str(HOMEWORK / "tests")]

import distributed_training  # noqa: E402

SOLUTION = HOMEWORK / "solution" / "distributed_training"
if SOLUTION.is_dir():
    distributed_training.__path__.insert(0, str(SOLUTION))

import numpy as np  # noqa: E402
from checkpoint_cases import operations_of, random_state, save_of  # noqa: E402
from drivers_checkpoint import LoggedDisk, load_after_crashes, save_parts  # noqa: E402

from autograder.testing import drawing  # noqa: E402
from autograder.testing.disk import Disk, arrays, run_log  # noqa: E402
from autograder.testing.drawing import BLUE, GREEN, charts, save  # noqa: E402


def outcomes() -> list[tuple[str, int, int]]:
    """(operation, crashes that leave step 1 as the newest, crashes that leave step 2) in order."""
    rng = np.random.default_rng(0)
    files: dict[str, bytes] = {}
    for step in (1, 2):
        notes: list[tuple[int, str]] = []
        disk = Disk.holding(files)
        save_parts(
            LoggedDisk(arrays(files), lambda text, notes=notes: notes.append((0, text))),
            save_of(random_state(rng), step, 2, keep=1),
        )
        operations = operations_of(notes, files)
        files = run_log(files, operations)
    found = []
    for operation in operations:  # of the second save, on what the first one left
        disk.apply(operation)
        left = {tuple(sorted(files.items())): files for files in disk.crashes(rng)}.values()
        steps = [r["newest"]["step"] for r in load_after_crashes([arrays(f) for f in left])]
        found.append((_name(operation), steps.count(1), steps.count(2)))
    return found


def _name(operation: dict[str, Any]) -> str:
    file = operation["name"].replace("step-00000000000", "step ").replace(".", " ", 1)
    file = file.rsplit("-", 1)[0] if "part-" in file else file
    kind = {"rename": "rename to"}.get(operation["kind"], operation["kind"])
    return f"{kind} {file.removesuffix('.partial') if kind == 'rename to' else file}".strip()


def main() -> None:
    """A bar for each operation: how the crashes after it end."""
    drawing.use(FOLDER)
    found = outcomes()
    figure, axes = charts(1, width=7.4, height=4.2)
    places = range(len(found))
    old, new = ([row[k] for row in found] for k in (1, 2))
    axes.barh(places, old, color=BLUE, alpha=0.75, label="step 1 loads")
    axes.barh(places, new, left=old, color=GREEN, alpha=0.75, label="step 2 loads")
    axes.set_yticks(list(places), [row[0] for row in found], fontsize=7.5)
    axes.invert_yaxis()
    axes.set(xlabel="different disks that a crash right after the operation can leave")
    axes.legend(loc="center right")
    save(figure, "4_11_crashes", sheet=False)


if __name__ == "__main__":
    main()
