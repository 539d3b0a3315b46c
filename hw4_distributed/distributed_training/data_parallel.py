"""Task 4.3: data parallelism: gradients averaged in buckets, while backward still runs.

Follows Li et al., 2020, "PyTorch Distributed: Experiences on Accelerating Data Parallel Training".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from distributed_training.background import Background
from distributed_training.collectives import broadcast, ring_all_reduce
from distributed_training.communicator import Communicator, Work


@dataclass
class Bucket:
    """Gradients that travel together.

    index: its place in the order of launching. flat: one-dimensional, the gradients one after
    another, of one type. views: for each parameter the piece of `flat` that is its gradient, in the
    parameter's shape. pending: parameters whose gradient this backward has not brought yet.
    """

    index: int
    flat: Tensor
    parameters: list[nn.Parameter]
    views: list[Tensor]
    pending: set[int] = field(default_factory=set)
    work: Work | None = None


# Replaces `bucket.flat` by the mean over the ranks, exactly or not (tasks 4.7 to 4.9).
Reducer = Callable[[Communicator, Bucket], None]


def mean_over_ranks(ranks: Communicator, bucket: Bucket) -> None:
    """The exact reducer: a ring all-reduce of the bucket."""
    raise NotImplementedError("task 4.3: mean_over_ranks")


def make_buckets(parameters: Iterable[nn.Parameter], bucket_bytes: int) -> list[Bucket]:
    """Buckets of the parameters that want gradients, in the reverse of the order given.

    Backward brings the last layers' gradients first, so the first bucket holds the last parameters.
    A parameter that occurs twice (tied weights) is in one bucket, once, at the place of its first
    occurrence in the order given. A bucket takes parameters until it holds `bucket_bytes` or more,
    and is closed before one of another type; a parameter is never split. `flat` starts as zeros.
    """
    raise NotImplementedError("task 4.3: make_buckets")


class DataParallel(nn.Module):
    """A module whose gradients, after `finish`, are the mean over the ranks.

        model = DataParallel(module, ranks)
        loss(model(x)).backward()   # buckets leave as they fill
        model.finish()              # what is still missing; then every .grad is there
        optimizer.step()

    All parameters, frozen ones too, and all buffers start as rank 0's, broadcast once each. After
    that, parameters without requires_grad are left alone, and buffers are not kept equal. A
    parameter whose gradient backward does not bring on this rank (unused here) counts as zero; where
    no rank uses it, its gradient becomes zero all the same. Gradients already in .grad when backward
    starts (from steps inside `no_sync`) are part of what is averaged.
    """

    def __init__(
        self,
        module: nn.Module,
        ranks: Communicator,
        bucket_bytes: int = 1 << 20,
        reducer: Reducer = mean_over_ranks,
        background: Background | None = None,
    ) -> None:
        super().__init__()
        self.module, self.ranks, self.reducer = module, ranks, reducer
        self.background = background or Background()
        self.buckets = make_buckets(module.parameters(), bucket_bytes)
        self._place = {
            id(p): (bucket, index)
            for bucket in self.buckets
            for index, p in enumerate(bucket.parameters)
        }
        self._sync = True
        self._next = 0
        raise NotImplementedError("task 4.3: DataParallel.__init__")

    def forward(self, *inputs: Any, **named: Any) -> Any:
        """The module's own forward."""
        return self.module(*inputs, **named)

    @contextmanager
    def no_sync(self) -> Iterator[None]:
        """Inside, backward only accumulates: nothing is sent. For all but the last micro-batch."""
        raise NotImplementedError("task 4.3: DataParallel.no_sync")

    def finish(self) -> None:
        """Launch what is left, in order, and wait for all: every .grad is the mean.

        Afterwards .grad is a view into its bucket; the next step starts from `zero_grad` as usual.
        Raises CommunicationError.
        """
        raise NotImplementedError("task 4.3: DataParallel.finish")

    def _begin(self) -> None:
        """Given: forget the last backward."""
        self._next = 0
        for bucket in self.buckets:
            bucket.pending = set(range(len(bucket.parameters)))
            bucket.work = None

    def _ready(self, parameter: nn.Parameter) -> None:
        """Called when backward has added to `parameter.grad`: launch the buckets that are full.

        All ranks launch in the same order, that of `index`: a full bucket waits for those before it.
        Raises RuntimeError where this backward's gradient was there already: a second backward, not
        in `no_sync`, before `finish`; what it adds would be lost.
        """
        raise NotImplementedError("task 4.3: DataParallel._ready")

    def _launch(self, bucket: Bucket) -> None:
        """Copy the gradients into the bucket, where .grad is from now on, and hand it over."""
        raise NotImplementedError("task 4.3: DataParallel._launch")
