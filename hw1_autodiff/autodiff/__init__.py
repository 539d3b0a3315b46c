"""A small tensor library with reverse-mode automatic differentiation.

    from autodiff import Tensor
    x = Tensor([1.0, 2.0], requires_grad=True)
    (x * x).sum().backward()
    x.grad                                  # array([2., 4.])
"""

from autodiff import operators as _operators  # noqa: F401  binds +, *, @, … to Tensor
from autodiff.function import Context, Function, Node, no_grad
from autodiff.tensor import Tensor

__all__ = ["Context", "Function", "Node", "Tensor", "no_grad"]
