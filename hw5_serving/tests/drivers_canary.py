"""Drivers of task 5.12: routing, the sequential test, a rollout, drift."""

from __future__ import annotations

from typing import Any

import numpy as np


def positions(keys: list[str], salt: str) -> np.ndarray:
    """Where each key stands: (keys,) float64."""
    from serving.canary import position

    return np.array([position(key, salt) for key in keys], np.float64)


def routes(keys: list[str], name: str, steps: list[float]) -> np.ndarray:
    """(steps, keys) uint8: whether each key goes to the canary. One answered request ends a step."""
    from serving.canary import CANARY, Rollout

    rollout = Rollout(name, steps, requests_per_step=1)
    found = []
    for _ in steps:
        found.append(np.array([rollout.route(key) == CANARY for key in keys], np.uint8))
        rollout.record("canary", False)
        rollout.look()
    return np.stack(found)


def evidence(blocks: list[list[list[int]]], options: dict[str, Any]) -> list[list[float]]:
    """The log of the evidence after each block (stable, bad, canary, bad), by run."""
    from serving.canary import Counts, SequentialTest

    found = []
    for run in blocks:
        test = SequentialTest(**options)
        found.append([float(test.update(Counts(*block))) for block in run])
    return found


def first_rejections(runs: np.ndarray, options: dict[str, Any]) -> list[int]:
    """By run of (runs, looks, 4) counts: the first look that rejects, −1 for none."""
    from serving.canary import Counts, SequentialTest

    found = []
    for run in runs.tolist():
        test = SequentialTest(**options)
        first = -1
        for look, block in enumerate(run):
            test.update(Counts(*block))
            if test.rejected:
                first = look
                break
        found.append(first)
    return found


def mixed_rates(cases: list[list[float]]) -> list[float]:
    """The common rate of (stable rate, canary rate, stable requests, canary requests)."""
    from serving.canary import mixed_rate

    return [float(mixed_rate(a, b, int(n), int(m))) for a, b, n, m in cases]


def rollout_story(
    events: list[list[Any]], name: str, steps: list[float], requests_per_step: int, keys: list[str]
) -> list[dict[str, Any]]:
    """State, share, evidence and routes after each event of a rollout.

    events: ["record", version, bad, times], ["look"], or ["rollback", reason].
    """
    from serving.canary import CANARY, Rollout

    rollout = Rollout(name, steps, requests_per_step)
    found = []
    for kind, *rest in events:
        raised = ""
        try:
            if kind == "record":
                for _ in range(rest[2]):
                    rollout.record(rest[0], rest[1])
            elif kind == "look":
                rollout.look()
            else:
                rollout.rollback(*rest)
        except (RuntimeError, ValueError) as error:
            if isinstance(error, NotImplementedError):
                raise
            raised = "ValueError" if isinstance(error, ValueError) else "RuntimeError"
        found.append(
            {
                "state": rollout.state, "share": float(rollout.share), "raised": raised,
                "evidence": float(rollout.test.log_evidence),
                "canary": [rollout.route(key) == CANARY for key in keys],
                "history": [[t.canary_requests, t.state, float(t.share)] for t in rollout.history],
            }
        )  # fmt: skip
    return found


def stability_indices(cases: list[list[np.ndarray]], bins: int) -> list[dict[str, Any]]:
    """By (reference, values): edges, both counts, the index."""
    from serving.drift import bin_counts, population_stability_index, quantile_edges

    found = []
    for reference, values in cases:
        edges = quantile_edges(reference, bins)
        own, live = bin_counts(reference, edges), bin_counts(values, edges)
        found.append(
            {
                "edges": edges, "reference": own, "values": live,
                "index": float(population_stability_index(own, live)),
            }
        )  # fmt: skip
    return found


def two_samples(cases: list[list[np.ndarray]]) -> list[float]:
    """The largest distance of each pair of samples."""
    from serving.drift import kolmogorov_smirnov

    return [float(kolmogorov_smirnov(a, b)) for a, b in cases]


def p_values(cases: list[list[float]]) -> list[float]:
    """The p-value of each (statistic, n, m)."""
    from serving.drift import kolmogorov_p_value

    return [float(kolmogorov_p_value(s, int(n), int(m))) for s, n, m in cases]


def watched(
    reference: np.ndarray, calls: list[np.ndarray], options: dict[str, Any]
) -> list[list[list[float]]]:
    """By call of `observe`: its reports as (window, index, statistic, p-value, drifted)."""
    from serving.drift import DriftDetector

    detector = DriftDetector(reference, **options)
    return [
        [
            [r.window, r.stability_index, r.statistic, r.p_value, int(r.drifted)]
            for r in detector.observe(values)
        ]
        for values in calls
    ]


def refused_then(reference: np.ndarray, bad: np.ndarray, good: np.ndarray, window: int) -> Any:
    """Whether `bad` values raise ValueError, and the windows that `good` ones then fill."""
    from serving.drift import DriftDetector

    detector = DriftDetector(reference, window)
    try:
        detector.observe(bad)
    except ValueError:
        return [True, [r.statistic for r in detector.observe(good)]]
    return [False, []]
