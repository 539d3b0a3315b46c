"""Drivers of task 3.3, and what several drivers of this homework share. Arrays in, arrays out.

A case is a dictionary: arrays, `dtype` (the tensors' type by name), `layout` (see `tensor_of`) and,
where gradients are asked for, `upstream`. Values in half precision come back as float32, with the
name of their type beside them.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from typing import Any

import numpy as np

_FLEXIBLE = "torch.nn.attention.flex_attention"


# What torch computes attention and norms with, below every name that Python has for them.
_OPERATORS = (
    "scaled_dot_product_attention", "_scaled_dot_product_flash_attention_for_cpu",
    "_scaled_dot_product_attention_math", "_native_multi_head_attention",
    "_transformer_encoder_layer_fwd", "rms_norm", "_fused_rms_norm",
)  # fmt: skip


def without(*words: str) -> Any:
    """A context in which a torch function or operator whose name has one of `words` raises.

    Functions by a mode, which knows the name that was called; operators by kernels of this
    process, which threads, scripts and disabled modes end in as well.
    """
    import torch
    from torch.overrides import TorchFunctionMode

    def refuse(name: str) -> None:
        raise RuntimeError(f"torch's {name} is what this task asks you to build")

    class Refuse(TorchFunctionMode):
        def __enter__(self) -> Any:
            self.library = torch.library.Library("aten", "IMPL")
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that kernels are replaced
                for name in _OPERATORS:
                    for key in ("CPU", "AutogradCPU") if any(w in name for w in words) else ():
                        self.library.impl(name, lambda *_, n=name, **__: refuse(n), key)
            flexible = sys.modules[_FLEXIBLE]
            self.kept = flexible.flex_attention
            flexible.flex_attention = lambda *_, **__: refuse("flex_attention")
            return super().__enter__()

        def __exit__(self, *error: Any) -> None:
            super().__exit__(*error)
            self.library._destroy()
            sys.modules[_FLEXIBLE].flex_attention = self.kept

        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None):
            name = getattr(func, "__name__", "")
            if any(word in name for word in words):
                refuse(name)
            return func(*args, **(kwargs or {}))

    importlib.import_module(_FLEXIBLE)
    return Refuse()


def tensor_of(array: np.ndarray, dtype: str = "float32", layout: str = "plain") -> Any:
    """A leaf that wants gradients, equal to `array`, with the strides that `layout` names.

    transposed: its last two dimensions are swapped in memory; strided: every second element of a
    wider tensor, whose others are NaN.
    """
    import torch

    plain = torch.tensor(array).to(getattr(torch, dtype))
    if layout == "transposed":
        plain = plain.transpose(-1, -2).contiguous().transpose(-1, -2)
    elif layout == "strided":
        wide = torch.full((*plain.shape, 2), float("nan"), dtype=plain.dtype)
        wide[..., 0] = plain
        plain = wide[..., 0]
    return plain.requires_grad_()


def plain(value: Any) -> dict[str, Any]:
    """A tensor as {"value", "dtype"}, floats of half precision widened; None as None."""
    import torch

    if not isinstance(value, torch.Tensor):
        return {"value": None, "dtype": type(value).__name__}
    array = value.detach()
    if array.dtype in (torch.float16, torch.bfloat16):
        array = array.float()
    return {"value": array.numpy(), "dtype": str(value.dtype).removeprefix("torch.")}


def answered(value: Any, leaves: dict[str, Any], upstream: np.ndarray | None) -> dict[str, Any]:
    """The reply of one case: the value and the gradient of every leaf, None where it has none."""
    import torch

    reply = plain(value)
    if upstream is not None:
        value.backward(torch.tensor(upstream).to(value.dtype))
        reply["gradients"] = {
            name: None if leaf.grad is None else plain(leaf.grad)["value"]
            for name, leaf in leaves.items()
        }
    reply["inputs"] = {name: plain(leaf)["value"] for name, leaf in leaves.items()}
    return reply


def norms(cases: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """`rms_norm(x, weight, eps)` of each case."""
    with without("rms_norm"):
        from language_model.layers import rms_norm

        replies = []
        for case in cases:
            x = tensor_of(case["x"], case["dtype"], case.get("layout", "plain"))
            weight = tensor_of(case["weight"], case.get("weight_dtype", case["dtype"]))
            value = rms_norm(x, weight, case["eps"])
            replies.append(answered(value, {"x": x, "weight": weight}, case.get("upstream")))
        return replies


def norm_module(width: int, eps: float, x: np.ndarray) -> dict[str, Any]:
    """A fresh `RMSNorm` on x, and the names and shapes of its parameters."""
    import torch

    with without("rms_norm"):
        from language_model.layers import RMSNorm

        module = RMSNorm(width, eps)
        reply = plain(module(torch.tensor(x)))
    reply["parameters"] = {name: list(p.shape) for name, p in module.named_parameters()}
    return reply


def tables(cases: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """cos and sin that `rope_tables` gives for positions, head_dim and theta."""
    import torch

    from language_model.layers import rope_tables

    replies = []
    for case in cases:
        positions = torch.tensor(case["positions"])
        cos, sin = rope_tables(positions, case["head_dim"], case["theta"])
        replies.append({"cos": plain(cos), "sin": plain(sin)})
    return replies


def turned(cases: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """`apply_rope` of each case's x by its cos and sin."""
    import torch

    from language_model.layers import apply_rope

    replies = []
    for case in cases:
        x = tensor_of(case["x"], case["dtype"], case.get("layout", "plain"))
        value = apply_rope(x, torch.tensor(case["cos"]), torch.tensor(case["sin"]))
        replies.append(answered(value, {"x": x}, case.get("upstream")))
    return replies


def scores(
    query: np.ndarray, key: np.ndarray, query_at: np.ndarray, key_at: np.ndarray, theta: float
) -> np.ndarray:
    """Dot products of one query and one key, (head_dim,) float64, at each pair of positions."""
    import torch

    from language_model.layers import apply_rope, rope_tables

    width = len(query)
    rotated = []
    for vector, places in ((query, query_at), (key, key_at)):
        x = torch.tensor(vector).expand(1, 1, len(places), width)
        rotated.append(apply_rope(x, *rope_tables(torch.tensor(places), width, theta)))
    return (rotated[0] * rotated[1]).sum(-1).flatten().numpy()


def gated(cases: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """`SwiGLU` with the weights of each case, on its x."""
    import torch

    from language_model.layers import SwiGLU

    replies = []
    for case in cases:
        inner, width = case["gate"].shape
        module = SwiGLU(width, inner).to(getattr(torch, case["dtype"]))
        state = {f"{name}.weight": torch.tensor(case[name]) for name in ("gate", "up", "down")}
        module.load_state_dict(state)
        x = tensor_of(case["x"], case["dtype"], case.get("layout", "plain"))
        leaves = {"x": x, **{name.split(".")[0]: p for name, p in module.named_parameters()}}
        replies.append(answered(module(x), leaves, case.get("upstream")))
    return replies
