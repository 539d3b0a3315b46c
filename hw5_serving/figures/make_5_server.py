"""Draws the figures of the handout's end: `python figures/make_5_server.py [BATCHING.jsonl CANARY.jsonl]`.

With the logs that load.py leaves (`compare batching`, `canary`) what was measured is replaced by them.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent
sys.path += [str(FOLDER.parent), str(FOLDER.parents[1])]

from cycler import cycler  # noqa: E402

from autograder.testing import drawing  # noqa: E402
from serving.load_report import draw_rollouts, draw_runs, table  # noqa: E402

MEASURED = FOLDER / "measured_5_server.json"
ANSWER = ("at", "first", "last", "tokens", "prompt_tokens", "cached_tokens", "status", "version")
STATE = ("at", "share", "state")


def read_log(path: Path) -> dict[str, list[dict[str, Any]]]:
    """The records of a log by their run's name."""
    runs: dict[str, list[dict[str, Any]]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        runs.setdefault(record["run"], []).append(record)
    return runs


def rows(records: list[dict[str, Any]], keys: tuple[str, ...]) -> list[list[Any]]:
    """The records' values, milliseconds and no less."""
    values = [[record[key] for key in keys] for record in records]
    return [[round(v, 3) if isinstance(v, float) else v for v in row] for row in values]


def changes(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The states of a rollout at which something changed, and the last."""
    states = [record for record in records if "state" in record]
    return [
        state
        for place, state in enumerate(states)
        if place in (0, len(states) - 1) or state["share"] != states[place - 1]["share"]
    ]


def measure(batching: Path, canary: Path) -> None:
    """Keep of two logs what the figures need."""
    found: dict[str, Any] = {"batching": {}, "canary": {}}
    for name, records in read_log(batching).items():
        found["batching"][name] = rows(records, ANSWER)
    for name, records in read_log(canary).items():
        answers = [record for record in records if "state" not in record]
        found["canary"][f"{name} canary"] = {
            "answers": rows(answers, ANSWER), "states": rows(changes(records), STATE),
        }  # fmt: skip
    lines = json.dumps(found).replace("], [", "],\n[")
    MEASURED.write_text(lines + "\n", encoding="utf-8")


def dicts(values: list[list[Any]], keys: tuple[str, ...]) -> list[dict[str, Any]]:
    """The records again."""
    return [dict(zip(keys, row, strict=True)) for row in values]


def main() -> None:
    """Measured values to figures."""
    drawing.use(FOLDER)
    drawing.matplotlib.rcParams["axes.prop_cycle"] = cycler(
        color=[drawing.BLUE, drawing.ORANGE, drawing.GREEN, drawing.RED]
    )
    if len(sys.argv) == 3:
        measure(Path(sys.argv[1]), Path(sys.argv[2]))
    measured = json.loads(MEASURED.read_text(encoding="utf-8"))
    runs = {name: dicts(values, ANSWER) for name, values in measured["batching"].items()}
    print(table(runs))
    title = f"SmolLM2-135M, {len(next(iter(runs.values())))} requests, 8 side by side"
    drawing.save(draw_runs(runs, title), "5_server_load", sheet=False)
    rollouts = {
        name: (dicts(both["answers"], ANSWER), dicts(both["states"], STATE))
        for name, both in measured["canary"].items()
    }
    drawing.save(draw_rollouts(rollouts, ""), "5_server_canary", sheet=False)


if __name__ == "__main__":
    main()
