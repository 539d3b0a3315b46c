"""Task 1.11: optimizers, gradient clipping, and a learning-rate schedule.

    optimizer = AdamW(model.parameters(), learning_rate=1e-3)
    schedule = CosineSchedule(optimizer, peak=1e-3, warmup_steps=100, total_steps=2000)
    for …:
        optimizer.zero_grad(); loss.backward()
        clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step(); schedule.step()
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numba
import numpy as np

from autodiff.tensor import Tensor


class Optimizer:
    """What optimizers share: the parameters, the learning rate, the state of each parameter.

    parameters: a parameter listed twice (tied weights) is kept, and stepped, once.
    learning_rate: may be changed between steps (a schedule does).
    state: one dict of arrays per parameter, in the same order; empty until its first step.
    """

    def __init__(self, parameters: Iterable[Tensor], learning_rate: float) -> None:
        self.parameters = _distinct(parameters)
        if not self.parameters:
            raise ValueError("an optimizer needs at least one parameter")
        self.learning_rate = float(learning_rate)
        self.state: list[dict[str, np.ndarray]] = [{} for _ in self.parameters]

    def zero_grad(self) -> None:
        """Forget the parameters' gradients (`grad` becomes None)."""
        for parameter in self.parameters:
            parameter.grad = None

    def step(self) -> None:
        """Update every parameter that has a gradient; each optimizer defines it."""
        raise TypeError(f"{type(self).__name__} does not define step")

    def state_dict(self) -> dict[str, np.ndarray]:
        """Copies of all that a later step depends on, as arrays: enough to go on bit-exactly.

        Keys: "learning_rate" (0-d float64) and "PLACE.NAME" for `self.state[PLACE][NAME]`, for
        example "0.first_moment".
        """
        # BEGIN SOLUTION 1.11
        result = {"learning_rate": np.array(self.learning_rate, np.float64)}
        for place, own in enumerate(self.state):
            for name, array in own.items():
                result[f"{place}.{name}"] = array.copy()
        return result
        # END SOLUTION

    def load_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
        """Return to a state that `state_dict` gave; it replaces whatever state there is.

        The arrays are copied. Raises KeyError for a key of a parameter that is not there.
        """
        # BEGIN SOLUTION 1.11
        loaded: list[dict[str, np.ndarray]] = [{} for _ in self.parameters]
        for key, array in state.items():
            place, _, name = key.partition(".")
            if not name:
                continue
            if int(place) >= len(loaded):
                raise KeyError(f"{key}: there are only {len(loaded)} parameters")
            loaded[int(place)][name] = np.array(array)
        self.learning_rate = float(state["learning_rate"])
        self.state = loaded
        # END SOLUTION


class SGD(Optimizer):
    """Gradient descent with momentum, weight decay added to the gradient, and Nesterov's form.

    With g the gradient plus weight_decay · parameter:
        velocity = g at a parameter's first step, momentum · velocity + g afterwards
        parameter −= learning_rate · velocity                      (momentum > 0)
        parameter −= learning_rate · (g + momentum · velocity)     (nesterov)
        parameter −= learning_rate · g                             (momentum = 0)
    The rate multiplies at the end, so changing it does not change the velocity.
    Source: Sutskever et al., On the importance of initialization and momentum, ICML 2013, in
    torch's form.
    """

    def __init__(
        self,
        parameters: Iterable[Tensor],
        learning_rate: float,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
    ) -> None:
        super().__init__(parameters, learning_rate)
        if nesterov and momentum <= 0:
            raise ValueError("Nesterov's form needs momentum > 0")
        self.momentum, self.weight_decay, self.nesterov = momentum, weight_decay, nesterov

    def step(self) -> None:
        """One step for each parameter whose `grad` is not None, in place in its `data`.

        A parameter without gradient is left alone entirely (no decay, no velocity). The gradient
        itself is not changed. A RowSparseGradient (`rows`, each once, `values`, `shape`; see
        embedding.py) means the dense gradient it stands for; without momentum and decay only its
        rows are touched. State name: "velocity".
        """
        # BEGIN SOLUTION 1.11
        for parameter, state in zip(self.parameters, self.state, strict=True):
            gradient = parameter.grad
            if gradient is None:
                continue
            if not (isinstance(gradient, np.ndarray) or self.momentum or self.weight_decay):
                parameter.data[gradient.rows] -= self.learning_rate * gradient.values
                continue
            change = _dense(gradient)
            if self.weight_decay:
                change = change + self.weight_decay * parameter.data
            if self.momentum:
                change = self._with_momentum(change, state)
            parameter.data -= self.learning_rate * change
        # END SOLUTION

    def _with_momentum(self, gradient: np.ndarray, state: dict[str, np.ndarray]) -> np.ndarray:
        """Update the velocity and return what to move along. A helper you may use, or leave."""
        # BEGIN SOLUTION 1.11
        if "velocity" in state:
            state["velocity"] *= self.momentum
            state["velocity"] += gradient
        else:
            state["velocity"] = gradient.copy()
        velocity = state["velocity"]
        return gradient + self.momentum * velocity if self.nesterov else velocity
        # END SOLUTION


class AdamW(Optimizer):
    """Adam with decoupled weight decay.

    At a parameter's t-th step (t = 1, 2, …, counted for each parameter on its own), g its gradient:
        parameter     *= 1 − learning_rate · weight_decay
        first_moment   = β₁ · first_moment + (1 − β₁) · g            (both start at 0)
        second_moment  = β₂ · second_moment + (1 − β₂) · g²
        parameter     −= learning_rate · m̂ / (√v̂ + eps)
    with m̂ = first_moment / (1 − β₁ᵗ) and v̂ = second_moment / (1 − β₂ᵗ). The decay never enters
    the moments: that is what "decoupled" means.
    Source: Loshchilov & Hutter, Decoupled Weight Decay Regularization, ICLR 2019.
    """

    def __init__(
        self,
        parameters: Iterable[Tensor],
        learning_rate: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
    ) -> None:
        super().__init__(parameters, learning_rate)
        self.betas, self.eps, self.weight_decay = betas, eps, weight_decay

    def step(self) -> None:
        """One step for each parameter whose `grad` is not None, in place in its `data`.

        A parameter without gradient is left alone entirely, and its t does not advance. The
        gradient itself is not changed. A RowSparseGradient means the dense gradient it stands for.
        A parameter's array may be of any strides, of no axes, or empty.
        State names: "step" (0-d int64), "first_moment", "second_moment" (of the parameter's shape
        and dtype).

        Fast: written as above, one array at a time, every operator makes a temporary as large as
        the parameter, and each goes out to memory and back. Go through the arrays in blocks that
        stay in the cache, with all operations on one block before the next (numpy's `out=` into a
        small scratch array), or in one fused numba loop.
        """
        # BEGIN SOLUTION 1.11
        for parameter, state in zip(self.parameters, self.state, strict=True):
            if parameter.grad is None:
                continue
            if not state:
                state["step"] = np.zeros((), np.int64)
                state["first_moment"] = np.zeros(parameter.shape, parameter.dtype)
                state["second_moment"] = np.zeros(parameter.shape, parameter.dtype)
            state["step"] += 1
            gradient = _dense(parameter.grad)
            # A flat view where the strides allow it; else a copy that is written back.
            flat = parameter.data.reshape(-1)
            _adamw(
                flat,
                np.ascontiguousarray(gradient, parameter.dtype).reshape(-1),
                state["first_moment"].reshape(-1),
                state["second_moment"].reshape(-1),
                self._coefficients(int(state["step"]), parameter.dtype),
            )
            if not np.may_share_memory(flat, parameter.data):
                parameter.data[...] = flat.reshape(parameter.shape)
        # END SOLUTION

    def _coefficients(self, step: int, dtype: np.dtype) -> np.ndarray:
        """The scalars of the formulas at t = step, computed in float64 and rounded once to `dtype`:

        β₁, 1 − β₁, β₂, 1 − β₂, learning_rate / (1 − β₁ᵗ), 1 / √(1 − β₂ᵗ), eps, and
        1 − learning_rate · weight_decay. A helper you may use in `step`, or leave.
        """
        # BEGIN SOLUTION 1.11
        beta1, beta2 = self.betas
        return np.array(
            [
                beta1,
                1.0 - beta1,
                beta2,
                1.0 - beta2,
                self.learning_rate / (1.0 - beta1**step),
                1.0 / math.sqrt(1.0 - beta2**step),
                self.eps,
                1.0 - self.learning_rate * self.weight_decay,
            ],
            dtype,
        )
        # END SOLUTION


@numba.njit(cache=True, error_model="numpy")
def _adamw(
    x: np.ndarray, g: np.ndarray, first: np.ndarray, second: np.ndarray, coefficients: np.ndarray
) -> None:
    """One AdamW step in place on flat, contiguous arrays of one dtype; `coefficients` as above.

    A helper you may use in `AdamW.step`, or leave.
    """
    # BEGIN SOLUTION 1.11
    beta1, one_less_beta1, beta2, one_less_beta2, rate, root, eps, decay = coefficients
    for i in range(x.size):
        m = beta1 * first[i] + one_less_beta1 * g[i]
        v = beta2 * second[i] + one_less_beta2 * g[i] * g[i]
        first[i] = m
        second[i] = v
        x[i] = decay * x[i] - rate * m / (np.sqrt(v) * root + eps)
    # END SOLUTION


def clip_grad_norm_(parameters: Iterable[Tensor], max_norm: float) -> float:
    """Scale all gradients together so that their joint Euclidean norm is at most `max_norm`.

    Returns the norm before clipping: the root of the sum of squares over every element of every
    gradient, summed in float64. All gradients are multiplied by one factor,
    min(1, max_norm / (norm + 1e-6)), never enlarged. Parameters without gradient are skipped, one
    listed twice counts once, and a RowSparseGradient (its `values`) stays row-sparse.
    The gradients are scaled in place; one array may not be the `grad` of two parameters.
    Where the norm is not finite nothing is changed: the caller sees it, and can skip the step.
    Source: Pascanu et al., On the difficulty of training recurrent neural networks, ICML 2013.
    """
    # BEGIN SOLUTION 1.11
    gradients = [p.grad for p in _distinct(parameters) if p.grad is not None]
    arrays = [g if isinstance(g, np.ndarray) else g.values for g in gradients]
    total = math.sqrt(sum(float(np.square(a, dtype=np.float64).sum()) for a in arrays))
    factor = max_norm / (total + 1e-6)
    if math.isfinite(total) and factor < 1.0:
        for array in arrays:
            array *= factor
    return total
    # END SOLUTION


def _dense(gradient: Any) -> np.ndarray:
    """An array as it is, a RowSparseGradient as the array it stands for. Use it or leave it."""
    # BEGIN SOLUTION 1.11
    if isinstance(gradient, np.ndarray):
        return gradient
    dense = np.zeros(gradient.shape, gradient.values.dtype)
    dense[gradient.rows] = gradient.values
    return dense
    # END SOLUTION


def _distinct(parameters: Iterable[Tensor]) -> list[Tensor]:
    """The parameters in order, each object once."""
    return list({id(parameter): parameter for parameter in parameters}.values())


class CosineSchedule:
    """Linear warm-up to `peak`, then half a cosine down to `floor`; sets optimizer.learning_rate.

    At step s (0 is the first optimizer step), with w warmup_steps and n total_steps:
        s < w        peak · (s + 1) / w          (never 0: the first step already moves)
        w ≤ s < n    floor + (peak − floor) · (1 + cos(π (s − w) / (n − w))) / 2
        s ≥ n        floor
    Constructing it sets the rate of step 0; call `step()` after every optimizer step.
    Source: Loshchilov & Hutter, SGDR, ICLR 2017.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        peak: float,
        warmup_steps: int,
        total_steps: int,
        floor: float = 0.0,
    ) -> None:
        self.optimizer = optimizer
        self.peak, self.floor = peak, floor
        self.warmup_steps, self.total_steps = warmup_steps, total_steps
        self.current_step = 0
        optimizer.learning_rate = self.rate(0)

    def rate(self, step: int) -> float:
        """The learning rate of optimizer step `step`."""
        # BEGIN SOLUTION 1.11
        if step < self.warmup_steps:
            return self.peak * (step + 1) / self.warmup_steps
        if step >= self.total_steps:
            return self.floor
        progress = (step - self.warmup_steps) / (self.total_steps - self.warmup_steps)
        return self.floor + (self.peak - self.floor) * (1.0 + math.cos(math.pi * progress)) / 2.0
        # END SOLUTION

    def step(self) -> None:
        """Go on to the next step, and set the optimizer's learning rate for it."""
        # BEGIN SOLUTION 1.11
        self.current_step += 1
        self.optimizer.learning_rate = self.rate(self.current_step)
        # END SOLUTION

    def state_dict(self) -> dict[str, np.ndarray]:
        """{"step": the current step, 0-d int64}."""
        return {"step": np.array(self.current_step, np.int64)}

    def load_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
        """Go to the step in `state`, and set the optimizer's learning rate for it."""
        # BEGIN SOLUTION 1.11
        self.current_step = int(state["step"])
        self.optimizer.learning_rate = self.rate(self.current_step)
        # END SOLUTION
