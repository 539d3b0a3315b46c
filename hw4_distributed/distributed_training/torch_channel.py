"""The communicator over torch.distributed: gloo between CPUs, nccl between GPUs. Given.

Started by `torchrun`, on one machine or many; the code above it does not change.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import timedelta

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
        try:
            self.handle.wait()
        except RuntimeError as error:
            raise CommunicationError(str(error)) from error


class TorchCommunicator(Communicator):
    """A torch process group. members: the global ranks of this group, by place."""

    def __init__(self, members: Sequence[int], group: dist.ProcessGroup | None) -> None:
        self._members, self._group = list(members), group
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
        handle = dist.isend(data, self._members[to], group=self._group, tag=tag)
        return _TorchWork(handle, data)

    def irecv(self, tensor: Tensor, source: int, tag: int = 0) -> Work:
        check_message(tensor, source, self)
        data = tensor.detach()
        return _TorchWork(dist.irecv(data, self._members[source], self._group, tag), data)

    def barrier(self) -> None:
        dist.barrier(group=self._group)

    def subgroup(self, ranks: Sequence[int]) -> Communicator | None:
        members = [self._members[rank] for rank in ranks]
        group = dist.new_group(members)
        return TorchCommunicator(members, group) if dist.get_rank() in members else None

    def close(self) -> None:
        if self._group is None and dist.is_initialized():
            dist.destroy_process_group()
