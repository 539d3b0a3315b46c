"""What `make kernels` runs: every operation on one input that shows its traffic, all versions of it.

An operation is chosen by its name, its file or its task. Arguments are made anew for each run, in
the grader's process; the drivers are those of the tests.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Case:
    """One version: the driver's name and its arguments."""

    label: str
    driver: str
    arguments: Callable[[], dict[str, Any]]


@dataclass(frozen=True)
class Operation:
    """One operation with all its versions on the same input; flops: a multiply-add is two."""

    name: str
    task: str
    file: str
    input: str
    cases: tuple[Case, ...]
    flops: float = 0.0


def _rng() -> np.random.Generator:
    return np.random.default_rng(2)


def _normal(*shape: int) -> np.ndarray:
    return _rng().standard_normal(shape, dtype=np.float32)


def _listed(label: str, driver: str, **case: Any) -> Case:
    """A case of a driver that takes a list of them."""
    return Case(label, driver, lambda: {"cases": [_made(case)]})


def _plain(label: str, driver: str, **arguments: Any) -> Case:
    return Case(label, driver, lambda: _made(arguments))


def _made(arguments: dict[str, Any]) -> dict[str, Any]:
    """Arguments with what has to be computed, computed now."""
    return {name: value() if callable(value) else value for name, value in arguments.items()}


def _view(shape: tuple[int, ...], strides: tuple[int, ...], size: int) -> dict[str, Any]:
    return {"buffer": _normal(size), "shape": shape, "strides": strides, "offset": 0}


def _element_wise(label: str, strides: tuple[int, int]) -> Case:
    views = lambda: [_view((256, 256), strides, 256 * 256)]  # noqa: E731
    return _listed(label, "element_wise", operation="gelu", views=views, blocks=1024)


def _attention(version: str) -> Case:
    return _listed(version, "attentions", q=lambda: _normal(1, 8, 256, 32), version=version,
                   k=lambda: _normal(1, 8, 256, 32), v=lambda: _normal(1, 8, 256, 32),
                   scale=None, logsumexp=False)  # fmt: skip


def _gemv(label: str, bits: int) -> Case:
    most = {8: 127, 4: 7}[bits]
    return _plain(label, "gemv", bits=bits, x=lambda: _normal(1024),
                  integers=lambda: _rng().integers(-most, most + 1, (1024, 1024), dtype=np.int8),
                  scales=lambda: np.abs(_normal(1024, 16)))  # fmt: skip


def _norm_state() -> dict[str, Any]:
    x = _normal(2048, 1024)
    rstd = 1 / np.sqrt(x.var(axis=1) + 1e-5)
    return {"mean": x.mean(axis=1), "rstd": rstd.astype(np.float32)}


def _softmax_of_rows() -> np.ndarray:
    x = np.exp(_normal(2048, 1024))
    return x / x.sum(axis=1, keepdims=True)


def _ids() -> np.ndarray:
    """4,096 positions, 512 different ids: each comes eight times."""
    return np.tile(np.arange(512, dtype=np.int32) * 7, 8)


def _block_weights(dim: int, hidden: int) -> dict[str, np.ndarray]:
    shapes = {
        "gamma1": (dim,), "beta1": (dim,), "w_qkv": (dim, 3 * dim), "w_out": (dim, dim),
        "gamma2": (dim,), "beta2": (dim,), "w_up": (dim, hidden), "b_up": (hidden,),
        "w_down": (hidden, dim), "b_down": (dim,),
    }  # fmt: skip
    return {name: 0.05 * _normal(*shape) for name, shape in shapes.items()}


OPERATIONS = (
    Operation("map", "2.1", "elementwise", "GELU of 256 × 256 floats, in three layouts", (
        _element_wise("contiguous", (256, 1)), _element_wise("transposed", (1, 256)),
        _element_wise("one row, broadcast", (0, 1)),
    )),
    Operation("row_sum", "2.2", "reduction", "the sums of 2,048 rows of 1,024 floats", tuple(
        _listed(version, "row_reductions", version=version, operation="sum",
                x=lambda: _normal(2048, 1024))
        for version in ("interleaved", "tree", "shuffle")
    )),
    Operation("vector_sum", "2.2", "reduction", "the sum of 262,144 floats, 128 blocks", (
        _listed("two launches", "vector_sums", x=lambda: _normal(1 << 18), blocks=128),
    )),
    Operation("transpose", "2.3", "transpose", "a matrix of 512 × 512 floats", tuple(
        _listed(version, "transposes", version=version, x=lambda: _normal(512, 512))
        for version in ("naive", "tiled")
    )),
    Operation("matmul", "2.4", "matmul", "512 × 64 floats times 64 × 512", tuple(
        _listed(version, "matmuls", version=version, a=lambda: _normal(512, 64),
                b=lambda: _normal(64, 512))
        for version in ("naive", "tiled", "register")
    ), flops=2 * 512 * 64 * 512),
    Operation("softmax", "2.5", "softmax", "2,048 rows of 1,024 floats", tuple(
        _plain(version, "softmax_forward", version=version, x=lambda: _normal(2048, 1024))
        for version in ("three_pass", "online", "best")
    )),
    Operation("softmax_backward", "2.5", "softmax", "2,048 rows of 1,024 floats", (
        _plain("backward", "softmax_backward", y=_softmax_of_rows,
               upstream=lambda: _normal(2048, 1024)),
    )),
    Operation("layernorm", "2.6", "normalization", "2,048 rows of 1,024 floats", (
        _plain("forward", "layernorm_forward", x=lambda: _normal(2048, 1024),
               gamma=lambda: _normal(1024), beta=lambda: _normal(1024)),
        Case("backward", "layernorm_backward", lambda: {
            "upstream": _normal(2048, 1024), "x": _normal(2048, 1024), "gamma": _normal(1024),
            **_norm_state(),
        }),
    )),
    Operation("rmsnorm", "2.6", "normalization", "2,048 rows of 1,024 floats", (
        _plain("forward", "rmsnorm_forward", x=lambda: _normal(2048, 1024),
               gamma=lambda: _normal(1024)),
        Case("backward", "rmsnorm_backward", lambda: {
            "upstream": _normal(2048, 1024), "x": _normal(2048, 1024), "gamma": _normal(1024),
            "rstd": _norm_state()["rstd"],
        }),
    )),
    Operation("bias_gelu", "2.7", "fused", "2,048 rows of 1,024 floats", (
        *(_plain(version, "bias_gelu_forward", version=version, x=lambda: _normal(2048, 1024),
                 bias=lambda: _normal(1024)) for version in ("unfused", "fused")),
        _plain("backward", "bias_gelu_backward", x=lambda: _normal(2048, 1024),
               upstream=lambda: _normal(2048, 1024), bias=lambda: _normal(1024)),
    )),
    Operation("adamw", "2.7", "fused", "a step over 262,144 parameters", (
        _plain("one step", "adamw_steps", parameter=lambda: _normal(1 << 18),
               gradients=lambda: [_normal(1 << 18)], options={"learning_rate": 1e-3}),
    )),
    Operation("embedding", "2.8", "embedding", "4,096 rows out of a table of 4,000 × 256", tuple(
        _plain(version, "embedding_forward", version=version, table=lambda: _normal(4000, 256),
               ids=_ids)
        for version in ("naive", "warp")
    )),
    Operation("embedding_backward", "2.8", "embedding", "4,096 positions of 512 ids, rows of 256", tuple(
        _plain(version, "embedding_backward", version=version, upstream=lambda: _normal(4096, 256),
               ids=_ids, grad=lambda: np.zeros((4000, 256), np.float32))
        for version in ("atomic", "grouped")
    )),
    Operation("cross_entropy", "2.9", "cross_entropy", "64 rows of 8,192 classes", (
        _plain("fused", "cross_entropy", logits=lambda: _normal(64, 8192),
               targets=lambda: _rng().integers(0, 8192, 64, dtype=np.int32)),
    )),
    Operation("attention", "2.10", "attention", "8 heads of 32, 256 tokens, causal", tuple(
        _attention(version) for version in ("naive", "flash")
    ), flops=8 * 2 * 2 * 32 * (256 * 257 // 2)),
    Operation("gemv", "2.11", "quantized", "1,024 × 1,024 weights times a vector, groups of 64", (
        _gemv("int8", 8), _gemv("int4", 4),
    ), flops=2 * 1024 * 1024),
    Operation("block", "2.12", "block", "64 tokens of 64, 2 heads, 256 hidden", (
        _plain("forward", "transformer_block", x=lambda: _normal(1, 64, 64), heads=2,
               weights=lambda: _block_weights(64, 256)),
    )),
)  # fmt: skip
