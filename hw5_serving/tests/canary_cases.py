"""Generators and oracles of task 5.12: exact hashes, bets by enumeration, scipy."""

from __future__ import annotations

import hashlib
import itertools
import math
from fractions import Fraction

import numpy as np
import scipy.special
import scipy.stats

LIFTS, PRIOR = (1.5, 2.0, 4.0, 8.0), (1.0, 100.0)


def expected_position(key: str, salt: str) -> float:
    """The place by whole numbers."""
    first = hashlib.sha256(f"{salt}\0{key}".encode()).hexdigest()[:16]
    return float(Fraction(int(first, 16) // 2**11, 2**53))


def keys_like(rng: np.random.Generator, count: int) -> list[str]:
    """Keys as services have them: numbers in a row, mail addresses, non-ASCII names."""
    start = int(rng.integers(10**6))
    kinds = ("user-{}", "{}@example.org", "größe/{}", "{}")
    return [kinds[n % len(kinds)].format(start + n) for n in range(count)]


def likelihoods(rate: float, requests: int, bad: int) -> float:
    """The log-likelihood of outcomes in a fixed order."""
    return float(scipy.special.xlogy(bad, rate) + scipy.special.xlog1py(requests - bad, -rate))


def expected_evidence(
    run: list[list[int]], lifts: tuple[float, ...] = LIFTS, prior: tuple[float, float] = PRIOR
) -> list[float]:
    """The log of the evidence after each block, from likelihoods."""
    bets, seen, waiting, found = np.zeros(len(lifts)), np.zeros(4, int), np.zeros(4, int), []
    for block in run:
        waiting = waiting + block
        stable, stable_bad, canary, canary_bad = waiting.tolist()
        if stable and canary:
            rate = (seen[1] + prior[0]) / (seen[0] + prior[1])
            for place, lift in enumerate(lifts):
                other = 1 / (1 + (1 - rate) / (rate * lift))
                common = (stable * rate + canary * other) / (stable + canary)
                bets[place] += (
                    likelihoods(rate, stable, stable_bad) + likelihoods(other, canary, canary_bad)
                    - likelihoods(common, stable + canary, stable_bad + canary_bad)
                )  # fmt: skip
            seen, waiting = seen + waiting, np.zeros(4, int)
        found.append(float(scipy.special.logsumexp(bets) - math.log(len(lifts))))
    return found


def all_outcomes(sizes: list[list[int]]) -> list[list[list[int]]]:
    """Every run of blocks of (stable, canary) requests, by numbers of bad ones."""
    each = [
        [[n, a, m, b] for a in range(n + 1) for b in range(m + 1)] for n, m in sizes
    ]
    return [list(run) for run in itertools.product(*each)]


def probability(run: list[list[int]], stable_rate: float, canary_rate: float) -> float:
    """Of one of `all_outcomes`."""
    log = 0.0
    for n, a, m, b in run:
        log += scipy.stats.binom.logpmf(a, n, stable_rate)
        log += scipy.stats.binom.logpmf(b, m, canary_rate)
    return math.exp(log)


def drawn_counts(
    rng: np.random.Generator, runs: int, looks: int, requests: int, share: float,
    stable_rate: float, canary_rate: float,
) -> np.ndarray:  # fmt: skip
    """(runs, looks, 4) counts of both versions between two looks."""
    canary = rng.binomial(requests, share, (runs, looks))
    stable = requests - canary
    bad = rng.binomial(stable, stable_rate), rng.binomial(canary, canary_rate)
    return np.stack([stable, bad[0], canary, bad[1]], -1)


def expected_index(reference: np.ndarray, counts: np.ndarray) -> float:
    """The stability index as two relative entropies."""
    p, q = ((np.asarray(c) + 0.5) / (np.sum(c) + 0.5 * len(c)) for c in (reference, counts))
    return float(scipy.stats.entropy(p, q) + scipy.stats.entropy(q, p))


def expected_reports(
    reference: np.ndarray, values: np.ndarray, window: int, alpha: float, limit: float
) -> list[list[float]]:
    """The reports of all full windows of a stream, ten bins."""
    edges = np.unique(np.quantile(reference, np.arange(1, 10) / 10))
    bounds = np.concatenate([[-np.inf], edges, [np.inf]])

    def counted(v: np.ndarray) -> np.ndarray:
        return np.array([((v > a) & (v <= b)).sum() for a, b in itertools.pairwise(bounds)])

    found = []
    for number in range(1, len(values) // window + 1):
        part = values[(number - 1) * window : number * window]
        index = expected_index(counted(reference), counted(part))
        statistic = float(scipy.stats.ks_2samp(reference, part, method="asymp").statistic)
        effective = len(reference) * window / (len(reference) + window)
        p_value = float(scipy.special.kolmogorov(statistic * math.sqrt(effective)))
        drifted = p_value < 6 * alpha / (math.pi * number) ** 2 and index > limit
        found.append([number, index, statistic, p_value, int(drifted)])
    return found
