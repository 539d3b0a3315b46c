"""What the tests of task 2.6 share: random layers, torch's answers in float64, how close."""

from __future__ import annotations

from typing import Any

import hw2_cuda_kernels_drivers as drivers
import numpy as np
import torch

from autograder.testing import Hint, assert_close, cuda

UNIT = 2.0**-24  # the most by which one float32 operation rounds, relatively
# Roundings that a sum over a row may go through: 8 additions of a thread, 5 of a warp, 5 across
# warps, a division. Twice as many are allowed, for other orders.
STEPS = 40
WARP = 32

PER_THREAD = 8  # elements of a row, in registers
NAN_HINT = "a nan where a number is expected: an element beyond cols, or a sum that nobody wrote"
FORWARD_HINT = Hint(
    values="divide by cols, not cols - 1; eps is added under the root; all threads need the sum",
    not_finite=NAN_HINT,
)
PADDED_HINT = Hint(
    values="the squares beyond the row were summed too: a register without an element holds 0, and "
    "0 - mean is not 0. That is so in every row of fewer than 8 elements for each thread",
    not_finite=NAN_HINT,
)
BACKWARD_HINT = Hint(
    values="the means in grad_x go over the row, the sums for gamma and beta over all rows",
    not_finite=NAN_HINT,
)


def rows_close(
    actual: Any, expected: np.ndarray, rtol: float, atol: np.ndarray, name: str, hint: Hint
) -> None:
    """assert_close with a tolerance for each row: a flat row magnifies what others do not."""
    if not isinstance(actual, np.ndarray) or actual.shape != expected.shape or expected.ndim < 2:
        most = float(np.max(atol, initial=0.0))
        assert_close(actual, expected, rtol=rtol, atol=most, name=name, hint=hint)
        return
    for row in np.ndindex(expected.shape[:-1]):
        where = f"{name}, row {', '.join(map(str, row))}"
        assert_close(
            actual[row], expected[row], rtol=rtol, atol=float(atol[row]), name=where, hint=hint
        )


class Layer:
    """Random inputs of a norm, and what torch makes of them in float64."""

    def __init__(
        self, rng: np.random.Generator, *shape: int, centred: bool, eps: float = 1e-5,
        offset: float = 0.5, deviation: float = 2.0,
    ) -> None:  # fmt: skip
        self.centred, self.eps = centred, eps
        self.x = (offset + deviation * rng.standard_normal(shape)).astype(np.float32)
        self.gamma = rng.uniform(0.5, 1.5, shape[-1:]).astype(np.float32)
        self.gamma[::3] *= -1
        self.beta = rng.standard_normal(shape[-1:]).astype(np.float32)
        self.upstream = rng.standard_normal(shape).astype(np.float32)

    def statistics(self) -> tuple[np.ndarray, np.ndarray]:
        """mean (0 for RMSNorm) and rstd of the rows, in float64."""
        if self.x.shape[-1] == 0:
            return np.zeros(self.x.shape[:-1]), np.zeros(self.x.shape[:-1])
        x = self.x.astype(np.float64)
        mean = x.mean(axis=-1) if self.centred else np.zeros(x.shape[:-1])
        square = np.square(x - mean[..., None]).mean(axis=-1)
        # eps as the kernel gets it, a float. Of a row alone, arrays of no dimensions, not numbers.
        return np.asarray(mean), np.asarray(1 / np.sqrt(square + float(np.float32(self.eps))))

    def torch_leaves(self) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """out, and the leaves x, gamma (and beta), in float64."""
        arrays = [self.x, self.gamma, self.beta] if self.centred else [self.x, self.gamma]
        leaves = [torch.from_numpy(a.astype(np.float64)).requires_grad_() for a in arrays]
        norm = torch.nn.functional.layer_norm if self.centred else torch.nn.functional.rms_norm
        eps = float(np.float32(self.eps))
        return norm(leaves[0], self.x.shape[-1:], *leaves[1:], eps=eps), leaves

    def run_forward(self, student: Any) -> dict[str, Any]:
        """The student's answer."""
        arguments = {"x": self.x, "gamma": self.gamma, "eps": self.eps}
        if self.centred:
            return student.run(drivers.layernorm_forward, beta=self.beta, **arguments)
        return student.run(drivers.rmsnorm_forward, **arguments)

    def check_forward(self, got: dict[str, Any], name: str) -> None:
        """Assert that the kernels ran clean, and that out and what is saved are right.

        A row's mean is off by at most STEPS * UNIT * the mean of |x|, and with it, times rstd and
        gamma, all of the row; the rest is a few roundings of numbers near 5.
        """
        cuda.check(got["report"])
        mean, rstd = self.statistics()
        off = STEPS * UNIT * np.abs(self.x).mean(axis=-1, dtype=np.float64)
        out = self.torch_leaves()[0].detach().numpy()
        hint = PADDED_HINT if self._squares_beyond(got["rstd"], mean, rstd) else FORWARD_HINT
        rows_close(got["out"], out, 1e-5, 2e-6 + 1.5 * off * rstd, f"{name}: out", hint)
        assert_close(got["rstd"], rstd, rtol=1e-5, name=f"{name}: rstd", hint=hint)
        if self.centred:
            atol = off.max(initial=1e-7)
            assert_close(got["mean"], mean, rtol=0, atol=atol, name=f"{name}: mean")

    def _squares_beyond(self, got: Any, mean: np.ndarray, rstd: np.ndarray) -> bool:
        """Is it the rstd that comes out where the registers beyond the row count with 0 - mean?"""
        cols = self.x.shape[-1]
        if not self.centred or not cols or np.shape(got) != rstd.shape:
            return False
        beyond = -(-cols // (WARP * PER_THREAD)) * WARP * PER_THREAD - cols
        counted = 1 / np.sqrt(1 / np.square(rstd) + beyond * np.square(mean) / cols)
        told_apart = not np.allclose(counted, rstd, rtol=1e-4, atol=0)
        return told_apart and np.allclose(np.asarray(got, float), counted, rtol=1e-4, atol=0)

    def run_backward(self, student: Any) -> dict[str, Any]:
        """The student's answer, from the true mean and rstd in float32."""
        mean, rstd = (s.astype(np.float32) for s in self.statistics())
        arguments = {"upstream": self.upstream, "x": self.x, "gamma": self.gamma, "rstd": rstd}
        if self.centred:
            return student.run(drivers.layernorm_backward, mean=mean, **arguments)
        return student.run(drivers.rmsnorm_backward, **arguments)

    def check_backward(self, got: dict[str, Any], name: str) -> None:
        """Assert that the kernels ran clean, and that the gradients are torch's.

        grad_x adds three terms of the size of upstream * gamma * rstd, at most about 8 * rstd, each
        off by a few UNITs and by the rounding of mean. A sum over the rows may round once a row, at
        most by UNIT times the sum of the absolute values.
        """
        cuda.check(got["report"])
        out, leaves = self.torch_leaves()
        out.backward(torch.from_numpy(self.upstream.astype(np.float64)))
        expected = [leaf.grad.numpy() for leaf in leaves]
        mean, rstd = self.statistics()
        offset = np.abs(mean) * rstd
        atol = 8 * rstd * UNIT * (20 + 8 * offset)
        rows_close(got["grad_x"], expected[0], 1e-5, atol, f"{name}: grad_x", BACKWARD_HINT)
        rows = max(1, self.upstream.size // max(1, self.x.shape[-1]))
        total = 4 * np.abs(self.upstream).sum(axis=tuple(range(self.x.ndim - 1)), dtype=np.float64)
        atol = UNIT * (rows + 20 + offset.max()) * total.max()
        for key, values in zip(("grad_gamma", "grad_beta"), expected[1:], strict=False):
            assert_close(
                got[key], values, rtol=0, atol=atol, name=f"{name}: {key}", hint=BACKWARD_HINT
            )
