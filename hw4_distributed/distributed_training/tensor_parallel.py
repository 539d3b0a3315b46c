"""Task 4.5: tensor parallelism: each block's matrices divided among the ranks.

Follows Shoeybi et al., 2019, "Megatron-LM". f and g below are its conjugate operators.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from distributed_training.collectives import ring_all_gather, ring_all_reduce
from distributed_training.communicator import Communicator
from distributed_training.model import Attention, Llama, SwiGLU
from distributed_training.partition import chunk_bounds


class CopyToRanks(torch.autograd.Function):
    """f: the identity forward; backward sums the gradient over the ranks."""

    @staticmethod
    def forward(context: Any, x: Tensor, ranks: Communicator) -> Tensor:
        """x: (…) -> the same values."""
        raise NotImplementedError("task 4.5: CopyToRanks.forward")

    @staticmethod
    def backward(context: Any, upstream: Tensor) -> tuple[Tensor, None]:
        """The sum over the ranks, in a tensor of its own: `upstream` may be someone else's too."""
        raise NotImplementedError("task 4.5: CopyToRanks.backward")


class SumOverRanks(torch.autograd.Function):
    """g: the sum over the ranks forward; backward is the identity."""

    @staticmethod
    def forward(context: Any, x: Tensor, ranks: Communicator) -> Tensor:
        """x: (…) -> the sum of every rank's x."""
        raise NotImplementedError("task 4.5: SumOverRanks.forward")

    @staticmethod
    def backward(context: Any, upstream: Tensor) -> tuple[Tensor, None]:
        """Each rank's part of the sum has the sum's own gradient."""
        raise NotImplementedError("task 4.5: SumOverRanks.backward")


class ColumnParallelLinear(nn.Module):
    """x · Wᵀ of which this rank computes some output columns: rows start:stop of W.

    weight: (stop − start, in_features). Input: the same on every rank; output: this rank's columns.
    The gradient of the input is the sum over the ranks, unless the input was copied to the ranks
    already: layers that read one input share one sum.
    """

    def __init__(
        self, weight: Tensor, ranks: Communicator, bounds: tuple[int, int],
        input_is_copied: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        self.ranks, self.input_is_copied = ranks, input_is_copied
        self.weight = nn.Parameter(weight[bounds[0] : bounds[1]].detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        """x: (…, in_features) -> (…, stop − start)."""
        raise NotImplementedError("task 4.5: ColumnParallelLinear.forward")


class RowParallelLinear(nn.Module):
    """x · Wᵀ of which this rank has some input columns: columns start:stop of W.

    weight: (out_features, stop − start). Input: this rank's columns; output: the whole, summed over
    the ranks, the same on every one.
    """

    def __init__(self, weight: Tensor, ranks: Communicator, bounds: tuple[int, int]) -> None:
        super().__init__()
        self.ranks = ranks
        self.weight = nn.Parameter(weight[:, bounds[0] : bounds[1]].detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        """x: (…, stop − start) -> (…, out_features)."""
        raise NotImplementedError("task 4.5: RowParallelLinear.forward")


class VocabParallelEmbedding(nn.Module):
    """An embedding of which this rank has rows start:stop: `chunk_bounds(vocab_size, size)[rank]`."""

    def __init__(self, weight: Tensor, ranks: Communicator) -> None:
        super().__init__()
        self.ranks = ranks
        self.start, self.stop = chunk_bounds(len(weight), ranks.size)[ranks.rank]
        self.weight = nn.Parameter(weight[self.start : self.stop].detach().clone())

    def forward(self, ids: Tensor) -> Tensor:
        """ids: (…) int64 -> (…, hidden_size), whole, the same on every rank."""
        raise NotImplementedError("task 4.5: VocabParallelEmbedding.forward")


class _VocabParallelCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        context: Any, logits: Tensor, targets: Tensor, ranks: Communicator, start: int
    ) -> Tensor:
        raise NotImplementedError("task 4.5: _VocabParallelCrossEntropy.forward")

    @staticmethod
    def backward(context: Any, upstream: Tensor) -> tuple[Tensor, None, None, None]:
        raise NotImplementedError("task 4.5: _VocabParallelCrossEntropy.backward")


def _largest_over_ranks(values: Tensor, ranks: Communicator) -> Tensor:
    """Given: the largest of every rank's values, element by element."""
    counts = len(values)
    gathered = ring_all_gather_rows(values, ranks)
    return gathered.view(ranks.size, counts).amax(0)


def ring_all_gather_rows(values: Tensor, ranks: Communicator) -> Tensor:
    """Given: every rank's (n,) values one after another, (size · n,)."""
    return ring_all_gather(ranks, values.contiguous(), len(values) * ranks.size)


def vocab_parallel_cross_entropy(
    logits: Tensor, targets: Tensor, ranks: Communicator, vocab_size: int
) -> Tensor:
    """The mean cross-entropy over rows of logits that are divided by columns among the ranks.

    logits: (rows, stop − start) float32, this rank's columns of `chunk_bounds(vocab_size, size)`;
    targets: (rows,) int64 of the whole vocabulary, the same on every rank. Per row, three numbers
    cross: the largest logit, the sum of exponentials, and the target's logit; never the logits.
    Returns the same scalar on every rank; the gradient is this rank's columns'.
    """
    raise NotImplementedError("task 4.5: vocab_parallel_cross_entropy")


class ParallelAttention(Attention):
    """This rank's heads of an attention, `chunk_bounds(num_heads, size)[rank]` of them."""

    def __init__(self, whole: Attention, ranks: Communicator) -> None:
        first, last = chunk_bounds(whole.config.num_heads, ranks.size)[ranks.rank]
        super().__init__(whole.config, last - first)
        self.ranks = ranks
        raise NotImplementedError("task 4.5: ParallelAttention.__init__")

    def forward(self, x: Tensor) -> Tensor:
        """x: (batch, time, hidden_size), whole -> the same shape, whole."""
        raise NotImplementedError("task 4.5: ParallelAttention.forward")


class ParallelSwiGLU(SwiGLU):
    """This rank's inner columns of an MLP, `chunk_bounds(intermediate_size, size)[rank]` of them."""

    def __init__(self, whole: SwiGLU, ranks: Communicator) -> None:
        inner, hidden = whole.gate.weight.shape
        bounds = chunk_bounds(inner, ranks.size)[ranks.rank]
        super().__init__(hidden, bounds[1] - bounds[0])
        self.ranks = ranks
        raise NotImplementedError("task 4.5: ParallelSwiGLU.__init__")

    def forward(self, x: Tensor) -> Tensor:
        """x: (…, hidden_size), whole -> the same shape, whole."""
        raise NotImplementedError("task 4.5: ParallelSwiGLU.forward")


def parallelize(model: Llama, ranks: Communicator) -> Llama:
    """Replace, in place, what can be divided by this rank's part of it; norms stay whole.

    Attention is divided by heads, as `chunk_bounds(num_heads, size)`: query, key and value by
    columns, output by rows. The MLP by its inner width: gate and up by columns, down by rows. The
    embedding and the head by the vocabulary; the head's output is this rank's columns of the logits.
    Two all-reduces forward and two backward a block. Tied embeddings stay tied: one parameter.
    Raises ValueError where there are fewer heads than ranks. Returns the model.
    """
    raise NotImplementedError("task 4.5: parallelize")
