"""The communicator over torch.distributed: gloo between CPUs, nccl between GPUs. Given.

Started by `torchrun`, on one machine or many; the code above it does not change.

nccl runs what it is given in order, on one stream: a ring's ranks that all send before they receive
would wait for ever. So over nccl nothing starts before a `wait()`, which starts all that was posted
as one batch; its parts make progress together, and the batch is done when all of it is. So post all
that two ranks exchange in a step before the first `wait()`. nccl knows no tags: messages between two
ranks have to be received in the order in which they were sent.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from distributed_training.communicator import (
    CommunicationError,
    Communicator,
    Counters,
    Work,
    check_message,
)

TIMEOUT = timedelta(minutes=5)


class _TorchWork(Work):
    def __init__(self, handle: dist.Work, kept: Tensor) -> None:
        self.handle, self.kept = handle, kept  # the tensor must live until the transfer is done

    def wait(self) -> None:
        _finish([self.handle])


class _Posted(Work):
    """An operation of a batch that starts when any of its operations is waited for."""

    def __init__(self, batch: _Batch) -> None:
        self.batch = batch

    def wait(self) -> None:
        self.batch.finish()


class _Batch:
    """Sends and receives that start together, once."""

    def __init__(self) -> None:
        self.operations: list[dist.P2POp] = []  # they keep their tensors alive
        self.handles: list[dist.Work] = []
        self.started = False

    def start(self) -> None:
        """Start them, if they are not yet."""
        if self.operations and not self.started:
            self.handles = dist.batch_isend_irecv(self.operations)
        self.started = True

    def finish(self) -> None:
        """Start them and return when all are done; gloo's operations can't be waited for twice."""
        self.start()
        handles, self.handles = self.handles, []
        _finish(handles)
        self.operations.clear()


def _finish(handles: list[dist.Work]) -> None:
    """Wait for all of them; raises CommunicationError."""
    try:
        for handle in handles:
            handle.wait()
    except RuntimeError as error:
        raise CommunicationError(str(error)) from error


class TorchCommunicator(Communicator):
    """A torch process group. members: the global ranks of this group, by place.

    batched: operations start in batches, see above; None: where the back end is nccl.
    """

    def __init__(
        self, members: Sequence[int], group: dist.ProcessGroup | None, batched: bool | None = None
    ) -> None:
        self._members, self._group = list(members), group
        self._batched = dist.get_backend(group) == "nccl" if batched is None else batched
        self._batch = _Batch()
        if self._batched:  # all ranks must take part in a group's first call, or nccl hangs
            dist.barrier(group=group)
        self.rank, self.size = self._members.index(dist.get_rank()), len(self._members)
        self.counters = Counters()

    @classmethod
    def start(cls, backend: str) -> TorchCommunicator:
        """Join the group that torchrun's environment describes."""
        if not dist.is_initialized():
            if backend == "nccl":
                torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
            dist.init_process_group(backend, timeout=TIMEOUT)
        return cls(range(dist.get_world_size()), None)

    def _start_send(self, tensor: Tensor, to: int, tag: int, synchronous: bool) -> Work:
        check_message(tensor, to, self)
        data = tensor.detach()
        self.counters.add(to, data.numel() * data.element_size())
        if self._batched:
            return self._post(dist.isend, data, to, tag)
        handle = dist.isend(data, self._members[to], group=self._group, tag=tag)
        return _TorchWork(handle, data)

    def irecv(self, tensor: Tensor, source: int, tag: int = 0) -> Work:
        check_message(tensor, source, self)
        data = tensor.detach()
        if self._batched:
            return self._post(dist.irecv, data, source, tag)
        return _TorchWork(dist.irecv(data, self._members[source], self._group, tag), data)

    def _post(self, kind: Callable[..., Any], data: Tensor, peer: int, tag: int) -> Work:
        if self._batch.started:
            self._batch = _Batch()
        operation = dist.P2POp(kind, data, self._members[peer], self._group, tag)
        self._batch.operations.append(operation)
        return _Posted(self._batch)

    def barrier(self) -> None:
        self._batch.start()  # else the other side could wait for a send that never starts
        dist.barrier(group=self._group)

    def subgroup(self, ranks: Sequence[int]) -> Communicator | None:
        members = [self._members[rank] for rank in ranks]
        group = dist.new_group(members)
        if dist.get_rank() not in members:
            return None
        return TorchCommunicator(members, group, self._batched)

    def on_cpu(self) -> Communicator:
        """The same ranks for CPU tensors: over nccl a group of gloo, else this one."""
        if not self._batched:
            return self
        return TorchCommunicator(self._members, dist.new_group(self._members, backend="gloo"), False)

    def close(self) -> None:
        self._batch.finish()
        if self._group is None and dist.is_initialized():
            dist.destroy_process_group()
