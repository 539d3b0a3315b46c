"""Random straight-line programs and what torch says of them; used by the tests of task 1.4."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

Program = list[list[Any]]


def random_program(
    rng: np.random.Generator, operations: int, names: tuple[str, ...] = ("Add", "Multiply")
) -> tuple[Program, int]:
    """A program over two to four leaves whose last line depends on several of the lines before."""
    leaves = int(rng.integers(2, 5))
    program: Program = []
    for line in range(operations):
        count = leaves + line
        recent = max(0, count - 4)
        places = [int(rng.integers(recent, count)), int(rng.integers(0, count))]
        name = str(rng.choice(names))
        program.append([name, *places] if name in ("Add", "Multiply") else [name, places[0]])
    return program, leaves


def torch_gradients(
    program: Program, arrays: list[np.ndarray], wanted: list[bool]
) -> list[np.ndarray | None]:
    """Gradients of the sum of the last value; None for a leaf it does not depend on."""
    values = [torch.tensor(x, requires_grad=w) for x, w in zip(arrays, wanted, strict=True)]
    inputs = list(values)
    for name, *places in program:
        operands = [values[place] for place in places]
        if name == "Add":
            values.append(operands[0] + operands[1])
        elif name == "Multiply":
            values.append(operands[0] * operands[1])
        else:
            values.append(operands[0] * 1.0)
    values[-1].sum().backward()
    return [None if x.grad is None else x.grad.numpy() for x in inputs]


def wrong_order(order: Any, program: Program, leaves: int, wanted: list[bool]) -> str:
    """What is wrong with a topological order of the program's last value; "" if nothing."""
    inputs = {leaves + line: places for line, (_, *places) in enumerate(program)}
    needs = dict(enumerate(wanted))
    for value in range(leaves, leaves + len(program)):
        needs[value] = any(needs[place] for place in inputs[value])
    root = leaves + len(program) - 1
    reachable, stack = set(), [root]
    while stack:
        value = stack.pop()
        if value not in reachable and needs[value]:
            reachable.add(value)
            stack.extend(inputs.get(value, []))
    if not isinstance(order, list) or sorted(order) != sorted(reachable):
        return (
            f"expected the {len(reachable)} tensors that need a gradient, each once; "
            f"got {len(order) if isinstance(order, list) else order}: {order}"
        )
    place_of = {value: place for place, value in enumerate(order)}
    for value in order:
        for source in inputs.get(value, []):
            if source in place_of and place_of[source] < place_of[value]:
                return f"tensor {source} stands before tensor {value}, which was computed from it"
    return ""
