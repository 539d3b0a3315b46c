"""Given: what a run under load came to, in numbers and in a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

# One answer, as load.py logs it: at (planned arrival), first, last (seconds after the start; None
# where it failed), tokens, prompt_tokens, cached_tokens, status, version.
Record = Mapping[str, Any]


def first_token_waits(records: Sequence[Record]) -> np.ndarray:
    """Seconds from the planned arrival: what a queue in front of the server costs counts as well."""
    return np.array([r["first"] - r["at"] for r in records if r["status"] == 200])


def token_times(records: Sequence[Record]) -> np.ndarray:
    """Seconds a token after the first, one number for each answer of two tokens or more."""
    good = [r for r in records if r["status"] == 200 and r["tokens"] > 1]
    return np.array([(r["last"] - r["first"]) / (r["tokens"] - 1) for r in good])


def summary(records: Sequence[Record]) -> dict[str, float]:
    """Throughput (tokens a second, from the first arrival to the last end) and percentiles in ms."""
    good = [r for r in records if r["status"] == 200]
    found: dict[str, float] = {"requests": len(records), "failed": len(records) - len(good)}
    if not good:
        return found
    span = max(r["last"] for r in good) - min(r["at"] for r in records)
    found["tokens_per_second"] = sum(r["tokens"] for r in good) / span
    prompt = sum(r["prompt_tokens"] for r in good)
    found["prefix_hits"] = sum(r["cached_tokens"] for r in good) / prompt
    for name, values in (("first", first_token_waits(good)), ("token", token_times(good))):
        for percent in (50, 99):
            if len(values):
                found[f"{name}_p{percent}_ms"] = float(np.percentile(values, percent) * 1e3)
    return found


def table(runs: Mapping[str, Sequence[Record]]) -> str:
    """The summaries side by side."""
    found = {name: summary(records) for name, records in runs.items()}
    wide = max(10, *(len(name) for name in found))
    lines = [f"{'':22}" + "".join(f"{name:>{wide + 2}}" for name in found)]
    for key in max(found.values(), key=len):
        values = [values.get(key, float("nan")) for values in found.values()]
        digits = 3 if key == "prefix_hits" else 0 if key in ("requests", "failed") else 1
        cells = "".join(f"{value:>{wide + 2}.{digits}f}" for value in values)
        lines.append(f"{key:22}{cells}")
    return "\n".join(lines)


def save(figure: Any, path: Path) -> None:
    """Write a figure to an SVG or PNG file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    _pyplot().close(figure)


def draw_runs(runs: Mapping[str, Sequence[Record]], title: str) -> Any:
    """Tokens over time, and the distributions of both waits with p50 and p99, of each run."""
    pyplot = _pyplot()
    figure, (served, first, token) = pyplot.subplots(
        1, 3, figsize=(11, 4), layout="constrained"
    )
    for number, (name, records) in enumerate(runs.items()):
        good = [r for r in records if r["status"] == 200]
        ends = np.array(sorted((r["last"], r["tokens"]) for r in good))
        rate = summary(records)["tokens_per_second"]
        label = f"{name}: {_three(rate)} tokens/s"
        served.step(ends[:, 0], np.cumsum(ends[:, 1]), where="post", label=label, color=f"C{number}")
        _distribution(first, first_token_waits(good), name, f"C{number}")
        _distribution(token, token_times(good) * 1e3, name, f"C{number}")
    served.set(title="answered", xlabel="seconds", ylabel="tokens of whole answers")
    first.set(title="time to first token", xlabel="seconds", ylabel="share of the requests")
    token.set(title="time per token", xlabel="milliseconds")
    for axes in (served, first, token):
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(0, -0.18))
    figure.suptitle(title)
    return figure


def _distribution(axes: Any, values: np.ndarray, name: str, color: str) -> None:
    """The share of requests that waited no longer; a dot at p50, a ring at p99."""
    ordered = np.sort(values)
    p50, p99 = np.percentile(ordered, [50, 99])
    shares = np.arange(1, len(ordered) + 1) / len(ordered)
    label = f"{name}: p50 {_three(p50)}, p99 {_three(p99)}"
    axes.step(ordered, shares, where="post", color=color, label=label)
    axes.plot([p50], [0.5], "o", color=color)
    axes.plot([p99], [0.99], "o", color=color, markerfacecolor="none")
    axes.set_ylim(0, 1.02)


def _three(value: float) -> str:
    """Three digits, and no exponent."""
    return f"{value:.3g}" if value < 1000 else f"{value:.0f}"


def draw_rollouts(
    runs: Mapping[str, tuple[Sequence[Record], Sequence[Mapping[str, Any]]]], title: str
) -> Any:
    """Answers over time, by version, failures marked, with the canary's share above them.

    runs: name -> (answers, states of the rollout: at, share, state).
    """
    pyplot = _pyplot()
    figure, rows = pyplot.subplots(
        2, len(runs), figsize=(11, 4.6), layout="constrained", sharex="col", squeeze=False,
        height_ratios=(1, 2),
    )  # fmt: skip
    for (name, (records, states)), (above, below) in zip(runs.items(), rows.T, strict=True):
        above.step([s["at"] for s in states], [s["share"] for s in states], where="post", color="C1")
        above.set(title=f"{name}: {states[-1]['state']}", ylim=(-0.05, 1.05), ylabel="share")
        done = [r for r in records if r["last"] is not None]
        versions = sorted({r["version"] for r in done if r["status"] == 200})
        for number, version in enumerate(versions):
            own = [r for r in done if r["version"] == version and r["status"] == 200]
            waits = [r["first"] - r["at"] for r in own]
            label = f"{version}: {len(own)} answers"
            below.plot([r["last"] for r in own], waits, ".", color=f"C{number}", label=label)
        bad = [r for r in done if r["status"] != 200]
        if bad:
            below.plot([r["last"] for r in bad], [0.0] * len(bad), "x", color="C3",
                       label=f"{len(bad)} failed")  # fmt: skip
        below.set(xlabel="seconds", ylabel="first token, s")
        below.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(0, -0.22))
        for axes in (above, below):
            axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title)
    return figure


def _pyplot() -> Any:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot
