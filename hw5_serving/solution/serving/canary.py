"""Task 5.12: a new version for a few, watched by a test that may be looked at as often as one likes.

A rollout sends a share of the keys (users, conversations) to the canary, always the same ones, and
compares how often answers of both versions are bad: an error, or slower than promised. The test is
the e-value of Turner, Ly and Grünwald (2021) for two Bernoulli streams. It is exact for any number of
looks at any moments, which a z-test at 0.5% is not: with 100 looks at 2,000 requests it comes out
"significant" in 5% of the runs in which nothing differs.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

STABLE, CANARY = "stable", "canary"
RUNNING, ROLLED_BACK, PROMOTED = "running", "rolled back", "promoted"


def position(key: str, salt: str) -> float:
    """Where a key stands in [0, 1), the same in every process and on every machine.

    SHA-256 of salt, a zero byte and key (UTF-8): the upper 53 bits of its first 8 bytes, read as a
    big-endian number, over 2^53. (All 64 bits would round up to 1.0 for some keys.) The salt is the
    rollout's name: not always the same users go first.
    """
    # BEGIN SOLUTION 5.12
    digest = hashlib.sha256(salt.encode() + b"\0" + key.encode()).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) / 2.0**53
    # END SOLUTION


@dataclass(frozen=True)
class Counts:
    """Requests of both versions, and how many of them went badly."""

    stable: int = 0
    stable_bad: int = 0
    canary: int = 0
    canary_bad: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.stable + other.stable, self.stable_bad + other.stable_bad,
            self.canary + other.canary, self.canary_bad + other.canary_bad,
        )  # fmt: skip


def mixed_rate(stable_rate: float, canary_rate: float, stable: int, canary: int) -> float:
    """The one rate against which a block of `stable` + `canary` requests is a fair bet.

    An alternative bets on `stable_rate` and `canary_rate`; what it wins on an outcome is its
    likelihood over that of one common rate. Under *any* equal true rate the expected product over
    the block must be at most 1. Only one common rate does that (handout, 5.12).
    """
    # BEGIN SOLUTION 5.12
    return (stable * stable_rate + canary * canary_rate) / (stable + canary)
    # END SOLUTION


class SequentialTest:
    """Evidence that the canary fails more often: an e-process, by Ville's inequality.

    Of a canary that fails no more often than the stable version, the evidence ever reaches 1 / alpha
    with probability ≤ alpha, whatever the true rates, looks and sizes of blocks.

    alpha: the nominal probability of a false rollback. lifts: the odds ratios bet on (> 1), an equal
    part of the stake on each. The bets of a block use the rate of the stable version *before* that
    block: (its bad requests + prior_bad) / (its requests + prior_requests); for each lift the
    canary's odds p / (1 − p) are lift times the stable version's.
    """

    def __init__(
        self, alpha: float = 0.005, lifts: Sequence[float] = (1.5, 2.0, 4.0, 8.0),
        prior_bad: float = 1.0, prior_requests: float = 100.0,
    ) -> None:  # fmt: skip
        if not 0.0 < alpha < 1.0:
            raise ValueError(f"alpha {alpha} is not in (0, 1)")
        if not lifts or min(lifts) <= 1.0:
            raise ValueError(f"lifts {lifts}: odds ratios above 1 are needed")
        if not 0.0 < prior_bad < prior_requests:
            raise ValueError(f"a prior of {prior_bad} bad ones in {prior_requests} is no rate")
        self.alpha, self.lifts = alpha, tuple(lifts)
        self.prior_bad, self.prior_requests = prior_bad, prior_requests
        self.log_bets = [0.0] * len(self.lifts)
        self.seen = Counts()
        self.pending = Counts()

    def update(self, counts: Counts) -> float:
        """Take a block of outcomes in; the log of the evidence then.

        A block in which one version has no requests says nothing: it waits in `pending` and is
        joined to the next.
        """
        # BEGIN SOLUTION 5.12
        self.pending = block = self.pending + counts
        if block.stable and block.canary:
            rate = (self.seen.stable_bad + self.prior_bad) / (
                self.seen.stable + self.prior_requests
            )
            for place, lift in enumerate(self.lifts):
                self.log_bets[place] += log_bet(rate, lift, block)
            self.seen, self.pending = self.seen + block, Counts()
        return self.log_evidence
        # END SOLUTION

    @property
    def log_evidence(self) -> float:
        """The log of the mean of the bets' products; no overflow at 10^6 requests."""
        # BEGIN SOLUTION 5.12
        top = max(self.log_bets)
        return top + math.log(math.fsum(math.exp(b - top) for b in self.log_bets) / len(self.lifts))
        # END SOLUTION

    @property
    def rejected(self) -> bool:
        """Whether the canary is worse: the evidence is 1 / alpha or more."""
        return self.log_evidence >= -math.log(self.alpha)


def log_bet(rate: float, lift: float, block: Counts) -> float:
    """The log of what the bet on one lift wins on a block: likelihoods over the common rate's."""
    # BEGIN SOLUTION 5.12
    odds = lift * rate / (1.0 - rate)
    canary_rate = odds / (1.0 + odds)
    common = mixed_rate(rate, canary_rate, block.stable, block.canary)
    total = 0.0
    for own, requests, bad in (
        (rate, block.stable, block.stable_bad),
        (canary_rate, block.canary, block.canary_bad),
    ):
        total += bad * math.log(own / common)
        total += (requests - bad) * (math.log1p(-own) - math.log1p(-common))
    return total
    # END SOLUTION


@dataclass(frozen=True)
class Transition:
    """A change of a rollout: after how many canary outcomes, to what state and share, and why."""

    canary_requests: int
    state: str
    share: float
    reason: str


class Rollout:
    """Moves a canary through growing shares, to promotion or rollback.

    steps: rising shares in (0, 1]. A step is over when the canary has answered `requests_per_step`
    requests in it; after the last the canary is promoted: all keys go to it. A rollback sends all to
    the stable version. Both are final. The evidence is one over all steps: to begin again at each
    would spend alpha at each.
    """

    def __init__(
        self, name: str, steps: Sequence[float] = (0.01, 0.05, 0.25, 0.5),
        requests_per_step: int = 500, test: SequentialTest | None = None,
    ) -> None:  # fmt: skip
        shares = list(steps)
        if not shares or shares != sorted(set(shares)) or shares[0] <= 0 or shares[-1] > 1:
            raise ValueError(f"steps {shares}: rising shares in (0, 1] are needed")
        self.name, self.steps, self.requests_per_step = name, shares, requests_per_step
        self.test = test or SequentialTest()
        self.state, self.step = RUNNING, 0
        self.waiting = Counts()
        self.canary_requests = self.canary_requests_in_step = 0
        self.history: list[Transition] = []

    @property
    def share(self) -> float:
        """The part of the keys that goes to the canary now."""
        # BEGIN SOLUTION 5.12
        if self.state == RUNNING:
            return self.steps[self.step]
        return 1.0 if self.state == PROMOTED else 0.0
        # END SOLUTION

    def route(self, key: str) -> str:
        """The version that answers this key. Who was in a smaller share is in a larger one."""
        # BEGIN SOLUTION 5.12
        return CANARY if position(key, self.name) < self.share else STABLE
        # END SOLUTION

    def record(self, version: str, bad: bool) -> None:
        """An answered request's outcome. Late ones, of a rollout that ended, count no more."""
        # BEGIN SOLUTION 5.12
        if version not in (STABLE, CANARY):
            raise ValueError(f"version {version!r} is neither {STABLE!r} nor {CANARY!r}")
        if self.state != RUNNING:
            return
        if version == STABLE:
            self.waiting += Counts(stable=1, stable_bad=int(bad))
        else:
            self.waiting += Counts(canary=1, canary_bad=int(bad))
            self.canary_requests += 1
            self.canary_requests_in_step += 1
        # END SOLUTION

    def look(self) -> str:
        """Give what was recorded to the test, then roll back, go one step on, or stay; the state.

        Where the evidence is there, the canary is rolled back, also if its step is over as well.
        """
        # BEGIN SOLUTION 5.12
        if self.state != RUNNING:
            return self.state
        self.test.update(self.waiting)
        self.waiting = Counts()
        if self.test.rejected:
            self.rollback(f"evidence {math.exp(min(self.test.log_evidence, 700.0)):.3g}")
        elif self.canary_requests_in_step >= self.requests_per_step:
            self.canary_requests_in_step = 0
            self.step += 1
            if self.step == len(self.steps):
                self.state = PROMOTED
            self._note("step over")
        return self.state
        # END SOLUTION

    def rollback(self, reason: str) -> None:
        """End the rollout; raises RuntimeError where the canary was promoted already."""
        # BEGIN SOLUTION 5.12
        if self.state == PROMOTED:
            raise RuntimeError(f"{self.name} was promoted: roll the weights back instead")
        if self.state == RUNNING:
            self.state = ROLLED_BACK
            self._note(reason)
        # END SOLUTION

    def _note(self, reason: str) -> None:
        """Given: write a change into the history."""
        self.history.append(Transition(self.canary_requests, self.state, self.share, reason))
