"""Cases and oracles of task 4.1: sums in float64, bytes and messages in closed form."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from traffic import (
    all_gather_bytes,
    all_reduce_bytes,
    around,
    chains,
    chunk_sizes,
    in_words,
    messages,
    pieces,
    reduce_scatter_bytes,
    sent_bytes,
)

from autograder.testing import Hint, assert_equal

WIDTH = {
    "float64": 8, "float32": 4, "bfloat16": 2, "float16": 2, "int64": 8, "int32": 4, "uint8": 1,
    "bool": 1,
}  # fmt: skip
# Unit roundoff: half of the distance from 1 to the next number.
ROUNDOFF = {"float64": 2.0**-53, "float32": 2.0**-24, "bfloat16": 2.0**-8, "float16": 2.0**-11}
RING = Hint(
    values="chunk c starts at rank c + 1, each rank on the way adds its own part, and it is whole "
    "when it reaches rank c",
)


def rounded(values: np.ndarray, dtype: str) -> np.ndarray:
    """The values as `dtype` holds them; small floats as float32."""
    tensor = torch.tensor(values).to(getattr(torch, dtype))
    return (tensor.float() if dtype in ("bfloat16", "float16") else tensor).numpy()


def draw(rng: np.random.Generator, shape: Any, dtype: str) -> np.ndarray:
    """Random values of a type: floats over six orders of magnitude, integers over all they hold."""
    if dtype == "bool":
        return rng.random(shape) < 0.3
    if dtype.startswith(("int", "uint")):
        limits = np.iinfo(dtype)
        return rng.integers(limits.min, limits.max, shape, dtype=dtype, endpoint=True)
    high = 1.5 if dtype == "float16" else 3.0
    values = rng.standard_normal(shape) * 10.0 ** rng.uniform(-high, high, shape)
    return rounded(values, dtype)


def reduced(tensors: list[np.ndarray], dtype: str, average: bool) -> tuple[np.ndarray, np.ndarray]:
    """(sum or mean, bound of the error): exact, with bound 0, where the type is no float.

    n − 1 additions in any order, each with a relative error of at most u, give a sum within
    ((1 + u)^(n−1) − 1) · Σ|xᵢ|, and a division one factor (1 + u) more: together at most
    1.02 · n · u · Σ|xᵢ| for n ≤ 8 and u ≤ 2^-8.
    """
    size = len(tensors)
    if dtype == "bool":
        return np.asarray(np.logical_or.reduce(tensors)), np.zeros(tensors[0].shape)
    if dtype not in ROUNDOFF:
        with np.errstate(over="ignore"):
            total = np.add.reduce(tensors, dtype=dtype)
        return np.asarray(total), np.zeros(tensors[0].shape)
    wide = np.stack([t.astype(np.float64) for t in tensors])
    share = size if average else 1
    bound = 1.02 * size * ROUNDOFF[dtype] * np.abs(wide).sum(0) / share
    # In float64 the oracle's own sum has the same error once more.
    return wide.sum(0) / share, bound * (2 if dtype == "float64" else 1)


def why_wrong(
    got: np.ndarray, wanted: np.ndarray, mine: np.ndarray, size: int, average: bool, otherwise: str
) -> str:
    """What the numbers themselves say of a wrong sum or mean; mine: this rank's own part."""
    if got.shape == wanted.shape and got.size and size > 1:
        # Floats of a type's own rounding; 1 % of small floats is more than that.
        if average and np.allclose(got.astype(np.float64), size * wanted, rtol=0.01, atol=0):
            return f"this is exactly {size} times the mean: the sum, never divided"
        if np.array_equal(got, mine):
            return (
                "this is what the rank had before: the tensor itself must hold the result. Where its "
                "memory is transposed or strided, reshape and contiguous() give a copy to copy back"
            )
    return otherwise


def assert_within(
    got: Any, wanted: np.ndarray, bound: np.ndarray, name: str, hint: str = RING.values
) -> None:
    """Every element within its own derived bound."""
    got = np.asarray(got)
    assert got.shape == wanted.shape, f"{name} has shape {got.shape}, expected {wanted.shape}"
    if wanted.dtype.kind in "biu":
        assert_equal(got, wanted, name=name, hint=hint)
        return
    off = ~(np.abs(got.astype(np.float64) - wanted) <= bound)
    if off.any():
        place = tuple(int(i) for i in np.argwhere(off)[0])
        raise AssertionError(
            f"{name}: {int(off.sum())} of {off.size} elements are off; at {place} expected "
            f"{wanted[place]:.9g} within {bound[place]:.2g}, got {got[place]:.9g}\nhint: {hint}"
        )


def label(case: dict[str, Any], size: int) -> str:
    """A case in words."""
    shape = case.get("shape", "")
    words = [case["operation"], in_words(size), f"shape {shape}", case["dtype"]]
    words += [word for word in ("average",) if case.get(word)]
    if case.get("layout", "plain") != "plain":
        words.append(case["layout"])
    if "source" in case:
        words.append(f"source {case['source']}")
    return ", ".join(words)


def make_case(
    rng: np.random.Generator, size: int, operation: str, shape: tuple[int, ...],
    dtype: str = "float32", **more: Any,
) -> dict[str, Any]:  # fmt: skip
    """One case of `size` ranks: what every rank gets, and "tensors" by rank."""
    tensors = [draw(rng, shape, dtype) for _ in range(size)]
    if operation == "ring_all_gather":
        tensors = [draw(rng, (rows,), dtype) for rows in chunk_sizes(shape[0], size)]
        more["count"] = shape[0]
    return {"operation": operation, "shape": shape, "dtype": dtype, "tensors": tensors, **more}


def exchange_case(
    rng: np.random.Generator, rows: list[list[int]], trailing: tuple[int, ...],
    dtype: str = "float32", **more: Any,
) -> dict[str, Any]:  # fmt: skip
    """An all-to-all in which rank r sends rows[r][s] rows to rank s."""
    parts = [[draw(rng, (count, *trailing), dtype) for count in row] for row in rows]
    return {"operation": "all_to_all", "dtype": dtype, "rows": rows, "all_parts": parts,
            "shape": ("rows", *trailing), **more}  # fmt: skip


def of_rank(case: dict[str, Any], rank: int) -> dict[str, Any]:
    """What one rank gets of a case."""
    kept = ("operation", "dtype", "average", "layout", "source", "count")
    mine = {key: case[key] for key in kept if key in case}
    if case["operation"] == "all_to_all":
        return {**mine, "parts": case["all_parts"][rank], "sizes": [r[rank] for r in case["rows"]]}
    return {**mine, "tensor": case["tensors"][rank]}


def each_rank(cases: list[dict[str, Any]], size: int) -> list[dict[str, Any]]:
    """The arguments by rank of a driver that takes `cases`."""
    return [{"cases": [of_rank(case, rank) for case in cases]} for rank in range(size)]


def check_values(case: dict[str, Any], answers: list[Any], size: int) -> None:
    """The results of all ranks for one case."""
    text, operation, dtype = label(case, size), case["operation"], case["dtype"]
    for rank, answer in enumerate(answers):
        for part in answer if isinstance(answer, list) else [answer]:
            assert part["dtype"] == dtype, f"{text}: rank {rank} has {part['dtype']}"
    if operation == "all_to_all":
        for rank, answer in enumerate(answers):
            assert len(answer) == size, f"{text}: {len(answer)} tensors on rank {rank}"
            for source, part in enumerate(answer):
                assert_equal(part["value"], case["all_parts"][source][rank],
                             name=f"{text}: what rank {rank} has of rank {source}")  # fmt: skip
        return
    values = [answer["value"] for answer in answers]
    if operation == "ring_reduce_scatter":
        wanted, bound = reduced(case["tensors"], dtype, False)
        starts = np.cumsum([0, *chunk_sizes(len(wanted), size)])
        for rank, answer in enumerate(answers):
            part = slice(starts[rank], starts[rank + 1])
            name = f"{text}: the chunk of rank {rank}, elements {part.start} to {part.stop}"
            assert_within(answer["value"], wanted[part], bound[part], name)
            assert answer["untouched"] is True, f"{text}: rank {rank}'s tensor was written into"
        return
    if operation == "ring_all_reduce":
        wanted, bound = reduced(case["tensors"], dtype, bool(case.get("average")))
        mean = bool(case.get("average"))
        first = case["tensors"][0]
        why = why_wrong(np.asarray(values[0]), wanted, first, size, mean, str(RING.values))
        assert_within(values[0], wanted, bound, f"{text}: rank 0's result", why)
    elif operation == "broadcast":
        assert_equal(values[0], case["tensors"][case["source"]], name=f"{text}: rank 0's tensor")
    else:
        assert_equal(values[0], np.concatenate(case["tensors"]), name=f"{text}: rank 0's result")
    for rank in range(1, size):
        assert_equal(
            values[rank], values[0], name=f"{text}: rank {rank}'s result against rank 0's",
            hint="every element must be finished on one rank, and copied from there to the others",
        )  # fmt: skip


def expected_traffic(case: dict[str, Any], size: int) -> tuple[np.ndarray, np.ndarray]:
    """((ranks, ranks) bytes, messages) of one case, by closed forms."""
    operation, width = case["operation"], WIDTH[case["dtype"]]
    if operation == "all_to_all":
        row = width * int(np.prod(case["shape"][1:], dtype=int))
        sent = row * np.array(case["rows"], np.int64)
        np.fill_diagonal(sent, 0)
        return sent, 1 - np.eye(size, dtype=np.int64)
    count = int(np.prod(case["shape"], dtype=int))
    if operation == "broadcast":
        last = (case["source"] - 1) % size
        passes = [int(rank != last) for rank in range(size)]
        return around([width * count * p for p in passes]), around(passes)
    forms = {
        "ring_reduce_scatter": (reduce_scatter_bytes, 1), "ring_all_gather": (all_gather_bytes, 1),
        "ring_all_reduce": (all_reduce_bytes, 2),
    }  # fmt: skip
    form, times = forms[operation]
    return around(form(count, size, width)), around([times * (size - 1)] * size)


def check_traffic(group: Any, cases: list[dict[str, Any]], size: int) -> None:
    """Bytes and messages of each case, from each rank to each other, as the switch counted them."""
    sends = pieces(group, size, len(cases))
    for place, case in enumerate(cases):
        sent, counted = expected_traffic(case, size)
        text = f"{label(case, size)}: "
        hint = "a ring sends to the next rank only, one chunk a step, an empty chunk too"
        if case["operation"] == "all_to_all":
            hint = "one message from each rank to each other, an empty one too; none to itself"
        assert_equal(messages(sends[place]), counted,
                     name=f"{text}messages from (row) to (column)", hint=hint)  # fmt: skip
        assert_equal(sent_bytes(sends[place]), sent, name=f"{text}bytes from (row) to (column)",
                     hint=f"{hint}; in the tensor's own type")  # fmt: skip
    assert not any(sends[len(cases)]), "something was sent after the last collective"


def check_steps(group: Any, cases: list[dict[str, Any]], size: int) -> None:
    """A ring moves on every rank at once: no message of a step waits for another of the same step."""
    steps = {"ring_reduce_scatter": size - 1, "ring_all_gather": size - 1,
             "ring_all_reduce": 2 * (size - 1)}  # fmt: skip
    for case, found in zip(cases, chains(group, size, len(cases)), strict=False):
        wanted = steps.get(case["operation"])
        assert wanted is None or found <= wanted, (
            f"{label(case, size)}: {found} messages had to come one after the other, expected "
            f"{wanted}: one for each step\nhint: in a step all ranks send at the same time; who "
            "receives before it sends, or sends with `send`, makes the next one wait. Start the "
            "send (`isend`), receive, then wait for the send"
        )


def check_collectives(
    student: Any, driver: Any, cases: list[dict[str, Any]], size: int, **options: Any
) -> Any:
    """Run the cases on `size` ranks; check values and traffic of each. Returns the group."""
    group = student.group(size, driver, each=each_rank(cases, size), **options)
    for place, case in enumerate(cases):
        check_values(case, [result[place] for result in group.results], size)
    check_traffic(group, cases, size)
    return group
