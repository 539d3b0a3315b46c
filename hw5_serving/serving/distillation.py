"""Task 5.8: a small model learns from a large one's whole distribution (Hinton et al., 2015)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def distillation_loss(
    student_logits: Tensor, teacher_logits: Tensor, targets: Tensor, temperature: float = 2.0,
    alpha: float = 0.5, ignore_index: int = -100,
) -> Tensor:  # fmt: skip
    """alpha · temperature² · KL(teacher ‖ student) + (1 − alpha) · cross-entropy, a scalar.

    logits: (…, vocab); targets: (…) int64. KL is between softmax(logits / temperature) of the two;
    the factor temperature² keeps its gradient as large as that of the cross-entropy. Both are
    means over the positions whose target is not `ignore_index`; where there is none, the loss is 0
    (with a gradient of zeros). What the teacher holds impossible (logit −inf) adds nothing, where
    the student's logit is finite or −inf alike. No gradient goes to the teacher. Computed in
    float32 where the logits are smaller. Raises ValueError where temperature is not positive.
    """
    if temperature <= 0:
        raise ValueError(f"temperature {temperature} is not positive")
    raise NotImplementedError("task 5.8: distillation_loss")
