"""What Prometheus reads at /metrics."""

from __future__ import annotations

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)

from serving.server.engine_loop import EngineLoop, StepReport

disable_created_metrics()  # a second line for each, with the time of the start
WAITS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100)
STEPS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3)


class Metrics:
    """Counters and gauges of one server, in a registry of its own. An `engine_loop.Observer`."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        common = {"namespace": "serving", "registry": self.registry}
        self.requests = Counter(
            "requests", "Answered requests, by route and HTTP status", ["route", "status"], **common
        )
        self.prompt_tokens = Counter("prompt_tokens", "Tokens of prompts that began", **common)
        self.generated_tokens = Counter("generated_tokens", "Tokens that were made", **common)
        self.prefix_hits = Counter(
            "prefix_hit_tokens", "Prompt tokens that lay in the prefix cache", **common
        )
        self.preemptions = Counter(
            "preemptions", "Requests that gave their blocks back and were computed again", **common
        )
        self.first = Histogram(
            "time_to_first_token_seconds", "From arrival to the first token", buckets=WAITS, **common
        )
        self.steps = Histogram(
            "step_seconds", "Time of an engine's step", buckets=STEPS, **common
        )
        self.waiting = Gauge("requests_waiting", "Requests that are not in the batch", **common)
        self.running = Gauge("requests_running", "Requests in the batch", **common)
        self.blocks_free = Gauge("blocks_free", "Cache blocks that nobody holds", **common)
        self.blocks_used = Gauge("blocks_used", "Cache blocks that requests hold", **common)
        self.up = Gauge("engine_up", "1 while the engine's thread lives", **common)
        self.version = Gauge("active_version", "1 for the active weights", ["version"], **common)

    def watch(self, loop: EngineLoop) -> None:
        """Read the levels from `loop` whenever somebody asks."""
        blocks = loop.engine.config.num_blocks
        self.waiting.set_function(lambda: loop.waiting)
        self.running.set_function(lambda: loop.running)
        self.blocks_free.set_function(lambda: loop.blocks_free)
        self.blocks_used.set_function(lambda: blocks - loop.blocks_free)
        self.up.set_function(lambda: float(loop.failure is None))

    def step(self, report: StepReport) -> None:
        """A step of the engine has ended."""
        self.steps.observe(report.seconds)
        self.prompt_tokens.inc(report.prompt_tokens)
        self.prefix_hits.inc(report.cached_tokens)
        self.generated_tokens.inc(report.new_tokens)
        self.preemptions.inc(report.preempted)

    def first_token(self, seconds: float) -> None:
        """A request got its first token."""
        self.first.observe(seconds)

    def answered(self, route: str, status: int) -> None:
        """A request was answered."""
        self.requests.labels(route, str(status)).inc()

    def text(self, version: str) -> bytes:
        """The page. version: the active one now."""
        self.version.clear()
        self.version.labels(version).set(1)
        return generate_latest(self.registry)
