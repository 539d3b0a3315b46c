"""Random arrays and questions about their layouts, and what numpy answers; for task 1.1's tests."""

from __future__ import annotations

from typing import Any

import hw1_autodiff_drivers as drivers
import numpy as np
from numpy.lib.stride_tricks import as_strided

from autograder.testing import assert_equal

SIZES, SHARES = [0, 1, 2, 3, 4, 6], [0.04, 0.2, 0.26, 0.2, 0.2, 0.1]


class Base:
    """An array of known layout over the buffer 0, 1, …, size - 1."""

    def __init__(self, shape: tuple[int, ...], strides: tuple[int, ...]) -> None:
        reaches = [(n - 1) * s for n, s in zip(shape, strides, strict=True)]
        empty = 0 in shape
        self.offset = 2 if empty else 2 - sum(r for r in reaches if r < 0)
        self.size = 5 if empty else self.offset + sum(r for r in reaches if r > 0) + 3
        self.shape, self.strides = shape, strides
        self.buffer = np.arange(self.size)
        byte_strides = tuple(s * 8 for s in strides)
        self.array = as_strided(self.buffer[self.offset :], shape, byte_strides)

    def question(self, function: str, argument: Any = None) -> dict[str, Any]:
        """The question as the driver takes it."""
        return {
            "function": function, "size": self.size, "shape": list(self.shape),
            "strides": list(self.strides), "offset": self.offset, "argument": argument,
        }  # fmt: skip

    def __str__(self) -> str:
        return f"shape {self.shape}, strides {self.strides}"


def contiguous(shape: tuple[int, ...]) -> Base:
    """A row-major base."""
    strides = [int(np.prod(shape[place + 1 :], dtype=int)) for place in range(len(shape))]
    return Base(tuple(shape), tuple(strides))


def random_base(rng: np.random.Generator, dimensions: int = 4, empty: bool = True) -> Base:
    """Up to `dimensions` dimensions, permuted, stepped, reversed and broadcast at random."""
    count = int(rng.integers(0, dimensions + 1))
    shape = [int(n) for n in rng.choice(SIZES, count, p=SHARES)]
    if not empty:
        shape = [max(n, 1) for n in shape]
    strides = list(contiguous(tuple(shape)).strides)
    for place in range(count):
        chance = rng.random()
        if chance < 0.15:  # a gap, as after slicing with a step: everything outside moves apart
            strides[: place + 1] = [s * 2 for s in strides[: place + 1]]
        elif chance < 0.3:
            strides[place] = -strides[place]
        elif chance < 0.4:
            strides[place] = 0
    if rng.random() < 0.5:
        order = rng.permutation(count)
        shape, strides = [shape[i] for i in order], [strides[i] for i in order]
    return Base(tuple(shape), tuple(strides))


def random_shape_of(rng: np.random.Generator, size: int) -> tuple[int, ...]:
    """A random shape of `size` elements, with a few ones in it."""
    sizes = []
    rest = size
    while rest > 1 and rng.random() < 0.8:
        divisors = [d for d in range(1, rest + 1) if rest % d == 0]
        sizes.append(int(rng.choice(divisors)))
        rest //= sizes[-1]
    sizes.append(rest)
    rng.shuffle(sizes)
    return tuple(sizes)


def random_key(rng: np.random.Generator, shape: tuple[int, ...]) -> list[list[Any]]:
    """A random key of integers, slices, None and ..., some of them out of range or too many."""
    key: list[list[Any]] = []
    ellipsis = False
    for size in shape[: int(rng.integers(0, len(shape) + 1))]:
        chance = rng.random()
        if chance < 0.3:
            edge = size + (rng.random() < 0.1)
            key.append(["integer", int(rng.integers(-edge, edge)) if edge else 0])
        else:
            start, stop = (
                None if rng.random() < 0.3 else int(rng.integers(-size - 2, size + 3))
                for _ in range(2)
            )
            step = None if rng.random() < 0.4 else int(rng.choice([-3, -2, -1, 1, 2, 3]))
            key.append(["slice", start, stop, step])
        if rng.random() < 0.15:
            key.append(["none"])
        if not ellipsis and rng.random() < 0.15:
            key.append(["ellipsis"])
            ellipsis = True
    return key if len(key) != 1 or rng.random() < 0.5 else [*key, ["none"]]


def made_key(key: list[list[Any]]) -> Any:
    """The key itself."""
    return drivers.index_key(key)


def check_layouts(student: Any, bases: list[Base], questions: list[Any], answers: list[Any]) -> None:
    """Ask all questions in one call; `answers` are arrays over the bases' buffers or exceptions.

    questions: (function, argument). An answer that is an exception class asks for an exception.
    """
    asked = [b.question(*q) for b, q in zip(bases, questions, strict=True)]
    replies = student.run_cases(drivers.layouts, asked, named)
    for base, question, reply, answer in zip(bases, questions, replies, answers, strict=True):
        check_layout(f"{described(*question)} of {base}", base, reply, answer)


def named(asked: dict[str, Any]) -> str:
    """A question, as the driver takes it, with the layout it is about."""
    layout = f"shape {tuple(asked['shape'])}, strides {tuple(asked['strides'])}"
    return f"{described(asked['function'], asked['argument'])} of {layout}"


def described(function: str, argument: Any) -> str:
    """A question as a student would write it."""
    if function == "slice_layout":
        return f"slice_layout(…, {made_key(argument)!r})"
    if function == "chain":
        return ", then ".join(described(name, step) for name, step in argument)
    return f"{function}(…)" if argument is None else f"{function}(…, {argument})"


def check_layout(label: str, base: Base, reply: Any, answer: Any) -> None:
    """Compare one reply with numpy's array over the same buffer, or with the exception to raise."""
    assert isinstance(reply, dict), f"{label}: not an answer"
    if isinstance(answer, type):
        assert "error" in reply, f"{label} should raise {answer.__name__}, but a layout came back"
        assert answer.__name__ in reply["error"], (
            f"{label} should raise {answer.__name__}, it raised {reply['error'][0]}: {reply['text']}"
        )
        return
    assert "error" not in reply, (
        f"{label} should be a layout of shape {answer.shape}, it raised "
        f"{reply.get('error', [''])[0]}: {reply.get('text')}"
    )
    assert_equal(list(reply["shape"]), list(answer.shape), name=f"{label}: shape")
    assert_equal(reply["elements"], np.array(answer), name=f"{label}: the elements it picks")
    if answer.size == 0:
        return
    start = (answer.ctypes.data - base.buffer.ctypes.data) // 8
    assert_equal(reply["offset"], start, name=f"{label}: offset")
    expected = [s // 8 for s in answer.strides]
    used = [place for place, n in enumerate(answer.shape) if n > 1]
    assert_equal(
        [reply["strides"][place] for place in used], [expected[place] for place in used],
        name=f"{label}: strides {list(reply['strides'])} in the dimensions above size 1",
        hint=f"numpy has {expected}, in elements",
    )  # fmt: skip
