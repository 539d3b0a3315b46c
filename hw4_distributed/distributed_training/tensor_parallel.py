"""Task 4.5: tensor parallelism: each block's matrices divided among the ranks.

Follows Shoeybi et al., 2019, "Megatron-LM". f and g below are its conjugate operators.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from distributed_training.collectives import all_to_all, ring_all_gather, ring_all_reduce
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


def shard(rows: Tensor, frozen: bool) -> nn.Parameter:
    """Given: a parameter with memory of its own; what was frozen stays frozen."""
    return nn.Parameter(rows.detach().clone(), requires_grad=not frozen)


def check_ids(ids: Tensor, vocab_size: int) -> None:
    """Given: refuse what no rank has. Raises IndexError, as torch does."""
    if ids.numel() and (int(ids.min()) < 0 or int(ids.max()) >= vocab_size):
        raise IndexError(
            f"ids from {int(ids.min())} to {int(ids.max())} with a vocabulary of {vocab_size}"
        )


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
        self.weight = shard(weight[bounds[0] : bounds[1]], not weight.requires_grad)

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
        self.weight = shard(weight[:, bounds[0] : bounds[1]], not weight.requires_grad)

    def forward(self, x: Tensor) -> Tensor:
        """x: (…, stop − start) -> (…, out_features)."""
        raise NotImplementedError("task 4.5: RowParallelLinear.forward")


class VocabParallelEmbedding(nn.Module):
    """An embedding of which this rank has rows start:stop: `chunk_bounds(vocab_size, size)[rank]`."""

    def __init__(self, weight: Tensor, ranks: Communicator) -> None:
        super().__init__()
        self.ranks, self.vocab_size = ranks, len(weight)
        self.start, self.stop = chunk_bounds(len(weight), ranks.size)[ranks.rank]
        self.weight = shard(weight[self.start : self.stop], not weight.requires_grad)

    def forward(self, ids: Tensor) -> Tensor:
        """ids: (…) int64 -> (…, hidden_size), whole, the same on every rank.

        A rank may have no rows; its part of the sum, zeros, is of the graph all the same. Raises
        IndexError for an id that no rank has, before anything is sent.
        """
        raise NotImplementedError("task 4.5: VocabParallelEmbedding.forward")


class _VocabParallelCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        context: Any, logits: Tensor, targets: Tensor, ranks: Communicator, start: int
    ) -> Tensor:
        """The mean loss, the same scalar on every rank.

        logits: (rows, width), this rank's columns, of which the first is column `start` of the whole
        vocabulary (width may be 0); targets: (rows,) of the whole vocabulary, so that this rank has
        those in start:start + width. Save for backward what this rank's part of
        (softmax − one-hot) / rows needs: the softmax of its columns, divided by the sum over all
        ranks, and where its targets are.
        """
        raise NotImplementedError("task 4.5: _VocabParallelCrossEntropy.forward")

    @staticmethod
    def backward(context: Any, upstream: Tensor) -> tuple[Tensor, None, None, None]:
        """upstream: the scalar loss's own gradient. Returns the gradient of this rank's logits,
        (rows, width), and None for targets, ranks and start; nothing is sent."""
        raise NotImplementedError("task 4.5: _VocabParallelCrossEntropy.backward")


def _largest_over_ranks(values: Tensor, ranks: Communicator) -> Tensor:
    """Given: the largest of every rank's (n,) values, element by element: an all-reduce of maxima.

    Each rank gets its chunk from all, and hands the maxima on: 2·(size − 1)/size numbers a value.
    """
    bounds = chunk_bounds(len(values), ranks.size)
    start, stop = bounds[ranks.rank]
    parts = [values[first:last] for first, last in bounds]
    largest = torch.stack(all_to_all(ranks, parts, [stop - start] * ranks.size)).amax(0)
    return ring_all_gather(ranks, largest, len(values))


def vocab_parallel_cross_entropy(
    logits: Tensor, targets: Tensor, ranks: Communicator, vocab_size: int
) -> Tensor:
    """The mean cross-entropy over rows of logits that are divided by columns among the ranks.

    logits: (rows, stop − start) float32 or float64, this rank's columns of
    `chunk_bounds(vocab_size, size)`; a rank may have none. targets: (rows,) int64 of the whole
    vocabulary, the same on every rank. Per row, three numbers cross: the largest logit (by
    `_largest_over_ranks`), then, in one all-reduce of (2, rows), the sum of exponentials and the
    target's logit; never the logits. Nothing crosses in the backward pass. Returns the same scalar
    on every rank; the gradient is this rank's columns'. Finite for logits of any finite size.
    Raises IndexError for a target that no rank has, before anything is sent.
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
    embedding and the head by the vocabulary; the head's output is this rank's columns of the logits,
    for `vocab_parallel_cross_entropy`. Of a weight, only this rank's part is read.
    Two all-reduces forward and two backward a block. Tied embeddings stay tied: one parameter.
    Raises ValueError where there are fewer heads than ranks. Returns the model.
    """
    raise NotImplementedError("task 4.5: parallelize")
