"""Task 3.8: which examples of a pool to fine-tune on.

Two questions and their answers: which examples push the model where the validation set wants it
(gradient similarity, LESS: Xia et al., 2024), and which examples between them cover the pool
(k-centre: Gonzalez, 1985; for active learning: Sener and Savarese, 2018).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from language_model.modes import in_eval_mode


def example_gradient(model: nn.Module, ids: Tensor, targets: Tensor) -> Tensor:
    """Gradient of one example's mean loss by every trainable weight, flat, in the model's order.

    ids, targets: (time,) int64; targets of −100 do not count. Computed without dropout; `.grad` of
    the weights and the model's mode stay as they are. Returns (trainable weights,) float32.
    Raises ValueError where no weight is trainable or no target counts.
    """
    raise NotImplementedError("task 3.8: example_gradient")


def random_projection(vectors: Tensor, dimensions: int, seed: int, columns: int = 4096) -> Tensor:
    """vectors · R for a random (width, dimensions) matrix R of entries ±1/sqrt(dimensions).

    Inner products are kept in expectation, with a relative error of about 1/sqrt(dimensions)
    (Johnson and Lindenstrauss, 1984). R follows from `seed` alone and is the same for every batch;
    it is drawn `columns` rows at a time, so that it never lies in memory whole. vectors: (count,
    width) float32. Returns (count, dimensions) float32.
    """
    raise NotImplementedError("task 3.8: random_projection")


def gradient_features(
    model: nn.Module,
    ids: Sequence[Tensor],
    targets: Sequence[Tensor],
    dimensions: int = 256,
    seed: int = 0,
    batch: int = 32,
) -> Tensor:
    """One row an example: its gradient, projected, scaled to length 1.

    ids, targets: a tensor (examples, time), or one tensor (time,) an example, whose lengths may
    differ. The length is dropped because it is large for short and for hopeless examples. A gradient
    of zeros stays zeros. At most `batch` whole gradients lie in memory at a time. Returns (examples,
    dimensions) float32 without a graph; the same row for the same example in any company, to
    rounding. So project a batch at once: the signs of R are drawn once for all of its rows.
    """
    raise NotImplementedError("task 3.8: gradient_features")


def select_by_similarity(features: Tensor, validation_features: Tensor, k: int) -> Tensor:
    """The k examples whose mean cosine similarity to the validation examples is largest.

    features: (examples, dimensions); validation_features: (validation, dimensions), any lengths; a
    row of zeros is similar to nothing (0). Returns (k,) int64, the best first, ties in the pool's
    order. Raises ValueError where there are fewer than k examples, or no validation examples.
    """
    raise NotImplementedError("task 3.8: select_by_similarity")


def k_center(embeddings: Tensor, k: int, first: int = 0) -> Tensor:
    """k examples such that no example is far from the nearest one chosen: greedy, farthest first.

    Starts with `first`; then, k − 1 times, takes the example with the largest Euclidean distance to
    all chosen ones, ties in the pool's order. The largest distance that is left is at most twice
    the best possible (Gonzalez, 1985). Stops early where nothing is left but copies of chosen
    examples, so that two equal rows are never both chosen. embeddings: (examples, dimensions).
    Returns (≤ k,) int64 in the order chosen. O(examples · k) time; beside the embeddings O(examples
    · dimensions) memory, no matrix of distances.
    """
    raise NotImplementedError("task 3.8: k_center")


def drop_duplicates(features: Tensor, threshold: float = 0.999) -> Tensor:
    """Indices of the rows that are no near copies of an earlier row that is kept, in order.

    A copy has a cosine similarity above `threshold`. Rows of zeros are copies of each other.
    features: (examples, dimensions). Returns (kept,) int64; O(examples · kept) time, memory for one
    row of similarities.
    """
    raise NotImplementedError("task 3.8: drop_duplicates")


def select_examples(
    features: Tensor, validation_features: Tensor, k: int, threshold: float = 0.999
) -> Tensor:
    """The k most similar examples after duplicates are dropped: the rule to fine-tune by.

    Arguments as in `select_by_similarity` and `drop_duplicates`. Returns (≤ k,) int64, indices into
    `features`, the best first; fewer than k where fewer are left without copies.
    """
    raise NotImplementedError("task 3.8: select_examples")
