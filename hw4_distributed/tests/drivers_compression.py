"""Drivers of tasks 4.7 to 4.9: one rank's calls of a reducer, of int8_all_reduce, of LocalSGD."""

from __future__ import annotations

import io
from typing import Any

import numpy as np


def make_reducer(kind: str, options: dict[str, Any]) -> Any:
    """A reducer by kind: "top k", "power", "int8"."""
    if kind == "top k":
        from distributed_training.top_k import TopKReducer

        return TopKReducer(**options)
    if kind == "power":
        from distributed_training.power_sgd import PowerSGDReducer

        return PowerSGDReducer(**options)
    from distributed_training.quantized_all_reduce import Int8Reducer

    return Int8Reducer(**options)


def make_bucket(index: int, shapes: list[tuple[int, ...]], dtype: str) -> Any:
    """An empty bucket of parameters of these shapes."""
    import torch

    from distributed_training.data_parallel import Bucket

    sizes = [int(np.prod(shape)) for shape in shapes]
    flat = torch.zeros(sum(sizes), dtype=getattr(torch, dtype))
    views = [p.view(s) for p, s in zip(flat.split(sizes), shapes, strict=True)]
    parameters = [torch.nn.Parameter(torch.zeros_like(view)) for view in views]
    return Bucket(index, flat, parameters, views)


def through_a_file(state: Any) -> Any:
    """The state as a checkpoint would bring it back."""
    import torch

    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


def _array(tensor: Any) -> np.ndarray:
    small = tensor.element_size() < 4
    return (tensor.float() if small else tensor).detach().clone().numpy()


def reduce_steps(
    kind: str, options: dict[str, Any], steps: list[list[np.ndarray]],
    shapes: list[list[tuple[int, ...]]], dtype: str = "float32", resume_after: int = -1,
) -> dict[str, Any]:  # fmt: skip
    """What a reducer makes of this rank's gradients: "applied" by step and bucket.

    steps: by step and bucket a flat gradient. shapes: by bucket. A barrier after each call. After
    step `resume_after` the state goes through a file into a new reducer, and the old one is used
    once more, on another gradient, before the new one goes on. "left": the state's residuals (or
    errors) at the end, by bucket, flat, in the order of places.
    """
    import torch

    from distributed_training.communicator import connect

    ranks = connect()
    reducer = make_reducer(kind, options)
    buckets = [make_bucket(index, each, dtype) for index, each in enumerate(shapes)]
    applied = []
    for number, gradients in enumerate(steps):
        applied.append([])
        for bucket, gradient in zip(buckets, gradients, strict=True):
            bucket.flat.copy_(torch.tensor(gradient))
            reducer(ranks, bucket)
            assert all(v.untyped_storage().data_ptr() == bucket.flat.untyped_storage().data_ptr()
                       for v in bucket.views), "the bucket's views were replaced"  # fmt: skip
            applied[-1].append(_array(bucket.flat))
            ranks.barrier()
        if number == resume_after:
            old, reducer = reducer, make_reducer(kind, options)
            state = old.state_dict()
            reducer.load_state_dict(through_a_file(state))
            second = make_reducer(kind, options)
            second.load_state_dict(state)
            for bucket in buckets:
                bucket.flat.fill_(1.5)
                old(ranks, bucket)  # must move neither the state it gave nor who took it
            reducer = second if ranks.rank % 2 else reducer
    return {"applied": applied, "left": _left(reducer.state_dict(), len(buckets))}


def _left(state: dict[str, Any], count: int) -> list[Any]:
    found: list[Any] = []
    for index in range(count):
        if "residuals" in state:
            part = state["residuals"].get(index)
            found.append(None if part is None else _array(part))
        elif "errors" in state:
            mine = {str(key[1]): value for key, value in state["errors"].items() if key[0] == index}
            found.append({place: _array(value) for place, value in mine.items()})
    return found


def largest_places(values: list[np.ndarray], counts: list[int]) -> list[np.ndarray]:
    """`largest` of each."""
    import torch

    from distributed_training.top_k import largest

    got = [largest(torch.tensor(v), count) for v, count in zip(values, counts, strict=True)]
    return [each.numpy() for each in got]


def orthonormal_columns(matrices: list[np.ndarray]) -> list[np.ndarray]:
    """`orthonormalize` of each; the input must stay as it was."""
    import torch

    from distributed_training.power_sgd import orthonormalize

    found = []
    for matrix in matrices:
        tensor = torch.tensor(matrix)
        found.append(orthonormalize(tensor).numpy().copy())
        assert np.array_equal(tensor.numpy(), matrix), "the input was written into"
    return found


def local_gradients(weights: list[Any], x: Any, y: Any) -> list[Any]:
    """Gradients of a network (w1, b1, w2, b2): the mean squared error over rows. torch tensors."""
    import torch

    leaves = [w.detach().requires_grad_() for w in weights]
    return list(torch.autograd.grad(loss_of_network(leaves, x, y), leaves))


def loss_of_network(weights: list[Any], x: Any, y: Any) -> Any:
    """The mean over rows of the squared error of w2·tanh(w1·x + b1) + b2."""
    import torch

    w1, b1, w2, b2 = weights
    error = torch.tanh(x @ w1.T + b1) @ w2.T + b2 - y
    return error.square().sum(1).mean()


def train_network(
    kind: str, options: dict[str, Any], weights: list[np.ndarray], x: np.ndarray, y: np.ndarray,
    rate: float, steps: int,
) -> list[np.ndarray]:  # fmt: skip
    """The weights after plain gradient descent on this rank's rows, all in one bucket."""
    import torch

    from distributed_training.communicator import connect

    ranks = connect()
    reducer = make_reducer(kind, options)
    mine = [torch.tensor(w) for w in weights]
    rows, targets = torch.tensor(x), torch.tensor(y)
    bucket = make_bucket(0, [w.shape for w in weights], "float32")
    for _step in range(steps):
        for view, gradient in zip(bucket.views, local_gradients(mine, rows, targets), strict=True):
            view.copy_(gradient)
        reducer(ranks, bucket)
        for weight, view in zip(mine, bucket.views, strict=True):
            weight -= rate * view
    return [w.numpy() for w in mine]


def step_data_parallel(
    kind: str, options: dict[str, Any], seed: int, batches: list[dict[str, Any]], bucket_bytes: int,
) -> dict[str, Any]:  # fmt: skip
    """Gradients after each batch, by a reducer plugged into DataParallel of task 4.3, and the buckets.

    Without an implementation of 4.3, a stand-in with its order of buckets takes its place, so that
    this task does not hang on that one.
    """
    import torch
    from drivers_models import build_module, loss_of

    from distributed_training.communicator import connect
    from distributed_training.data_parallel import DataParallel

    ranks = connect()
    module = build_module("wide", seed, "float32")
    reducer = make_reducer(kind, options)
    try:
        model: Any = DataParallel(module, ranks, bucket_bytes=bucket_bytes, reducer=reducer)
    except NotImplementedError:
        model = StandIn(module, ranks, bucket_bytes, reducer)
    ranks.barrier()
    steps = []
    for batch in batches:
        module.zero_grad()
        loss_of(model(torch.tensor(batch["x"])), torch.tensor(batch["y"])).backward()
        model.finish()
        steps.append([p.grad.detach().clone().numpy() for p in module.parameters()])
        ranks.barrier()
    return {"gradients": steps}


class StandIn:
    """What this task needs of DataParallel: buckets in reverse order, reduced one after another."""

    def __init__(self, module: Any, ranks: Any, bucket_bytes: int, reducer: Any) -> None:
        self.module, self.ranks, self.reducer = module, ranks, reducer
        self.groups: list[list[Any]] = []
        held = bucket_bytes
        for parameter in reversed(list(module.parameters())):
            if held >= bucket_bytes:
                self.groups.append([])
                held = 0
            self.groups[-1].append(parameter)
            held += 4 * parameter.numel()

    def __call__(self, x: Any) -> Any:
        return self.module(x)

    def finish(self) -> None:
        """Reduce all buckets."""
        for index, group in enumerate(self.groups):
            bucket = make_bucket(index, [p.shape for p in group], "float32")
            for view, weight in zip(bucket.views, group, strict=True):
                view.copy_(weight.grad)
            self.reducer(self.ranks, bucket)
            for view, weight in zip(bucket.views, group, strict=True):
                weight.grad = view


def quantized(
    values: np.ndarray, repeats: int, seed: int, group: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(numbers, what they stand for, scales) of `repeats` calls with one generator."""
    import torch

    from distributed_training.quantized_all_reduce import dequantize, quantize

    generator = torch.Generator().manual_seed(seed)
    numbers, back, scales = [], [], []
    for _ in range(repeats):
        q, s = quantize(torch.tensor(values), generator, group)
        assert q.dtype == torch.int8, f"numbers are {q.dtype}, expected torch.int8"
        assert s.dtype == torch.float32, f"scales are {s.dtype}, expected torch.float32"
        numbers.append(q.numpy())
        scales.append(s.numpy())
        back.append(dequantize(q, s, group).numpy())
    return np.stack(numbers), np.stack(back), np.stack(scales)


def int8_reduced(cases: list[dict[str, Any]], seed: int) -> list[Any]:
    """`int8_all_reduce` of each case (tensor, dtype, layout, average), a barrier after each."""
    import torch
    from drivers_collectives import make_tensor, pack

    from distributed_training.communicator import connect
    from distributed_training.quantized_all_reduce import int8_all_reduce

    ranks = connect()
    generator = torch.Generator().manual_seed(seed + ranks.rank)
    found = []
    for case in cases:
        tensor = make_tensor(case["tensor"], case["dtype"], case.get("layout", "plain"))
        int8_all_reduce(ranks, tensor, generator, case.get("average", False))
        found.append(pack(tensor))
        ranks.barrier()
    return found


def local_steps(
    every: int, updates: list[np.ndarray], start: float, resume_after: int = -1
) -> dict[str, Any]:
    """A module's state after construction and after each of the rank's steps.

    A step adds updates[i] to each trained parameter and float buffer, and 1 to the counter. The
    barrier after each step cuts the traffic.
    """
    import torch

    from distributed_training.communicator import connect
    from distributed_training.local_sgd import LocalSGD

    ranks = connect()
    module = torch.nn.Module()
    module.first = torch.nn.Parameter(torch.full((3, 5), start))
    module.frozen = torch.nn.Parameter(torch.full((4,), start), requires_grad=False)
    module.wide = torch.nn.Parameter(torch.full((7,), start, dtype=torch.float64))
    module.again = module.first
    module.register_buffer("moving", torch.full((2, 2), start))
    module.register_buffer("counter", torch.tensor(int(start)))
    local = LocalSGD(module, ranks, every=every)
    ranks.barrier()

    def state() -> dict[str, np.ndarray]:
        return {name: t.detach().clone().numpy() for name, t in module.state_dict().items()}

    states, told = [state()], []
    for number, update in enumerate(updates):
        with torch.no_grad():
            change = torch.tensor(update)
            module.first += change[0] + torch.arange(15).view(3, 5)
            module.wide += change[1]
            module.moving += change[2]
            module.frozen += change[3]
            module.counter += 1 + ranks.rank
        told.append(local.after_step())
        states.append(state())
        ranks.barrier()
        if number == resume_after:
            saved = through_a_file([local.state_dict(), module.state_dict()])
            local = LocalSGD(module, ranks, every=every)
            local.load_state_dict(saved[0])
            module.load_state_dict(saved[1])
    return {"states": states, "told": told}
