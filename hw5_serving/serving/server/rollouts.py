"""A canary among the weights: who gets it, how its answers went, its end (task 5.12)."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass
from typing import Any

from serving.canary import CANARY, PROMOTED, ROLLED_BACK, RUNNING, STABLE, Rollout
from serving.engine import Engine
from serving.server.engine_loop import EngineLoop

log = logging.getLogger("serving")


@dataclass(frozen=True)
class Plan:
    """A rollout as it was asked for. promise: seconds within which the first token should come."""

    version: str
    name: str
    steps: list[float]
    requests_per_step: int
    promise: float | None


class CanaryControl:
    """At most one rollout at a time. All on asyncio's thread; the engine's is asked to do its part."""

    def __init__(self, loop: EngineLoop) -> None:
        self._loop = loop
        self.plan: Plan | None = None
        self.rollout: Rollout | None = None
        self.seen: dict[str, dict[str, int]] = {}
        self._shown = 0

    async def start(self, plan: Plan) -> None:
        """Begin to send a part of the requests to a staged version.

        Raises RuntimeError while another rollout runs, KeyError for a version that is not loaded,
        ValueError for steps that make no sense.
        """
        if self.running:
            raise RuntimeError(f"the rollout {self.rollout.name!r} has not ended")
        rollout = Rollout(plan.name, plan.steps, plan.requests_per_step)
        trial = Rollout(plan.name, plan.steps, plan.requests_per_step)
        trial.route("")  # an unfinished task shows now, not at the next user's request
        trial.record(STABLE, False)
        trial.look()
        await self._loop.call(lambda engine: _check_staged(engine, plan.version))
        if self.running:  # another one began while this one waited for the engine
            raise RuntimeError(f"the rollout {self.rollout.name!r} has not ended")
        self.plan, self.rollout, self._shown = plan, rollout, 0
        self.seen = {side: {"answers": 0, "bad": 0} for side in (STABLE, CANARY)}

    @property
    def running(self) -> bool:
        """Whether a rollout has not ended."""
        return self.rollout is not None and self.rollout.state == RUNNING

    def route(self, key: str) -> str | None:
        """The version for this user; None: whichever is active."""
        if not self.running:
            return None
        assert self.rollout is not None and self.plan is not None
        return self.plan.version if self.rollout.route(key) == CANARY else None

    async def record(self, version: str, failed: bool, seconds_to_first: float | None) -> None:
        """An answer has ended: bad if it failed or its first token came later than promised."""
        if not self.running:
            return
        rollout, plan = self.rollout, self.plan
        assert rollout is not None and plan is not None
        late = plan.promise is not None and (seconds_to_first or 0.0) > plan.promise
        side = CANARY if version == plan.version else STABLE
        self.seen[side]["answers"] += 1
        self.seen[side]["bad"] += int(failed or late)
        rollout.record(side, failed or late)
        rollout.look()
        await self._act()

    async def abandon(self, reason: str) -> None:
        """Roll back by hand. Raises RuntimeError where no rollout runs."""
        if not self.running:
            raise RuntimeError("no rollout runs")
        assert self.rollout is not None
        self.rollout.rollback(reason)
        await self._act()

    def status(self) -> dict[str, Any] | None:
        """What the admin route shows."""
        if self.rollout is None or self.plan is None:
            return None
        return {
            **asdict(self.plan), "state": self.rollout.state, "share": self.rollout.share,
            "seen": self.seen, "history": [asdict(change) for change in self.rollout.history],
        }  # fmt: skip

    async def _act(self) -> None:
        """Let the engine follow what the rollout has come to."""
        rollout, plan = self.rollout, self.plan
        assert rollout is not None and plan is not None
        changes, self._shown = rollout.history[self._shown :], len(rollout.history)
        for change in changes:
            log.warning(
                "rollout %s: %s, share %g, after %d canary answers: %s", rollout.name,
                change.state, change.share, change.canary_requests, change.reason,
            )  # fmt: skip
            follow = {PROMOTED: _activate, ROLLED_BACK: _drop}.get(change.state)
            if follow is not None:
                try:
                    await self._loop.call(lambda engine, do=follow: do(engine, plan.version))
                except Exception:  # whoever's answer ended the rollout gets it all the same
                    log.exception("rollout %s: the engine did not follow", rollout.name)


def _check_staged(engine: Engine, version: str) -> None:
    engine.weights.release(engine.weights.acquire(version))
    if version == engine.weights.active:
        raise ValueError(f"version {version!r} is active already: stage the canary beside it")


def _activate(engine: Engine, version: str) -> None:
    engine.activate(version)


def _drop(engine: Engine, version: str) -> None:
    try:
        engine.weights.drop(version)
    except (KeyError, ValueError):
        pass  # an operator was faster: it went, or was made active by hand
