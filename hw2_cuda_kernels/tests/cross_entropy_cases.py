"""What the tests of task 2.9 share: the formula in float64, and how near to it float32 comes."""

from __future__ import annotations

from typing import Any

import numpy as np

from autograder.testing import Hint, assert_close, cuda

HINT = Hint(
    values="the gradient is scale * (softmax - 1 at the target), the loss has no scale; did a "
    "thread overwrite a logit that another still had to read?",
    not_finite="take the max away before exp, and rescale the sum where the max grows",
)


def expected(
    logits: np.ndarray, targets: np.ndarray, scale: float, ignore_index: int = -100
) -> tuple[np.ndarray, np.ndarray]:
    """(losses, gradient) in float64; a target that is no class gives nan."""
    x = logits.astype(np.float64)
    with np.errstate(all="ignore"):
        top = x.max(axis=-1, keepdims=True)
        exps = np.exp(x - top)
        total = exps.sum(axis=-1, keepdims=True)
        gradient = exps / total
        log_total = (np.log(total) + top)[..., 0]
    losses = np.empty(targets.shape)
    for place, target in np.ndenumerate(targets):
        if target == ignore_index:
            losses[place], gradient[place] = 0.0, 0.0
        elif not 0 <= target < x.shape[-1]:
            losses[place], gradient[place] = np.nan, np.nan
        else:
            losses[place] = log_total[place] - x[(*place, target)]
            gradient[(*place, target)] -= 1.0
    return losses, gradient * scale


def check(
    student: Any, driver: Any, name: str, logits: np.ndarray, targets: np.ndarray,
    scale: float = 1.0, ignore_index: int = -100, hint: Hint = HINT,
) -> dict[str, Any]:  # fmt: skip
    """Runs the driver and compares with the formula; its result.

    Tolerance: x - max is rounded by 2**-24 of itself, so for |x - max| <= 40 an exp is off by
    40 * 2**-24 + 2 ulp < 3e-6 of its value; sums of a few hundred terms in any order add 1e-5 at
    most. In the gradient of the target, softmax - 1 loses what the softmax has lost, hence
    atol = 2e-5 * |scale|; all others are held to rtol = 2e-5. The loss is a sum of numbers whose
    size is that of max - x[target].
    """
    got = student.run(
        driver, logits=logits, targets=targets, scale=scale, ignore_index=ignore_index
    )
    cuda.check(got["report"])  # first: a race is the better explanation of a wrong number
    losses, gradient = expected(logits, targets, scale, ignore_index)
    assert_close(
        got["losses"], losses, rtol=2e-6, atol=2e-5, name=f"losses, {name}", hint=hint
    )  # fmt: skip
    kept = np.isin(targets, np.arange(logits.shape[-1])) & (targets != ignore_index)
    at_target = np.zeros(logits.shape, bool)
    for place in zip(*np.nonzero(kept), strict=True):
        at_target[(*place, targets[place])] = True
    shown = np.where(at_target, gradient, got["gradient"]).astype(np.float32)
    assert_close(
        shown, gradient, rtol=2e-5, atol=1e-12 * abs(scale), hint=hint,
        name=f"gradient beside the targets, {name}",
    )  # fmt: skip
    assert_close(
        got["gradient"], gradient, rtol=2e-5, atol=2e-5 * abs(scale), hint=hint,
        name=f"gradient, {name}",
    )  # fmt: skip
    return got
