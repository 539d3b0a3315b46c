"""Task 1.10: modules, the layers a network is made of, and their state.

    model = Sequential(Linear(64, 32, rng=rng), GELU(), Dropout(0.1, rng), Linear(32, 10, rng=rng))
    logits = model(Tensor(images))
    state = model.state_dict()                  # {"layers.0.weight": array, …}
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from autodiff import embedding
from autodiff.tensor import Tensor


class Parameter(Tensor):
    """A tensor that a module learns. `requires_grad=False` freezes it: it stays in the module's
    parameters and state, gets no gradient, and optimizers leave it alone."""

    def __init__(self, data: Any, requires_grad: bool = True) -> None:
        super().__init__(data, requires_grad)


class Module:
    """Base of every layer and model: knows its parameters by name, and whether it is training.

    A module's members are its attributes, in the order they were assigned, that are a Parameter,
    a Module, or a list or tuple of such (lists may be nested). Any other attribute, a plain Tensor
    for instance, is not a member. A subclass defines `forward`; calling the module runs it.
    """

    training = True

    def __call__(self, *inputs: Any, **options: Any) -> Any:
        return self.forward(*inputs, **options)

    def forward(self, *inputs: Any, **options: Any) -> Any:
        """The layer's output; each subclass defines it."""
        raise TypeError(f"{type(self).__name__} does not define forward")

    def members(self) -> Iterator[tuple[str, Module | Parameter]]:
        """This module's own members with their names, not those of modules inside it.

        The name is the attribute's; an element of a list or tuple has its index after a dot:
        `self.layers = [a, b]` gives "layers.0" and "layers.1", a list in a list "layers.0.1".
        """
        raise NotImplementedError("task 1.10: Module.members")

    def modules(self) -> Iterator[Module]:
        """This module and every module inside it, at any depth, each once however often it is used.

        Modules may refer to each other in a circle (a child that knows its parent).
        """
        raise NotImplementedError("task 1.10: Module.modules")

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """Every parameter at any depth with its path, "layers.0.weight"; frozen ones too.

        A module's own parameters come first, then those of each module in it, in the order of
        `members` (depth first). A parameter or a module that is reached by several paths is given
        once, under the first: tied weights are one parameter. "The same" means the same object,
        not equal values.
        """
        raise NotImplementedError("task 1.10: Module.named_parameters")

    def parameters(self) -> list[Parameter]:
        """The parameters of `named_parameters`, without their names."""
        return [parameter for _, parameter in self.named_parameters()]

    def zero_grad(self) -> None:
        """Forget every parameter's gradient (`grad` becomes None)."""
        for parameter in self.parameters():
            parameter.grad = None

    def train(self, mode: bool = True) -> Module:
        """Set `training` to `mode` in this module and every module inside it; returns self."""
        raise NotImplementedError("task 1.10: Module.train")

    def eval(self) -> Module:
        """Switch to evaluation: `train(False)`."""
        return self.train(False)

    def state_dict(self) -> dict[str, np.ndarray]:
        """A copy of every parameter's array, under its name in `named_parameters`.

        Copies, not views: training on does not change a state that was taken before.
        """
        raise NotImplementedError("task 1.10: Module.state_dict")

    def load_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
        """Copy the arrays of `state` into the parameters; the exact inverse of `state_dict`.

        The values are written into the arrays that the parameters have (`parameter.data[...] =`),
        so nothing is shared with `state` afterwards, and requires_grad and grad stay as they are.

        Strict: raises KeyError that names every missing and every unexpected entry, and
        ValueError that names the entry and both shapes (or dtypes) where they differ. Everything is
        checked first: after an error, no parameter has changed.
        """
        raise NotImplementedError("task 1.10: Module.load_state_dict")


def _flatten(name: str, value: Any) -> Iterator[tuple[str, Module | Parameter]]:
    """The members in one attribute's value. A helper you may use in `members`, or leave."""
    raise NotImplementedError("task 1.10: _flatten")


def _walk(root: Module) -> Iterator[tuple[str, Module]]:
    """Every module once, depth first, with the path before its members' names ("layers.0.").

    A helper you may use in `modules` and `named_parameters`, or leave.
    """
    raise NotImplementedError("task 1.10: _walk")


class Linear(Module):
    """x @ weight + bias over the last axis.

    weight: (in_features, out_features): the transpose of torch's, so that no transpose is needed;
    bias: (out_features,), or None. Both start uniform in ±1/√in_features, drawn from `rng`.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        rng: np.random.Generator | None = None,
    ) -> None:
        rng = rng or np.random.default_rng()
        bound = 1.0 / math.sqrt(in_features)
        weight = rng.uniform(-bound, bound, (in_features, out_features))
        self.weight = Parameter(weight.astype(np.float32))
        drawn = rng.uniform(-bound, bound, out_features)
        self.bias = Parameter(drawn.astype(np.float32)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """(…, in_features) -> (…, out_features); any number of leading axes."""
        raise NotImplementedError("task 1.10: Linear.forward")


class LayerNorm(Module):
    """Each vector of the last axis brought to mean 0 and variance 1, then * weight + bias.

        y = (x − mean) / √(variance + eps) · weight + bias

    with the variance over all n elements (divisor n, not n − 1) of the centred values: the mean of
    (x − mean)², never mean(x²) − mean², which loses every digit where the mean is large.
    weight (ones) and bias (zeros) have shape (size,).
    Source: Ba, Kiros, Hinton, Layer Normalization, 2016.
    """

    def __init__(self, size: int, eps: float = 1e-5) -> None:
        self.eps = eps
        self.weight = Parameter(np.ones(size, np.float32))
        self.bias = Parameter(np.zeros(size, np.float32))

    def forward(self, x: Tensor) -> Tensor:
        """(…, size) -> (…, size)."""
        raise NotImplementedError("task 1.10: LayerNorm.forward")


class Dropout(Module):
    """While training, zeroes each element with probability p and scales the others by 1/(1 − p).

    p: in [0, 1], else ValueError; 0 changes nothing, 1 gives all zeros.
    rng: the generator that decides; every forward draws anew from it, for every element on its own.
    Source: Srivastava et al., Dropout, JMLR 2014 ("inverted" scaling, so that evaluation is free).
    """

    def __init__(self, p: float, rng: np.random.Generator | None = None) -> None:
        if not 0.0 <= p <= 1.0:
            raise ValueError(f"p is a probability, got {p}")
        self.p = p
        self.rng = rng or np.random.default_rng()

    def forward(self, x: Tensor) -> Tensor:
        """x with elements dropped while `self.training`; x itself in evaluation and for p = 0.

        Keeps x's dtype. Evaluation draws nothing from the generator.
        """
        raise NotImplementedError("task 1.10: Dropout.forward")


class Embedding(Module):
    """A table of `rows` vectors of `size`, looked up by row number (task 1.8). Given."""

    def __init__(self, rows: int, size: int, rng: np.random.Generator | None = None) -> None:
        rng = rng or np.random.default_rng()
        self.weight = Parameter(rng.standard_normal((rows, size), dtype=np.float32))

    def forward(self, ids: np.ndarray) -> Tensor:
        """Integer ids of any shape -> (*ids.shape, size)."""
        return embedding.embedding(self.weight, ids)


class ReLU(Module):
    """max(x, 0). Given."""

    def forward(self, x: Tensor) -> Tensor:
        """Any shape -> the same shape."""
        return x.relu()


class GELU(Module):
    """x · Φ(x) in its tanh form. Given."""

    def forward(self, x: Tensor) -> Tensor:
        """Any shape -> the same shape."""
        return x.gelu()


class Sequential(Module):
    """Modules one after another, kept in `layers`: names are "layers.0.weight" and so on."""

    def __init__(self, *layers: Module) -> None:
        self.layers = list(layers)

    def forward(self, x: Any) -> Any:
        """The last layer's output; x itself if there are no layers."""
        raise NotImplementedError("task 1.10: Sequential.forward")

    def __len__(self) -> int:
        return len(self.layers)
