"""Draws the figure of task 5.12: `python figures/make_5_12.py`. Evidence over the requests of equal
and of worse canaries, and how often equal ones are rolled back by two tests that look again and
again; computed by this homework's code. In a student's folder it is the student's own."""

from __future__ import annotations

from own_code import FOLDER

# isort: split
import numpy as np
import scipy.stats
from canary_cases import drawn_counts, keys_like
from drivers_canary import evidence, routes

from autograder.testing import drawing
from autograder.testing.drawing import BLUE, LINE, ORANGE, RED, SOFT, charts, save
from serving.canary import CANARY, ROLLED_BACK, RUNNING, STABLE, Rollout

ALPHA, LOOKS, EACH = 0.005, 200, 20


def drawn(runs: int, share: float, stable: float, canary: float) -> tuple[np.ndarray, np.ndarray]:
    """(runs, looks, 4) counts, and the log of the evidence after each look."""
    counts = drawn_counts(np.random.default_rng(5), runs, LOOKS, EACH, share, stable, canary)
    return counts, np.array(evidence(counts.tolist(), {}))


def z_test(counts: np.ndarray) -> np.ndarray:
    """Whether a one-sided test of two rates at alpha would say "worse" at each look."""
    n, bad, m, worse = np.moveaxis(np.cumsum(counts, 1), -1, 0).astype(float)
    common = (bad + worse) / (n + m)
    spread = np.sqrt(common * (1 - common) * (1 / np.maximum(n, 1) + 1 / np.maximum(m, 1)))
    z = (worse / np.maximum(m, 1) - bad / np.maximum(n, 1)) / np.maximum(spread, 1e-9)
    return z > scipy.stats.norm.isf(ALPHA)


def rolled_back(flags: np.ndarray) -> np.ndarray:
    """The share of runs that were stopped up to each look."""
    return np.maximum.accumulate(flags, 1).mean(0)


def main() -> None:
    """Two panels; prints the numbers that the handout states."""
    drawing.use(FOLDER)
    at = EACH * np.arange(1, LOOKS + 1)
    limit = np.log(1 / ALPHA)
    figure, (left, right) = charts(2, width=8, height=3)
    equal, same = drawn(1000, 0.5, 0.2, 0.2)
    _, worse = drawn(1000, 0.1, 0.02, 0.1)
    for place in range(12):
        left.plot(at[::2], worse[place, ::2] / np.log(10), color=ORANGE, linewidth=0.8, alpha=0.8,
                  label=None if place else "10% against 2%")  # fmt: skip
        left.plot(at[::2], same[place, ::2] / np.log(10), color=BLUE, linewidth=0.8, alpha=0.8,
                  label=None if place else "20% against 20%")  # fmt: skip
    left.axhline(limit / np.log(10), color=RED, linewidth=1, linestyle=":")
    left.text(at[-1], 1.9, "1 / alpha: roll back", color=RED, ha="right", va="top", fontsize=8)
    left.set(ylim=(-8, 6), xlabel="requests", ylabel="evidence, log10", title="twelve canaries each")
    left.legend(loc="lower left", fontsize=8)
    right.plot(at, 100 * rolled_back(z_test(equal)), color=SOFT, label="z-test at 0.5%")
    right.plot(at, 100 * rolled_back(same >= limit), color=BLUE, label="evidence ≥ 200")
    right.axhline(100 * ALPHA, color=LINE, linewidth=1, linestyle=":")
    right.set(xlabel="requests, a look every 20", ylabel="rolled back, %", title="1,000 equal canaries")
    right.legend(loc="center right", fontsize=8)
    save(figure, "5_12_evidence", sheet=False)
    report(equal, same, worse)


def rollouts(runs: int, canary_rate: float) -> tuple[list[int], list[int]]:
    """Whole rollouts with the default steps against 2%, a look every 50 requests, until they end.

    Returns, of those that were rolled back, all requests and the canary's until then.
    """
    rng, total, own = np.random.default_rng(6), [], []
    for number in range(runs):
        rollout, requests = Rollout(f"rollout {number}"), 0
        while rollout.state == RUNNING:
            to_canary = rng.random(50) < rollout.share
            bad = rng.random(50) < np.where(to_canary, canary_rate, 0.02)
            for canary, failed in zip(to_canary.tolist(), bad.tolist(), strict=True):
                rollout.record(CANARY if canary else STABLE, failed)
            requests += 50
            rollout.look()
        if rollout.state == ROLLED_BACK:
            total.append(requests)
            own.append(rollout.canary_requests)
    return total, own


def report(equal: np.ndarray, same: np.ndarray, worse: np.ndarray) -> None:
    """The handout's numbers."""
    limit = np.log(1 / ALPHA)
    for looks in (100, LOOKS):
        print(f"equal canaries rolled back of 1,000 in {looks} looks: z-test "
              f"{int(z_test(equal)[:, :looks].any(1).sum())}, "
              f"evidence {int((same[:, :looks] >= limit).any(1).sum())}")  # fmt: skip
    cases = [("10% against 2%, share 0.1", worse)]
    for share, canary in ((0.1, 0.04), (0.5, 0.04), (0.5, 0.1)):
        cases.append((f"{canary:.0%} against 2%, share {share}", drawn(1000, share, 0.02, canary)[1]))
    for name, runs in cases:
        found = (runs >= limit).any(1)
        first = EACH * (1 + (runs >= limit).argmax(1)[found])
        quarters = np.percentile(first, [50, 90, 99]).round().tolist()
        print(f"{name}: {found.mean():.1%} within {EACH * LOOKS:,} requests; median, 90%, 99%: {quarters}")
    for rate, runs in ((0.1, 100), (0.04, 20), (0.02, 20)):
        total, own = rollouts(runs, rate)
        medians = [int(np.median(part)) for part in (total, own) if part]
        print(f"rollouts at {rate:.0%} against 2%: {len(total)} of {runs} rolled back; median of all "
              f"requests and the canary's until then: {medians}")  # fmt: skip
    steps = [0.01, 0.05, 0.25, 0.5]
    keys = keys_like(np.random.default_rng(0), 100_000)
    inside = np.array(routes(keys, "blue", steps), bool).mean(1)
    print("shares of 100,000 keys:", [f"{s:.0%}: {i:.2%}" for s, i in zip(steps, inside, strict=True)])


if __name__ == "__main__":
    main()
