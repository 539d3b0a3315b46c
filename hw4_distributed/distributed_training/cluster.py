"""A cluster, a training job and a plan, as data. Given."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Link:
    """The α–β model of a link (Hockney, 1994): a message of n bytes takes α + β·n seconds.

    latency: α in seconds; bytes_per_second: 1/β.
    """

    latency: float
    bytes_per_second: float

    def seconds(self, size: float) -> float:
        """One message of `size` bytes."""
        return self.latency + size / self.bytes_per_second


@dataclass(frozen=True)
class Cluster:
    """nodes · per_node equal GPUs; `inside` links those of a node, `across` those of different ones.

    flops: sustained, a second and GPU. memory: bytes a GPU.
    """

    nodes: int
    per_node: int
    inside: Link
    across: Link
    flops: float
    memory: float

    @property
    def gpus(self) -> int:
        """All of them."""
        return self.nodes * self.per_node


@dataclass(frozen=True)
class Workload:
    """A Llama-style model and a batch. batch: sequences of `sequence` tokens in a step, all ranks."""

    layers: int
    hidden_size: int
    num_heads: int
    sequence: int
    batch: int

    @property
    def parameters(self) -> int:
        """12 · layers · hidden_size²: matrices of the blocks (an MLP of 4 · hidden_size)."""
        return 12 * self.layers * self.hidden_size**2


@dataclass(frozen=True)
class Plan:
    """Ranks by data, tensor and pipeline parallelism, and micro-batches of a step on each pipeline.

    Ranks are placed with the tensor group innermost, then data, then the pipeline: the group that
    speaks most has the shortest way.
    """

    data: int
    tensor: int
    pipeline: int
    microbatches: int

    @property
    def gpus(self) -> int:
        """Ranks that the plan uses."""
        return self.data * self.tensor * self.pipeline


H100_NODES = Cluster(
    nodes=16,
    per_node=8,
    inside=Link(3e-6, 400e9),
    across=Link(10e-6, 45e9),
    flops=400e12,
    memory=72e9,
)
