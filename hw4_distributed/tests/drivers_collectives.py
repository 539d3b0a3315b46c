"""Drivers of task 4.1: one rank's part of a list of collectives, a barrier after each."""

from __future__ import annotations

from typing import Any

import numpy as np


def make_tensor(values: np.ndarray, dtype: str, layout: str = "plain") -> Any:
    """A torch tensor of `values`: plain, "transposed" in memory, or every second of a "strided" one.

    bfloat16 and float16 come as float32 and are rounded here.
    """
    import torch

    tensor = torch.tensor(values).to(getattr(torch, dtype))
    if layout == "transposed":
        return tensor.mT.contiguous().mT
    if layout == "strided":
        wide = torch.zeros((*tensor.shape, 2), dtype=tensor.dtype)
        wide[..., 0] = tensor
        return wide[..., 0]
    return tensor


def make_array(tensor: Any) -> np.ndarray:
    """What crosses the wire: bfloat16 and float16 as float32, exactly."""
    import torch

    small = tensor.dtype in (torch.bfloat16, torch.float16)
    return (tensor.float() if small else tensor).contiguous().numpy()


def pack(tensor: Any) -> dict[str, Any]:
    """A result with its type."""
    return {"value": make_array(tensor), "dtype": str(tensor.dtype).removeprefix("torch.")}


def _one(ranks: Any, case: dict[str, Any]) -> Any:
    from distributed_training import collectives

    operation = case["operation"]
    if operation == "all_to_all":
        parts = [make_tensor(p, case["dtype"], case.get("layout", "plain")) for p in case["parts"]]
        got = collectives.all_to_all(ranks, parts, case["sizes"])
        return [pack(part) for part in got]
    tensor = make_tensor(case["tensor"], case["dtype"], case.get("layout", "plain"))
    if operation == "ring_reduce_scatter":
        before = tensor.clone()
        got = collectives.ring_reduce_scatter(ranks, tensor)
        return {**pack(got), "untouched": bool((before == tensor).all())}
    if operation == "ring_all_gather":
        return pack(collectives.ring_all_gather(ranks, tensor, case["count"]))
    if operation == "ring_all_reduce":
        collectives.ring_all_reduce(ranks, tensor, case.get("average", False))
    elif operation == "broadcast":
        collectives.broadcast(ranks, tensor, case["source"])
    return pack(tensor)


def run_collectives(cases: list[dict[str, Any]]) -> list[Any]:
    """The results of this rank, in order; a barrier follows each case, so that its traffic is known."""
    from distributed_training.communicator import connect

    ranks = connect()
    results = []
    for case in cases:
        results.append(_one(ranks, case))
        ranks.barrier()
    return results


def run_in_a_row(cases: list[dict[str, Any]]) -> list[Any]:
    """The same without barriers: the next one starts while others are still in the last."""
    from distributed_training.communicator import connect

    ranks = connect()
    return [_one(ranks, case) for case in cases]


def run_in_subgroups(groups: list[list[int]], cases: list[dict[str, Any]]) -> list[Any]:
    """The cases in the first of the groups that this rank is in; all of a group's in a row."""
    from distributed_training.communicator import connect

    ranks = connect()
    found = [ranks.subgroup(group) for group in groups]
    mine = next(group for group in found if group is not None)
    return [_one(mine, case) for case in cases]


def errors_of_collectives(cases: list[dict[str, Any]]) -> list[str]:
    """The exception that each case raises here, "none" where it raises none."""
    from distributed_training.communicator import connect

    ranks = connect()
    found = []
    for case in cases:
        try:
            _one(ranks, case)
        except NotImplementedError:
            raise
        except Exception as error:
            found.append(type(error).__name__)
        else:
            found.append("none")
    return found
